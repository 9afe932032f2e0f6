/** Which policy an incident takes when it opens, and what matches what. */
import type { PolicySnapshot } from "../../core/cluster/incidents.ts";
import type { Condition } from "../condition.ts";
import type { Match } from "../config/paging.ts";
import { UNREACHABLE } from "../escalate/reachability.ts";
import type { Turn } from "./turn.ts";

type Matched = Pick<Condition, "kind" | "subject" | "severity">;

/** Where nobody is configured, or no route matches. */
const NOBODY: PolicySnapshot = {
  name: "none",
  resendAfterMs: 5_000,
  receiptTimeoutMs: 30_000,
  receiptTimeoutAwayMs: 10_000,
  ackTimeoutMs: 120_000,
  ackExpiresMs: 900_000,
  levels: [{ to: [], room: null, afterMs: null }],
  repeatEveryMs: 120_000,
};

export function policyFor(turn: Turn, condition: Matched): PolicySnapshot {
  if (condition.kind === UNREACHABLE) return nextInLine(turn);
  return routed(turn, condition);
}

function routed({ paging }: Turn, condition: Matched): PolicySnapshot {
  const route = paging.routes.find(({ match }) => matches(match, condition));
  const policy = route === undefined ? undefined : paging.policies[route.policy];
  return structuredClone(policy ?? NOBODY);
}

/** That somebody cannot be reached is told to those who would come after them. */
function nextInLine(turn: Turn): PolicySnapshot {
  const policy = routed(turn, { kind: UNREACHABLE, subject: "", severity: "crit" });
  const [first, ...others] = policy.levels.map((level) => ({ ...level, room: null }));
  return {
    ...policy,
    levels: others.length > 0 ? others : [first ?? { ...NOBODY.levels[0] }],
  } as PolicySnapshot;
}

export function matches({ severity, kind, subject }: Match, condition: Matched): boolean {
  if (severity !== undefined && severity !== condition.severity) return false;
  if (kind !== undefined && kind !== condition.kind) return false;
  return subject === undefined || fits(subject, condition.subject);
}

/** A pattern is a text, or the beginning of one with `*` after it. */
export function fits(pattern: string, text: string): boolean {
  if (!pattern.endsWith("*")) return pattern === text;
  return text.startsWith(pattern.slice(0, -1));
}
