/**
 * A key prefix taken off replies. Expected are the bytes that memcached 1.6.18 gives to a client
 * whose keys have no prefix; what stands around a reply must not change.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cutBinaryKey, cutMetaKey, cutValueKeys } from "../../../core/protocol/keyPrefix.ts";
import { packet, toBytes } from "../../harness/wire.ts";

const AROUND = "STORED\r\n";
const PREFIX = "app:";
const base64 = (text: string): string => Buffer.from(text, "latin1").toString("base64");

/** Cuts inside of other replies; `cut` answers where the reply begins and ends then. */
function within(
  reply: Buffer | string,
  cut: (bytes: Buffer, from: number, to: number) => [from: number, to: number],
): string {
  const bytes = Buffer.concat([Buffer.from(AROUND), toBytes(reply), Buffer.from(AROUND)]);
  const [from, to] = cut(bytes, AROUND.length, bytes.length - AROUND.length);
  expect(bytes.toString("latin1", 0, AROUND.length)).toBe(AROUND);
  expect(bytes.toString("latin1", bytes.length - AROUND.length)).toBe(AROUND);
  return bytes.toString("latin1", from, to);
}

const values = (reply: string, count: number): string =>
  within(reply, (bytes, from, to) => [
    from + (count > 0 ? PREFIX.length : 0),
    cutValueKeys(bytes, from, to, PREFIX.length, count),
  ]);

const meta = (reply: string, key: string, prefix = PREFIX): string =>
  within(reply, (bytes, from, to) => [
    from + cutMetaKey(bytes, from, to, prefix.length, prefix.length + key.length),
    to,
  ]);

describe("of a text retrieval", () => {
  test.each<[string, number, string]>([
    ["END\r\n", 0, "END\r\n"],
    ["VALUE app:a 0 1\r\nx\r\nEND\r\n", 1, "VALUE a 0 1\r\nx\r\nEND\r\n"],
    ["VALUE app:a 0 0\r\n\r\nEND\r\n", 1, "VALUE a 0 0\r\n\r\nEND\r\n"],
    ["VALUE app:app: 7 4 99\r\napp:\r\nEND\r\n", 1, "VALUE app: 7 4 99\r\napp:\r\nEND\r\n"],
    [
      "VALUE app:a 0 5\r\nEND\r\n\r\nVALUE app:bb 1 20\r\nVALUE app:c 0 1\r\nx\r\n\r\nEND\r\n",
      2,
      "VALUE a 0 5\r\nEND\r\n\r\nVALUE bb 1 20\r\nVALUE app:c 0 1\r\nx\r\n\r\nEND\r\n",
    ],
    [
      "VALUE app:a 0 1 5\r\nx\r\nVALUE app:b 0 0 6\r\n\r\nVALUE app:c 9 2 7\r\nyz\r\nEND\r\n",
      3,
      "VALUE a 0 1 5\r\nx\r\nVALUE b 0 0 6\r\n\r\nVALUE c 9 2 7\r\nyz\r\nEND\r\n",
    ],
  ])("%j", (reply, count, expected) => {
    expect(values(reply, count)).toBe(expected);
  });

  test("of any values", () => {
    const key = fc.stringMatching(/^[!-~]{1,40}$/);
    const item = fc.record({ key, value: fc.string({ unit: "binary-ascii", maxLength: 60 }) });
    fc.assert(
      fc.property(fc.array(item, { minLength: 1, maxLength: 20 }), (items) => {
        const reply = (prefix: string): string =>
          `${items
            .map(({ key, value }) => `VALUE ${prefix}${key} 3 ${value.length}\r\n${value}\r\n`)
            .join("")}END\r\n`;
        expect(values(reply(PREFIX), items.length)).toBe(reply(""));
      }),
    );
  });
});

describe("of a meta command", () => {
  test.each<[reply: string, key: string, expected: string]>([
    ["HD kapp:a O1\r\n", "a", "HD ka O1\r\n"],
    ["HD O1 s5 kapp:a c7\r\n", "a", "HD O1 s5 ka c7\r\n"],
    ["VA 5 f0 kapp:a t-1\r\n kap:\r\n", "a", "VA 5 f0 ka t-1\r\n kap:\r\n"],
    ["EN kapp:none\r\n", "none", "EN knone\r\n"],
    // As it was stored, in base64 or as it is, whichever way it was asked for.
    [`HD k${base64("app:a")} b O1\r\n`, "a", `HD k${base64("a")} b O1\r\n`],
    [`NF O1 k${base64("app:\0\n")} b\r\n`, "\0\n", `NF O1 k${base64("\0\n")} b\r\n`],
    ["HD kapp:x b s1\r\n", "x b", "HD kx b s1\r\n"],
    ["HD kapp:x k b\r\n", "x k", "HD kx k b\r\n"],
    ["ME app:a exp=-1 la=3 cas=1\r\n", "a", "ME a exp=-1 la=3 cas=1\r\n"],
    [`ME ${base64("app:a")} exp=-1\r\n`, "a", `ME ${base64("a")} exp=-1\r\n`],
    // No key in it.
    ["HD\r\n", "a", "HD\r\n"],
    ["EN\r\n", "a", "EN\r\n"],
    ["HD s5\r\n", "a", "HD s5\r\n"],
    ["CLIENT_ERROR error decoding key\r\n", "a", "CLIENT_ERROR error decoding key\r\n"],
    ["CLIENT_ERROR kapp:a kapp:a\r\n", "a", "CLIENT_ERROR kapp:a kapp:a\r\n"],
    [
      "SERVER_ERROR object too large for cache\r\n",
      "a",
      "SERVER_ERROR object too large for cache\r\n",
    ],
  ])("%j", (reply, key, expected) => {
    expect(meta(reply, key)).toBe(expected);
  });

  test("tells base64 from a raw key that looks like it", () => {
    // Both begin with the prefix: "Vm0w" is the base64 of "Vm0".
    expect(meta("HD kVm0w b\r\n", "0w b", "Vm")).toBe("HD k0w b\r\n");
    expect(meta("HD kVm0w b\r\n", "0", "Vm")).toBe(`HD k${base64("0")} b\r\n`);
  });

  test("of any key, raw and in base64, with any prefix", () => {
    const text = (sizeMax: number) =>
      fc.string({ unit: "binary-ascii", minLength: 1, maxLength: sizeMax });
    const word = fc.stringMatching(/^[!-~]{1,90}$/);
    fc.assert(
      fc.property(word, text(90), (prefix, key) => {
        const coded = (prefixed: string): string => `HD s4 k${base64(prefixed)} b O12\r\n`;
        expect(meta(coded(prefix + key), key, prefix)).toBe(coded(key));
        if (key.includes("\n")) return;
        const raw = (prefixed: string): string => `VA 3 f1 k${prefixed} O12\r\nabc\r\n`;
        expect(meta(raw(prefix + key), key, prefix)).toBe(raw(key));
      }),
    );
  });

  test("that a shard makes up stays within its bytes", () => {
    const garbage = fc.oneof(
      fc.string({ unit: "binary-ascii", maxLength: 60 }),
      fc.constantFrom("HD k", "ME ", "VA 5 k", "HD kapp", "ME Y", `HD k${base64("app")}`),
    );
    fc.assert(
      fc.property(garbage, fc.integer({ min: 1, max: 200 }), fc.nat(50), (line, prefix, key) => {
        within(`${line}\r\n`, (bytes, from, to) => {
          const cut = cutMetaKey(bytes, from, to, prefix, prefix + key);
          expect(cut).toBeGreaterThanOrEqual(0);
          expect(from + cut).toBeLessThan(to);
          return [from + cut, to];
        });
      }),
    );
  });
});

describe("of a binary command", () => {
  const binary = (reply: Buffer): string =>
    within(reply, (bytes, from, to) => [from + cutBinaryKey(bytes, from, PREFIX.length), to]);
  const extras = Buffer.from([0, 0, 0, 7]);

  test.each([
    ["a hit", { key: "app:a", extras, value: "app:x" }, { key: "a", extras, value: "app:x" }],
    ["a miss", { key: "app:a" }, { key: "a" }],
    ["any bytes", { key: "app:\0\r\n", value: "" }, { key: "\0\r\n", value: "" }],
    ["no key", { extras, value: "app:x" }, { extras, value: "app:x" }],
    ["a text", { value: "Not found" }, { value: "Not found" }],
  ])("%s", (_, before, after) => {
    const common = { magic: 0x81, opcode: "getk", opaque: 0x01020304, cas: 77n } as const;
    expect(binary(packet({ ...common, ...before }))).toBe(
      packet({ ...common, ...after }).toString("latin1"),
    );
  });
});
