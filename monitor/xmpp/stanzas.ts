/**
 * Between what the monitor means and what XMPP writes: our stanzas as markup, and what an incoming
 * stanza says, decided by one pure function. Every stanza ends in an event or in a named reason
 * for ignoring it.
 */
import { bareJid, resourceOf } from "./jid.ts";
import type { IgnoredReason, IncomingText, OutgoingMessage } from "./link.ts";
import { childOf, type Element, elementsOf, escaped, markup, textOf } from "./xml.ts";

const NS = {
  receipts: "urn:xmpp:receipts",
  markers: "urn:xmpp:chat-markers:0",
  hints: "urn:xmpp:hints",
  stanzaIds: "urn:xmpp:sid:0",
  delay: "urn:xmpp:delay",
  carbons: "urn:xmpp:carbons:2",
  ping: "urn:xmpp:ping",
  room: "http://jabber.org/protocol/muc",
  roomUser: "http://jabber.org/protocol/muc#user",
  roomOwner: "http://jabber.org/protocol/muc#owner",
  form: "jabber:x:data",
  errors: "urn:ietf:params:xml:ns:xmpp-stanzas",
  /** The machine-readable child of our messages. */
  payload: "urn:memward:incident:1",
} as const;

/** Characters of a body; what is longer is cut, since phones show less and servers refuse more. */
const BODY_LENGTH_MAX = 8_000;
/** Characters of a message's id that we take from strangers. */
const ID_LENGTH_MAX = 256;
/** In presences of rooms: it is us; the room was made by our entering it. */
const STATUS_SELF = "110";
const STATUS_CREATED = "201";

export function messageMarkup(message: OutgoingMessage): string {
  const { id, to, body, payload } = message;
  const asks = [
    markup("request", { xmlns: NS.receipts }),
    markup("markable", { xmlns: NS.markers }),
  ];
  return markup(
    "message",
    { type: message.isRoom ? "groupchat" : "chat", id, to },
    markup("body", {}, escaped(shortened(body))),
    ...(message.wantsReceipt && !message.isRoom ? asks : []),
    markup("store", { xmlns: NS.hints }),
    markup("origin-id", { xmlns: NS.stanzaIds, id }),
    ...(payload === undefined ? [] : [markup("incident", { xmlns: NS.payload, ...payload })]),
  );
}

function shortened(body: string): string {
  if (body.length <= BODY_LENGTH_MAX) return body;
  return `${body.slice(0, BODY_LENGTH_MAX)}…`;
}

export function receiptMarkup(to: string, id: string): string {
  const received = markup("received", { xmlns: NS.receipts, id });
  return markup("message", { to, type: "chat" }, received, markup("store", { xmlns: NS.hints }));
}

export function pingMarkup(to: string, id: string): string {
  return markup("iq", { type: "get", to, id }, markup("ping", { xmlns: NS.ping }));
}

/** Lets `to` see us, and asks to see him: phones give receipts to those they know. */
export function approvalMarkups(to: string): string[] {
  return ["subscribed", "subscribe"].map((type) => markup("presence", { type, to }));
}

export const AVAILABLE = markup("presence", {}, markup("priority", {}, "0"));
export const UNAVAILABLE = markup("presence", { type: "unavailable" });

export function enterRoomMarkup(room: string, nick: string, id: string): string {
  const history = markup("history", { maxstanzas: "0" });
  return markup(
    "presence",
    { to: `${room}/${nick}`, id },
    markup("x", { xmlns: NS.room }, history),
  );
}

/** A new room is closed to others until its owner has accepted its settings (XEP-0045, 10.1). */
export function openRoomMarkup(room: string, id: string): string {
  const form = markup("x", { xmlns: NS.form, type: "submit" });
  const query = markup("query", { xmlns: NS.roomOwner }, form);
  return markup("iq", { type: "set", to: room, id }, query);
}

/** What we answer to a request; every one has to be answered (RFC 6120, 8.2.3). */
export function answerMarkup(request: Element): string {
  const { id, from } = request.attributes;
  if (isPing(request)) return markup("iq", { type: "result", id, to: from });
  const condition = markup("service-unavailable", { xmlns: NS.errors });
  const error = markup("error", { type: "cancel" }, condition);
  return markup("iq", { type: "error", id, to: from }, error);
}

export function isPing(request: Element): boolean {
  const isGet = request.attributes["type"] === "get";
  return isGet && childOf(request, "ping", NS.ping) !== undefined;
}

/** Who we are to the stanzas that come. */
export interface Self {
  readonly jid: string;
  /** Our nick in each room that we are in or enter, by the room's bare JID. */
  readonly rooms: ReadonlyMap<string, string>;
}

export type Heard =
  | { readonly kind: "ignored"; readonly reason: IgnoredReason }
  | { readonly kind: "received" | "displayed"; readonly from: string; readonly id: string }
  | { readonly kind: "bounced"; readonly from: string; readonly id: string; condition: string }
  | { readonly kind: "text"; readonly message: IncomingText; readonly wantsReceipt: boolean }
  | { readonly kind: "presence"; readonly from: string; priority: number | null; show: string }
  /** Somebody would like to see whether we are there. */
  | { readonly kind: "subscribe"; readonly from: string }
  | { readonly kind: "entered"; readonly room: string; readonly isNew: boolean }
  | { readonly kind: "leftRoom"; readonly room: string; readonly condition: string }
  | { readonly kind: "request" }
  | {
      readonly kind: "reply";
      readonly from: string;
      readonly id: string;
      condition: string | null;
    };

const ignored = (reason: IgnoredReason): Heard => ({ kind: "ignored", reason });

/** What a stanza says to us. */
export function hear(stanza: Element, self: Self): Heard {
  if (stanza.name === "message") return hearMessage(stanza, self);
  if (stanza.name === "presence") return hearPresence(stanza, self);
  if (stanza.name === "iq") return hearIq(stanza, self);
  return ignored("unknown_stanza");
}

function hearMessage(stanza: Element, self: Self): Heard {
  const { type = "normal", from = "", id = "" } = stanza.attributes;
  if (type === "error") {
    if (!isId(id)) return ignored("error_without_id");
    return { kind: "bounced", from, id, condition: conditionOf(stanza) };
  }
  if (elementsOf(stanza).some(({ xmlns }) => xmlns === NS.carbons)) return ignored("carbon");
  if (from === "") return ignored("no_sender");
  if (bareJid(from) === bareJid(self.jid)) return ignored("own");
  if (type === "headline") return ignored("headline");

  const delayedAtMs = delayOf(stanza);
  if (type === "groupchat") {
    const nick = self.rooms.get(bareJid(from));
    if (nick === undefined) return ignored("unknown_room");
    if (nick === resourceOf(from)) return ignored("echo");
    if (delayedAtMs !== null) return ignored("room_history");
  } else {
    const receipt = childOf(stanza, "received", NS.receipts)?.attributes["id"];
    if (isId(receipt)) return { kind: "received", from, id: receipt };
    const displayed = childOf(stanza, "displayed", NS.markers)?.attributes["id"];
    if (isId(displayed)) return { kind: "displayed", from, id: displayed };
  }

  const body = elementsOf(stanza).find((child) => child.name === "body");
  if (body === undefined || textOf(body).trim() === "") return ignored("no_body");
  const isRoom = type === "groupchat";
  const message = { id: id.slice(0, ID_LENGTH_MAX), from, body: textOf(body), delayedAtMs, isRoom };
  const asks = childOf(stanza, "request", NS.receipts) !== undefined;
  return { kind: "text", message, wantsReceipt: asks && !isRoom && isId(id) };
}

function hearPresence(stanza: Element, self: Self): Heard {
  const { type = "", from = "" } = stanza.attributes;
  if (from === "") return ignored("no_sender");
  const room = bareJid(from);
  if (self.rooms.has(room)) return hearRoom(stanza, room, type);
  if (room === bareJid(self.jid)) return ignored("own");
  if (type === "error") return ignored("presence_error");
  if (type === "subscribe") return { kind: "subscribe", from: bareJid(from) };
  if (type !== "" && type !== "unavailable") return ignored("subscription");
  if (type === "unavailable") return { kind: "presence", from, priority: null, show: "" };
  const text = (name: string): string => {
    const child = elementsOf(stanza).find((one) => one.name === name);
    return child === undefined ? "" : textOf(child).trim().slice(0, 16);
  };
  const priority = /^[+-]?\d{1,3}$/.test(text("priority")) ? Number(text("priority")) : 0;
  return { kind: "presence", from, priority, show: text("show") };
}

function hearRoom(stanza: Element, room: string, type: string): Heard {
  if (type === "error") return { kind: "leftRoom", room, condition: conditionOf(stanza) };
  const details = childOf(stanza, "x", NS.roomUser);
  const codes = details === undefined ? [] : elementsOf(details).map((it) => it.attributes["code"]);
  if (!codes.includes(STATUS_SELF)) return ignored("room_presence");
  if (type === "unavailable") return { kind: "leftRoom", room, condition: "left" };
  return { kind: "entered", room, isNew: codes.includes(STATUS_CREATED) };
}

function hearIq(stanza: Element, self: Self): Heard {
  const { type = "", id = "", from = bareJid(self.jid) } = stanza.attributes;
  if (type === "get" || type === "set") return { kind: "request" };
  if (type === "result") return { kind: "reply", from, id, condition: null };
  if (type === "error") return { kind: "reply", from, id, condition: conditionOf(stanza) };
  return ignored("unknown_stanza");
}

function isId(id: string | undefined): id is string {
  return id !== undefined && id !== "" && id.length <= ID_LENGTH_MAX;
}

/** As in RFC 6120, 8.3.3; a server that names none still refused. */
function conditionOf(stanza: Element): string {
  const error = elementsOf(stanza).find((child) => child.name === "error");
  const named = error === undefined ? [] : elementsOf(error);
  const condition = named.find((child) => child.xmlns === NS.errors && child.name !== "text");
  return condition?.name.slice(0, 64) ?? "undefined-condition";
}

/** A stamp that cannot be read must not make an old message fresh: it is from 1970 then. */
function delayOf(stanza: Element): number | null {
  const delay = childOf(stanza, "delay", NS.delay);
  if (delay === undefined) return null;
  const atMs = Date.parse(delay.attributes["stamp"] ?? "");
  return Number.isNaN(atMs) ? 0 : atMs;
}
