/** What people read. The first line alone is enough on a lock screen; nothing is secret in it. */
import {
  type Incident,
  incidentId,
  type Notification,
  shownId,
} from "../../core/cluster/incidents.ts";
import { durationText } from "../config/durations.ts";
import { clockText, dayText } from "../config/localTime.ts";
import type { PagingConfig } from "../config/paging.ts";
import type { Turn } from "../incident/turn.ts";

const DETAILS_SHOWN_MAX = 5;

/** `#17 CRIT eu1: node b3 is slow`. */
export function headline(turn: Turn, incident: Incident): string {
  const severity = incident.severity.toUpperCase();
  const ageMs = turn.nowMs - incident.openedAtMs;
  const age = ageMs < 60_000 || incident.state === "resolved" ? "" : ` (${durationText(ageMs)})`;
  return `#${shownId(incident)} ${severity} ${turn.paging.cluster}${age}: ${incident.summary}`;
}

/** A page: what, the evidence, why you, and what to answer. */
export function pageText(turn: Turn, incident: Incident, notification: Notification): string {
  const details = incident.details.slice(0, DETAILS_SHOWN_MAX);
  const explained = turn.incidents
    .values()
    .filter(({ explainedBy }) => explainedBy === incidentId(incident));
  const listed = explained.slice(0, DETAILS_SHOWN_MAX).map(({ summary }) => `also: ${summary}`);
  const more = explained.length - listed.length;
  return [
    headline(turn, incident),
    ...details,
    ...listed,
    ...(more > 0 ? [`and ${more} more that it explains`] : []),
    notification.room === null
      ? `${notification.text}. ${answersTo(incident)}`
      : `${notification.text}. Answer in private: ${answersTo(incident)}`,
  ].join("\n");
}

function answersTo(incident: Incident): string {
  const id = shownId(incident);
  return `Reply: ack ${id} | escalate ${id} | silence ${id} 1h | status`;
}

export function resolvedText(turn: Turn, incident: Incident, how: string): string {
  const lastedMs = (incident.resolvedAtMs ?? turn.nowMs) - incident.openedAtMs;
  const acked = incident.ack === null ? "nobody acknowledged it" : `${incident.ack.by} had it`;
  return (
    `#${shownId(incident)} resolved ${turn.paging.cluster}: ${incident.summary}\n` +
    `${how}; it was open for ${durationText(lastedMs)}, ${acked}`
  );
}

/** Bodies say when they come from a monitor that could not ask the others. */
export function marked(turn: Turn, body: string): string {
  return turn.memory.quorum.isThere ? body : `(no quorum) ${body}`;
}

/** The machine-readable child: all attributes of one element. */
export function payloadOf(
  turn: Turn,
  incident: Incident,
  { seq, person, purpose }: Notification,
): Record<string, string> {
  const id = shownId(incident);
  return {
    // The same however often it is sent: a device that gets it twice can tell.
    id: `${id}.${seq}.${person === "" ? "room" : person}`,
    incident: id,
    seq: String(seq),
    purpose,
    severity: incident.severity,
    state: incident.state,
    expires: new Date(turn.nowMs + incident.policy.ackExpiresMs).toISOString(),
  };
}

/** Times of messages are those of the first schedule. */
export function zoneOf({ schedules }: PagingConfig): string {
  return Object.values(schedules)[0]?.timezone ?? "UTC";
}
export function timeText(turn: Turn, unixMs: number): string {
  return clockText(unixMs, zoneOf(turn.paging));
}
export function dateText(turn: Turn, unixMs: number): string {
  return dayText(unixMs, zoneOf(turn.paging));
}
