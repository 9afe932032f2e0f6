/**
 * What each verb does to an incident, whoever asks and whichever way: a person over the link, or
 * an order from the API. Each gives the line that is answered.
 */
import { type Incident, SILENCE_MS_MAX, shownId } from "../../core/cluster/incidents.ts";
import { durationText, parseDuration } from "../config/durations.ts";
import { arm, isPaging, tellNext, tellPerson } from "../escalate/levels.ts";
import { moveTo, update } from "../escalate/notifications.ts";
import { peopleOf } from "../escalate/targets.ts";
import { timeText } from "../escalate/texts.ts";
import { resolveIncident } from "../incident/conditions.ts";
import { moveIncident } from "../incident/machine.ts";
import { SILENCE_COUNT_MAX, silenceId } from "../incident/silences.ts";
import { cut, type Turn } from "../incident/turn.ts";
import { firstWord } from "./parse.ts";

/** Who asks: a person of the configuration, or somebody at the API. */
export interface Actor {
  readonly name: string;
  readonly person: string | null;
  /** Stanza or order, for the records. */
  readonly cause: string;
}

export interface Asked {
  readonly turn: Turn;
  /** To be written to. */
  readonly incident: Incident;
  readonly actor: Actor;
  /** Words after the verb and its incident. */
  readonly rest: string;
}

export type IncidentVerb = (asked: Asked) => string;
/** So long an incident that was resolved while it was still bad stays closed. */
const REOPEN_AFTER_MS = 300_000;
const NOTE_LENGTH_MAX = 280;
const SILENCE_DEFAULT = "1h";

export const INCIDENT_VERBS = {
  ack: ({ turn, incident, actor }) => {
    const id = shownId(incident);
    if (incident.state === "resolved") return `#${id} is resolved already`;
    const before = incident.ack?.by;
    const expiresAtMs = turn.nowMs + incident.policy.ackExpiresMs;
    incident.ack = { by: cut(actor.name, 100), atMs: turn.nowMs, expiresAtMs };
    incident.deadlines.ackExpiresAtMs = expiresAtMs;
    if (incident.state === "open") moveIncident(incident, "acknowledged");
    markAnswered(turn, incident, actor);
    const until = timeText(turn, expiresAtMs);
    if (before === actor.name) return `#${id} is yours until ${until}`;
    const from = before === undefined ? "" : ` from ${before}`;
    turn.note(incident, "acknowledged", `by ${actor.name}${from}`, actor.person ?? "");
    const own = actor.person ?? "";
    update(
      turn,
      incident,
      `#${id}: ${actor.name} acknowledged it${from}: ${incident.summary}`,
      own,
    );
    return `#${id} is yours until ${until}; any command about it renews that`;
  },

  unack: ({ turn, incident, actor }) => {
    const id = shownId(incident);
    if (incident.ack === null) return `#${id} is acknowledged by nobody`;
    giveBack(incident);
    turn.note(incident, "given back", `by ${actor.name}`, actor.person ?? "");
    update(turn, incident, `#${id}: ${actor.name} gave it back`, actor.person ?? "");
    return `#${id} is open again: whoever is on call is told`;
  },

  resolve: ({ turn, incident, actor, rest }) => {
    const id = shownId(incident);
    if (incident.state === "resolved") return `#${id} is resolved already`;
    const isBad = Object.hasOwn(turn.memory.present, incident.key);
    const text = rest === "" ? "" : `: ${cut(rest, NOTE_LENGTH_MAX)}`;
    resolveIncident(turn, incident, `by ${actor.name}${text}`, actor.person ?? "");
    if (!isBad) return `#${id} is resolved`;
    incident.deadlines.reopenAtMs = turn.nowMs + REOPEN_AFTER_MS;
    const after = durationText(REOPEN_AFTER_MS);
    return `#${id} is resolved, though it is still bad: it opens again in ${after} unless it is over`;
  },

  silence: ({ turn, incident, actor, rest }) => {
    const { key, severity } = incident;
    const [word, reason] = firstWord(rest);
    return silence(turn, { key, severity, actor, word, reason, incident });
  },

  unsilence: ({ turn, incident }) => unsilence(turn, incident.key),

  escalate: ({ turn, incident, actor, rest }) => {
    const id = shownId(incident);
    const person = firstWord(rest)[0].toLowerCase();
    if (person !== "" && !Object.hasOwn(turn.paging.people, person)) {
      return `there is nobody named ${cut(person, 60)}`;
    }
    if (incident.state === "resolved") return `#${id} is resolved already`;
    if (incident.silence !== null) return `#${id} is silenced: unsilence ${id} first`;
    if (incident.explainedBy !== null) return `#${id} is part of another incident: escalate that`;
    if (incident.state === "recovering") return `#${id} is recovering: nothing is wrong now`;
    giveBack(incident);
    incident.pagingSinceMs ??= turn.nowMs;
    turn.note(incident, "asked", `${actor.name} asked for help`, actor.person ?? "");
    if (person === "") tellNext(turn, incident, "asked");
    else tellPerson(turn, incident, person, actor.name);
    if (!isPaging(incident)) arm(turn, incident);
    const told = person === "" ? peopleOf(turn, levelTo(incident)).join(", ") : person;
    return `#${id}: ${told || "everybody"} will be told`;
  },

  note: ({ turn, incident, actor, rest }) => {
    const id = shownId(incident);
    if (rest === "") return `what should be noted? note ${id} TEXT`;
    const text = cut(rest, NOTE_LENGTH_MAX);
    turn.note(incident, "note", text, actor.person ?? actor.name.slice(0, 100));
    update(turn, incident, `#${id}: ${actor.name}: ${text}`, actor.person ?? "");
    return `#${id}: noted`;
  },
} as const satisfies Record<string, IncidentVerb>;

/** Whoever acknowledged is still at it. */
export function renewAck(turn: Turn, incident: Incident): void {
  if (incident.ack === null || incident.state === "resolved") return;
  incident.ack.expiresAtMs = turn.nowMs + incident.policy.ackExpiresMs;
  incident.deadlines.ackExpiresAtMs = incident.ack.expiresAtMs;
}

function giveBack(incident: Incident): void {
  incident.ack = null;
  incident.deadlines.ackExpiresAtMs = null;
  if (incident.state === "acknowledged") moveIncident(incident, "open");
}

const levelTo = (incident: Incident) => incident.policy.levels[incident.level]?.to ?? [];

/** An answer without a receipt is an answer: some devices never send one. */
function markAnswered(turn: Turn, incident: Incident, { person }: Actor): void {
  const own = incident.notifications.filter(
    (one) => one.purpose === "page" && one.person === person && one.sentAtMs !== null,
  );
  const last = own.at(-1);
  if (last === undefined || last.state === "cancelled" || last.state === "expired") return;
  moveTo(turn, last, "acknowledged");
  last.dueAtMs = null;
}

interface SilenceWish {
  readonly key: string;
  readonly severity: Incident["severity"];
  readonly actor: Actor;
  /** How long. */
  readonly word: string;
  readonly reason: string;
  readonly incident?: Incident;
}

export function silence(turn: Turn, wish: SilenceWish): string {
  const { key, severity, actor, word, reason, incident } = wish;
  const durationMs = parseDuration(word === "" ? SILENCE_DEFAULT : word);
  if (durationMs === undefined) return `for how long? silence ${cut(key, 60)} 30m`;
  if (durationMs < 1_000 || durationMs > SILENCE_MS_MAX) return "a silence lasts at most 24h";
  if (turn.silences.ids().length >= SILENCE_COUNT_MAX) return "there are too many silences";
  const untilMs = turn.nowMs + durationMs;
  turn.silences.put(silenceId(turn, incident), {
    key: key.slice(0, 300),
    severity,
    by: cut(actor.name, 100),
    text: cut(reason, NOTE_LENGTH_MAX),
    createdAtMs: turn.nowMs,
    untilMs,
    cause: cut(actor.cause, 200),
  });
  const name = incident === undefined ? cut(key, 100) : `#${shownId(incident)}`;
  const until = timeText(turn, untilMs);
  if (incident !== undefined) {
    const text = `${name}: silenced by ${actor.name} until ${until}`;
    update(turn, incident, text, actor.person ?? "");
  }
  return `${name} is silenced until ${until}; what gets worse is told all the same`;
}

/** Ends all silences of this key, as it was given when they were made. */
export function unsilence(turn: Turn, key: string): string {
  const ids = turn.silences.ids().filter((id) => turn.silences.get(id)?.key === key);
  for (const id of ids) turn.silences.delete(id);
  return ids.length === 0 ? `${cut(key, 100)} is not silenced` : `${cut(key, 100)}: told again`;
}
