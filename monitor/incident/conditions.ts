/**
 * What is wrong becomes incidents: one for each key, opened at once, over when it was calm for
 * long enough, and the same one again when it comes back soon. Detectors say everything again and
 * again; a record is written only when something changed.
 */
import {
  DETAIL_COUNT_MAX,
  type Incident,
  incidentId,
  SEVERITIES,
  SUMMARY_LENGTH_MAX,
} from "../../core/cluster/incidents.ts";
import { type Condition, conditionKey, type Severity } from "../condition.ts";
import { nameOf } from "../escalate/levels.ts";
import { update } from "../escalate/notifications.ts";
import {
  lookAtPeople,
  tellSubject,
  UNREACHABLE,
  unreachablePeople,
} from "../escalate/reachability.ts";
import { resolvedText } from "../escalate/texts.ts";
import { moveIncident } from "./machine.ts";
import { policyFor } from "./policies.ts";
import { cut, type Turn } from "./turn.ts";

/** More conditions than this are counted in one incident. */
export const OPEN_COUNT_MAX = 200;
export const OVERFLOW = "overflow";
const RECOVERING_AFTER_MS = 30_000;
const RESOLVED_AFTER_MS = 120_000;
/** An incident that was resolved for longer than this does not come back. */
export const RELAPSE_MS = 600_000;
/** Nobody looked for so long: what was calm before says nothing. */
const BLIND_MS = 10_000;
/** The text of an incident follows its condition at most this often. */
const EVIDENCE_INTERVAL_MS = 10_000;

export function observed(turn: Turn, seen: readonly Condition[]): void {
  const { memory, nowMs } = turn;
  const isBlind = memory.observedAtMs === null || nowMs - memory.observedAtMs > BLIND_MS;
  if (isBlind) memory.calmSince = {};
  memory.observedAtMs = nowMs;
  lookAtPeople(turn);
  const conditions = withinBounds(turn, [...seen, ...unreachablePeople(turn)]);
  memory.present = Object.fromEntries(conditions);
  const known = byKey(turn);
  for (const [key, condition] of conditions) {
    if (!known.has(key)) openIncident(turn, key, condition);
  }
  for (const incident of turn.incidents.values()) {
    const condition = conditions.get(incident.key);
    if (condition === undefined) isCalm(turn, incident);
    else isBad(turn, incident, condition);
  }
  explain(turn, conditions);
}

/** Incidents that a condition of their key would belong to, resolved ones too. */
function byKey(turn: Turn): Map<string, Incident> {
  const found = new Map<string, Incident>();
  for (const incident of turn.incidents.values()) {
    const other = found.get(incident.key);
    if (other === undefined || other.state === "resolved") found.set(incident.key, incident);
  }
  return found;
}

/** Each key once; what would be too many new incidents is counted in one condition. */
function withinBounds(turn: Turn, seen: readonly Condition[]): Map<string, Condition> {
  const known = byKey(turn);
  const all = new Map<string, Condition>();
  for (const condition of seen) {
    const key = conditionKey(condition);
    const other = all.get(key);
    if (other === undefined || rank(condition.severity) > rank(other.severity)) {
      all.set(key, condition);
    }
  }
  const unresolved = turn.incidents.values().filter(({ state }) => state !== "resolved");
  const room = Math.max(0, OPEN_COUNT_MAX - 1 - unresolved.length);
  const isNew = (key: string) => (known.get(key)?.state ?? "resolved") === "resolved";
  const added = [...all].filter(([key]) => isNew(key));
  if (added.length <= room) return all;
  added.sort(([, a], [, b]) => rank(b.severity) - rank(a.severity) || a.sinceMs - b.sinceMs);
  const rest = added.slice(room);
  for (const [key] of rest) all.delete(key);
  const overflow = overflowOf(rest.map(([, condition]) => condition));
  return all.set(conditionKey(overflow), overflow);
}

function overflowOf(rest: readonly Condition[]): Condition {
  return {
    kind: OVERFLOW,
    subject: "incidents",
    severity: rest.some(({ severity }) => severity === "crit") ? "crit" : "warn",
    summary: `${rest.length} more things are wrong than can be listed`,
    details: rest.slice(0, DETAIL_COUNT_MAX).map(({ summary }) => summary),
    sinceMs: Math.min(...rest.map(({ sinceMs }) => sinceMs)),
    explains: [],
  };
}

function openIncident(turn: Turn, key: string, condition: Condition): void {
  const { nowMs, memory } = turn;
  memory.highestNumber += 1;
  const { kind, subject, severity } = condition;
  const incident: Incident = {
    number: memory.highestNumber,
    origin: memory.quorum.isThere ? "" : memory.quorum.monitor,
    key,
    kind,
    subject,
    severity,
    ...evidenceOf(condition),
    state: "open",
    sinceMs: Math.min(Math.max(0, Math.round(condition.sinceMs)), nowMs),
    openedAtMs: nowMs,
    pagingSinceMs: null,
    calmSinceMs: null,
    recoveringAtMs: null,
    resolvedAtMs: null,
    relapses: 0,
    ack: null,
    silence: null,
    explainedBy: null,
    policy: policyFor(turn, condition),
    level: -1,
    deadlines: {
      escalateAtMs: null,
      escalateReason: null,
      groupAtMs: null,
      repeatAtMs: null,
      ackExpiresAtMs: null,
      reopenAtMs: null,
    },
    seq: 0,
    notifications: [],
    log: [],
    logDropped: 0,
    handled: [],
  };
  turn.incidents.put(incidentId(incident), incident);
  memory.evidenceAt = { ...memory.evidenceAt, [incidentId(incident)]: nowMs };
  turn.note(incident, "opened", `${severity}: ${incident.summary}`);
  const detectionSeconds = (nowMs - incident.sinceMs) / 1_000;
  turn.measure({ name: "opened", severity, detectionSeconds });
  if (kind === UNREACHABLE) tellSubject(turn, incident);
}

/** Its condition is there: the text follows, and it may have got worse or come back. */
function isBad(turn: Turn, incident: Incident, condition: Condition): void {
  const { memory, nowMs } = turn;
  const id = incidentId(incident);
  if (id in memory.calmSince) memory.calmSince = without(memory.calmSince, id);
  const isWorse = rank(condition.severity) > rank(incident.severity);
  if (isWorse) worsen(turn, turn.incidents.edit(id), condition);
  const { reopenAtMs } = incident.deadlines;
  const isQuiet = reopenAtMs !== null && nowMs < reopenAtMs && !isWorse;
  if (incident.state === "resolved" && !isQuiet) reopen(turn, turn.incidents.edit(id));
  if (incident.state === "recovering") relapse(turn, turn.incidents.edit(id));
  const isOld = nowMs - (memory.evidenceAt[id] ?? 0) >= EVIDENCE_INTERVAL_MS;
  const evidence = evidenceOf(condition);
  const isNews =
    evidence.summary !== incident.summary ||
    evidence.details.join("\n") !== incident.details.join("\n");
  if (!isNews || !(isOld || isWorse)) return;
  Object.assign(turn.incidents.edit(id), evidence);
  memory.evidenceAt = { ...memory.evidenceAt, [id]: nowMs };
}

/** Nothing that was said about the lesser severity holds for the worse one. */
function worsen(turn: Turn, incident: Incident, condition: Condition): void {
  incident.severity = condition.severity;
  incident.policy = policyFor(turn, condition);
  incident.pagingSinceMs = null;
  incident.ack = null;
  incident.deadlines.ackExpiresAtMs = null;
  if (incident.state === "acknowledged") moveIncident(incident, "open");
  turn.note(incident, "worse", `now ${condition.severity}: ${condition.summary}`);
}

/** A relapse during recovery: whoever took it still has it. */
function relapse(turn: Turn, incident: Incident): void {
  incident.relapses += 1;
  incident.calmSinceMs = null;
  incident.recoveringAtMs = null;
  moveIncident(incident, incident.ack === null ? "open" : "acknowledged");
  turn.note(incident, "relapsed", "it is bad again");
}

function reopen(turn: Turn, incident: Incident): void {
  const wasResolvedBy = incident.deadlines.reopenAtMs === null ? "it is bad again" : "still bad";
  incident.relapses += 1;
  incident.calmSinceMs = null;
  incident.recoveringAtMs = null;
  incident.resolvedAtMs = null;
  incident.ack = null;
  incident.pagingSinceMs = null;
  incident.deadlines.reopenAtMs = null;
  incident.deadlines.ackExpiresAtMs = null;
  moveIncident(incident, "open");
  turn.note(incident, "reopened", wasResolvedBy);
  if (incident.kind === UNREACHABLE) tellSubject(turn, incident);
}

/** Its condition is not there: after a while it recovers, and then it is over. */
function isCalm(turn: Turn, incident: Incident): void {
  const { memory, nowMs } = turn;
  const id = incidentId(incident);
  const { state, deadlines } = incident;
  if (state === "resolved") {
    const isOver = deadlines.reopenAtMs !== null && deadlines.reopenAtMs <= nowMs;
    if (isOver) turn.incidents.edit(id).deadlines.reopenAtMs = null;
    return;
  }
  const calmSince = memory.calmSince[id];
  if (calmSince === undefined) {
    memory.calmSince = { ...memory.calmSince, [id]: nowMs };
    return;
  }
  const calmMs = nowMs - calmSince;
  if (state !== "recovering") {
    if (calmMs < RECOVERING_AFTER_MS) return;
    const draft = turn.incidents.edit(id);
    draft.calmSinceMs = calmSince;
    draft.recoveringAtMs = nowMs;
    moveIncident(draft, "recovering");
    turn.note(draft, "recovering", "calm for 30 s");
  } else if (calmMs >= RECOVERING_AFTER_MS + RESOLVED_AFTER_MS) {
    resolveIncident(turn, turn.incidents.edit(id), "it was calm for 150 s");
  }
}

/** Ends an incident and tells everybody who was told of it. */
export function resolveIncident(turn: Turn, incident: Incident, how: string, except = ""): void {
  moveIncident(incident, "resolved");
  incident.resolvedAtMs = turn.nowMs;
  incident.explainedBy = null;
  incident.deadlines.ackExpiresAtMs = null;
  turn.note(incident, "resolved", how);
  update(turn, incident, resolvedText(turn, incident, how), except);
}

/**
 * Marks what is only a consequence: an incident whose key some condition explains, as long as that
 * one's incident is unresolved and at least as severe. Of two with one key (opened while the state was away) the
 * first one explains the other. Circles are cut.
 */
function explain(turn: Turn, conditions: ReadonlyMap<string, Condition>): void {
  const known = byKey(turn);
  const roots = new Map<string, string>();
  const rootOf = (key: string): string => {
    const next = roots.get(key);
    return next === undefined ? key : rootOf(next);
  };
  for (const [key, { explains }] of conditions) {
    for (const target of explains) {
      const [root, other] = [known.get(rootOf(key)), known.get(target)];
      if (root === undefined || other === undefined || roots.has(target)) continue;
      if (root.state === "resolved" || other.state === "resolved") continue;
      if (rootOf(key) === target || rank(root.severity) < rank(other.severity)) continue;
      roots.set(target, key);
    }
  }
  for (const incident of turn.incidents.values()) {
    if (incident.state === "resolved") continue;
    const root = known.get(rootOf(incident.key));
    const isSelf = root === undefined || root === incident;
    const explainedBy = isSelf ? null : incidentId(root);
    if (explainedBy === incident.explainedBy) continue;
    const draft = turn.incidents.edit(incidentId(incident));
    draft.explainedBy = explainedBy;
    const text = isSelf ? "nothing else explains it any more" : `explained by ${nameOf(root)}`;
    turn.note(draft, "explained", text);
  }
}

function evidenceOf({ summary, details }: Condition): Pick<Incident, "summary" | "details"> {
  return {
    summary: cut(oneLine(summary), SUMMARY_LENGTH_MAX),
    details: details.slice(0, DETAIL_COUNT_MAX).map((one) => cut(oneLine(one), SUMMARY_LENGTH_MAX)),
  };
}

const oneLine = (text: string) => text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ").toWellFormed();
const rank = (severity: Severity) => SEVERITIES.indexOf(severity);

export function without<T>(entries: Readonly<Record<string, T>>, key: string): Record<string, T> {
  const { [key]: _, ...others } = entries;
  return others;
}
