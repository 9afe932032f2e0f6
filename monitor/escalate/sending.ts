/**
 * Queued notifications become messages while the link is up: first to the person, whose server
 * chooses a device, then to each device that is there, until a receipt comes. While it is down for
 * long, the fallback channels of everybody concerned are used.
 */
import {
  type Incident,
  incidentId,
  type Notification,
  shownId,
} from "../../core/cluster/incidents.ts";
import type { Turn } from "../incident/turn.ts";
import { armOnSend, isPaging } from "./levels.ts";
import { messageId, ROOM } from "./messageId.ts";
import { deviceOf, moveTo, pagesOf } from "./notifications.ts";
import { devicesOf } from "./presence.ts";
import { marked, pageText, payloadOf } from "./texts.ts";

/** The link may be down for so long before fallback channels are used. */
export const FALLBACK_AFTER_MS = 10_000;
/** One notification is not sent more often than this, whatever the link does. */
const SENDING_COUNT_MAX = 40;
const PING_TIMEOUT_MS = 2_000;

/** Sends all that is due of an incident, as far as there is a way. */
export function sendDue(turn: Turn, id: string): void {
  const incident = turn.incidents.get(id);
  if (incident === undefined) return;
  const isDue = ({ dueAtMs }: Notification) => dueAtMs !== null && dueAtMs <= turn.nowMs;
  if (turn.memory.link.isUp) {
    if (!incident.notifications.some(isDue)) return;
    const draft = turn.incidents.edit(id);
    for (const one of draft.notifications.filter(isDue)) send(turn, draft, one);
  } else if (turn.memory.link.hasFallenBack) {
    if (wantsFallback(turn, incident)) fallBack(turn, turn.incidents.edit(id));
  }
}

function send(turn: Turn, incident: Incident, notification: Notification): void {
  const { person, room, purpose, dueTo } = notification;
  const address = room ?? (turn.paging.people[person]?.jid as string | undefined);
  if (address === undefined || notification.sendings >= SENDING_COUNT_MAX) {
    notification.dueAtMs = null;
    if (notification.state === "queued") notification.state = "cancelled";
    return;
  }
  const isFirst = notification.sentAtMs === null;
  const jids = dueTo === "person" ? [address] : freshDevices(turn, notification);
  for (const jid of jids) sendTo(turn, incident, notification, jid);
  if (dueTo === "devices") {
    const devices = devicesOf(turn, person).map(([jid]) => jid);
    if (devices.length > 0) ping(turn, devices);
    if (jids.length > 0) turn.note(incident, "resent", `no receipt: ${jids.join(", ")}`, person);
  }
  const isPage = purpose === "page" && room === null;
  const resendAtMs = turn.nowMs + incident.policy.resendAfterMs;
  notification.dueAtMs = isPage && dueTo === "person" ? resendAtMs : null;
  notification.dueTo = "devices";
  const isOfLevel = isPage && notification.level === incident.level;
  if (isFirst && isOfLevel && incident.severity === "crit") armOnSend(turn, incident);
}

function sendTo(turn: Turn, incident: Incident, notification: Notification, jid: string): void {
  notification.sendings += 1;
  const { seq, person, room, sendings: sending } = notification;
  const subject = shownId(incident);
  const body =
    notification.purpose === "page" ? pageText(turn, incident, notification) : notification.text;
  turn.effects.push({
    kind: "send",
    person,
    message: {
      id: messageId({ subject, seq, person: room === null ? person : ROOM, sending }),
      to: jid,
      body: marked(turn, body),
      wantsReceipt: room === null,
      isRoom: room !== null,
      payload: payloadOf(turn, incident, notification),
    },
  });
  const device = deviceOf(notification, jid);
  device.sending = sending;
  device.sentAtMs ??= turn.nowMs;
  moveTo(turn, notification, "sent");
}

/** Devices that are there and did not send it back. */
function freshDevices(turn: Turn, { person, devices }: Notification): string[] {
  const gone = devices.filter(({ bouncedAtMs }) => bouncedAtMs !== null).map(({ jid }) => jid);
  return devicesOf(turn, person)
    .map(([jid]) => jid)
    .filter((jid) => !gone.includes(jid));
}

export function ping(turn: Turn, jids: readonly string[]): void {
  turn.effects.push({ kind: "ping", jids, timeoutMs: PING_TIMEOUT_MS });
}

/** Somebody was to be told and nothing says that it arrived. */
function undelivered(incident: Incident): Notification[] {
  const updates = incident.notifications.filter((one) => isStrandedUpdate(incident, one));
  if (!isPaging(incident)) return updates;
  const isLate = ({ deliveredAtMs, acknowledgedAtMs, fallbackAtMs, state }: Notification) =>
    (deliveredAtMs ?? acknowledgedAtMs ?? fallbackAtMs) === null &&
    state !== "cancelled" &&
    state !== "expired";
  return [...pagesOf(incident).filter(isLate), ...updates];
}

/** Who heard of it by a fallback channel hears the same way what became of it. */
function isStrandedUpdate({ notifications }: Incident, one: Notification): boolean {
  if (one.purpose !== "update" || one.state !== "queued" || one.fallbackAtMs !== null) return false;
  return notifications.some(({ person, fallbackAtMs, purpose }) => {
    return purpose === "page" && person === one.person && person !== "" && fallbackAtMs !== null;
  });
}

function hasFallback(turn: Turn, person: string): boolean {
  return (turn.paging.people[person]?.fallback.length ?? 0) > 0;
}

export function wantsFallback(turn: Turn, incident: Incident): boolean {
  const late = undelivered(incident);
  const { escalateAtMs, escalateReason } = incident.deadlines;
  const isStuck = escalateAtMs !== null && escalateReason !== "channel";
  return late.some(({ person, purpose }) => {
    return hasFallback(turn, person) || (purpose === "page" && isStuck);
  });
}

/**
 * By every other way at once. From now on the clock of the level runs though the link is down: a
 * fallback gives no receipts, so it counts like one that waits for an answer.
 */
function fallBack(turn: Turn, incident: Incident): void {
  const late = undelivered(incident);
  for (const one of late) if (hasFallback(turn, one.person)) sendByFallback(turn, incident, one);
  const { deadlines, policy, level } = incident;
  if (deadlines.escalateAtMs === null || deadlines.escalateReason === "channel") return;
  const isTold = late.some((one) => one.level === level && one.fallbackAtMs !== null);
  deadlines.escalateAtMs = turn.nowMs + (isTold ? policy.ackTimeoutMs : policy.receiptTimeoutMs);
  deadlines.escalateReason = "channel";
}

export function sendByFallback(turn: Turn, incident: Incident, one: Notification): void {
  const { person, seq } = one;
  one.fallbackAtMs = turn.nowMs;
  const subject = shownId(incident);
  const body = one.purpose === "page" ? pageText(turn, incident, one) : one.text;
  turn.note(incident, "fallback", "no receipt can come: by the other channels", person);
  turn.effects.push({
    kind: "fallback",
    person,
    channels: turn.paging.people[person]?.fallback ?? [],
    messageId: messageId({ subject, seq, person, sending: 1 }),
    body: marked(turn, body),
    payload: payloadOf(turn, incident, one),
  });
}

/** Clocks of people stood still while the link was down: they go on with what was left. */
export function resumeClocks(turn: Turn, downSinceMs: number): void {
  for (const incident of turn.incidents.values()) {
    const { escalateAtMs } = incident.deadlines;
    if (escalateAtMs === null) continue;
    const draft = turn.incidents.edit(incidentId(incident));
    draft.deadlines.escalateAtMs = escalateAtMs + (turn.nowMs - downSinceMs);
  }
}
