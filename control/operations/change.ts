/**
 * How every operation changes the cluster state: look, decide, commit on the condition that what
 * was looked at is still so, with the audit record in the same commit. When somebody else was
 * faster it looks again and decides anew, unless the caller insisted on a revision.
 */
import { CHANGES_MAX } from "../../core/cluster/changes.ts";
import type { Audit } from "../../core/cluster/records.ts";
import type { Change, ClusterState, Commit } from "../../core/cluster/state.ts";
import type { Clock } from "../../core/runtime/clock.ts";
import type { SecureBytes } from "../../core/runtime/random.ts";
import type { View } from "../view.ts";
import { conflict, done, invalid, type Outcome, type Refused, whenReachable } from "./outcome.ts";
import type { Plan } from "./plans.ts";

/** What all operations work with. */
export interface Parts {
  readonly state: ClusterState;
  readonly view: View;
  readonly clock: Clock;
  readonly secureBytes: SecureBytes;
  readonly plans: readonly Plan[];
  /** Where applications connect, as the operator wrote it; empty: as the live proxies say. */
  readonly servers: readonly string[];
}

/** On whose behalf a change is made. */
export interface Context {
  /** `token:<name>`, `credential:<username>`, `broker:<name>` or `system:<part>`. */
  readonly actor: string;
  /** Address that the request came from; "" for our own doing. */
  readonly from: string;
  /** The caller wants the record changed only if it still has this revision. */
  readonly ifRevision?: number | undefined;
  /**
   * Records that belong to the same commit, made from the ids that the operation gave out. If one
   * of them conflicts, the operation did not happen and the problem is a conflict.
   */
  readonly also?: ((made: { cache: string; username: string }) => readonly Change[]) | undefined;
}

export interface Decision<T> {
  readonly ok: true;
  readonly changes: readonly Change[];
  readonly audit: Pick<Audit, "action" | "cache" | "subject" | "before" | "after">;
  /** Username for `also`, where one was made or deleted. */
  readonly username?: string;
  /** Revision of what was looked at: the answer's when there is nothing to change. */
  readonly revision: number;
  /** What to answer when the changes are in the state, as of that revision. */
  value(revision: number): T;
}

const ATTEMPT_COUNT_MAX = 10;

/**
 * Decides and commits until it is done, refused, or outrun too often. The view shows the change
 * before this resolves. At most CHANGES_MAX changes with audit and `also`.
 */
export async function change<T>(
  parts: Parts,
  context: Context,
  decide: () => Promise<Decision<T> | Refused>,
): Promise<Outcome<T>> {
  return whenReachable(async () => {
    for (let attempt = 1; ; attempt++) {
      const decision = await decide();
      if (!decision.ok) return decision;
      const { cache } = decision.audit;
      const also = context.also?.({ cache, username: decision.username ?? "" }) ?? [];
      if (decision.changes.length + also.length === 0) {
        return done(decision.value(decision.revision), decision.revision);
      }
      const changes = [...decision.changes, ...also, auditChange(parts, context, decision.audit)];
      const commit = await parts.state.commit(changes);
      if (commit.ok) {
        await parts.view.reached(commit.revision);
        return done(decision.value(commit.revision), commit.revision);
      }
      if (commit.reason === "invalid") return invalidOf(commit);
      const isAlso = also.some(({ kind, id }) => kind === commit.kind && id === commit.id);
      const isFinal = isAlso || context.ifRevision !== undefined || attempt >= ATTEMPT_COUNT_MAX;
      if (isFinal) return outrun(commit);
      await parts.view.reached(commit.revision);
    }
  });
}

/** Room for the decision's own changes in one commit, beside audit record and `also`. */
export const OWN_CHANGES_MAX = CHANGES_MAX - 28;

/** Undefined when the record is as the caller expects it. */
export function outdated(
  { ifRevision }: Context,
  { id, revision }: { id: string; revision: number },
): Refused | undefined {
  if (ifRevision === undefined || ifRevision === revision) return undefined;
  return conflict(`${id} was changed meanwhile: its revision is ${revision}`, revision);
}

export function auditChange(
  { clock, secureBytes }: Pick<Parts, "clock" | "secureBytes">,
  { actor, from }: Pick<Context, "actor" | "from">,
  record: Decision<unknown>["audit"],
): Change {
  const atMs = clock.unixMs();
  const value = { atMs, actor, from, ...record };
  return { kind: "audit", id: auditId(atMs, secureBytes), expected: 0, value };
}

const MS_DIGITS = 14;
let lastMs = 0;
let countInMs = 0;

/** Grows with time; what one process writes in one millisecond stays in order too. */
function auditId(atMs: number, secureBytes: SecureBytes): string {
  countInMs = atMs === lastMs ? countInMs + 1 : 0;
  lastMs = atMs;
  const chance = Buffer.from(secureBytes(4)).toString("hex");
  return `${auditIdAt(atMs)}-${String(countInMs).padStart(5, "0")}-${chance}`;
}

/** All audit records from before that moment have smaller ids. */
export function auditIdAt(atMs: number): string {
  return String(atMs).padStart(MS_DIGITS, "0");
}

function outrun({ kind, id, revision }: Extract<Commit, { reason: "conflict" }>): Refused {
  const fate = revision === 0 ? "is gone" : `has revision ${revision} now`;
  return conflict(`somebody else was faster: ${kind} ${id} ${fate}`, revision);
}

function invalidOf({ problems }: Extract<Commit, { reason: "invalid" }>): Refused {
  return invalid(
    ...problems.map((text) => {
      const [path = "", ...message] = text.split(": ");
      return message.length === 0
        ? { path: "", message: text }
        : { path, message: message.join(": ") };
    }),
  );
}
