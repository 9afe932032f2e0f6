/**
 * The agent of a node, against a real cluster state in a file: whatever the state wants is so a
 * moment later, and is so again after a restart. A moment is waited for, never measured.
 */

import { existsSync, statSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import net from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { startBackend } from "../../backend/main.ts";
import { backendOptions, nodeOptions } from "../../backend/options.ts";
import type { Shard } from "../../core/cluster/records.ts";
import { type ClusterState, type Lease, StateUnavailable } from "../../core/cluster/state.ts";
import { connect } from "../harness/wire.ts";
import {
  ask,
  cache,
  change,
  eventually,
  folder,
  log,
  MIB,
  nodeOf,
  openState,
  putCache,
  running,
  shard,
  shardSoon,
  start,
  state,
  stop,
  WAIT_MS_MAX,
} from "./rig.ts";

describe("a node", () => {
  test("opens a shard for each cache, publishes and serves it", async () => {
    await putCache("c1", cache());
    const node = await start("node-1");
    expect(node.ready()).toBe(true);
    const record = await shard("c1/node-1");
    expect(record).toMatchObject({
      cache: "c1",
      node: "node-1",
      bytes: 8 * MIB,
      epoch: 1,
      state: "ready",
    });
    expect(node.addresses).toEqual([record.address]);
    expect(await ask(record.address, "set a 0 0 1\r\nx\r\nget a\r\n", "END\r\n")).toBe(
      "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n",
    );
    await putCache("c2", cache(2 * MIB, "other"));
    const other = await shardSoon("c2/node-1", { bytes: 2 * MIB });
    expect(await ask(other.address, "get a\r\n")).toBe("END\r\n");
  });

  test("is in the state while it lives, with its process and weight", async () => {
    const node = await start("node-1", { given: { weight: 3 } });
    expect((await state.get("node", "node-1"))?.value).toMatchObject({
      pid: process.pid,
      engine: "embedded",
      weight: 3,
      ready: true,
    });
    await stop(node);
    expect(await state.get("node", "node-1")).toBeUndefined();
  });

  test("keeps its sockets where only the owner may go", async () => {
    await putCache("c1", cache());
    await start("node-1");
    expect(statSync(join(folder, "node-1")).mode & 0o777).toBe(0o700);
  });

  test("finds another place for its sockets when the path is too long", async () => {
    await putCache("c1", cache());
    const socketDir = join(folder, "deep".repeat(30));
    const node = await start("node-1", { given: { socketDir } });
    const { address } = await shard("c1/node-1");
    expect(address.length).toBeLessThanOrEqual("unix:".length + 107);
    expect(await ask(address, "mn\r\n")).toBe("MN\r\n");
    await stop(node);
    expect(existsSync(join(address.slice("unix:".length), ".."))).toBe(false);
  });

  test("shares a process with others, each with its own shards", async () => {
    await putCache("c1", cache());
    const options = backendOptions.parse({ nodes: [nodeOf("node-1"), nodeOf("node-2")] });
    const both = await startBackend(options, { state: openState(), log });
    running.push(both);
    const one = await shardSoon("c1/node-1", { bytes: 4 * MIB });
    const two = await shardSoon("c1/node-2", { bytes: 4 * MIB });
    expect(both.addresses).toEqual([one.address, two.address]);
    await ask(one.address, "set a 0 0 1\r\nx\r\n");
    expect(await ask(two.address, "get a\r\n")).toBe("END\r\n");
    expect(await both.registry.metrics()).toContain(
      'memward_shard_items{cache="shop",shard="node-2"} 0',
    );
  });

  test("listens on TCP when it is told to", async () => {
    await putCache("c1", cache());
    await start("node-1", { given: { host: "127.0.0.1" } });
    const { address } = await shard("c1/node-1");
    expect(address).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(await ask(address, "mn\r\n")).toBe("MN\r\n");
  });

  test("tells its figures by cache and shard", async () => {
    await putCache("c1", cache());
    const node = await start("node-1");
    const { address } = await shard("c1/node-1");
    await ask(address, "set a 0 0 1\r\nx\r\nget a b\r\n", "END\r\n");
    const text = await node.registry.metrics();
    const value = (name: string): number | undefined => {
      const line = text
        .split("\n")
        .find((one) => one.startsWith(`${name}{cache="shop",shard="node-1"}`));
      return line === undefined ? undefined : Number(line.split(" ").at(-1));
    };
    expect(value("memward_shard_items")).toBe(1);
    expect(value("memward_shard_memory_limit_bytes")).toBe(8 * MIB);
    expect(value("memward_shard_hits_total")).toBe(1);
    expect(value("memward_shard_misses_total")).toBe(1);
    expect(value("memward_shard_commands_total")).toBe(2);
    expect(value("memward_shard_evictions_total")).toBe(0);
    expect(value("memward_shard_epoch")).toBe(1);
  });
});

describe("placement", () => {
  test("a plan is shared by the nodes, by weight, and follows the plan without losing keys", async () => {
    await putCache("c1", cache(9 * MIB));
    await start("node-1");
    expect((await shard("c1/node-1")).bytes).toBe(9 * MIB);
    const { address } = await shard("c1/node-1");
    await ask(address, "set a 0 0 1\r\nx\r\n");
    await start("node-2", { given: { weight: 2 } });
    await shardSoon("c1/node-1", { bytes: 3 * MIB });
    await shardSoon("c1/node-2", { bytes: 6 * MIB });
    await putCache("c1", cache(18 * MIB));
    await shardSoon("c1/node-1", { bytes: 6 * MIB, epoch: 1, address });
    await shardSoon("c1/node-2", { bytes: 12 * MIB });
    expect(await ask(address, "get a\r\n", "END\r\n")).toContain("VALUE a");
    expect(await ask(address, "stats\r\n", "END\r\n")).toContain(`limit_maxbytes ${6 * MIB}`);
  });

  test("a node that is away keeps its place, for new starts too", async () => {
    await putCache("c1", cache());
    const first = await start("node-1");
    const second = await start("node-2");
    await shardSoon("c1/node-1", { bytes: 4 * MIB });
    await stop(second);
    expect((await shard("c1/node-2")).bytes).toBe(4 * MIB);
    await stop(first);
    await start("node-1");
    expect((await shard("c1/node-1")).bytes).toBe(4 * MIB);
    await putCache("c2", cache(2 * MIB, "other"));
    await shardSoon("c2/node-1", { bytes: MIB });
  });

  test("a node that is away keeps its weight", async () => {
    await putCache("c1", cache());
    const heavy = await start("node-1", { given: { weight: 3, zone: "east" } });
    await stop(heavy);
    expect(await shard("c1/node-1")).toMatchObject({ weight: 3, zone: "east" });
    await start("node-2");
    await shardSoon("c1/node-2", { bytes: 2 * MIB });
  });

  test("a small cache is on four nodes, whoever joined first, and has no shard elsewhere", async () => {
    await putCache("c1", cache(8 * MIB));
    for (let number = 1; number <= 6; number++) await start(`node-${number}`);
    const sizes = async () => (await state.list("shard")).entries.map(({ value }) => value.bytes);
    await expect.poll(sizes, { timeout: WAIT_MS_MAX }).toEqual(Array(4).fill(2 * MIB));
  });

  test("a draining node gives its shards to the others, and takes them back", async () => {
    await putCache("c1", cache());
    await start("node-1");
    await start("node-2");
    await shardSoon("c1/node-2", { bytes: 4 * MIB });
    const setting = { kind: "nodeSetting", id: "node-2" } as const;
    await change({ ...setting, value: { draining: true } });
    await shardSoon("c1/node-1", { bytes: 8 * MIB });
    const moved = () => state.get("shard", "c1/node-2");
    await expect.poll(moved, { timeout: WAIT_MS_MAX }).toBeUndefined();
    await change({ ...setting, value: { draining: false } });
    await shardSoon("c1/node-2", { bytes: 4 * MIB });
  });
});

describe("a restart", () => {
  test("serves at the same address, empty, in a new epoch, with larger cas uniques", async () => {
    await putCache("c1", cache());
    const node = await start("node-1");
    const before = await shard("c1/node-1");
    await ask(before.address, "set a 0 0 1\r\nx\r\n");
    const cas = Number((await ask(before.address, "mg a c\r\n")).slice(4));
    await stop(node);
    expect(await shard("c1/node-1")).toEqual(before);
    await start("node-1");
    expect(await shard("c1/node-1")).toEqual({
      ...before,
      epoch: 2,
      emptySinceMs: expect.any(Number),
    });
    expect(await ask(before.address, "get a\r\n")).toBe("END\r\n");
    const later = Number((await ask(before.address, "ms a 1 c\r\nx\r\n")).slice(4));
    expect(later).toBeGreaterThan(cas);
  });

  test("takes over the socket of a process that was killed", async () => {
    await putCache("c1", cache());
    const node = await start("node-1");
    const { address } = await shard("c1/node-1");
    await stop(node);
    const path = address.slice("unix:".length);
    await mkdir(join(path, ".."), { recursive: true });
    await writeFile(path, ""); // As a socket without a process: nobody answers.
    await start("node-1");
    expect(await ask(address, "mn\r\n")).toBe("MN\r\n");
  });

  test("does not take over the socket of a living process", async () => {
    await putCache("c1", cache());
    const node = await start("node-1");
    const path = (await shard("c1/node-1")).address.slice("unix:".length);
    await stop(node);
    const squatter = net.createServer((socket) => socket.end());
    await new Promise<void>((resolve) => squatter.listen(path, resolve));
    await expect(start("node-1")).rejects.toThrow(`another process serves ${path}`);
    expect(await state.get("node", "node-1")).toBeUndefined();
    await new Promise((resolve) => squatter.close(resolve));
  });

  test("removes what belongs to caches that were deleted meanwhile", async () => {
    await putCache("c1", cache());
    await putCache("c2", cache(MIB, "other"));
    await stop(await start("node-1"));
    await putCache("c1", null);
    await start("node-1");
    expect(await state.get("shard", "c1/node-1")).toBeUndefined();
    expect((await shard("c2/node-1")).epoch).toBe(2);
  });
});

describe("a change", () => {
  test("a deleted cache is closed: answered what was read, then gone", async () => {
    await putCache("c1", cache());
    await start("node-1");
    const { address } = await shard("c1/node-1");
    const wire = await connect(address);
    await wire.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    await putCache("c1", null);
    expect((await wire.readToClose()).ended).toBe("closed");
    await eventually(async () => expect(await state.get("shard", "c1/node-1")).toBeUndefined());
    await eventually(() => expect(existsSync(address.slice("unix:".length))).toBe(false));
    await putCache("c1", cache());
    const again = await shardSoon("c1/node-1");
    expect(await ask(again.address, "get a\r\n")).toBe("END\r\n");
  });

  test("a fenced shard is emptied, in a new epoch, before it is ready again", async () => {
    await putCache("c1", cache());
    await start("node-1");
    const before = await shard("c1/node-1");
    await ask(before.address, "set a 0 0 1\r\nx\r\n");
    await change({ kind: "shard", id: "c1/node-1", value: { ...before, state: "fenced" } });
    await shardSoon("c1/node-1", { epoch: 2 });
    expect(await ask(before.address, "get a\r\n")).toBe("END\r\n");
  });

  test("a wished flush empties the shards, which say so; once for each wish", async () => {
    await putCache("c1", cache());
    await start("node-1");
    const { address, flushedEpoch } = await shard("c1/node-1");
    expect(flushedEpoch).toBe(0);
    await ask(address, "set a 0 0 1\r\nx\r\n");
    await putCache("c1", { ...cache(), epoch: 1 });
    await shardSoon("c1/node-1", { flushedEpoch: 1, epoch: 2, address });
    expect(await ask(address, "get a\r\n", "END\r\n")).toBe("END\r\n");
    await ask(address, "set a 0 0 1\r\ny\r\n");
    await putCache("c1", { ...cache(10 * MIB), epoch: 1 });
    await shardSoon("c1/node-1", { bytes: 10 * MIB, flushedEpoch: 1, epoch: 2 });
    expect(await ask(address, "get a\r\n", "END\r\n")).toContain("VALUE a");
    await putCache("c1", { ...cache(10 * MIB), epoch: 4 });
    await shardSoon("c1/node-1", { flushedEpoch: 4, epoch: 3 });
    expect(await ask(address, "get a\r\n", "END\r\n")).toBe("END\r\n");
  });

  test("an older state keeps what is stored; its next wish is heard", async () => {
    await putCache("c1", { ...cache(), epoch: 7, statsEpoch: 7 });
    await start("node-1");
    const { address } = await shardSoon("c1/node-1", { flushedEpoch: 7, statsEpoch: 7 });
    await ask(address, "set a 0 0 1\r\nx\r\n");
    await putCache("c1", { ...cache(), epoch: 2, statsEpoch: 2 });
    await shardSoon("c1/node-1", { flushedEpoch: 2, statsEpoch: 2, epoch: 1 });
    expect(await ask(address, "get a\r\n", "END\r\n")).toContain("VALUE a");
    await putCache("c1", { ...cache(), epoch: 3, statsEpoch: 2 });
    await shardSoon("c1/node-1", { flushedEpoch: 3, epoch: 2 });
    expect(await ask(address, "get a\r\n", "END\r\n")).toBe("END\r\n");
  });

  test("a flush that was wished while the node was away is done when it is back", async () => {
    await putCache("c1", cache());
    await stop(await start("node-1"));
    await putCache("c1", { ...cache(), epoch: 3, statsEpoch: 2 });
    await start("node-1");
    expect(await shard("c1/node-1")).toMatchObject({ flushedEpoch: 3, statsEpoch: 2, epoch: 2 });
  });

  test("a wished reset shows figures from zero, and metrics go on counting", async () => {
    await putCache("c1", cache());
    const node = await start("node-1");
    const { address } = await shard("c1/node-1");
    await ask(address, "get a b c\r\n", "END\r\n");
    const misses = async (): Promise<string | undefined> =>
      /^STAT get_misses \d+/m.exec(await ask(address, "stats\r\n", "END\r\n"))?.[0];
    const counted = async (): Promise<number> => {
      const text = await node.registry.metrics();
      return Number(/^memward_shard_misses_total\{.*\} (\d+)$/m.exec(text)?.[1]);
    };
    expect(await misses()).toBe("STAT get_misses 3");
    await putCache("c1", { ...cache(), statsEpoch: 1 });
    await shardSoon("c1/node-1", { statsEpoch: 1, epoch: 1 });
    expect(await misses()).toBe("STAT get_misses 0");
    expect(await counted()).toBe(3);
    await ask(address, "get a\r\n", "END\r\n");
    expect(await misses()).toBe("STAT get_misses 1");
    expect(await ask(address, "stats reset\r\n")).toBe("RESET\r\n");
    expect(await misses()).toBe("STAT get_misses 0");
    expect(await counted()).toBe(4);
  });

  test("a disabled cache keeps its shards and what is in them", async () => {
    await putCache("c1", cache());
    await start("node-1");
    const { address } = await shard("c1/node-1");
    await ask(address, "set a 0 0 1\r\nx\r\n");
    await putCache("c1", { ...cache(9 * MIB), enabled: false });
    await shardSoon("c1/node-1", { bytes: 9 * MIB, epoch: 1 });
    await putCache("c1", cache());
    await shardSoon("c1/node-1", { bytes: 8 * MIB, epoch: 1 });
    expect(await ask(address, "get a\r\n", "END\r\n")).toContain("VALUE a");
  });

  test("a fence that is put up while the node publishes something else is not lost", async () => {
    await putCache("c1", cache());
    const through = openState();
    const commit = through.commit.bind(through);
    let isFencing = false;
    through.commit = async (changes) => {
      if (isFencing) {
        isFencing = false;
        const value: Shard = { ...(await shard("c1/node-1")), state: "fenced" };
        await change({ kind: "shard", id: "c1/node-1", value });
      }
      return commit(changes);
    };
    await start("node-1", { through });
    const { address } = await shard("c1/node-1");
    await ask(address, "set a 0 0 1\r\nx\r\n");
    isFencing = true;
    await putCache("c1", cache(10 * MIB));
    await shardSoon("c1/node-1", { bytes: 10 * MIB, epoch: 2 });
    expect(await ask(address, "get a\r\n", "END\r\n")).toBe("END\r\n");
  });

  test("a shard record that somebody removed or altered is written again", async () => {
    await putCache("c1", cache());
    await start("node-1");
    const before = await shard("c1/node-1");
    await change({ kind: "shard", id: "c1/node-1", value: null });
    await shardSoon("c1/node-1", before);
    await change({ kind: "shard", id: "c1/node-1", value: { ...before, address: "unix:/wrong" } });
    await shardSoon("c1/node-1", before);
  });
});

describe("an ejection", () => {
  const eject = (node: string, serial: string, standIns: string[]): Promise<void> =>
    change({
      kind: "ejection",
      id: `c1/${node}`,
      value: {
        cache: "c1",
        node,
        serial,
        standIns,
        reason: "refused",
        seenBy: ["proxy-1"],
        atMs: 1,
      },
    });
  const proxyApplied = (appliedRevision: number): Promise<void> =>
    change({
      kind: "proxy",
      id: "proxy-1",
      value: { pid: 1, addresses: [], ready: true, appliedRevision, startedAtMs: 0 },
    });
  const standIn = async (id: string) => (await state.get("standIn", id))?.value;
  const newest = async (): Promise<number> => (await state.list("cache")).revision;

  test("empties the shard once all proxies have left it, and says for which ejection", async () => {
    await putCache("c1", cache());
    await proxyApplied(0);
    await start("node-1");
    const { address } = await shard("c1/node-1");
    await ask(address, "set a 0 0 1\r\nx\r\n");
    await eject("node-1", "first", ["node-2"]);
    await sleep(200);
    expect(await ask(address, "get a\r\n", "END\r\n"), "a proxy still uses it").toContain("VALUE");
    await proxyApplied((await newest()) + 1);
    const cleared = await shardSoon("c1/node-1", { clearedFor: "first", state: "ready" });
    expect(cleared.epoch).toBe(2);
    expect(await ask(address, "get a\r\n", "END\r\n")).toBe("END\r\n");
    await ask(address, "set b 0 0 1\r\nx\r\n");
    await eject("node-1", "second", ["node-2"]);
    await proxyApplied((await newest()) + 1);
    await shardSoon("c1/node-1", { clearedFor: "second" });
    expect(await ask(address, "get b\r\n", "END\r\n")).toBe("END\r\n");
  });

  test("opens a fresh stand-in on another node, for this ejection only", async () => {
    await putCache("c1", cache());
    await start("node-1");
    await start("node-2");
    await expect
      .poll(async () => (await state.get("layout", "c1"))?.value.members, { timeout: WAIT_MS_MAX })
      .toHaveLength(2);
    await eject("node-2", "first", ["node-1"]);
    const id = "c1/node-2/node-1";
    await expect
      .poll(() => standIn(id), { timeout: WAIT_MS_MAX })
      .toMatchObject({
        serial: "first",
        host: "node-1",
      });
    const { address = "" } = (await standIn(id)) ?? {};
    await ask(address, "set a 0 0 1\r\nx\r\n");
    await eject("node-2", "second", ["node-1"]);
    await expect
      .poll(async () => (await standIn(id))?.serial, { timeout: WAIT_MS_MAX })
      .toBe("second");
    const again = (await standIn(id))?.address ?? "";
    expect(await ask(again, "get a\r\n", "END\r\n")).toBe("END\r\n");
  });

  test("that is over takes its stand-ins with it, once all proxies know", async () => {
    await putCache("c1", cache());
    await proxyApplied(0);
    await start("node-1");
    await eject("node-2", "first", ["node-1"]);
    const id = "c1/node-2/node-1";
    await expect.poll(() => standIn(id), { timeout: WAIT_MS_MAX }).toBeDefined();
    await change({ kind: "ejection", id: "c1/node-2", value: null });
    await sleep(200);
    expect(await standIn(id), "a proxy may still use it").toBeDefined();
    await proxyApplied((await newest()) + 1);
    await expect.poll(() => standIn(id), { timeout: WAIT_MS_MAX }).toBeUndefined();
  });

  test("leaves nothing behind when the agent was killed", async () => {
    await putCache("c1", cache());
    const value = { cache: "c1", node: "node-2", host: "node-1", serial: "old", address: "gone" };
    await change({ kind: "standIn", id: "c1/node-2/node-1", value });
    await start("node-1");
    await expect.poll(() => standIn("c1/node-2/node-1"), { timeout: WAIT_MS_MAX }).toBeUndefined();
  });
});

describe("trouble with the state", () => {
  /** The real state, with some of it taken over. */
  const withState = (over: Partial<ClusterState>): ClusterState => {
    const real = openState();
    return new Proxy(real, {
      get: (target, key) => {
        const value = Reflect.get(over, key) ?? Reflect.get(target, key);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  };

  test("a lost lease is taken anew", async () => {
    const real = openState();
    const ends: (() => void)[] = [];
    const through = withState({
      lease: async (options) => {
        const lease = await real.lease(options);
        const lost = new Promise<void>((resolve) => ends.push(resolve));
        return { ...lease, lost, revoke: () => lease.revoke() } satisfies Lease;
      },
    });
    await start("node-1", { through });
    expect(ends.length).toBe(1);
    await change({ kind: "node", id: "node-1", value: null });
    ends[0]?.();
    await eventually(async () => {
      expect((await state.get("node", "node-1"))?.value.ready).toBe(true);
    });
    expect(ends.length).toBe(2);
  });

  test("commits that fail are tried again, and data is served meanwhile", async () => {
    await putCache("c1", cache());
    const real = openState();
    let failures = 0;
    const through = withState({
      commit: async (changes) => {
        const isOurs = changes.some((one) => one.kind === "shard" && one.id === "c2/node-1");
        if (!isOurs || failures >= 2) return real.commit(changes);
        failures++;
        throw new Error("disk full");
      },
    });
    await start("node-1", { through });
    await putCache("c2", cache(MIB, "other"));
    await eventually(() => expect(failures).toBe(1));
    expect(await ask((await shard("c1/node-1")).address, "mn\r\n")).toBe("MN\r\n");
    const other = await shardSoon("c2/node-1");
    expect(failures).toBe(2);
    expect(await ask(other.address, "mn\r\n")).toBe("MN\r\n");
  });

  test("what is left of a deleted cache does not keep a node from starting without the state", async () => {
    await putCache("c1", cache());
    await putCache("c2", cache(MIB, "other"));
    await stop(await start("node-1"));
    await putCache("c1", null);
    const real = openState();
    let isAway = true;
    const through = withState({
      commit: async (changes) => {
        const isOrphan = changes.some(({ id }) => id.startsWith("c1"));
        if (isAway && isOrphan) throw new StateUnavailable("away");
        return real.commit(changes);
      },
    });
    await start("node-1", { through });
    expect(await ask((await shard("c2/node-1")).address, "mn\r\n")).toBe("MN\r\n");
    expect(await state.get("shard", "c1/node-1")).toBeDefined();
    isAway = false;
    await eventually(async () => {
      expect(await state.get("shard", "c1/node-1")).toBeUndefined();
    });
  });
});

describe("options", () => {
  test.each([
    [{ nodes: [{ name: "Node_1" }] }, "nodes.0.name"],
    [{ nodes: [{ weight: 0 }] }, "nodes.0.weight"],
    [{ nodes: [{ socketDir: "" }] }, "nodes.0.socketDir"],
    [{ nodes: [{ sockets: "x" }] }, "nodes.0"],
    [{ nodes: [] }, "nodes"],
    [{ node: [] }, ""],
  ])("%j are refused", (given, path) => {
    const checked = backendOptions.safeParse(given);
    expect(checked.success).toBe(false);
    expect(checked.error?.issues.map((issue) => issue.path.join("."))).toContain(path);
  });

  test("every option has a help text", () => {
    const rows = { ...backendOptions.shape, ...nodeOptions.shape };
    for (const [name, option] of Object.entries(rows)) {
      expect(option.description, name).toMatch(/\w{4}/);
    }
  });
});
