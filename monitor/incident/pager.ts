/**
 * The pager: from what is wrong, what people answer and what time it is, to who is told what. One
 * pure reducer; it reads no clock and touches nothing. Whoever drives it writes `changes` before
 * it carries out `effects`, in their order, and calls again at `nextDeadlineMs`. All that must
 * survive a restart is in the documents; the rest (presence, the link) is learnt anew.
 */
import { drillId, type Incident, incidentId } from "../../core/cluster/incidents.ts";
import { obeyOrder, readText } from "../commands/desk.ts";
import type { PagingConfig } from "../config/paging.ts";
import { settleDrills, settleShifts } from "../escalate/drills.ts";
import { nameOf, settlePaging, spreadOverdue } from "../escalate/levels.ts";
import { update } from "../escalate/notifications.ts";
import { sawPresence } from "../escalate/presence.ts";
import { look, pinged, settlePings } from "../escalate/reachability.ts";
import { heardOfMessage, sendAgain } from "../escalate/receipts.ts";
import { FALLBACK_AFTER_MS, resumeClocks, sendDue } from "../escalate/sending.ts";
import { observed, RELAPSE_MS, without } from "./conditions.ts";
import { moveIncident } from "./machine.ts";
import { settleSilences } from "./silences.ts";
import { Turn } from "./turn.ts";
import type { Effect, PagerChange, PagerDocuments, PagerEvent, PagerState } from "./types.ts";

export { nextDeadlineMs } from "./deadlines.ts";

export interface Step {
  readonly state: PagerState;
  /** Records to write before the effects; all fit one commit, or several in this order. */
  readonly changes: readonly PagerChange[];
  readonly effects: readonly Effect[];
}

/** What follows from `event` at `nowMs` (milliseconds since 1970). */
export function step(
  state: PagerState,
  event: PagerEvent,
  nowMs: number,
  paging: PagingConfig,
): Step {
  const turn = new Turn(state, nowMs, paging);
  HANDLERS[event.kind](turn, event as never);
  settleLink(turn);
  settleShifts(turn);
  settleSilences(turn);
  for (const id of turn.incidents.ids()) settleIncident(turn, id);
  settleDrills(turn);
  settlePings(turn);
  forgetOld(turn);
  return { state: turn.after(), changes: turn.changes(), effects: turn.effects };
}

/** A pager that knows these documents. Its first event has to be `tookOver`. */
export function pagerOf(documents: PagerDocuments): PagerState {
  const { incidents, silences, drills, people } = documents;
  const numbers = Object.values(incidents).map(({ number }) => number);
  return {
    incidents,
    silences,
    drills,
    people,
    memory: {
      link: { isUp: false, sinceMs: 0, hasFallenBack: false },
      quorum: { isThere: true, monitor: "" },
      observedAtMs: null,
      present: {},
      calmSince: {},
      evidenceAt: {},
      devices: {},
      shifts: {},
      pingDueMs: null,
      peopleDueMs: 0,
      strangers: {},
      answered: {},
      highestNumber: numbers.reduce((highest, number) => Math.max(highest, number), 0),
      replyCount: 0,
    },
  };
}

type Handler<K extends PagerEvent["kind"]> = (
  turn: Turn,
  event: Extract<PagerEvent, { kind: K }>,
) => void;

const HANDLERS: { [K in PagerEvent["kind"]]: Handler<K> } = {
  observed: (turn, { conditions }) => observed(turn, conditions),
  tick: () => {},
  tookOver,
  quorum: (turn, { isThere, monitor }) => {
    turn.memory.quorum = { isThere, monitor };
  },
  link: linkChanged,
  presence: (turn, event) => {
    const person = sawPresence(turn, event);
    if (person !== undefined) look(turn, person);
  },
  pinged: (turn, { jid, roundTripMs }) => pinged(turn, jid, roundTripMs),
  accepted: heardOfMessage,
  unsure: heardOfMessage,
  delivered: heardOfMessage,
  displayed: heardOfMessage,
  bounced: heardOfMessage,
  fellBack: heardOfMessage,
  text: (turn, { message }) => readText(turn, message),
  order: (turn, { id, order }) => obeyOrder(turn, id, order),
};

/** Whatever may have been on its way when somebody stopped is sent again. */
function tookOver(turn: Turn): void {
  turn.memory.link = { isUp: false, sinceMs: turn.nowMs, hasFallenBack: false };
  for (const incident of turn.incidents.values()) {
    if (hasGoneCold(turn, incident)) continue;
    const draft = turn.incidents.edit(incidentId(incident));
    spreadOverdue(turn, draft);
    for (const one of draft.notifications) if (isUnproven(one)) sendAgain(turn, draft, one);
    turn.note(draft, "taken over", "what is not confirmed is sent again");
  }
  for (const drill of turn.drills.values()) {
    if (drill.state !== "waiting" || drill.deliveredAtMs !== null) continue;
    Object.assign(turn.drills.edit(drillId(drill)), { dueAtMs: turn.nowMs, sendings: 0 });
  }
}

/** A page wants a receipt; for the rest it is enough that the server has it. */
function isUnproven({ purpose, state, room }: Incident["notifications"][number]): boolean {
  if (state === "sent") return true;
  return state === "accepted" && purpose === "page" && room === null;
}

function linkChanged(turn: Turn, { isUp }: { isUp: boolean }): void {
  const { memory, nowMs } = turn;
  if (memory.link.isUp === isUp) return;
  if (isUp && !memory.link.hasFallenBack) resumeClocks(turn, memory.link.sinceMs);
  memory.link = { isUp, sinceMs: nowMs, hasFallenBack: false };
  // What presence said is true of a link only; the new one says it again.
  memory.devices = {};
  memory.peopleDueMs = nowMs;
}

/** It has been down for so long that nobody waits for it any more. */
function settleLink(turn: Turn): void {
  const { memory, nowMs } = turn;
  const { isUp, sinceMs, hasFallenBack } = memory.link;
  if (isUp || hasFallenBack || nowMs < sinceMs + FALLBACK_AFTER_MS) return;
  resumeClocks(turn, sinceMs);
  memory.link = { isUp, sinceMs, hasFallenBack: true };
}

function settleIncident(turn: Turn, id: string): void {
  const incident = turn.incidents.get(id);
  const expiresAtMs = incident?.deadlines.ackExpiresAtMs ?? null;
  if (expiresAtMs !== null && expiresAtMs <= turn.nowMs) expireAck(turn, turn.incidents.edit(id));
  settlePaging(turn, id);
  sendDue(turn, id);
}

/** Forgotten at night: it is open again, and whoever is on call is told. */
function expireAck(turn: Turn, incident: Incident): void {
  const by = incident.ack?.by ?? "nobody";
  incident.ack = null;
  incident.deadlines.ackExpiresAtMs = null;
  if (incident.state === "acknowledged") moveIncident(incident, "open");
  turn.note(incident, "ack expired", `acknowledged by ${by}, nothing heard since`, by);
  update(turn, incident, `${nameOf(incident)}: the acknowledgement of ${by} has expired`);
}

/** Resolved incidents leave memory when they cannot come back; their records stay. */
function forgetOld(turn: Turn): void {
  const { memory } = turn;
  for (const incident of turn.incidents.values()) {
    if (!hasGoneCold(turn, incident)) continue;
    const id = incidentId(incident);
    turn.incidents.forget(id);
    if (id in memory.evidenceAt) memory.evidenceAt = without(memory.evidenceAt, id);
    if (id in memory.calmSince) memory.calmSince = without(memory.calmSince, id);
  }
}

function hasGoneCold({ nowMs }: Turn, { resolvedAtMs }: Incident): boolean {
  return resolvedAtMs !== null && nowMs - resolvedAtMs > RELAPSE_MS;
}
