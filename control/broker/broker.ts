/** What the requests of a platform have in common: who asks, what they answer, how it is decided. */
import { z } from "zod";
import type { RecordOf } from "../../core/cluster/records.ts";
import type { Change, Entry } from "../../core/cluster/state.ts";
import { auditChange, type Context, type Parts } from "../operations/change.ts";
import { type InputProblem, inputProblems, type Problem } from "../operations/outcome.ts";
import type { Catalog } from "./catalog.ts";
import type { OriginatingIdentity } from "./headers.ts";

export interface Broker {
  readonly parts: Parts;
  readonly catalog: Catalog;
  readonly key: Uint8Array;
}

/** On whose behalf: an operator's token, and whom the platform acts for. */
export interface Asker {
  /** `broker:<name of the token>`. */
  readonly actor: string;
  readonly from: string;
  readonly identity: OriginatingIdentity | undefined;
}

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

export const answer = (status: number, body: unknown = {}): Answer => ({ status, body });

/** Words of "Error Codes"; other failures have a description only. */
export type ErrorCode = "ConcurrencyError" | "MaintenanceInfoConflict";

export const failure = (status: number, description: string, error?: ErrorCode): Answer => ({
  status,
  body: error === undefined ? { description } : { error, description },
});

export const busy = (): Answer =>
  failure(422, "Another operation for this resource is in progress.", "ConcurrencyError");

/** All problems at once, as a sentence: a description is all that a platform shows. */
export function malformed(problems: readonly InputProblem[]): Answer {
  const all = problems.map(({ path, message }) => (path === "" ? message : `${path}: ${message}`));
  return failure(400, all.join("; "));
}

/** The input, or what is wrong with it. */
export function checked<S extends z.ZodType>(
  schema: S,
  input: unknown,
): { ok: true; input: z.output<S> } | { ok: false; answer: Answer } {
  const parsed = schema.safeParse(input);
  if (parsed.success) return { ok: true, input: parsed.data };
  return { ok: false, answer: malformed(inputProblems(parsed.error)) };
}

export const identifier = z.string().min(1, "is empty").max(200);
/** Both help brokers to find their way; the plan may have changed since the platform looked. */
export const deletionQuery = z.looseObject({ service_id: identifier, plan_id: identifier });

export const unknownService = (): Answer =>
  malformed([{ path: "service_id", message: "this broker offers no such service" }]);

export const noInstance = (id: string): Answer =>
  failure(404, `there is no service instance ${id}`);

/** What an operation's refusal is to a platform; a conflict is decided by the caller first. */
export function refused(problem: Problem): Answer {
  switch (problem.kind) {
    case "invalid":
      return malformed(
        problem.problems.map(({ path, message }) => ({ path: `parameters.${path}`, message })),
      );
    case "conflict":
      return busy();
    case "notFound":
      return failure(404, problem.message);
    case "forbidden":
      return failure(403, problem.message);
    case "unavailable":
      return failure(503, problem.message);
  }
}

/** Two requests for one thing look again at what the other made; more often than this is a queue. */
const ATTEMPT_COUNT_MAX = 10;

/** Tries until it is not outrun by somebody else. `work` answers undefined when it was. */
export async function persistently(work: () => Promise<Answer | undefined>): Promise<Answer> {
  for (let attempt = 1; attempt <= ATTEMPT_COUNT_MAX; attempt++) {
    const found = await work();
    if (found !== undefined) return found;
  }
  return busy();
}

export type Instance = Entry<"serviceInstance">;
export type Binding = Entry<"serviceBinding">;

/** A record counts as long as what it stands for exists; a stale one is free to be replaced. */
export interface Located<R> {
  readonly record: R | undefined;
  readonly isLiving: boolean;
}

export async function findInstance(
  { state }: Parts,
  id: string,
): Promise<Located<Instance> & { cache: RecordOf<"cache"> | undefined }> {
  const record = await state.get("serviceInstance", id);
  if (record === undefined) return { record, isLiving: false, cache: undefined };
  const cache = (await state.get("cache", record.value.cache))?.value;
  return { record, isLiving: cache !== undefined, cache };
}

/** What the operation is made for, with the changes of the broker's own in the same commit. */
export function contextOf(
  { parts }: Broker,
  asker: Asker,
  {
    action,
    subject,
    records,
  }: {
    action: string;
    subject: string;
    records(made: { cache: string; username: string }): readonly Change[];
  },
): Context {
  const { actor, from } = asker;
  const also = (made: { cache: string; username: string }): readonly Change[] => [
    ...records(made),
    auditChange(
      parts,
      { actor, from },
      { action, cache: made.cache, subject, before: null, after: audited(asker, made) },
    ),
  ];
  return { actor, from, also };
}

function audited({ identity }: Asker, { username }: { username: string }) {
  const asked = identity === undefined ? {} : { ...identity };
  return username === "" ? asked : { username, ...asked };
}
