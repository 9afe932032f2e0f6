/**
 * What holds for all bytes: framers neither throw nor look behind what they have, and a cut never
 * changes what is seen (fuzz/framers.ts states it). Round trips are an addition to the vectors,
 * never their source.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { COMMAND_COUNT } from "../../../core/protocol/command.ts";
import { Reply } from "../../../core/protocol/reply.ts";
import { Verdict } from "../../../core/protocol/request.ts";
import { commandsIn, FRAMERS } from "../../fuzz/framers.ts";
import { type PacketFields, packet } from "../../harness/wire.ts";
import { bytesOf, type Dialect, look } from "./look.ts";

const RUNS = { numRuns: 400 };

const bytes = (constraints: fc.IntArrayConstraints = {}): fc.Arbitrary<Buffer> =>
  fc.uint8Array(constraints).map((array) => Buffer.from(array));

/** Words of the protocols mixed with anything, so that most lines get somewhere. */
const textBytes: fc.Arbitrary<Buffer> = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        "get ",
        "gats 0 ",
        "set k 0 0 ",
        "ms k ",
        "mg ",
        "incr k ",
        "delete ",
        "cas k 0 0 3 ",
      ),
      fc.constantFrom(
        "key",
        " ",
        "\r\n",
        "\n",
        "\r",
        "\0",
        "0",
        "3",
        "12",
        "-1",
        " noreply",
        " q",
        " b",
      ),
      fc.constantFrom(
        "abc\r\n",
        "99999999999999999999",
        "flush_all",
        "x".repeat(251),
        "k ".repeat(30),
      ),
      bytes({ maxLength: 6 }).map((some) => some.toString("latin1")),
    ),
    { maxLength: 25 },
  )
  .map((words) => bytesOf(words.join("")));

const size = fc.oneof(fc.nat(20), fc.nat(300), fc.constantFrom(0xffff, 0x7fff_ffff, 0xffff_ffff));
const binaryFields: fc.Arbitrary<PacketFields> = fc.record(
  {
    opcode: fc.nat(0x30),
    key: bytes({ maxLength: 12 }),
    extras: fc.constantFrom(0, 4, 8, 20).map((length) => Buffer.alloc(length)),
    value: bytes({ maxLength: 40 }),
    keySize: size.filter((number) => number <= 0xffff),
    bodySize: size,
  },
  { requiredKeys: ["opcode"] },
);
const binaryBytes: fc.Arbitrary<Buffer> = fc
  .array(fc.oneof({ weight: 5, arbitrary: binaryFields.map(packet) }, bytes({ maxLength: 30 })), {
    maxLength: 6,
  })
  .map((packets) => Buffer.concat(packets));

const streams: [Dialect, string, fc.Arbitrary<Buffer>][] = [
  ["text", "anything", bytes({ maxLength: 200 })],
  ["text", "words of the protocol", textBytes],
  ["binary", "anything", bytes({ maxLength: 200 })],
  ["binary", "packets of any shape", binaryBytes],
];

describe.each(streams)("requests in %s: %s", (dialect, _, arbitrary) => {
  test("are the same commands however they are cut", () => {
    fc.assert(
      fc.property(arbitrary, fc.array(fc.nat(400), { maxLength: 12 }), (stream, wanted) => {
        const cuts = wanted.filter((cut) => cut < stream.length).sort((a, b) => a - b);
        const whole = commandsIn(FRAMERS, dialect, stream, []);
        expect(commandsIn(FRAMERS, dialect, stream, cuts)).toEqual(whole);
        expect(commandsIn(FRAMERS, dialect, stream, [...stream.keys()])).toEqual(whole);
      }),
      RUNS,
    );
  });
});

describe.each(["text", "binary"] as const)("replies in %s", (dialect) => {
  const frame = dialect === "text" ? FRAMERS.textReply : FRAMERS.binaryReply;
  const begin = dialect === "text" ? ["VALUE k 0 ", "VA ", "STAT a b\r\n", "END\r\n"] : ["\x81"];
  const arbitrary = fc
    .array(
      fc.oneof(
        fc.constantFrom(...begin),
        fc.constantFrom("\r\n", "3", "\0\0\0", "abc\r\n", "HD"),
        bytes({ maxLength: 30 }).map((some) => some.toString("latin1")),
      ),
      { maxLength: 12 },
    )
    .map((words) => bytesOf(words.join("")));

  test("are never longer than what is there, and what a part shows stays true", () => {
    fc.assert(
      fc.property(arbitrary, fc.nat(COMMAND_COUNT - 1), (stream, command) => {
        const seen = (length: number): string => {
          const reply = new Reply();
          const verdict = frame(reply, stream, 0, length, command);
          if (verdict === Verdict.incomplete) {
            expect(reply.sizeNeeded).toBeGreaterThan(length);
            return "incomplete";
          }
          if (verdict === Verdict.refused) return "refused";
          expect(reply.size).toBeGreaterThan(0);
          expect(reply.size).toBeLessThanOrEqual(length);
          return `${reply.size} ${reply.result} ${reply.valueCount}`;
        };
        const whole = seen(stream.length);
        for (let length = 0; length < stream.length; length++) {
          const part = seen(length);
          if (part !== "incomplete") expect(part).toBe(whole);
        }
      }),
      RUNS,
    );
  });
});

describe("round trips", () => {
  const key = fc
    .uint8Array({ minLength: 1, maxLength: 250 })
    .map((array) =>
      Buffer.from(array.map((byte) => (byte <= 0x20 ? 0x61 : byte))).toString("latin1"),
    );
  const value = bytes({ maxLength: 300 });
  const number = fc.bigInt({ min: 0n, max: 2n ** 32n - 1n });

  test("a text set carries key and value", () => {
    fc.assert(
      fc.property(key, number, value, fc.boolean(), (name, flags, data, quiet) => {
        const line = `set ${name} ${flags} 0 ${data.length}${quiet ? " noreply" : ""}\r\n`;
        const raw = Buffer.concat([bytesOf(line), data, bytesOf("\r\n")]);
        const size = raw.length;
        const expected = { verdict: "framed", command: "set", key: name, quiet, size };
        expect(look("text", raw)).toEqual({ ...expected, value: data.toString("latin1") });
      }),
      RUNS,
    );
  });

  test("a meta set carries key and value", () => {
    fc.assert(
      fc.property(key, value, (name, data) => {
        const line = `ms ${name} ${data.length} T0 q\r\n`;
        const raw = Buffer.concat([bytesOf(line), data, bytesOf("\r\n")]);
        const expected = { verdict: "framed", command: "ms", key: name, quiet: true };
        expect(look("text", raw)).toMatchObject({ ...expected, value: data.toString("latin1") });
      }),
      RUNS,
    );
  });

  test("a packet carries key and value of any bytes", () => {
    fc.assert(
      fc.property(bytes({ minLength: 1, maxLength: 250 }), value, (name, data) => {
        const raw = packet({ opcode: "addq", key: name, value: data, extras: Buffer.alloc(8) });
        const expected = { verdict: "framed", command: "add", quiet: true, size: raw.length };
        const carried = { key: name.toString("latin1"), value: data.toString("latin1") };
        expect(look("binary", raw)).toEqual({ ...expected, ...carried });
      }),
      RUNS,
    );
  });
});
