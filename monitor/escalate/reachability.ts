/**
 * Whether people can be reached, known before there is an incident: devices of who is on call are
 * pinged end to end every minute, and whoever could not be reached for five of them is told of by
 * the other channels, and whoever is next as well. It is a condition like all others.
 */
import type { Incident, Person } from "../../core/cluster/incidents.ts";
import type { Condition } from "../condition.ts";
import type { Turn } from "../incident/turn.ts";
import { queue, settle } from "./notifications.ts";
import { devicesOf, isPresenceKnown, updateDevice } from "./presence.ts";
import { ping, sendByFallback } from "./sending.ts";
import { onCall, personOf } from "./targets.ts";
import { headline, timeText } from "./texts.ts";

export const UNREACHABLE = "unreachable";
const PING_INTERVAL_MS = 60_000;
const LOOK_INTERVAL_MS = 1_000;
const MISSES_MAX = 2;
const WARN_AFTER_MS = 300_000;

/** Pings whoever is on call, once a minute, while the link is up. */
export function settlePings(turn: Turn): void {
  const { memory, nowMs } = turn;
  if (!memory.link.isUp || Object.keys(turn.paging.schedules).length === 0) {
    if (memory.pingDueMs !== null) memory.pingDueMs = null;
    return;
  }
  if (memory.pingDueMs !== null && memory.pingDueMs > nowMs) return;
  memory.pingDueMs = nowMs + PING_INTERVAL_MS;
  for (const person of onCall(turn).keys()) {
    const jids = devicesOf(turn, person).map(([jid]) => jid);
    if (jids.length > 0) ping(turn, jids);
  }
}

export function pinged(turn: Turn, jid: string, roundTripMs: number | null): void {
  const person = personOf(turn, jid);
  const known = person === undefined ? undefined : turn.memory.devices[person]?.[jid];
  if (person === undefined || known === undefined) return;
  const misses = roundTripMs === null ? known.misses + 1 : 0;
  updateDevice(turn, person, jid, { roundTripMs, misses });
  look(turn, person);
}

/** A receipt or a word of theirs is better than a ping. */
export function heardFrom(turn: Turn, person: string): void {
  for (const [jid] of devicesOf(turn, person)) updateDevice(turn, person, jid, { misses: 0 });
  const known = turn.people.get(person);
  if (known === undefined || turn.nowMs - (known.lastReceiptAtMs ?? 0) < LOOK_INTERVAL_MS) return;
  look(turn, person);
  turn.people.edit(person).lastReceiptAtMs = turn.nowMs;
}

/** Brings what is known of everybody up to date, at most once a second. */
export function lookAtPeople(turn: Turn): void {
  if (turn.nowMs < turn.memory.peopleDueMs) return;
  turn.memory.peopleDueMs = turn.nowMs + LOOK_INTERVAL_MS;
  const duties = onCall(turn);
  for (const person of Object.keys(turn.paging.people)) look(turn, person, duties);
  for (const person of turn.people.ids()) {
    if (!Object.hasOwn(turn.paging.people, person)) turn.people.delete(person);
  }
}

/** What is known of one person; written only when it changed. */
export function look(turn: Turn, person: string, duties = onCall(turn)): void {
  const known = turn.people.get(person);
  const reachability = reachabilityOf(turn, person);
  const devices = devicesOf(turn, person).map(([jid, { priority, roundTripMs, misses }]) => ({
    jid,
    priority,
    roundTripMs,
    misses: Math.min(misses, MISSES_MAX),
  }));
  const next: Person = {
    reachability,
    sinceMs: known?.reachability === reachability ? known.sinceMs : turn.nowMs,
    onCall: duties.get(person) ?? [],
    devices,
    lastReceiptAtMs: known?.lastReceiptAtMs ?? null,
    lastDrill: known?.lastDrill ?? null,
  };
  if (known === undefined || !isSame(known, next)) turn.people.put(person, next);
}

function reachabilityOf(turn: Turn, person: string): Person["reachability"] {
  if (!isPresenceKnown(turn)) return "unknown";
  const isAlive = devicesOf(turn, person).some(
    ([, { priority, misses }]) => priority >= 0 && misses < MISSES_MAX,
  );
  return isAlive ? "reachable" : "unreachable";
}

/** Who is on call and cannot be reached, as conditions. */
export function unreachablePeople(turn: Turn): Condition[] {
  return [...onCall(turn)].flatMap(([person, schedules]) => {
    const sinceMs = unreachedSince(turn, person, schedules);
    if (sinceMs === undefined) return [];
    const since = timeText(turn, sinceMs);
    const names = schedules.join(", ");
    return [
      {
        kind: UNREACHABLE,
        subject: person,
        severity: "warn",
        summary: `${person} is on call (${names}) and cannot be reached since ${since}`,
        details: ["no device answers: whoever is next will be told in their place"],
        sinceMs,
        explains: [],
      },
    ];
  });
}

/** Told to the person as well, by every way but the link. */
export function tellSubject(turn: Turn, incident: Incident): void {
  const person = incident.subject;
  if ((turn.paging.people[person]?.fallback.length ?? 0) === 0) return;
  const notification = queue(turn, incident, "update", { person }, headline(turn, incident));
  settle(notification);
  sendByFallback(turn, incident, notification);
}

/** Since when no device answers, or since a handover that nobody got. */
function unreachedSince(turn: Turn, person: string, schedules: string[]): number | undefined {
  const known = turn.people.get(person);
  if (known?.reachability === "unreachable" && turn.nowMs - known.sinceMs >= WARN_AFTER_MS) {
    return known.sinceMs;
  }
  const missed = turn.drills
    .values()
    .find(
      (drill) =>
        drill.person === person &&
        drill.purpose === "handover" &&
        drill.state === "unreached" &&
        schedules.includes(drill.cause) &&
        drill.createdAtMs > (known?.lastReceiptAtMs ?? 0),
    );
  return missed?.createdAtMs;
}

/** A round trip that is a little different is no news. */
function isSame(a: Person, b: Person): boolean {
  const rounded = (person: Person) => ({
    ...person,
    devices: person.devices.map((device) => ({
      ...device,
      roundTripMs:
        device.roundTripMs === null ? null : Math.ceil(Math.log2(device.roundTripMs + 1)),
    })),
  });
  return JSON.stringify(rounded(a)) === JSON.stringify(rounded(b));
}
