/**
 * Promise: with two copies of each key a node that dies costs no values, neither while it is away
 * nor when it is back, empty; and nothing older than what was acknowledged is read. Asked by stock
 * clients, of real memcached processes.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Cluster } from "../harness/cluster.ts";
import { type Memjs, memjs, type TextClient, textClient } from "./programs.ts";
import { describeWith } from "./suite.ts";

const KEYS = Array.from({ length: 200 }, (_, index) => `key-${index}`);
const AWAY_MS = 3_000;
const READY_MS_MAX = 60_000;

describeWith(["memcached", "etcd"], "a cache with two copies", () => {
  let cluster: Cluster;
  let binary: Memjs[] = [];
  let text: TextClient[] = [];

  beforeAll(async () => {
    cluster = await Cluster.start({ proxies: 2, nodes: 3, engine: "memcached", copies: 2 });
    binary = cluster.proxies.map(({ address }) => memjs([address], cluster.login));
    text = cluster.plain.map((address) => textClient([address]));
  }, READY_MS_MAX);
  afterAll(async () => {
    for (const client of binary) client.close();
    for (const client of text) client.end();
    await cluster.stop();
  });

  /** Reads all keys by every client; returns those that were missing, or had another value. */
  async function lost(value: (key: string) => string): Promise<string[]> {
    const found: string[] = [];
    for (const client of binary) {
      for (const key of KEYS) {
        const { value: read } = await client.get(key);
        if (String(read) !== value(key)) found.push(`${key}: ${read}`);
      }
    }
    for (const client of text) {
      const read = (await client.call("getMulti", KEYS)) as Record<string, string>;
      for (const key of KEYS) if (read[key] !== value(key)) found.push(`${key}: ${read[key]}`);
    }
    return found;
  }

  test("loses none of them when a node is killed, and when it is back", {
    timeout: 90_000,
  }, async () => {
    const first = (key: string): string => `first of ${key}`;
    for (const key of KEYS) expect(await binary[0]!.set(key, first(key), {})).toBe(true);
    expect(await lost(first)).toEqual([]);

    const [node] = cluster.nodes;
    const shard = await cluster.state.get("shard", `${cluster.cache}/${node!.name}`);
    process.kill(node!.pid, "SIGKILL");
    process.kill(shard!.value.process!.pid!, "SIGKILL");
    const endMs = Date.now() + AWAY_MS;
    do expect(await lost(first)).toEqual([]);
    while (Date.now() < endMs);

    // What is written now is in one copy for some of the keys, and nowhere in the one that is away.
    const second = (key: string): string => `second of ${key}`;
    for (const key of KEYS) await untilStored(binary[1]!, key, second(key));
    expect(await lost(second)).toEqual([]);

    await node!.restart();
    await untilAllAreIn();
    expect(await lost(second)).toEqual([]);
  });

  test("loses none of them when a node joins, and when one is drained", {
    timeout: 90_000,
  }, async () => {
    const third = (key: string): string => `third of ${key}`;
    for (const key of KEYS) await untilStored(binary[0]!, key, third(key));
    const joined = await cluster.addNode("memcached");
    await joined.ready();
    await untilOwnedBy(["node-1", "node-2", "node-3", "node-4"]);
    expect(await lost(third)).toEqual([]);
    // Values do not move: what is to be in two shards again has to be written again.
    const fourth = (key: string): string => `fourth of ${key}`;
    for (const key of KEYS) await untilStored(binary[0]!, key, fourth(key));
    await cluster.state.commit([{ kind: "nodeSetting", id: "node-2", value: { draining: true } }]);
    await untilOwnedBy(["node-1", "node-3", "node-4"]);
    expect(await lost(fourth)).toEqual([]);
  });

  /** All proxies know that these nodes have the keys. */
  async function untilOwnedBy(nodes: readonly string[]): Promise<void> {
    const giveUpAtMs = Date.now() + READY_MS_MAX;
    for (;;) {
      const layout = await cluster.state.get("layout", cluster.cache);
      const members = layout?.value.members.map(({ node }) => node).sort();
      const proxies = (await cluster.state.list("proxy")).entries;
      const isKnown = proxies.every(
        ({ value }) => value.appliedRevision >= (layout?.revision ?? 0),
      );
      if (String(members) === String(nodes) && isKnown) return await sleep(500);
      if (Date.now() > giveUpAtMs) throw new Error(`owned by ${members}`);
      await sleep(100);
    }
  }

  async function untilStored(client: Memjs, key: string, value: string): Promise<void> {
    while (!(await client.set(key, value, {}).catch(() => false))) await sleep(50);
  }

  async function untilAllAreIn(): Promise<void> {
    const giveUpAtMs = Date.now() + READY_MS_MAX;
    while ((await cluster.state.list("ejection")).entries.length > 0) {
      if (Date.now() > giveUpAtMs) throw new Error("a shard did not return");
      await sleep(100);
    }
  }
});
