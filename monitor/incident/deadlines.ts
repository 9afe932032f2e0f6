/** When something happens next by itself. */
import type { Drill, Incident } from "../../core/cluster/incidents.ts";
import { FALLBACK_AFTER_MS } from "../escalate/sending.ts";
import { RELAPSE_MS } from "./conditions.ts";
import type { Memory, PagerState } from "./types.ts";

/** When `tick` is due at the latest; null while nothing happens by itself. */
export function nextDeadlineMs(state: PagerState): number | null {
  const { memory, incidents, silences, drills } = state;
  let nextMs = Number.POSITIVE_INFINITY;
  const add = (atMs: number | null | undefined) => {
    if (atMs !== null && atMs !== undefined && atMs < nextMs) nextMs = atMs;
  };
  const { isUp, sinceMs, hasFallenBack } = memory.link;
  if (!isUp && !hasFallenBack) add(sinceMs + FALLBACK_AFTER_MS);
  for (const incident of Object.values(incidents)) {
    add(ownDeadlineMs(incident, memory.link));
  }
  for (const { untilMs } of Object.values(silences)) add(untilMs);
  for (const drill of Object.values(drills)) add(drillDeadlineMs(drill, isUp));
  for (const { untilMs } of Object.values(memory.shifts)) add(untilMs);
  add(memory.pingDueMs);
  return nextMs === Number.POSITIVE_INFINITY ? null : nextMs;
}

function ownDeadlineMs(incident: Incident, { isUp, hasFallenBack }: Memory["link"]) {
  const { deadlines, resolvedAtMs, silence } = incident;
  const due = isUp ? incident.notifications.flatMap(({ dueAtMs }) => dueAtMs ?? []) : [];
  // It leaves memory when it cannot come back any more.
  if (resolvedAtMs !== null) return Math.min(resolvedAtMs + RELAPSE_MS + 1, ...due);
  const { escalateAtMs, groupAtMs, repeatAtMs, ackExpiresAtMs } = deadlines;
  const own = [isUp || hasFallenBack ? escalateAtMs : null, groupAtMs, repeatAtMs, ackExpiresAtMs];
  const moments = [...own, silence?.untilMs ?? null].flatMap((moment) => moment ?? []);
  return Math.min(...moments, ...due);
}

function drillDeadlineMs({ state, dueAtMs, endsAtMs }: Drill, isUp: boolean): number | null {
  if (state !== "waiting") return null;
  return isUp && dueAtMs !== null ? Math.min(dueAtMs, endsAtMs) : endsAtMs;
}
