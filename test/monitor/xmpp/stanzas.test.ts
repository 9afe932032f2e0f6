/** What incoming stanzas say, as servers and phones write them. */
import { expect, test } from "vitest";
import { hear, messageMarkup } from "../../../monitor/xmpp/stanzas.ts";
import { type Element, StanzaReader } from "../../../monitor/xmpp/xml.ts";

const SELF = {
  jid: "monitor@alert.test/memward-1",
  rooms: new Map([["war@rooms.alert.test", "Memward"]]),
};
const ROOM = "war@rooms.alert.test";
const RECEIVED = "<received xmlns='urn:xmpp:receipts' id='17.1.alice'/>";
const DELAY = "<delay xmlns='urn:xmpp:delay' stamp='2026-11-21T10:00:00Z'/>";
const CARBON =
  "<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>" +
  "<message xmlns='jabber:client' from='alice@alert.test/x'><body>ack 17</body></message></forwarded></received>";
const error = (name: string) =>
  `<error type='cancel'><${name} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>`;
const roomUser = (...codes: number[]) =>
  `<x xmlns='http://jabber.org/protocol/muc#user'>${codes.map((code) => `<status code='${code}'/>`).join("")}</x>`;

function parse(xml: string): Element {
  const stanzas: Element[] = [];
  const reader = new StanzaReader({
    opened: () => {},
    stanza: (stanza) => stanzas.push(stanza),
    skipped: () => {},
    ended: () => {},
    failed: (reason, detail) => expect.fail(`${reason} ${detail}`),
  });
  reader.push(Buffer.from(`<stream xmlns='jabber:client'>${xml}`));
  return stanzas[0] as Element;
}

const text = (more: object) => ({ kind: "text", message: expect.objectContaining(more) });
const ignored = (reason: string) => ({ kind: "ignored", reason });

test.each<[string, string, object]>([
  [
    "a person's answer",
    "<message type='chat' from='alice@alert.test/phone' id='a1'><body>ack 17</body></message>",
    text({ from: "alice@alert.test/phone", id: "a1", body: "ack 17", delayedAtMs: null }),
  ],
  [
    "one that a server kept",
    `<message from='alice@alert.test/phone'><body>ack 17</body>${DELAY}</message>`,
    text({ delayedAtMs: Date.UTC(2026, 10, 21, 10) }),
  ],
  [
    "one with a stamp that nobody can read is old, not fresh",
    "<message from='alice@alert.test/p'><body>ack</body><delay xmlns='urn:xmpp:delay' stamp='soon'/></message>",
    text({ delayedAtMs: 0 }),
  ],
  [
    "one that wants a receipt of ours",
    "<message from='alice@alert.test/p' id='a2'><body>ack</body><request xmlns='urn:xmpp:receipts'/></message>",
    { kind: "text", wantsReceipt: true },
  ],
  [
    "a receipt",
    `<message from='alice@alert.test/phone' id='x'>${RECEIVED}</message>`,
    { kind: "received", from: "alice@alert.test/phone", id: "17.1.alice" },
  ],
  [
    "a marker",
    "<message from='alice@alert.test/phone'><displayed xmlns='urn:xmpp:chat-markers:0' id='17.1.alice'/></message>",
    { kind: "displayed", from: "alice@alert.test/phone", id: "17.1.alice" },
  ],
  [
    "an error for our id is a bounce, even with a receipt or a body in it",
    `<message type='error' from='alice@alert.test' id='17.1.alice'><body>ack 17</body>${RECEIVED}${error("recipient-unavailable")}</message>`,
    { kind: "bounced", id: "17.1.alice", condition: "recipient-unavailable" },
  ],
  [
    "an error that names no condition",
    "<message type='error' from='alice@alert.test' id='17.1.alice'/>",
    { kind: "bounced", condition: "undefined-condition" },
  ],
  ["an error without id", "<message type='error' from='a@b'/>", ignored("error_without_id")],
  ["a carbon", `<message from='monitor@alert.test'>${CARBON}</message>`, ignored("carbon")],
  [
    "a carbon that somebody else made up",
    `<message from='mallory@alert.test/x'>${CARBON}</message>`,
    ignored("carbon"),
  ],
  [
    "what another session of ours wrote",
    "<message from='Monitor@alert.test/other'><body>ack 17</body></message>",
    ignored("own"),
  ],
  ["a message from nobody", "<message><body>ack 17</body></message>", ignored("no_sender")],
  [
    "typing",
    "<message from='alice@alert.test/p'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
    ignored("no_body"),
  ],
  ["blanks", "<message from='alice@alert.test/p'><body> \n</body></message>", ignored("no_body")],
  [
    "a headline",
    "<message type='headline' from='alice@alert.test/p'><body>ack 17</body></message>",
    ignored("headline"),
  ],
  [
    "a receipt that names nothing",
    "<message from='alice@alert.test/p'><received xmlns='urn:xmpp:receipts'/></message>",
    ignored("no_body"),
  ],
  [
    "somebody in the room",
    `<message type='groupchat' from='${ROOM}/alice'><body>ack 17</body></message>`,
    text({ isRoom: true, from: `${ROOM}/alice` }),
  ],
  [
    "our own words from the room",
    `<message type='groupchat' from='${ROOM}/Memward'><body>#17 CRIT</body></message>`,
    ignored("echo"),
  ],
  [
    "what was said in the room before we came",
    `<message type='groupchat' from='${ROOM}/alice'><body>ack 17</body>${DELAY}</message>`,
    ignored("room_history"),
  ],
  [
    "a person who writes as if he were a room",
    "<message type='groupchat' from='alice@alert.test/p'><body>ack 17</body></message>",
    ignored("unknown_room"),
  ],
  [
    "a receipt in a room",
    `<message type='groupchat' from='${ROOM}/alice'>${RECEIVED}</message>`,
    ignored("no_body"),
  ],
  [
    "a device that is there",
    "<presence from='alice@alert.test/p'><show>dnd</show><priority>5</priority></presence>",
    { kind: "presence", from: "alice@alert.test/p", priority: 5, show: "dnd" },
  ],
  [
    "one with a priority that is none",
    "<presence from='alice@alert.test/p'><priority>high</priority></presence>",
    { kind: "presence", priority: 0, show: "" },
  ],
  [
    "one that goes",
    "<presence type='unavailable' from='alice@alert.test/p'/>",
    { kind: "presence", priority: null },
  ],
  ["our own presence", "<presence from='monitor@alert.test/memward-1'/>", ignored("own")],
  [
    "a wish to see us",
    "<presence type='subscribe' from='X@y/z'/>",
    { kind: "subscribe", from: "x@y" },
  ],
  ["one that was granted", "<presence type='subscribed' from='x@y'/>", ignored("subscription")],
  ["a presence that failed", "<presence type='error' from='x@y'/>", ignored("presence_error")],
  ["somebody in a room", `<presence from='${ROOM}/alice'/>`, ignored("room_presence")],
  [
    "we are in a room that is new",
    `<presence from='${ROOM}/Memward'>${roomUser(110, 201)}</presence>`,
    { kind: "entered", room: ROOM, isNew: true },
  ],
  [
    "we were thrown out",
    `<presence type='unavailable' from='${ROOM}/Memward'>${roomUser(110, 307)}</presence>`,
    { kind: "leftRoom", room: ROOM },
  ],
  [
    "we may not enter",
    `<presence type='error' from='${ROOM}/Memward'>${error("forbidden")}</presence>`,
    { kind: "leftRoom", condition: "forbidden" },
  ],
  ["a request", "<iq type='get' id='1' from='x@y'><query/></iq>", { kind: "request" }],
  ["an answer", "<iq type='result' id='1' from='x@y'/>", { kind: "reply", condition: null }],
  [
    "the server's own answer has no sender",
    "<iq type='result' id='1'/>",
    { kind: "reply", from: "monitor@alert.test" },
  ],
  ["an iq of no kind", "<iq id='1' from='x@y'/>", ignored("unknown_stanza")],
])("%s", (_, xml, heard) => {
  expect(hear(parse(xml), SELF)).toMatchObject(heard);
});

test("a long body is cut, not refused", () => {
  const to = "alice@alert.test";
  const xml = messageMarkup({
    id: "1",
    to,
    body: "x".repeat(50_000),
    wantsReceipt: true,
    isRoom: false,
  });
  expect(xml.length).toBeLessThan(9_000);
});

test("nothing is asked of a room", () => {
  const xml = messageMarkup({ id: "1", to: ROOM, body: "x", wantsReceipt: true, isRoom: true });
  const { attributes, children } = parse(xml);
  expect(attributes["type"]).toBe("groupchat");
  expect(children).toMatchObject([{ name: "body" }, { name: "store" }, { name: "origin-id" }]);
});
