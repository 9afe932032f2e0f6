/**
 * What became of messages. A receipt stops the clock of "not reached"; only a person's answer
 * stops the paging. Receipts are matched by incident and person: one of a second sending counts
 * like one of the first.
 */
import { type Incident, incidentId, type Notification } from "../../core/cluster/incidents.ts";
import type { Turn } from "../incident/turn.ts";
import type { PagerEvent } from "../incident/types.ts";
import { drillHeard, UNSURE_PAUSE_MS } from "./drills.ts";
import { armOnReceipt, isPaging } from "./levels.ts";
import { type MessageId, parseMessageId, ROOM } from "./messageId.ts";
import { deviceOf, moveTo, pagesOf } from "./notifications.ts";
import { devicesOf } from "./presence.ts";
import { heardFrom } from "./reachability.ts";
import { personOf } from "./targets.ts";

/** Errors for so many sendings of one notification: the person cannot be reached this way. */
const BOUNCES_UNREACHABLE = 2;

type Kind = "accepted" | "unsure" | "delivered" | "displayed" | "bounced" | "fellBack";
export type ReceiptEvent = Extract<PagerEvent, { kind: Kind }>;

export function heardOfMessage(turn: Turn, event: ReceiptEvent): void {
  if (event.kind === "unsure") turn.measure({ name: "unsure" });
  if (event.kind === "bounced") turn.measure({ name: "bounced" });
  const id = parseMessageId(event.messageId);
  if (id === undefined) return ignored(turn, event, "message_unknown");
  const from = "from" in event ? personOf(turn, event.from) : undefined;
  const isReceipt = event.kind === "delivered" || event.kind === "displayed";
  if (isReceipt && from !== undefined) heardFrom(turn, from);
  if (id.subject.startsWith("d")) return drillHeard(turn, id, event, from);
  const found = incidentOf(turn, id);
  if (found === undefined) return ignored(turn, event, "incident_unknown");
  const [incident, notification] = found;
  if ("from" in event && id.person !== ROOM && from !== id.person && isReceipt) {
    turn.note(incident, "ignored", `receipt for ${id.person} from ${from ?? "a stranger"}`);
    return turn.measure({ name: "ignored", reason: "receipt_of_another" });
  }
  HANDLERS[event.kind](turn, incident, notification, event as never, id);
}

type Handler<K extends Kind> = (
  turn: Turn,
  incident: Incident,
  notification: Notification,
  event: Extract<ReceiptEvent, { kind: K }>,
  id: MessageId,
) => void;

const HANDLERS: { [K in Kind]: Handler<K> } = {
  accepted: (turn, _, notification, __, { sending }) => {
    moveTo(turn, notification, "accepted");
    const device = notification.devices.find((one) => one.sending === sending);
    if (device !== undefined) device.acceptedAtMs ??= turn.nowMs;
  },

  unsure: (turn, incident, notification) => {
    turn.note(incident, "unsure", "the link broke off: sent again", notification.person);
    sendAgain(turn, incident, notification);
    // Once at once; a link that takes nothing though it is up must not turn this into a loop.
    const isAgain = notification.sendings > 2 && notification.dueAtMs !== null;
    if (isAgain) notification.dueAtMs = turn.nowMs + UNSURE_PAUSE_MS;
  },

  delivered: (turn, incident, notification, { from }) => {
    const device = deviceOf(notification, from);
    if (device.deliveredAtMs !== null) turn.measure({ name: "duplicateReceipt" });
    device.deliveredAtMs ??= turn.nowMs;
    delivered(turn, incident, notification, from);
  },

  displayed: (turn, incident, notification, { from }) => {
    const device = deviceOf(notification, from);
    device.deliveredAtMs ??= turn.nowMs;
    device.displayedAtMs ??= turn.nowMs;
    delivered(turn, incident, notification, from);
    moveTo(turn, notification, "displayed");
  },

  bounced: (turn, incident, notification, { from, condition }, { sending }) => {
    const { person } = notification;
    // The server speaks for the person: what counts is which sending came back.
    const device =
      notification.devices.find((one) => one.sending === sending) ?? deviceOf(notification, from);
    device.bouncedAtMs ??= turn.nowMs;
    if (notification.deliveredAtMs !== null) return; // Another device has it.
    notification.bounces += 1;
    turn.note(incident, "bounced", `${condition} from ${from}`, person);
    if (notification.purpose !== "page" || !isPaging(incident)) return;
    const gone = notification.devices.filter((one) => one.bouncedAtMs !== null);
    const left = devicesOf(turn, person).filter(([jid]) => !gone.some((one) => one.jid === jid));
    if (notification.bounces < BOUNCES_UNREACHABLE && left.length > 0) {
      notification.dueAtMs = turn.nowMs;
      notification.dueTo = "devices";
    } else escalateIfNobodyIsLeft(turn, incident);
  },

  fellBack: (turn, incident, notification, { isTaken, detail }) => {
    if (isTaken) notification.fallbackTakenAtMs ??= turn.nowMs;
    const what = isTaken ? "fallback taken" : "fallback failed";
    turn.note(incident, what, detail, notification.person);
  },
};

function delivered(turn: Turn, incident: Incident, notification: Notification, from: string): void {
  const isFirst = notification.deliveredAtMs === null;
  moveTo(turn, notification, "delivered");
  if (!isFirst) return;
  turn.note(incident, "delivered", `${notification.purpose} on ${from}`, notification.person);
  if (notification.purpose !== "page") return;
  notification.dueAtMs = null;
  const isCurrent = pagesOf(incident).includes(notification);
  if (isCurrent && notification.level === incident.level) armOnReceipt(turn, incident);
}

/** It may be lost: the same again, unless it is known to have arrived or matters no more. */
export function sendAgain(turn: Turn, incident: Incident, notification: Notification): void {
  const { purpose, deliveredAtMs, state } = notification;
  if (deliveredAtMs !== null || state === "cancelled" || state === "expired") return;
  if (purpose === "page" && !isPaging(incident)) return;
  notification.dueAtMs = turn.nowMs;
  notification.dueTo = "person";
}

/** All pages of the level came back: there is no reason to wait for a receipt. */
function escalateIfNobodyIsLeft(turn: Turn, incident: Incident): void {
  const pages = pagesOf(incident).filter(({ level }) => level === incident.level);
  const isHopeless = pages.every(({ bounces, deliveredAtMs }) => {
    return bounces > 0 && deliveredAtMs === null;
  });
  if (!isHopeless || incident.deadlines.escalateReason !== "unreached") return;
  incident.deadlines.escalateAtMs = Math.min(
    turn.nowMs,
    incident.deadlines.escalateAtMs ?? turn.nowMs,
  );
}

function incidentOf(turn: Turn, id: MessageId): [Incident, Notification] | undefined {
  const [digits, origin = ""] = id.subject.split("@");
  const key = incidentId({ number: Number(digits), origin });
  const isMeant = ({ seq, person, room }: Notification) =>
    seq === id.seq && (id.person === ROOM ? room !== null : person === id.person);
  if (!turn.incidents.get(key)?.notifications.some(isMeant)) return undefined;
  const incident = turn.incidents.edit(key);
  return [incident, incident.notifications.find(isMeant) as Notification];
}

function ignored(turn: Turn, event: ReceiptEvent, reason: string): void {
  // Receipts of answers to commands: nobody waits for these.
  if (event.messageId.startsWith("reply.")) return;
  turn.measure({ name: "ignored", reason });
}
