/**
 * Who is on call: a rotation that changes at the same wall-clock time whatever daylight saving
 * does, and overrides that go before it. Pure.
 */
import { localOf, momentOf } from "../config/localTime.ts";
import type { Rotation, Schedule } from "../config/paging.ts";

export interface Shift {
  /** Null in a gap of the schedule. */
  readonly person: string | null;
  /** When to ask again; null when nothing changes any more. */
  readonly untilMs: number | null;
}

/** Who is on call in `schedule`, and until when at least that is so. */
export function shiftAt({ rotation, overrides, timezone }: Schedule, nowMs: number): Shift {
  const changes: number[] = [];
  let person: string | null = null;
  if (rotation !== null) {
    const index = indexAt(rotation, timezone, nowMs);
    person = index < 0 ? null : (rotation.people[index % rotation.people.length] ?? null);
    changes.push(boundary(rotation, timezone, Math.max(0, index + 1)));
  }
  for (const override of overrides) {
    const fromMs = momentOf(override.fromLocalMs, timezone);
    const toMs = momentOf(override.toLocalMs, timezone);
    if (fromMs <= nowMs && nowMs < toMs) person = override.person;
    changes.push(fromMs, toMs);
  }
  const coming = changes.filter((change) => change > nowMs);
  return { person, untilMs: coming.length === 0 ? null : Math.min(...coming) };
}

/** The first stretch of time from `nowMs` on with nobody on call; `toMs` null: it has no end. */
export function gapAfter(
  schedule: Schedule,
  nowMs: number,
): { fromMs: number; toMs: number | null } | undefined {
  const { rotation, overrides, timezone } = schedule;
  // A rotation has no gap once it has begun, so only these moments can begin or end one.
  const edges = overrides.flatMap(({ fromLocalMs, toLocalMs }) => [fromLocalMs, toLocalMs]);
  if (rotation !== null) edges.push(rotation.startLocalMs);
  const moments = edges.map((edge) => momentOf(edge, timezone)).filter((edge) => edge > nowMs);
  const inOrder = [nowMs, ...moments.sort((a, b) => a - b)];
  const isCovered = (moment: number) => shiftAt(schedule, moment).person !== null;
  const fromMs = inOrder.find((moment) => !isCovered(moment));
  if (fromMs === undefined) return undefined;
  return { fromMs, toMs: inOrder.find((moment) => moment > fromMs && isCovered(moment)) ?? null };
}

/** Number of the shift that is on at a moment; below 0 before the first. */
function indexAt(rotation: Rotation, zone: string, nowMs: number): number {
  const estimate = Math.floor((localOf(nowMs, zone) - rotation.startLocalMs) / rotation.everyMs);
  // Near a change of clocks the wall clock may be an hour off what the boundaries say.
  let index = estimate;
  while (boundary(rotation, zone, index + 1) <= nowMs) index += 1;
  while (boundary(rotation, zone, index) > nowMs) index -= 1;
  return index;
}

function boundary(rotation: Rotation, zone: string, index: number): number {
  return momentOf(rotation.startLocalMs + index * rotation.everyMs, zone);
}
