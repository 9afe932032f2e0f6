/**
 * Incidents that are long over are dropped from the cluster state; drills and silences the pager
 * drops itself. Pure; the newest incident always stays, so that no number comes twice.
 */
import type { Incident } from "../../core/cluster/incidents.ts";

const INCIDENT_MS_MAX = 90 * 24 * 60 * 60_000;
/** A few kilobytes each, of which each monitor keeps a copy. */
const INCIDENT_COUNT_MAX = 1_000;
/** In one go; the rest follows with the next. */
const DROPPED_COUNT_MAX = 100;

type Kept = Readonly<Record<string, Pick<Incident, "resolvedAtMs" | "origin" | "number">>>;

/** Ids of records that may go now. */
export function outdatedIncidents(incidents: Kept, nowMs: number): string[] {
  const newestFirst = Object.entries(incidents).sort(([, a], [, b]) => b.number - a.number);
  const seen = new Set<string>();
  const found = newestFirst.filter(([, { resolvedAtMs, origin }], index) => {
    const isNewest = !seen.has(origin);
    seen.add(origin);
    if (resolvedAtMs === null || isNewest) return false;
    return index >= INCIDENT_COUNT_MAX || nowMs - resolvedAtMs > INCIDENT_MS_MAX;
  });
  return found.map(([id]) => id).slice(-DROPPED_COUNT_MAX);
}
