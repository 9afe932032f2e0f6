/**
 * Promise: keys are spread over the backend nodes by consistent hashing; a key is always on the
 * same shard, whatever the dialect, the proxy, or how often everything was restarted.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";
import { connect, packet } from "../harness/wire.ts";

const KEYS = Array.from({ length: 300 }, (_, index) => `sharded-${index}`);
const EXTRAS = Buffer.alloc(8);

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward({ proxies: 2, args: ["--nodes", "3"] });
}, 60_000);
afterAll(() => memward.stop());

/** Which keys are on which shard, asked of the shards themselves. */
async function placement(of: Memward, keys: readonly string[]): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const { node, address } of await of.shards()) {
    const wire = await connect(address);
    const reply = String(await wire.ask(`get ${keys.join(" ")}\r\n`, "END\r\n"));
    found.set(
      node,
      [...reply.matchAll(/^VALUE (\S+) /gm)].map(([, key = ""]) => key),
    );
    wire.close();
  }
  return found;
}

async function storeAll(of: Memward, server: string): Promise<void> {
  const wire = await of.open("text", of, server);
  const sets = KEYS.map((key) => `set ${key} 0 0 ${key.length}\r\n${key}\r\n`);
  await wire.ask(`${sets.join("")}mn\r\n`, "MN\r\n");
  wire.close();
}

test("each key is on exactly one of the shards, and each shard has its share", async () => {
  await storeAll(memward, memward.server);
  const found = await placement(memward, KEYS);
  expect([...found.values()].flat().sort()).toEqual([...KEYS].sort());
  expect([...found.keys()].sort()).toEqual(["node-1", "node-2", "node-3"]);
  for (const keys of found.values()) expect(keys.length).toBeGreaterThan(KEYS.length * 0.15);
});

test("every dialect and every proxy finds a key where another stored it", async () => {
  await storeAll(memward, memward.servers[0] ?? "");
  const text = await memward.open("text", memward, memward.servers[1]);
  const all = String(await text.ask(`get ${KEYS.join(" ")}\r\n`, "END\r\n"));
  expect([...all.matchAll(/^VALUE (\S+) /gm)].map(([, key]) => key)).toEqual(KEYS);
  const metas = String(
    await text.ask(`${KEYS.map((key) => `mg ${key} k v\r\n`).join("")}mn\r\n`, "MN\r\n"),
  );
  expect(metas.match(/^VA /gm)).toHaveLength(KEYS.length);
  const binary = await memward.open("binary", memward, memward.servers[1]);
  for (const key of KEYS.slice(0, 30)) {
    await binary.send(packet({ opcode: "getk", key }));
    expect(String((await binary.packet())?.value)).toBe(key);
  }
  text.close();
  binary.close();
});

test("a delete in one dialect is a delete in all", async () => {
  await storeAll(memward, memward.server);
  const binary = await memward.open("binary");
  const noop = packet({ opcode: "noop" });
  const deletes = KEYS.map((key) => packet({ opcode: "deleteq", key }));
  await binary.ask(Buffer.concat([...deletes, noop]), packet({ opcode: "noop", magic: 0x81 }));
  expect([...(await placement(memward, KEYS)).values()].flat()).toEqual([]);
  binary.close();
});

test("keys of any bytes are stored on their shard in full", async () => {
  const binary = await memward.open("binary");
  const key = Buffer.from(Array.from({ length: 250 }, (_, index) => (index * 7) % 256));
  await binary.send(packet({ opcode: "set", key, value: "any", extras: EXTRAS }));
  expect((await binary.packet())?.status).toBe(0);
  await binary.send(packet({ opcode: "get", key }));
  expect(String((await binary.packet())?.value)).toBe("any");
  binary.close();
});

test("a restart puts every key on the same node", async () => {
  const first = await startMemward();
  await storeAll(first, first.server);
  const before = await placement(first, KEYS);
  await first.stop();
  const second = await startMemward({ dataDir: first.dataDir });
  await storeAll(second, second.server);
  expect(await placement(second, KEYS)).toEqual(before);
  await second.stop();
}, 60_000);

test("one node more moves only its share of the keys", async () => {
  await storeAll(memward, memward.server);
  const three = await placement(memward, KEYS);
  const two = await startMemward();
  await storeAll(two, two.server);
  const before = await placement(two, KEYS);
  for (const node of ["node-1", "node-2"]) {
    const newcomers = three.get(node)?.filter((key) => !before.get(node)?.includes(key));
    expect(newcomers).toEqual([]);
  }
  await two.stop();
}, 60_000);
