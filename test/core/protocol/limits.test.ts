/** Where limits stand: the last that is taken, the first that is not, and what is absurd. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TOKEN_COUNT_MAX } from "../../../core/protocol/request.ts";
import { describeWith } from "../../e2e/suite.ts";
import { type Memcached, startMemcached } from "../../harness/processes.ts";
import { connect, OPCODE, packet } from "../../harness/wire.ts";
import { bytesOf, look } from "./look.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

describe("a key", () => {
  const lines: [string, (key: string) => string][] = [
    ["set", (key) => `set ${key} 0 0 1\r\nx\r\n`],
    ["get", (key) => `get ${key}\r\n`],
    ["gats", (key) => `gats 0 a b ${key}\r\n`],
    ["delete", (key) => `delete ${key} noreply\r\n`],
    ["incr", (key) => `incr ${key} 1\r\n`],
    ["touch", (key) => `touch ${key} 0\r\n`],
    ["mg", (key) => `mg ${key} v\r\n`],
    ["ms", (key) => `ms ${key} 1\r\nx\r\n`],
    ["md", (key) => `md ${key}\r\n`],
    ["ma", (key) => `ma ${key}\r\n`],
    ["me", (key) => `me ${key}\r\n`],
  ];
  test.each(lines)("of 250 bytes is taken, of 251 not (%s)", (_, line) => {
    expect(look("text", bytesOf(line("k".repeat(250)))).verdict).toBe("framed");
    const raw = bytesOf(line("k".repeat(251)));
    // All of it is skipped, so that a value can not be taken for commands.
    const refusal = { verdict: "refused", problem: "badFormat", size: raw.length };
    expect(look("text", raw)).toMatchObject(refusal);
  });

  test("of 250 bytes is taken in any packet, of 251 not", () => {
    for (const [name, extrasSize] of [
      ["get", 0],
      ["set", 8],
      ["delete", 0],
      ["increment", 20],
      ["gat", 4],
    ] as const) {
      const raw = (size: number): Buffer =>
        packet({ opcode: name, key: "k".repeat(size), extras: Buffer.alloc(extrasSize) });
      expect(look("binary", raw(250)).verdict, name).toBe("framed");
      const refusal = { verdict: "refused", problem: "badFormat", size: raw(251).length };
      expect(look("binary", raw(251)), name).toMatchObject(refusal);
      // Known as soon as the header is there.
      expect(look("binary", raw(251), 24), name).toMatchObject(refusal);
    }
  });
});

describe("a value", () => {
  const text = (size: number, verb: string): Buffer =>
    bytesOf(`${verb === "ms" ? "ms key" : `${verb} key 0 0`} ${size}\r\n${"x".repeat(size)}\r\n`);

  test.each([
    "set",
    "add",
    "append",
    "ms",
  ])("of 1 MB is taken, one byte more is not (%s)", (verb) => {
    expect(look("text", text(MIB, verb)).verdict).toBe("framed");
    const raw = text(MIB + 1, verb);
    const refusal = { verdict: "refused", problem: "tooLarge", size: raw.length };
    expect(look("text", raw)).toMatchObject(refusal);
    // Nobody waits for the value of a line that is refused.
    expect(look("text", raw, raw.indexOf("\n") + 1)).toMatchObject(refusal);
  });

  test("of 1 MB is taken in a packet, one byte more is not", () => {
    const raw = (size: number): Buffer =>
      packet({ opcode: "setq", key: "key", extras: Buffer.alloc(8), value: Buffer.alloc(size) });
    expect(look("binary", raw(MIB)).verdict).toBe("framed");
    const large = raw(MIB + 1);
    const refusal = { verdict: "refused", problem: "tooLarge", size: large.length };
    expect(look("binary", large)).toMatchObject(refusal);
    // The key is waited for: its old value has to go.
    expect(look("binary", large, 24 + 8 + 3)).toMatchObject(refusal);
    expect(look("binary", large, 24 + 8 + 2)).toEqual({
      verdict: "incomplete",
      sizeNeeded: 24 + 8 + 3,
    });
  });

  test.each(["set key 0 0", "ms key"])("of an absurd size is refused at its line (%s)", (head) => {
    for (const size of [65 * MIB, 1_000_000_000, 2_147_483_645]) {
      const raw = bytesOf(`${head} ${size}\r\n`);
      expect(look("text", raw)).toMatchObject({ verdict: "refused", problem: "absurdSize" });
    }
    for (const size of ["2147483646", "2147483648", "4294967296", "99999999999999999999", "1e9"]) {
      const raw = bytesOf(`${head} ${size}\r\n`);
      const refusal = { verdict: "refused", problem: "badFormat", size: raw.length };
      expect(look("text", raw), size).toMatchObject(refusal);
    }
  });

  test("of up to 64 MB is skipped, so that the connection can go on", () => {
    const raw = bytesOf(`set key 0 0 ${63 * MIB}\r\n`);
    const size = raw.length + 63 * MIB + 2;
    expect(look("text", raw)).toMatchObject({ verdict: "refused", problem: "tooLarge", size });
  });
});

describe("a line", () => {
  const closing = { verdict: "refused", problem: "lineTooLong" };

  test("of 2,048 bytes is looked at, a longer one closes, whole or not", () => {
    const line = (size: number): Buffer => bytesOf(`incr key 1${" ".repeat(size - 11)}\r\n`);
    expect(look("text", line(2_048)).verdict).toBe("framed");
    const long = line(2_049);
    expect(look("text", long)).toMatchObject(closing);
    expect(look("text", long, long.length - 1)).toMatchObject(closing);
    expect(look("text", long, long.length - 2).verdict).toBe("incomplete");
  });

  test.each(["get", "gets", "gat 0", "gats 0"])("of %s may be 1 MB long", (head) => {
    const keyCount = Math.floor((MIB - 20) / 6);
    const line = bytesOf(`${head}${" k1234".repeat(keyCount)}\r\n`);
    expect(look("text", line)).toMatchObject({ verdict: "framed", size: line.length });
    expect(look("text", line, line.length - 1).verdict).toBe("incomplete");
    const long = bytesOf(`${head}${" k1234".repeat(keyCount + 10)}\r\n`);
    expect(look("text", long)).toMatchObject(closing);
    expect(look("text", long, long.length - 1)).toMatchObject(closing);
  });

  test("that never ends is given up, whatever it begins with", () => {
    for (const head of ["", " ".repeat(50), "set ", "mg ", "\0"]) {
      const raw = bytesOf(`${head}${"x".repeat(5_000)}`);
      expect(look("text", raw), head).toMatchObject(closing);
    }
  });

  test("may have as many words as memcached notes, and more keys than that", () => {
    for (const keyCount of [TOKEN_COUNT_MAX - 2, TOKEN_COUNT_MAX - 1, TOKEN_COUNT_MAX, 60, 5_000]) {
      const keys = Array.from({ length: keyCount }, (_, index) => `k${index}`).join(" ");
      const raw = bytesOf(`get ${keys}\r\n`);
      expect(look("text", raw), `${keyCount}`).toMatchObject({ verdict: "framed", key: "k0" });
      const withLongKey = bytesOf(`get ${keys} ${"x".repeat(251)}\r\n`);
      expect(look("text", withLongKey), `${keyCount}`).toMatchObject({ problem: "badFormat" });
    }
  });
});

describeWith(["memcached"], "numbers at the ends of their ranges", () => {
  let memcached: Memcached;
  beforeAll(async () => {
    memcached = await startMemcached();
  });
  afterAll(() => memcached.stop());

  const NUMBERS = [
    ...[
      "0",
      "-0",
      "+0",
      "1",
      "-1",
      "+1",
      "007",
      "-",
      "+",
      "",
      "1 ",
      "a",
      "1a",
      "0x10",
      "1.5",
      "--1",
    ],
    ...["2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296"],
    ...[
      "9223372036854775807",
      "9223372036854775808",
      "-9223372036854775808",
      "-9223372036854775809",
    ],
    ...[
      "18446744073709551615",
      "18446744073709551616",
      "99999999999999999999",
      "100000000000000000000",
    ],
    ...["00000000000000000001", "000000000000000000001"],
  ].filter((number) => number.trim() !== "");

  /** Whether memcached stores it, or refuses the line. */
  async function isTaken(line: string): Promise<boolean> {
    const wire = await connect(memcached.address);
    const reply = String(await wire.ask(`${line}\r\nx\r\nmn\r\n`, "MN\r\n"));
    wire.close();
    return !reply.startsWith("CLIENT_ERROR bad command line format");
  }

  test.each([
    ["flags", (number: string) => `set key ${number} 0 1`],
    ["exptime", (number: string) => `set key 0 ${number} 1`],
    ["cas unique", (number: string) => `cas key 0 0 1 ${number}`],
  ])("as %s are taken when memcached takes them", async (what, line) => {
    for (const number of NUMBERS) {
      const taken = await isTaken(line(number));
      const { verdict } = look("text", bytesOf(`${line(number)}\r\nx\r\n`));
      // We may refuse what memcached would take (a minus that wraps), never the other way round.
      if (verdict === "framed") expect(taken, number).toBe(true);
      const isWrapped = number.startsWith("-") && what !== "exptime";
      if (taken && number.length <= 20 && !isWrapped) expect(verdict, number).toBe("framed");
    }
  });

  test("as exptime of gat are taken only when memcached takes them", async () => {
    for (const number of NUMBERS) {
      const line = `gat ${number} key`;
      const wire = await connect(memcached.address);
      const reply = String(await wire.ask(`${line}\r\nmn\r\n`, "MN\r\n"));
      wire.close();
      const taken = !reply.startsWith("CLIENT_ERROR");
      if (!taken) expect(look("text", bytesOf(`${line}\r\n`)).verdict, number).toBe("refused");
    }
  });
});

test("cas, opaque and extras of 64 bits in full pass through a packet untouched", () => {
  const extras = Buffer.alloc(20, 0xff);
  const raw = packet({
    opcode: "increment",
    key: "k",
    extras,
    opaque: 0xffff_ffff,
    cas: 2n ** 64n - 1n,
  });
  expect(look("binary", raw)).toMatchObject({ verdict: "framed", size: 24 + 20 + 1 });
  expect(raw[1]).toBe(OPCODE.increment);
});
