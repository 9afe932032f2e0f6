/** The reader of streams: what it makes of XML, whole and in pieces, and what it refuses. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  childOf,
  type Element,
  escaped,
  markup,
  StanzaReader,
  textOf,
} from "../../../monitor/xmpp/xml.ts";

const HEADER =
  "<?xml version='1.0'?><stream:stream xmlns='jabber:client' " +
  "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

function read(...chunks: (string | Uint8Array)[]): { lines: string[]; stanzas: Element[] } {
  const lines: string[] = [];
  const stanzas: Element[] = [];
  const reader = new StanzaReader({
    opened: ({ name, xmlns }) => lines.push(`opened ${name} ${xmlns}`),
    stanza: (stanza) => {
      stanzas.push(stanza);
      lines.push(`${stanza.name} ${stanza.xmlns}`);
    },
    skipped: (name) => lines.push(`skipped ${name}`),
    ended: () => lines.push("ended"),
    failed: (reason) => lines.push(`failed ${reason}`),
  });
  for (const chunk of chunks) reader.push(Buffer.from(chunk as string));
  return { lines, stanzas };
}

const body = (stanza: Element | undefined): string => {
  const child = stanza && childOf(stanza, "body", "jabber:client");
  return child === undefined ? "" : textOf(child);
};

test("a conversation reads the same, split at every byte", () => {
  const text =
    `${HEADER}<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>\n ` +
    "<message from='a@b/ü' id=\"1\"><body>&lt;caf\u00e9&gt; \ud83d\ude00 <![CDATA[<x>]]></body></message>" +
    "<a xmlns='urn:xmpp:sm:3' h='1'/></stream:stream>";
  const bytes = Buffer.from(text);
  const whole = read(bytes);
  expect(whole.lines).toEqual([
    "opened stream http://etherx.jabber.org/streams",
    "features http://etherx.jabber.org/streams",
    "message jabber:client",
    "a urn:xmpp:sm:3",
    "ended",
  ]);
  expect(body(whole.stanzas[1])).toBe("<café> 😀 <x>");
  for (let at = 0; at <= bytes.length; at += 1) {
    expect(read(bytes.subarray(0, at), bytes.subarray(at))).toEqual(whole);
  }
  expect(read(...[...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(whole);
});

test("prefixes are resolved wherever they were declared", () => {
  const { stanzas } = read(HEADER, "<q:iq xmlns:q='other'><child/><q:child/></q:iq>");
  const [iq] = stanzas as [Element];
  expect(iq.xmlns).toBe("other");
  expect(iq.children).toMatchObject([{ xmlns: "jabber:client" }, { xmlns: "other" }]);
});

describe("what is not XMPP ends the stream", () => {
  test.each([
    ["an element that is not closed", "<message><body></message>"],
    ["an unknown entity", "<message><body>&bogus;</body></message>"],
    ["an attribute without quotes", "<message a=b/>"],
    ["the same attribute twice", "<message a='1' a='2'/>"],
    ["text between stanzas", "hello"],
    ["a comment", "<!-- x --><message/>"],
    ["an instruction", "<?php x ?>"],
    ["a document type", "<!DOCTYPE x [<!ENTITY a 'b'>]>"],
    ["a control character", "<message><body>\u0001</body></message>"],
    ["what is no UTF-8", Buffer.from("<message><body>\xff</body></message>", "latin1")],
    ["bytes that are nothing", Buffer.from([0, 1, 2, 3])],
  ])("%s", (_, bytes) => {
    const { lines, stanzas } = read(HEADER, bytes, "<message/>");
    expect(lines.slice(1)).toEqual(["failed malformed"]);
    expect(stanzas).toEqual([]);
  });

  test("what is no stream at all", () => {
    expect(read("HTTP/1.1 400 Bad Request\r\n\r\n").lines).toEqual(["failed malformed"]);
  });
});

describe("what strangers may send is skipped", () => {
  const next = "<message><body>next</body></message>";
  test.each([
    ["a large text", `<message><body>${"x".repeat(100_000)}</body></message>`],
    ["many elements", `<message>${"<x/>".repeat(30_000)}</message>`],
    ["deep nesting", `<message>${"<x>".repeat(60_000)}${"</x>".repeat(60_000)}</message>`],
    ["a little too deep", `<message>${"<x>".repeat(20)}${"</x>".repeat(20)}</message>`],
    ["a large attribute", `<message a='${"x".repeat(100_000)}'/>`],
    [
      "many attributes",
      `<message ${Array.from({ length: 9_000 }, (_, i) => `a${i}=''`).join(" ")}/>`,
    ],
  ])("%s, whole and in small pieces", (_, large) => {
    const expected = ["skipped message", "message jabber:client"];
    const whole = read(HEADER, large + next);
    expect(whole.lines.slice(1)).toEqual(expected);
    expect(body(whole.stanzas[0])).toBe("next");
    const pieces = large.match(/.{1,1000}/gs) ?? [];
    expect(read(HEADER, ...pieces, next).lines.slice(1)).toEqual(expected);
  });

  test("stanzas that fit are all read, however many come at once", () => {
    const many = `<message><body>${"x".repeat(10_000)}</body></message>`.repeat(100);
    expect(read(HEADER, many).stanzas).toHaveLength(100);
  });

  test.each([
    ["text", `<message><body>${"x".repeat(1_100_000)}`],
    ["an attribute", `<message a='${"x".repeat(1_100_000)}`],
    ["blanks between stanzas", " ".repeat(1_100_000)],
  ])("what no server forwards ends the stream: %s", (_, bytes) => {
    expect(read(HEADER, bytes).lines.slice(1)).toEqual(["failed too_large"]);
  });
});

const PIECES = [
  HEADER,
  "<message from='a@b'><body>x</body></message>",
  "<a xmlns='urn:xmpp:sm:3' h='1'/>",
  "<body xml:lang='en'>",
  "</body>",
  "</stream:stream>",
  "<![CDATA[",
  "]]>",
  "<!DOCTYPE x [<!ENTITY a '&a;'>]>",
  "&a;&#0;&#x110000;&lt;",
  "<?xml version='1.0'?>",
  "<!--",
  "<x:y xmlns:x='z' __proto__='1' constructor='2'>",
  "\u00e9\ud83d\ude00",
];

test("whatever comes, in whatever pieces, is read or refused, and never thrown", () => {
  const junk = fc.oneof(
    fc.constantFrom(...PIECES).map((text) => Buffer.from(text)),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    fc.constantFrom(...PIECES).chain((text) => {
      const bytes = Buffer.from(text);
      return fc.nat(bytes.length).map((at) => bytes.subarray(0, at));
    }),
  );
  fc.assert(
    fc.property(fc.array(junk, { maxLength: 20 }), fc.boolean(), (chunks, hasHeader) => {
      const { lines, stanzas } = read(...(hasHeader ? [HEADER] : []), ...chunks);
      const failures = lines.filter((line) => /^(failed|ended)/.test(line));
      expect(failures.length).toBeLessThanOrEqual(1);
      if (failures.length === 1) expect(lines.at(-1)).toBe(failures[0]);
      expect(stanzas.every(({ attributes }) => Object.getPrototypeOf(attributes) === null)).toBe(
        true,
      );
    }),
    { numRuns: 3_000 },
  );
});

test("whatever is escaped reads back, but for what XML cannot carry", () => {
  const text = `<&>"' ]]> \t\r\n \u0000\ufffe\ud800 é😀`;
  const { stanzas } = read(HEADER, markup("message", { text }, escaped(text)));
  const legal = `<&>"' ]]> \t\r\n \ufffd\ufffd\ufffd é😀`;
  expect(stanzas[0]?.attributes["text"]).toBe(legal);
  expect(textOf(stanzas[0] as Element)).toBe(legal);
});
