/**
 * Who is told next, and when. An incident is paged while it is open, not silenced, and nothing
 * else explains it; whatever brings it there or takes it away from there only changes these facts,
 * and `settlePaging` begins, holds, goes on or stops.
 *
 *     level 1 --no receipt: 30 s; receipt, no answer: 120 s--> level 2 --> ... --> again and again
 *              \--nobody acknowledged for `afterMs`---------> that level -/
 *
 * Critical incidents that are paged always have a deadline; those of severity warn are told once.
 */
import {
  type EscalationReason,
  type Incident,
  type Notification,
  shownId,
} from "../../core/cluster/incidents.ts";
import { durationText } from "../config/durations.ts";
import type { Turn } from "../incident/turn.ts";
import { pagesOf, queue, type Recipient, settle } from "./notifications.ts";
import { hasDevice, isPresenceKnown } from "./presence.ts";
import { peopleOf } from "./targets.ts";

type Wish = "page" | "hold" | "none";

/** What should be done about an incident; held while it is recovering and nobody has answered. */
export function wishOf(turn: Turn, incident: Incident): Wish {
  const { state, silence, explainedBy, ack } = incident;
  if (silence !== null || explainedBy !== null) return "none";
  if (Object.keys(turn.paging.people).length === 0) return "none";
  if (state === "open") return "page";
  return state === "recovering" && ack === null ? "hold" : "none";
}

/** Whether something is under way: by its deadlines, or for warnings by having begun. */
export function isPaging({ severity, deadlines, pagingSinceMs }: Incident): boolean {
  if (severity === "warn") return pagingSinceMs !== null;
  const { escalateAtMs, groupAtMs, repeatAtMs } = deadlines;
  return (escalateAtMs ?? groupAtMs ?? repeatAtMs) !== null;
}

/** Brings the paging of one incident to where it should be now, one level at a time. */
export function settlePaging(turn: Turn, id: string): void {
  const incident = turn.incidents.get(id);
  if (incident === undefined) return;
  const wish = wishOf(turn, incident);
  if (wish !== "page") {
    if (isUnderWay(incident, wish)) stop(turn.incidents.edit(id), wish);
    return;
  }
  if (incident.pagingSinceMs === null) begin(turn, turn.incidents.edit(id));
  else if (!isPaging(incident)) goOn(turn, turn.incidents.edit(id));
  else fire(turn, id, incident);
}

/** Whether there is anything to stop. */
function isUnderWay(incident: Incident, wish: Wish): boolean {
  const { severity, pagingSinceMs, notifications } = incident;
  const isDue = notifications.some(
    ({ purpose, dueAtMs }) => purpose === "page" && dueAtMs !== null,
  );
  if (wish === "none") return pagingSinceMs !== null || isDue;
  return isDue || (severity === "crit" && isPaging(incident));
}

function begin(turn: Turn, incident: Incident): void {
  incident.pagingSinceMs = turn.nowMs;
  incident.level = -1;
  tellNext(turn, incident, null);
}

/** It is bad again before it was resolved: those who know hear it anew, clocks start again. */
function goOn(turn: Turn, incident: Incident): void {
  tellAgain(turn, incident, "it is bad again");
  arm(turn, incident);
}

function stop(incident: Incident, wish: Wish): void {
  Object.assign(incident.deadlines, {
    escalateAtMs: null,
    escalateReason: null,
    groupAtMs: null,
    repeatAtMs: null,
  });
  for (const one of incident.notifications) if (one.purpose === "page") settle(one);
  // A warning that nobody was sent begins anew if it comes back.
  const isTold = incident.severity === "crit" || pagesOf(incident).some(isSent);
  if (wish === "none" || !isTold) incident.pagingSinceMs = null;
}

/** At most one of what is due; if several are, because somebody was away, the earliest. */
function fire(turn: Turn, id: string, incident: Incident): void {
  const { escalateAtMs, groupAtMs, repeatAtMs } = incident.deadlines;
  const isPaused = !turn.memory.link.isUp && !turn.memory.link.hasFallenBack;
  const due = [
    { atMs: groupAtMs, run: tellGroup },
    { atMs: isPaused ? null : escalateAtMs, run: escalate },
    { atMs: repeatAtMs, run: repeat },
  ].filter(({ atMs }) => atMs !== null && atMs <= turn.nowMs);
  due.sort((a, b) => (a.atMs ?? 0) - (b.atMs ?? 0));
  due[0]?.run(turn, turn.incidents.edit(id));
}

function escalate(turn: Turn, incident: Incident): void {
  const reason = incident.deadlines.escalateReason ?? "unreached";
  tellNext(turn, incident, reason);
}

/**
 * Tells the next level that has somebody who does not know yet. A level with a time of its own
 * waits for it, unless a person asked for more or nobody at all was told.
 */
export function tellNext(turn: Turn, incident: Incident, reason: EscalationReason | null): void {
  const { levels } = incident.policy;
  for (let index = incident.level + 1; index < levels.length; index += 1) {
    const isWaiting = (levels[index]?.afterMs ?? null) !== null && reason !== "asked";
    if (isWaiting && pagesOf(incident).length > 0) return arm(turn, incident);
    if (tellLevel(turn, incident, index, reason)) {
      if (reason !== null) turn.measure({ name: "escalated", reason });
      return arm(turn, incident);
    }
    turn.note(incident, "skipped", `level ${index + 1}: nobody there to tell`);
    incident.level = index;
  }
  if (reason === "asked") tellAgain(turn, incident, "somebody asked for help");
  arm(turn, incident);
}

/** All levels up to the next one that has a time of its own. */
function tellGroup(turn: Turn, incident: Incident): void {
  const last = nextTimed(incident);
  const between = incident.policy.levels.slice(incident.level + 1, last);
  incident.level = last - 1;
  const missed = between.flatMap(({ to }) => peopleOf(turn, to));
  tellLevel(turn, incident, last, "group", missed);
  incident.level = last;
  turn.measure({ name: "escalated", reason: "group" });
  arm(turn, incident);
}

function repeat(turn: Turn, incident: Incident): void {
  if (pagesOf(incident).length === 0) {
    // Nobody could be told at all: perhaps somebody is on call by now.
    incident.level = -1;
    return tellNext(turn, incident, null);
  }
  const ageText = durationText(turn.nowMs - incident.openedAtMs);
  tellAgain(turn, incident, `nobody has acknowledged it for ${ageText}`);
  arm(turn, incident);
}

const WHY: Record<EscalationReason, string> = {
  unreached: "was not reached",
  unanswered: "did not answer",
  channel: "may not have been reached, our link is down",
  asked: "was told, and somebody asked for you",
  group: "did not acknowledge it",
};

/** False if there is nobody. People who know already are told again by timed levels only. */
function tellLevel(
  turn: Turn,
  incident: Incident,
  index: number,
  reason: EscalationReason | null,
  also: readonly string[] = [],
): boolean {
  const level = incident.policy.levels[index];
  if (level === undefined) return false;
  const told = new Set(pagesOf(incident).map(({ person }) => person));
  const named = [...new Set([...also, ...peopleOf(turn, level.to)])];
  const people = level.afterMs === null ? named.filter((person) => !told.has(person)) : named;
  if (people.length === 0 && level.room === null) return false;
  incident.level = index;
  const before = [...told].join(", ");
  const why = reason === null || before === "" ? "" : `; ${before} ${WHY[reason]}`;
  const event = reason === null ? "paged" : "escalated";
  turn.note(incident, event, `level ${index + 1}: ${people.join(", ") || "the room"}${why}`);
  for (const person of people) {
    queue(turn, incident, "page", { person }, `you are level ${index + 1} (${person})${why}`);
  }
  if (level.room !== null) {
    queue(turn, incident, "page", { room: level.room }, `level ${index + 1}${why}`);
  }
  return true;
}

/** Another page to all that were told so far, and to whoever is on call by now in their place. */
function tellAgain(turn: Turn, incident: Incident, why: string): void {
  const levels = incident.policy.levels.slice(0, incident.level + 1);
  const told = pagesOf(incident).map(({ person }) => person);
  const named = levels.flatMap(({ to }) => peopleOf(turn, to));
  const people = [...new Set([...told, ...named])].filter((name) =>
    Object.hasOwn(turn.paging.people, name),
  );
  const rooms = new Set(levels.flatMap(({ room }) => room ?? []));
  turn.note(incident, "repeated", `${why}: ${people.join(", ")}`);
  const recipients: Recipient[] = [
    ...people.map((person) => ({ person })),
    ...[...rooms].map((room) => ({ room })),
  ];
  for (const recipient of recipients) queue(turn, incident, "page", recipient, why);
}

/** Pages one more person by name. */
export function tellPerson(turn: Turn, incident: Incident, person: string, by: string): void {
  turn.note(incident, "escalated", `${by} asked for ${person}`, person);
  turn.measure({ name: "escalated", reason: "asked" });
  queue(turn, incident, "page", { person }, `${by} asked for you (${person})`);
}

/** Sets the deadlines for the level that was just told. */
export function arm(turn: Turn, incident: Incident): void {
  const { deadlines, policy, level, pagingSinceMs } = incident;
  if (incident.severity === "warn") return;
  const next = policy.levels[level + 1];
  const timed = nextTimed(incident);
  const timedAfterMs = policy.levels[timed]?.afterMs ?? null;
  deadlines.groupAtMs = timedAfterMs === null ? null : (pagingSinceMs ?? 0) + timedAfterMs;
  // Overdue, because somebody was away: not in one burst with the level that was told now.
  if (deadlines.groupAtMs !== null && deadlines.groupAtMs <= turn.nowMs) {
    deadlines.groupAtMs = turn.nowMs + policy.receiptTimeoutMs;
  }
  const isChained = next !== undefined && next.afterMs === null;
  deadlines.escalateAtMs = isChained ? turn.nowMs + receiptTimeoutMs(turn, incident) : null;
  deadlines.escalateReason = isChained ? "unreached" : null;
  deadlines.repeatAtMs = next === undefined ? turn.nowMs + policy.repeatEveryMs : null;
}

/** Shorter if nobody of the level has a device that is there: nobody will answer. */
function receiptTimeoutMs(turn: Turn, incident: Incident): number {
  const { receiptTimeoutMs, receiptTimeoutAwayMs } = incident.policy;
  const people = pagesOf(incident).filter(({ level }) => level === incident.level);
  const isAway = isPresenceKnown(turn) && people.every(({ person }) => !hasDevice(turn, person));
  return isAway ? receiptTimeoutAwayMs : receiptTimeoutMs;
}

/** Index of the next level with a time of its own; past the last if there is none. */
function nextTimed({ policy, level }: Incident): number {
  const index = policy.levels.findIndex((one, at) => at > level && one.afterMs !== null);
  return index < 0 ? policy.levels.length : index;
}

/** Somebody was away for long: of all that is overdue one thing happens now, the rest one by one. */
export function spreadOverdue(turn: Turn, incident: Incident): void {
  const { deadlines, policy } = incident;
  const names = ["escalateAtMs", "groupAtMs", "repeatAtMs"] as const;
  const overdue = names.flatMap((name) => {
    const atMs = deadlines[name];
    return atMs !== null && atMs <= turn.nowMs ? [{ name, atMs }] : [];
  });
  overdue.sort((a, b) => a.atMs - b.atMs);
  for (const [index, { name }] of overdue.entries()) {
    if (index > 0) deadlines[name] = turn.nowMs + index * policy.receiptTimeoutMs;
  }
}

/** The clock of the level runs from when it was sent, not from when it was queued. */
export function armOnSend(turn: Turn, incident: Incident): void {
  if (incident.deadlines.escalateAtMs === null) return;
  incident.deadlines.escalateAtMs = turn.nowMs + receiptTimeoutMs(turn, incident);
  incident.deadlines.escalateReason = "unreached";
}

/** Somebody of the level has it: now the time to answer counts. */
export function armOnReceipt(turn: Turn, incident: Incident): void {
  if (incident.deadlines.escalateAtMs === null) return;
  if (incident.deadlines.escalateReason === "unanswered") return;
  incident.deadlines.escalateAtMs = turn.nowMs + incident.policy.ackTimeoutMs;
  incident.deadlines.escalateReason = "unanswered";
}

export const nameOf = (incident: Incident) => `#${shownId(incident)}`;

const isSent = ({ sentAtMs, fallbackAtMs }: Notification) => (sentAtMs ?? fallbackAtMs) !== null;
