/** Packets that we write ourselves, against those that memcached writes in the same place. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeBinaryReply } from "../../../core/protocol/binary.ts";
import { MEMCACHED_VERSION } from "../../../core/protocol/limits.ts";
import { PROBLEMS, type Problem } from "../../../core/protocol/problem.ts";
import { describeWith } from "../../e2e/suite.ts";
import { type Memcached, missingForSasl, startMemcached } from "../../harness/processes.ts";
import {
  connect,
  OPCODE,
  type PacketFields,
  packet,
  readPackets,
  saslPlain,
} from "../../harness/wire.ts";

const EXTRAS = Buffer.alloc(8);
const LOGIN = { username: "user", password: "a password" };

/** Asks on a connection of its own; the reply as it came, cas and all. */
async function ask(memcached: Memcached, request: Buffer, setup?: Buffer): Promise<Buffer> {
  const wire = await connect(memcached.address);
  if (setup !== undefined) {
    await wire.send(setup);
    await wire.read(24);
  }
  await wire.send(request);
  const header = (await wire.read(24)).bytes;
  const body = (await wire.read(header.readUInt32BE(8))).bytes;
  wire.close();
  return Buffer.concat([header, body]);
}

/** Written at an offset, into bytes that are not empty. */
function written(fields: Parameters<typeof writeBinaryReply>[2]): Buffer {
  const bytes = Buffer.alloc(4_096, 0xee);
  const size = writeBinaryReply(bytes, 100, fields);
  expect(bytes.subarray(0, 100).every((byte) => byte === 0xee)).toBe(true);
  expect(bytes.subarray(100 + size).every((byte) => byte === 0xee)).toBe(true);
  return bytes.subarray(100, 100 + size);
}

const error = (problem: Problem, opcode: number, opaque: number): Buffer => {
  const { status, statusText } = PROBLEMS[problem];
  return written({ opcode, opaque, status, value: Buffer.from(statusText) });
};

describeWith(["memcached"], "a packet of ours", () => {
  let memcached: Memcached;
  beforeAll(async () => {
    memcached = await startMemcached();
  });
  afterAll(() => memcached.stop());

  const opaque = 0xfedc_ba98;
  const get = { opcode: "get", key: "no-such-key", opaque } as const;

  test("for a NOOP is memcached's", async () => {
    const theirs = await ask(memcached, packet({ opcode: "noop", opaque }));
    expect(written({ opcode: OPCODE.noop, opaque, status: 0 })).toEqual(theirs);
  });

  test("for a VERSION is that of the memcached whose version we tell", async () => {
    const theirs = await ask(memcached, packet({ opcode: "version", opaque }));
    const version = readPackets(theirs).packets[0]?.value ?? Buffer.alloc(0);
    expect(written({ opcode: OPCODE.version, opaque, status: 0, value: version })).toEqual(theirs);
    expect(MEMCACHED_VERSION).toMatch(/^1\.6\.\d+$/);
  });

  test("with a key is memcached's for a GETK that misses", async () => {
    const theirs = await ask(memcached, packet({ ...get, opcode: "getk" }));
    const key = Buffer.from(get.key);
    expect(written({ opcode: OPCODE.getk, opaque, status: 1, key })).toEqual(theirs);
  });

  test("with key and value is memcached's for a STAT", async () => {
    const theirs = await ask(memcached, packet({ opcode: "stat", key: "settings", opaque }));
    const { key, value } = readPackets(theirs).packets[0] ?? {
      key: Buffer.alloc(0),
      value: Buffer.alloc(0),
    };
    expect(key.length).toBeGreaterThan(0);
    expect(written({ opcode: OPCODE.stat, opaque, status: 0, key, value })).toEqual(theirs);
  });

  const ERRORS: [Problem, PacketFields][] = [
    ["notFound", get],
    ["error", { opcode: 0x70, opaque }],
    ["badFormat", { ...get, extras: EXTRAS }],
    ["tooLarge", { ...get, opcode: "set", extras: EXTRAS, value: Buffer.alloc(1_050_000) }],
  ];
  test.each(ERRORS)("for %s is memcached's", async (problem, fields) => {
    const theirs = await ask(memcached, packet(fields));
    const opcode = typeof fields.opcode === "number" ? fields.opcode : OPCODE[fields.opcode];
    expect(error(problem, opcode, opaque)).toEqual(theirs);
  });
});

describeWith(
  ["memcached"],
  "a packet of ours about logins",
  () => {
    let memcached: Memcached;
    beforeAll(async () => {
      memcached = await startMemcached({ sasl: LOGIN });
    });
    afterAll(() => memcached.stop());

    test("is memcached's for a wrong password", async () => {
      const theirs = await ask(memcached, saslPlain({ ...LOGIN, password: "wrong" }));
      expect(error("loginFailed", OPCODE.saslAuth, 0)).toEqual(theirs);
    });

    test("is memcached's for a command before the login", async () => {
      const theirs = await ask(memcached, packet({ opcode: "get", key: "key", opaque: 7 }));
      expect(error("unauthenticated", OPCODE.get, 7)).toEqual(theirs);
    });
  },
  missingForSasl(),
);
