/** Notifications of an incident: made, moved forward, ended, and bounded. */
import {
  DEVICE_COUNT_MAX,
  type Device,
  type Incident,
  NOTIFICATION_COUNT_MAX,
  NOTIFICATION_STATES,
  type Notification,
  type NotificationState,
} from "../../core/cluster/incidents.ts";
import { cut, type Turn } from "../incident/turn.ts";

const RANK = Object.fromEntries(
  NOTIFICATION_STATES.map((state, index) => [state, index]),
) as Record<NotificationState, number>;
const TEXT_LENGTH_MAX = 1_000;

/** Where in a notification the moment of a state stands. */
const MOMENT = {
  sent: "sentAtMs",
  accepted: "acceptedAtMs",
  delivered: "deliveredAtMs",
  displayed: "displayedAtMs",
  acknowledged: "acknowledgedAtMs",
} as const;
type Stage = keyof typeof MOMENT;

/** Only forward: what comes late leaves its moment, but not its state. */
export function moveTo(turn: Turn, notification: Notification, state: Stage): void {
  const isFirst = notification[MOMENT[state]] === null;
  notification[MOMENT[state]] ??= turn.nowMs;
  if (RANK[state] > RANK[notification.state]) notification.state = state;
  if (!isFirst || state === "sent" || notification.purpose !== "page") return;
  const seconds = (turn.nowMs - notification.queuedAtMs) / 1_000;
  turn.measure({ name: "notified", stage: state, seconds });
}

/** Nothing more is sent of it. Before the first time: cancelled. */
export function settle(notification: Notification): void {
  notification.dueAtMs = null;
  if (notification.state === "queued") notification.state = "cancelled";
}

export type Recipient = { readonly person: string } | { readonly room: string };

/** Queues something for a person or room; what is still queued for them of that kind gives way. */
export function queue(
  turn: Turn,
  incident: Incident,
  purpose: Notification["purpose"],
  recipient: Recipient,
  text: string,
): Notification {
  const person = "person" in recipient ? recipient.person : "";
  const room = "room" in recipient ? recipient.room : null;
  const earlier = incident.notifications.filter(
    (one) => one.purpose === purpose && one.person === person && one.room === room,
  );
  if (purpose === "page") for (const one of earlier) supersede(one);
  incident.seq += 1;
  const notification: Notification = {
    seq: incident.seq,
    purpose,
    person,
    room,
    level: Math.max(0, incident.level),
    round: (earlier.at(-1)?.round ?? 0) + 1,
    text: cut(text, TEXT_LENGTH_MAX),
    state: "queued",
    queuedAtMs: turn.nowMs,
    sentAtMs: null,
    acceptedAtMs: null,
    deliveredAtMs: null,
    displayedAtMs: null,
    acknowledgedAtMs: null,
    dueAtMs: turn.nowMs,
    dueTo: "person",
    sendings: 0,
    bounces: 0,
    fallbackAtMs: null,
    fallbackTakenAtMs: null,
    devices: [],
  };
  incident.notifications.push(notification);
  prune(incident);
  return notification;
}

/** A newer page takes its place: one that nobody got is over. */
function supersede(notification: Notification): void {
  settle(notification);
  if (RANK[notification.state] < RANK.delivered) notification.state = "expired";
}

/** The entry of a JID; the least telling one gives way when there are too many. */
export function deviceOf(notification: Notification, jid: string): Device {
  const known = notification.devices.find((device) => device.jid === jid);
  if (known !== undefined) return known;
  const device: Device = {
    jid,
    sending: 0,
    sentAtMs: null,
    acceptedAtMs: null,
    deliveredAtMs: null,
    displayedAtMs: null,
    bouncedAtMs: null,
  };
  if (notification.devices.length >= DEVICE_COUNT_MAX) {
    const silent = notification.devices.findIndex((one) => one.deliveredAtMs === null);
    notification.devices.splice(Math.max(0, silent), 1);
  }
  notification.devices.push(device);
  return device;
}

/** Pages since the paging began, of people. */
export function pagesOf(incident: Incident): Notification[] {
  const { pagingSinceMs } = incident;
  if (pagingSinceMs === null) return [];
  return incident.notifications.filter(
    ({ purpose, person, queuedAtMs }) =>
      purpose === "page" && person !== "" && queuedAtMs >= pagingSinceMs,
  );
}

/** Everybody, and every room, that was ever sent a page of it. */
export function audience(incident: Incident): Recipient[] {
  const told = incident.notifications.filter(
    ({ purpose, sentAtMs, fallbackAtMs }) =>
      purpose === "page" && (sentAtMs !== null || fallbackAtMs !== null),
  );
  const people = new Set(told.filter(({ room }) => room === null).map(({ person }) => person));
  const rooms = new Set(told.flatMap(({ room }) => room ?? []));
  return [...[...people].map((person) => ({ person })), ...[...rooms].map((room) => ({ room }))];
}

/** Tells everybody who was paged, except who knows already. */
export function update(turn: Turn, incident: Incident, text: string, except = ""): void {
  for (const recipient of audience(incident)) {
    if ("person" in recipient && recipient.person === except) continue;
    queue(turn, incident, "update", recipient, text);
  }
}

/**
 * Keeps the list bounded: what is over goes first, then old updates, then old rounds. The last page
 * of each person stays, as far as that is possible, so that nobody forgets who was told.
 */
function prune(incident: Incident): void {
  const { notifications } = incident;
  if (notifications.length <= NOTIFICATION_COUNT_MAX) return;
  const last = new Map(
    notifications.filter(({ purpose }) => purpose === "page").map((one) => [keyOf(one), one]),
  );
  const worth = (one: Notification): number => {
    if (one === notifications.at(-1)) return 4;
    if (last.get(keyOf(one)) === one) return 3;
    if (one.dueAtMs !== null) return 2;
    return one.purpose === "page" ? 1 : 0;
  };
  let least = notifications[0] as Notification;
  for (const one of notifications) if (worth(one) < worth(least)) least = one;
  notifications.splice(notifications.indexOf(least), 1);
}

const keyOf = ({ person, room }: Notification) => `${person} ${room}`;
