/** Framing of binary packets: each packet of the table, whole and cut at every byte. */
import { describe, expect, test } from "vitest";
import { frameBinary, loudOpcode } from "../../../core/protocol/binary.ts";
import { Request, Verdict } from "../../../core/protocol/request.ts";
import { OPCODE, packet } from "../../harness/wire.ts";
import { look, lookAtEveryCut, type Seen } from "./look.ts";
import { PACKETS, type PacketRow } from "./packets.ts";

const named = PACKETS.map((row): [string, PacketRow] => [row.name, row]);

/** Keys and values are looked at where a command goes to a shard, or logs in. */
const SEEN_KEYS = /^(get|set|add|replace|append|prepend|delete|incr|decr|touch|gat|login)$/;

function expected({ raw, command, quiet, problem, key, value }: PacketRow): Seen {
  const size = raw.length;
  if (problem !== undefined) return { verdict: "refused", command, problem, size, quiet };
  const seenKey = SEEN_KEYS.test(command) ? key : "";
  return { verdict: "framed", command, size, quiet, key: seenKey, value };
}

describe("a packet is framed as what it is, and never before it is whole", () => {
  test.each(named)("%s", (_, row) => {
    const whole = look("binary", row.raw);
    expect(whole).toEqual(expected(row));
    lookAtEveryCut("binary", row.raw, whole);
  });
});

test("a packet is framed alike whatever was framed before it", () => {
  const request = new Request();
  for (const [, row] of named.toReversed()) {
    expect(look("binary", row.raw, row.raw.length, request)).toEqual(expected(row));
  }
});

test("a pipeline is the sum of its packets", () => {
  const pipeline = Buffer.concat(PACKETS.map(({ raw }) => raw));
  const request = new Request();
  let at = 0;
  for (const row of PACKETS) {
    frameBinary(request, pipeline, at, pipeline.length);
    expect(request.size, row.name).toBe(row.raw.length);
    at += request.size;
  }
  expect(at).toBe(pipeline.length);
});

test("opcode, opaque and extras are where the header says", () => {
  const extras = Buffer.from("0123456789abcdef", "hex");
  const raw = packet({ opcode: "addq", key: "key", value: "value", extras, opaque: 0xfedc_ba98 });
  const bytes = Buffer.concat([Buffer.from("junk"), raw]);
  const request = new Request();
  expect(frameBinary(request, bytes, 4, bytes.length)).toBe(Verdict.framed);
  const { extrasAt, extrasSize, opcode, opaque } = request;
  expect({ opcode, opaque }).toEqual({ opcode: OPCODE.addq, opaque: 0xfedc_ba98 });
  expect(bytes.subarray(extrasAt, extrasAt + extrasSize)).toEqual(extras);
});

describe("lengths that cannot be", () => {
  const KIB = 1024;
  test.each([
    ["a key longer than the body", packet({ opcode: "get", keySize: 60_000, bodySize: 10 })],
    ["extras longer than the body", packet({ opcode: "get", extrasSize: 200, bodySize: 10 })],
    [
      "both longer than the body",
      packet({ opcode: "set", keySize: 6, extrasSize: 8, bodySize: 13 }),
    ],
    ["an unknown opcode with a key longer than the body", packet({ opcode: 0x70, keySize: 9 })],
  ])("%s is refused as soon as the header is there", (_, raw) => {
    expect(look("binary", raw)).toMatchObject({ verdict: "refused", problem: "badLengths" });
    expect(look("binary", raw, 23).verdict).toBe("incomplete");
  });

  test.each([
    ["4 GB", 0xffff_ffff],
    ["2 GB", 0x8000_0000],
    ["65 MB", 65 * KIB * KIB],
  ])("a body of %s is not waited for", (_, bodySize) => {
    for (const opcode of ["set", "saslAuth", "get", 0x70] as const) {
      const raw = packet({ opcode, extrasSize: opcode === "set" ? 8 : 0, bodySize });
      // A get has no value: so large a body contradicts its own opcode.
      const takesValue = opcode === "set" || opcode === "saslAuth";
      const problem = takesValue ? "absurdSize" : "badLengths";
      expect(look("binary", raw)).toMatchObject({ verdict: "refused", problem });
    }
  });

  test("any first byte but 0x80 is a bad magic at once", () => {
    for (let magic = 0; magic < 256; magic++) {
      const seen = look("binary", packet({ opcode: "noop", magic }), 1);
      if (magic === 0x80) expect(seen).toEqual({ verdict: "incomplete", sizeNeeded: 24 });
      else expect(seen).toMatchObject({ verdict: "refused", problem: "badMagic" });
    }
  });
});

test("every quiet opcode has the loud form that memcached gives it, and no loud one another", () => {
  for (const [name, opcode] of Object.entries(OPCODE)) {
    const loudName = name.replace(/q$/, "") as keyof typeof OPCODE;
    expect(loudOpcode(opcode), name).toBe(OPCODE[loudName]);
  }
  expect(loudOpcode(0x70)).toBe(0x70);
});
