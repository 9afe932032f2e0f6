/**
 * Promise: `memward up --engine memcached` runs each node in a process of its own and one real
 * memcached for each of its caches. Whatever is killed comes back by itself and costs no more than
 * what it held; an agent holds nothing.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Memward, type Role, startMemward } from "../harness/memward.ts";
import { describeWith } from "./suite.ts";

const WAIT_MS_MAX = 15_000;
const ENGINE = ["--engine", "memcached"];
const KEY_COUNT = 100;

const backends = async (memward: Memward): Promise<Role[]> =>
  (await memward.status()).roles.filter(({ role }) => role === "backend");
const shardPids = (nodes: readonly Role[]): number[] =>
  nodes.flatMap(({ shards = [] }) =>
    // The monitor has a cache of its own.
    shards.filter(({ cache }) => cache === "default").map(({ pid }) => pid),
  );

/** Until all roles are ready and `check` holds. */
async function soon(memward: Memward, check: (nodes: Role[]) => boolean): Promise<Role[]> {
  let nodes: Role[] = [];
  const holds = async (): Promise<boolean> => {
    nodes = await backends(memward);
    return nodes.every(({ ready }) => ready) && check(nodes);
  };
  await expect.poll(holds, { timeout: WAIT_MS_MAX }).toBe(true);
  return nodes;
}

function isGone(pid: number): boolean {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return true;
  }
}

async function fill(memward: Memward): Promise<void> {
  const wire = await memward.openPlain();
  for (let i = 0; i < KEY_COUNT; i++) await wire.ask(`set k${i} 0 0 1\r\nx\r\n`, "STORED\r\n");
  wire.close();
}

async function hits(memward: Memward): Promise<number> {
  const wire = await memward.openPlain();
  const keys = Array.from({ length: KEY_COUNT }, (_, i) => `k${i}`);
  const reply = await wire.ask(`get ${keys.join(" ")}\r\n`, "END\r\n");
  wire.close();
  return reply.toString().split("VALUE ").length - 1;
}

describeWith(["memcached"], "memward up --engine memcached", () => {
  let memward: Memward;
  beforeAll(async () => {
    memward = await startMemward({ args: [...ENGINE, "--nodes", "4"] });
  }, 60_000);
  afterAll(() => memward.stop());

  test("lists its nodes, each a process, with the memcached of each cache", async () => {
    const nodes = await backends(memward);
    expect(nodes.map(({ name }) => name)).toEqual(["node-1", "node-2", "node-3", "node-4"]);
    expect(new Set(nodes.map(({ pid }) => pid)).size).toBe(4);
    for (const { shards = [], addresses } of nodes) {
      // The second one is that of the monitor's canaries, once it has made its cache.
      expect(shards[0]).toEqual({
        cache: "default",
        pid: expect.any(Number),
        address: addresses[0],
        state: "ready",
      });
    }
    for (const pid of shardPids(nodes)) {
      expect(readFileSync(`/proc/${pid}/comm`, "utf8")).toBe("memcached\n");
    }
  });

  test("a memcached that is killed costs what it held, and is there again", async () => {
    const before = await soon(memward, () => true);
    await fill(memward);
    expect(await hits(memward)).toBe(KEY_COUNT);
    const [victim = 0, ...others] = shardPids(before);
    process.kill(victim, "SIGKILL");
    const after = await soon(memward, (nodes) => !shardPids(nodes).includes(victim));
    expect(shardPids(after).slice(1)).toEqual(others);
    expect(after.map(({ pid }) => pid)).toEqual(before.map(({ pid }) => pid));
    await expect.poll(() => hits(memward), { timeout: WAIT_MS_MAX }).toBeGreaterThan(0);
    expect(await hits(memward)).toBeLessThan(KEY_COUNT);
    await fill(memward);
    expect(await hits(memward)).toBe(KEY_COUNT);
    expect(await memward.metrics()).toMatch(
      /memward_shard_restarts_total\{cache="default",shard="node-1",.*\} 1/,
    );
  });

  test("an agent that is killed costs nothing: its memcached is taken over", async () => {
    await fill(memward);
    const before = await soon(memward, () => true);
    process.kill(before[1]?.pid ?? 0, "SIGKILL");
    expect(await hits(memward)).toBe(KEY_COUNT);
    const after = await soon(memward, (nodes) => nodes[1]?.pid !== before[1]?.pid);
    expect(shardPids(after)).toEqual(shardPids(before));
    expect(await hits(memward)).toBe(KEY_COUNT);
  });

  test("tenants see figures of their cache, and nothing of the machine or for its operator", async () => {
    const wire = await memward.openPlain();
    const settings = (await wire.ask("stats settings\r\n", "END\r\n")).toString();
    expect(settings).toContain("STAT maxbytes ");
    expect(settings).not.toMatch(/\.sock|memward|STAT (umask|inter|tcpport) /);
    expect((await wire.ask("stats\r\n", "END\r\n")).toString()).not.toContain("STAT pid ");
    for (const line of ["cache_memlimit 8", "slabs reassign -1 0", "lru_crawler crawl all"]) {
      expect(await wire.line(line)).toBe("ERROR");
    }
    for (const line of ["shutdown", "watch fetchers", "debugtime p"]) {
      expect(await wire.line(line)).toBe("ERROR");
    }
    wire.close();
  });

  test("a memcached that stands still is told", async () => {
    const [, , node] = await soon(memward, () => true);
    const pid = node?.shards?.[0]?.pid ?? 0;
    process.kill(pid, "SIGSTOP");
    const state = async () => (await backends(memward))[2]?.shards?.[0]?.state;
    await expect.poll(state, { timeout: WAIT_MS_MAX }).toBe("silent");
    expect((await fetch(`http://${memward.ops}/readyz`)).status).toBe(503);
    process.kill(pid, "SIGCONT");
    await soon(memward, (nodes) => shardPids(nodes).includes(pid));
  });
});

describeWith(["memcached"], "an instance on memcached", () => {
  test("leaves nothing when it ends; killed as a whole, it is found again with its values", async () => {
    const first = await startMemward({ args: [...ENGINE, "--nodes", "3"] });
    // Its proxy may hear of the last node a moment after us: then some keys have another owner.
    await soon(first, () => true);
    const isFull = async (): Promise<boolean> => {
      await fill(first);
      return (await hits(first)) === KEY_COUNT;
    };
    await expect.poll(isFull, { timeout: WAIT_MS_MAX }).toBe(true);
    const { roles } = await first.status();
    const before = await backends(first);
    for (const { role, pid } of roles) if (role === "backend") process.kill(pid, "SIGKILL");
    await first.stop("SIGKILL");
    for (const pid of shardPids(before)) expect(isGone(pid)).toBe(false);

    const second = await startMemward({
      dataDir: first.dataDir,
      args: [...ENGINE, "--nodes", "3"],
    });
    const after = await soon(second, () => true);
    // The supervisor may have been quick enough to start agents anew, which ended theirs with it.
    const kept = shardPids(after).filter((pid) => shardPids(before).includes(pid));
    expect(kept.length === 3 ? await hits(second) : KEY_COUNT).toBe(KEY_COUNT);
    for (const pid of shardPids(before)) expect(isGone(pid)).toBe(!kept.includes(pid));
    expect(await second.stop()).toBe(0);
    for (const pid of shardPids(after)) expect(isGone(pid)).toBe(true);
  }, 60_000);
});
