/**
 * Promise: a session sees its own cache only, with all 250 bytes of its keys; flush and stats are
 * of this cache only; rights of a credential are kept.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  addCache,
  addCredential,
  type Login,
  type Memward,
  startMemward,
} from "../harness/memward.ts";
import { packet, readPackets, type Wire } from "../harness/wire.ts";

const OTHER: Login = { username: "other-tenant", password: "password-of-the-other-tenant" };
const READER: Login = { username: "reader", password: "password-of-the-reader" };
const WRITER: Login = { username: "writer", password: "password-of-the-writer" };
const EXTRAS = Buffer.alloc(8);

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward();
  await addCache(memward, { name: "other", login: OTHER });
  await addCredential(memward, READER, ["read"]);
  await addCredential(memward, WRITER, ["write"]);
}, 60_000);
afterAll(() => memward.stop());

const store = (wire: Wire, key: string, value: string): Promise<Buffer> =>
  wire.ask(`set ${key} 0 0 ${value.length}\r\n${value}\r\n`, "\r\n");
const fetch = async (wire: Wire, key: string): Promise<string> =>
  String(await wire.ask(`get ${key}\r\n`, "END\r\n"))
    .split("\r\n")
    .slice(1, -2)
    .join();

async function binary(
  wire: Wire,
  ...packets: Buffer[]
): Promise<[status: number, value: string][]> {
  const noop = packet({ opcode: "noop", opaque: 0xe2d });
  const reply = packet({ opcode: "noop", opaque: 0xe2d, magic: 0x81 });
  const { packets: replies } = readPackets(
    await wire.ask(Buffer.concat([...packets, noop]), reply),
  );
  return replies.slice(0, -1).map(({ status, value }) => [status, String(value)]);
}

describe("two caches", () => {
  test("keep the same keys apart, in every dialect, with 250 bytes each", async () => {
    const keys = ["k", "k".repeat(250), "key/with:odd#bytes\xff"];
    const [mine, others] = [await memward.open("text"), await memward.open("text", OTHER)];
    const [mineBinary, othersBinary] = [
      await memward.open("binary"),
      await memward.open("binary", OTHER),
    ];
    for (const key of keys) {
      await store(mine, key, "mine");
      expect(await fetch(others, key)).toBe("");
      await store(others, key, "others");
      expect(await fetch(mine, key)).toBe("mine");
      const get = packet({ opcode: "get", key });
      expect(await binary(mineBinary, get)).toEqual([[0, "mine"]]);
      expect(await binary(othersBinary, get)).toEqual([[0, "others"]]);
      expect(await mine.line(`md ${key}`)).toBe("HD");
      expect(await others.line(`mg ${key} s`)).toBe("HD s6");
    }
    for (const wire of [mine, others, mineBinary, othersBinary]) wire.close();
  });

  test("are flushed one at a time", async () => {
    const [mine, others] = [await memward.open("text"), await memward.open("text", OTHER)];
    const keys = Array.from({ length: 40 }, (_, index) => `flush-${index}`);
    for (const key of keys) {
      await store(mine, key, "mine");
      await store(others, key, "others");
    }
    expect(await mine.line("flush_all")).toBe("OK");
    for (const key of keys) {
      expect(await fetch(mine, key)).toBe("");
      expect(await fetch(others, key)).toBe("others");
    }
    mine.close();
    others.close();
  });

  test("have stats of their own", async () => {
    const [mine, others] = [await memward.open("text"), await memward.open("text", OTHER)];
    await mine.line("flush_all");
    await others.line("flush_all");
    for (let index = 0; index < 30; index++) await store(mine, `stats-${index}`, "value");
    await store(others, "stats-0", "value");
    expect(await statsOf(mine)).toMatchObject({ curr_items: "30" });
    expect(await statsOf(others)).toMatchObject({ curr_items: "1" });
    mine.close();
    others.close();
  });

  test("tell nothing of each other in stats", async () => {
    const others = await memward.open("text", OTHER);
    const stats = JSON.stringify(await statsOf(others));
    for (const secret of [memward.username, memward.password, OTHER.password, "default"]) {
      expect(stats).not.toContain(secret);
    }
    others.close();
  });

  test("share a session by logging in again, and only then", async () => {
    const wire = await memward.open("binary");
    await binary(wire, packet({ opcode: "set", key: "again", value: "mine", extras: EXTRAS }));
    const value = `\0${OTHER.username}\0${OTHER.password}`;
    const [login, miss] = await binary(
      wire,
      packet({ opcode: "saslAuth", key: "PLAIN", value }),
      packet({ opcode: "get", key: "again" }),
    );
    expect(login?.[0]).toBe(0);
    expect(miss?.[0]).toBe(1);
    wire.close();
  });
});

async function statsOf(wire: Wire): Promise<Record<string, string>> {
  const lines = String(await wire.ask("stats\r\n", "END\r\n"))
    .split("\r\n")
    .slice(0, -2);
  for (const line of lines) expect(line).toMatch(/^STAT \S+ .+$/);
  return Object.fromEntries(lines.map((line) => line.split(" ").slice(1)));
}

describe("stats of a cache", () => {
  test("have memcached's names, and numbers that add up over its shards", async () => {
    const wire = await memward.openPlain();
    await wire.line("flush_all");
    const before = await statsOf(wire);
    const keys = Array.from({ length: 20 }, (_, index) => `counted-${index}`);
    for (const key of keys) await store(wire, key, "x".repeat(100));
    for (const key of keys) await fetch(wire, key);
    await fetch(wire, "counted-none");
    const after = await statsOf(wire);
    const grown = (name: string): number => Number(after[name]) - Number(before[name]);
    expect(grown("cmd_set")).toBe(20);
    expect(grown("get_hits")).toBe(20);
    expect(grown("get_misses")).toBe(1);
    expect(grown("cmd_get")).toBe(21);
    expect(after).toMatchObject({ curr_items: "20", version: expect.stringMatching(/^\d+\.\d+/) });
    expect(Number(after.limit_maxbytes)).toBe(100 * 1024 * 1024);
    expect(Number(after.bytes)).toBeGreaterThan(2_000);
    for (const name of ["uptime", "time", "curr_connections", "evictions", "total_items"]) {
      expect(after).toHaveProperty(name);
    }
    wire.close();
  });

  test("come as packets that an empty one ends", async () => {
    const wire = await memward.open("binary");
    await wire.send(
      Buffer.concat([packet({ opcode: "stat", opaque: 9 }), packet({ opcode: "noop" })]),
    );
    const read = await wire.readUntil(packet({ opcode: "noop", magic: 0x81 }));
    const replies = readPackets(read.bytes).packets.slice(0, -1);
    expect(replies.map(({ key }) => String(key))).toContain("version");
    expect(replies.every(({ opaque, status }) => opaque === 9 && status === 0)).toBe(true);
    expect(replies.at(-1)).toMatchObject({ key: Buffer.alloc(0), value: Buffer.alloc(0) });
    expect(replies.slice(0, -1).every(({ key }) => key.length > 0)).toBe(true);
    wire.close();
  });
});

test.each([
  "settings",
  "items",
  "slabs",
  "sizes",
  "conns",
  "detail dump",
  "detail on",
  "cachedump 1 1",
  "items extra words",
])("stats %s ends, and tells nothing of another cache", async (group) => {
  const others = await memward.open("text", OTHER);
  await store(others, "stats-secret", "value");
  others.close();
  const wire = await memward.openPlain();
  const reply = String(await wire.ask(`stats ${group}\r\nmn\r\n`, "MN\r\n"));
  expect(reply).toMatch(/^((STAT .*\r\n)*END|ERROR|OK|RESET|CLIENT_ERROR .*)\r\nMN\r\n$/);
  for (const secret of ["stats-secret", memward.password, OTHER.username]) {
    expect(reply).not.toContain(secret);
  }
  wire.close();
});

test.each([
  "watch",
  "watch fetchers",
  "slabs reassign 1 2",
  "slabs automove 0",
  "lru mode flat",
  "lru_crawler metadump all",
  "lru_crawler disable",
  "cache_memlimit 1",
  "shutdown",
  "misbehave",
  "debugtime p",
  "refresh_certs",
])("%s is refused: it is not for a tenant", async (command) => {
  const wire = await memward.openPlain();
  expect(await wire.line(command)).toMatch(/^(ERROR|CLIENT_ERROR .+)$/);
  expect(await wire.line("mn")).toBe("MN");
  wire.close();
});

describe("a credential that may only read", () => {
  test("is told so in text, and counted", async () => {
    const owner = await memward.open("text");
    await store(owner, "rights", "5");
    const reader = await memward.open("text", READER);
    const refusal = "CLIENT_ERROR credential is read-only";
    expect(await fetch(reader, "rights")).toBe("5");
    expect(String(await store(reader, "rights", "6"))).toBe(`${refusal}\r\n`);
    for (const command of ["delete rights", "incr rights 1", "touch rights 1", "md rights"]) {
      expect(await reader.line(command)).toBe(refusal);
    }
    expect(await reader.line("flush_all")).toMatch(/^CLIENT_ERROR credential .+$/);
    expect(await fetch(owner, "rights")).toBe("5");
    expect(await memward.metrics()).toMatch(/memward_proxy_requests_total\{.*refused.*\} [1-9]/);
    owner.close();
    reader.close();
  });

  test("is told so in binary with a status that drops no connection", async () => {
    const reader = await memward.open("binary", READER);
    const refusals = await binary(
      reader,
      packet({ opcode: "set", key: "rights", value: "6", extras: EXTRAS }),
      packet({ opcode: "delete", key: "rights" }),
    );
    expect(refusals).toEqual([
      [0x05, "credential is read-only"],
      [0x05, "credential is read-only"],
    ]);
    reader.close();
  });
});

test("a credential that may only write is told that it may not read", async () => {
  const writer = await memward.open("text", WRITER);
  expect(String(await store(writer, "rights-written", "6"))).toBe("STORED\r\n");
  expect(await writer.line("get rights-written")).toMatch(/^CLIENT_ERROR credential .+$/);
  writer.close();
});
