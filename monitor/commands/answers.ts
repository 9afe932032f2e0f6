/** Answers that only tell: status, who, help. */
import { type Incident, shownId } from "../../core/cluster/incidents.ts";
import { durationText } from "../config/durations.ts";
import { audience } from "../escalate/notifications.ts";
import { shiftOf } from "../escalate/targets.ts";
import { dateText, timeText } from "../escalate/texts.ts";
import { cut, type Turn } from "../incident/turn.ts";

const LISTED_MAX = 10;
const LOG_SHOWN_MAX = 6;

export const HELP = [
  "ack [N] – it is yours (17: of incident 17; alone if only one is open to you)",
  "unack N – give it back",
  "resolve N [text] – it is over",
  "silence N|KEY 30m – tell nobody for a while; unsilence N|KEY",
  "escalate N [person] – tell the next level, or this person",
  "note N text – for the log and the others",
  "status [N], who, drill me, help",
].join("\n");

/** All that is open, the critical first. */
export function statusText(turn: Turn): string {
  const open = turn.incidents.values().filter(({ state }) => state !== "resolved");
  if (open.length === 0) return `${turn.paging.cluster}: nothing is open`;
  open.sort((a, b) => a.severity.localeCompare(b.severity) || a.openedAtMs - b.openedAtMs);
  const lines = open.slice(0, LISTED_MAX).map((incident) => {
    const severity = incident.severity.toUpperCase();
    const age = durationText(turn.nowMs - incident.openedAtMs);
    const summary = cut(incident.summary, 120);
    return `#${shownId(incident)} ${severity} ${stateText(incident)}, ${age}: ${summary}`;
  });
  const more = open.length - lines.length;
  return [...lines, ...(more > 0 ? [`and ${more} more`] : [])].join("\n");
}

/** One incident, with who was told and the last lines of its log. */
export function incidentText(turn: Turn, incident: Incident): string {
  const people = audience(incident).map((one) => ("person" in one ? one.person : one.room));
  const last = (person: string) =>
    incident.notifications.findLast((one) => one.purpose === "page" && one.person === person);
  const told = people.map((person) => `${person}: ${last(person)?.state ?? "told"}`);
  const { log } = incident;
  return [
    `#${shownId(incident)} ${incident.severity.toUpperCase()} ${stateText(incident)}`,
    incident.summary,
    ...(told.length > 0 ? [`told: ${told.join(", ")}`] : []),
    ...log
      .slice(-LOG_SHOWN_MAX)
      .map(({ atMs, event, text }) => `${timeText(turn, atMs)} ${event}: ${cut(text, 100)}`),
  ].join("\n");
}

function stateText({ state, ack, silence, explainedBy }: Incident): string {
  if (silence !== null) return `${state}, silenced`;
  if (explainedBy !== null) return `${state}, explained`;
  return state === "acknowledged" ? `acknowledged by ${ack?.by}` : state;
}

/** Who is on call where, until when, and whether they can be reached now. */
export function whoText(turn: Turn): string {
  const names = Object.keys(turn.paging.schedules);
  if (names.length === 0) return "there are no schedules: all people are told";
  return names
    .slice(0, LISTED_MAX)
    .map((name) => {
      const shift = shiftOf(turn, name);
      const person = shift?.person ?? null;
      if (person === null) return `${name}: nobody`;
      const until = shift?.untilMs == null ? "" : ` until ${dateText(turn, shift.untilMs)}`;
      return `${name}: ${person}${until}, ${turn.people.get(person)?.reachability ?? "unknown"}`;
    })
    .join("\n");
}
