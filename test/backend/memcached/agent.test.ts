/**
 * Nodes on the engine memcached, with real processes: what is started, watched, changed, emptied
 * and ended, also by signals that nobody expects and by an agent that was killed.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startBackend } from "../../../backend/main.ts";
import { backendOptions, type NodeOptions } from "../../../backend/options.ts";
import type { Shard } from "../../../core/cluster/records.ts";
import type { RunningRole } from "../../../core/runtime/role.ts";
import { describeWith } from "../../e2e/suite.ts";
import { Running } from "../../harness/processes.ts";
import { connect } from "../../harness/wire.ts";
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
  shard,
  shardSoon,
  start,
  state,
  stop,
  WAIT_MS_MAX,
} from "../rig.ts";

const ROOT = join(import.meta.dirname, "../../..");
const ID = "c1/node-1";

type Given = Partial<Omit<NodeOptions, "memcached">> & {
  memcached?: Partial<NodeOptions["memcached"]>;
};
const startNode = (given: Given = {}): Promise<RunningRole> =>
  start("node-1", { given: { engine: "memcached", ...given } as Partial<NodeOptions> });

const pidOf = ({ process: serving }: Shard): number => serving?.pid ?? 0;
const kill = (pid: number, signal: NodeJS.Signals): boolean => process.kill(pid, signal);

/** Ended, whether or not its parent has looked after it. */
function isGone(pid: number): boolean {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return true;
  }
}
const goneSoon = (pid: number): Promise<void> =>
  expect.poll(() => isGone(pid), { timeout: WAIT_MS_MAX }).toBe(true);

const set = (address: string, key: string, value = "x"): Promise<string> =>
  ask(address, `set ${key} 0 0 ${value.length}\r\n${value}\r\n`);
const get = (address: string, key: string): Promise<string> =>
  ask(address, `get ${key}\r\n`, "END\r\n");

async function figure(role: RunningRole, name: string): Promise<number> {
  const line = (await role.registry.metrics())
    .split("\n")
    .find((one) => one.startsWith(`${name}{`));
  return Number(line?.split(" ").at(-1));
}

/** A program that says it is a memcached that fits, and then does what `script` says. */
function impostor(script: string, version = "memcached 1.6.18"): string {
  const path = join(folder, "impostor");
  const text = `#!/bin/sh\nif [ "$1" = -V ]; then echo "${version}"; exit; fi\n${script}\n`;
  writeFileSync(path, text, { mode: 0o755 });
  return path;
}

/** An agent in a process of its own, that can be killed. Resolves when it serves all its shards. */
async function startKillable(): Promise<Running> {
  const backend = { nodes: [{ ...nodeOf("node-1"), engine: "memcached" }] };
  const file = join(folder, "node.json");
  writeFileSync(file, JSON.stringify({ dataDir: folder, backend }));
  const running = new Running("memward", join(ROOT, "bin/memward"), ["backend", "--config", file]);
  await eventually(() => {
    expect(running.stdout + running.stderr).toContain("serving shards");
  }, 15_000);
  return running;
}

describeWith(["memcached"], "a node on memcached", () => {
  test("runs one process for each cache, and tells which", async () => {
    await putCache("c1", cache(20 * MIB));
    await putCache("c2", cache(2 * MIB, "other"));
    const node = await startNode({ memcached: { threads: 3, connectionsMax: 200 } });
    const one = await shard(ID);
    const two = await shard("c2/node-1");
    expect(one).toMatchObject({ state: "ready", bytes: 20 * MIB, epoch: 1 });
    expect(one.process).toMatchObject({ restarts: 0, lastExit: "", answers: true });
    expect(pidOf(one)).not.toBe(pidOf(two));
    const args = readFileSync(`/proc/${pidOf(one)}/cmdline`, "utf8").split("\0");
    for (const pair of ["-t 3", "-c 200", "-m 20", "-I 1m", "-U 0", "-a 0700"]) {
      expect(args.join(" ")).toContain(pair);
    }
    expect((await state.get("node", "node-1"))?.value.engine).toBe("memcached");
    expect(node.ready()).toBe(true);
    expect(await ask(two.address, "stats\r\n", "END\r\n")).toContain(`limit_maxbytes ${8 * MIB}`);
    expect(await set(one.address, "a")).toBe("STORED\r\n");
    expect(await get(two.address, "a")).toBe("END\r\n");
  });

  test("listens on TCP when it is told to, and is found there again", async () => {
    await putCache("c1", cache());
    const node = await startNode({ host: "127.0.0.1" });
    const { address } = await shard(ID);
    expect(address).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(await ask(address, "mn\r\n")).toBe("MN\r\n");
    await stop(node);
    await startNode({ host: "127.0.0.1" });
    expect(await shard(ID)).toMatchObject({ address, epoch: 2 });
  });

  test("tells the figures of its shards", async () => {
    await putCache("c1", cache());
    const node = await startNode();
    const { address } = await shard(ID);
    const wire = await connect(address);
    await wire.ask("set a 0 0 1\r\nx\r\nget a b\r\n", "END\r\n");
    await eventually(async () => {
      expect(await figure(node, "memward_shard_hits_total")).toBe(1);
      expect(await figure(node, "memward_shard_misses_total")).toBe(1);
      expect(await figure(node, "memward_shard_items")).toBe(1);
      expect(await figure(node, "memward_shard_connections")).toBe(1);
    });
    wire.close();
    expect(await figure(node, "memward_shard_memory_limit_bytes")).toBe(8 * MIB);
    expect(await figure(node, "memward_shard_answers")).toBe(1);
    expect(await figure(node, "memward_shard_restarts_total")).toBe(0);
    const resident = await figure(node, "memward_shard_process_resident_bytes");
    expect(resident).toBeGreaterThan(MIB);
    expect(resident).toBeLessThan(16 * MIB);
    expect(await node.registry.metrics()).not.toContain("memward_shard_commands_total{");
  });

  test("a wished reset shows figures from zero, and metrics go on counting", async () => {
    await putCache("c1", cache());
    const node = await startNode();
    const { address } = await shard(ID);
    await ask(address, "get a b c\r\n", "END\r\n");
    await putCache("c1", { ...cache(), statsEpoch: 1 });
    await shardSoon(ID, { statsEpoch: 1, epoch: 1 });
    expect(await ask(address, "stats\r\n", "END\r\n")).toContain("STAT get_misses 0\r\n");
    expect(await figure(node, "memward_shard_misses_total")).toBe(3);
    await ask(address, "get a\r\n", "END\r\n");
    await eventually(async () => {
      expect(await figure(node, "memward_shard_misses_total")).toBe(4);
    });
  });
});

describeWith(["memcached"], "a memcached of a node", () => {
  test("that is killed is replaced, in a new epoch, and the reason is kept", async () => {
    await putCache("c1", cache());
    const node = await startNode();
    const before = await shard(ID);
    await set(before.address, "a");
    kill(pidOf(before), "SIGKILL");
    const after = await shardSoon(ID, { epoch: 2 });
    expect(after.address).toBe(before.address);
    expect(after.process).toMatchObject({ restarts: 1, lastExit: "signal SIGKILL", answers: true });
    expect(pidOf(after)).not.toBe(pidOf(before));
    expect(await get(after.address, "a")).toBe("END\r\n");
    expect(await figure(node, "memward_shard_restarts_total")).toBe(1);
    expect(await figure(node, "memward_shard_epoch")).toBe(2);
  });

  test("that does not start says why, and is tried again", async () => {
    await putCache("c1", cache());
    const path = impostor('echo "no memory for you" >&2; exit 71');
    await startNode({ memcached: { path } });
    await eventually(async () => {
      const { state: condition, process: serving, epoch } = await shard(ID);
      expect({ condition, epoch }).toEqual({ condition: "starting", epoch: 0 });
      expect(serving?.lastExit).toBe("exit code 71: no memory for you");
      expect(serving?.restarts).toBeGreaterThan(1);
    });
    impostor(`exec memcached "$@"`);
    const { address } = await shardSoon(ID, { epoch: 1 });
    expect(await ask(address, "mn\r\n")).toBe("MN\r\n");
  });

  test("that stands still is noticed, and again when it goes on with its values", async () => {
    await putCache("c1", cache());
    const node = await startNode();
    const before = await shard(ID);
    await set(before.address, "a");
    kill(pidOf(before), "SIGSTOP");
    await eventually(async () => expect((await shard(ID)).process?.answers).toBe(false));
    expect(await figure(node, "memward_shard_answers")).toBe(0);
    expect(await shard(ID)).toMatchObject({ state: "ready", epoch: 1 });
    kill(pidOf(before), "SIGCONT");
    await eventually(async () => expect(await shard(ID)).toEqual(before));
    expect(await get(before.address, "a")).toContain("VALUE a");
  });

  test("that stands still for too long is replaced", async () => {
    await putCache("c1", cache());
    await startNode({ memcached: { silentMsMax: 2_000 } });
    const before = await shard(ID);
    kill(pidOf(before), "SIGSTOP");
    await eventually(async () => expect(await shard(ID)).toMatchObject({ epoch: 2 }), 20_000);
    expect((await shard(ID)).process).toMatchObject({
      restarts: 1,
      lastExit: "signal SIGKILL, after it had said nothing",
      answers: true,
    });
  });

  test("that is flushed keeps its process and nothing that was stored in that second", async () => {
    await putCache("c1", cache());
    await startNode();
    const before = await shard(ID);
    for (let epoch = 1; epoch <= 5; epoch++) {
      await set(before.address, "a");
      await putCache("c1", { ...cache(), epoch });
      const after = await shardSoon(ID, { flushedEpoch: epoch, epoch: epoch + 1 });
      expect(await get(before.address, "a")).toBe("END\r\n");
      expect(pidOf(after)).toBe(pidOf(before));
      await set(before.address, "b");
      expect(await get(before.address, "b")).toContain("VALUE b");
    }
  });

  test("that is fenced while it stands still never does what its sockets still hold", async () => {
    await putCache("c1", cache());
    await startNode();
    const before = await shard(ID);
    const wire = await connect(before.address);
    await wire.ask("set a 0 0 3\r\nold\r\n", "STORED\r\n");
    kill(pidOf(before), "SIGSTOP");
    await wire.send("set a 0 0 5\r\nstale\r\n");
    await change({ kind: "shard", id: ID, value: { ...before, state: "fenced" } });
    const after = await shardSoon(ID, { epoch: 2 });
    expect(pidOf(after)).not.toBe(pidOf(before));
    expect(after.process?.restarts).toBe(0);
    await goneSoon(pidOf(before));
    expect(await get(after.address, "a")).toBe("END\r\n");
    wire.close();
  });

  test("grows and shrinks with the plan, under load and without an error", async () => {
    await putCache("c1", cache(40 * MIB));
    const node = await startNode();
    const { address, process: serving } = await shard(ID);
    const wire = await connect(address);
    const many = `set k 0 0 8000 noreply\r\n${"v".repeat(8000)}\r\n`.repeat(64);
    let count = 0;
    let isLoading = true;
    const load = async (): Promise<void> => {
      for (; isLoading; count += 64) {
        const lines = many.replaceAll("set k ", () => `set k${count++ % 64}-${count} `);
        // An error would stand before the answer to the last command.
        expect((await wire.ask(`${lines}mn\r\n`, "MN\r\n")).toString()).toBe("MN\r\n");
      }
    };
    const loading = load();
    const resident = () => figure(node, "memward_shard_process_resident_bytes");
    await expect.poll(resident, { timeout: 20_000 }).toBeGreaterThan(40 * MIB);
    await putCache("c1", cache(12 * MIB));
    await shardSoon(ID, { bytes: 12 * MIB, epoch: 1 });
    await expect.poll(resident, { timeout: WAIT_MS_MAX }).toBeLessThan(24 * MIB);
    await putCache("c1", cache(24 * MIB));
    await shardSoon(ID, { bytes: 24 * MIB, epoch: 1 });
    await expect.poll(resident, { timeout: 20_000 }).toBeGreaterThan(24 * MIB);
    isLoading = false;
    await loading;
    wire.close();
    expect((await shard(ID)).process).toEqual(serving);
  });

  test("gives cas uniques apart from those of the one before", async () => {
    await putCache("c1", cache());
    await startNode();
    const before = await shard(ID);
    const unique = async (): Promise<string> => ask(before.address, "ms a 1 c\r\nx\r\n");
    const first = await unique();
    kill(pidOf(before), "SIGKILL");
    await shardSoon(ID, { epoch: 2 });
    expect(await unique()).not.toBe(first);
    expect(await ask(before.address, "stats\r\n", "END\r\n")).toContain("STAT incr_hits 0\r\n");
  });

  test("ends with its cache, and with its node", async () => {
    await putCache("c1", cache());
    await putCache("c2", cache(MIB, "other"));
    const node = await startNode();
    const [one, two] = [await shard(ID), await shard("c2/node-1")];
    await putCache("c1", null);
    await goneSoon(pidOf(one));
    await eventually(() => expect(existsSync(one.address.slice("unix:".length))).toBe(false));
    expect(isGone(pidOf(two))).toBe(false);
    await stop(node);
    expect(isGone(pidOf(two))).toBe(true);
    expect(await shard("c2/node-1")).toEqual(two);
  });
});

describeWith(["memcached"], "after an agent was killed", () => {
  test("the next one takes over what is right, and ends or replaces the rest", async () => {
    const names = ["kept", "flushed", "fenced", "deleted", "died", "resized"];
    for (const name of names) await putCache(name, cache(8 * MIB, name));
    const agent = await startKillable();
    const before = new Map<string, Shard>();
    for (const name of names) {
      before.set(name, await shard(`${name}/node-1`));
      await set((await shard(`${name}/node-1`)).address, "a");
    }
    const was = (name: string): Shard => before.get(name) as Shard;
    await agent.stop("SIGKILL");
    for (const name of names) expect(await get(was(name).address, "a")).toContain("VALUE a");

    await putCache("flushed", { ...cache(8 * MIB, "flushed"), epoch: 1 });
    await change({
      kind: "shard",
      id: "fenced/node-1",
      value: { ...was("fenced"), state: "fenced" },
    });
    await putCache("deleted", null);
    kill(pidOf(was("died")), "SIGKILL");
    await goneSoon(pidOf(was("died")));
    await putCache("resized", cache(12 * MIB, "resized"));
    const node = await startNode();

    const now = (name: string, expected: Partial<Shard>) => shardSoon(`${name}/node-1`, expected);
    expect(await now("kept", { epoch: 1 })).toEqual(was("kept"));
    expect(await get(was("kept").address, "a")).toContain("VALUE a");
    const flushed = await now("flushed", { epoch: 2, flushedEpoch: 1 });
    expect(pidOf(flushed)).toBe(pidOf(was("flushed")));
    expect(await get(flushed.address, "a")).toBe("END\r\n");
    expect(pidOf(await now("fenced", { epoch: 2 }))).not.toBe(pidOf(was("fenced")));
    await goneSoon(pidOf(was("fenced")));
    expect(await get(was("fenced").address, "a")).toBe("END\r\n");
    await goneSoon(pidOf(was("deleted")));
    expect(pidOf(await now("died", { epoch: 2 }))).not.toBe(pidOf(was("died")));
    const resized = await now("resized", { epoch: 1, bytes: 12 * MIB });
    expect(await ask(resized.address, "stats\r\n", "END\r\n")).toContain(`maxbytes ${12 * MIB}`);

    // One that was taken over is watched like its own.
    kill(pidOf(was("kept")), "SIGKILL");
    await now("kept", { epoch: 2 });
    await stop(node);
    await goneSoon(pidOf(was("flushed")));
  });

  test("what was started otherwise, or stands still, is not taken over", async () => {
    await putCache("c1", cache());
    await putCache("c2", cache(MIB, "other"));
    const agent = await startKillable();
    const [one, two] = [await shard(ID), await shard("c2/node-1")];
    await agent.stop("SIGKILL");
    kill(pidOf(one), "SIGSTOP");
    await startNode({ memcached: { threads: 1 } });
    await shardSoon(ID, { epoch: 2 });
    await shardSoon("c2/node-1", { epoch: 2 });
    await goneSoon(pidOf(one));
    await goneSoon(pidOf(two));
  });

  test("the other engine ends what it left", async () => {
    await putCache("c1", cache());
    const agent = await startKillable();
    const before = await shard(ID);
    await agent.stop("SIGKILL");
    await start("node-1");
    await goneSoon(pidOf(before));
    expect(await shardSoon(ID)).toMatchObject({ epoch: 2, process: null });
    expect(await ask(before.address, "mn\r\n")).toBe("MN\r\n");
  });

  test("a node that is gone for good leaves nothing", async () => {
    await putCache("c1", cache());
    const agent = await startKillable();
    const before = await shard(ID);
    await agent.stop("SIGKILL");
    const abandonedDirs = [join(folder, "node-1")];
    const options = backendOptions.parse({ nodes: [nodeOf("node-2")], abandonedDirs });
    const other = await startBackend(options, { state: openState(), log });
    await goneSoon(pidOf(before));
    await other.drain();
  });
});

describeWith(["memcached"], "refused is", () => {
  test("a second agent of a node in the same directory", async () => {
    await startNode();
    await expect(startNode()).rejects.toThrow(/another agent of node-1 runs in .*node-1$/);
  });

  test("a socket that a stranger serves; the stranger is left alone", async () => {
    await putCache("c1", cache());
    const node = await startNode();
    const path = (await shard(ID)).address.slice("unix:".length);
    await stop(node);
    const squatter = net.createServer((socket) => socket.end());
    await new Promise<void>((resolve) => squatter.listen(path, resolve));
    await expect(startNode()).rejects.toThrow(`another process serves ${path}`);
    await new Promise((resolve) => squatter.close(resolve));
  });

  test.each([
    ["a program that is not there", () => "/no/such/memcached", /there is no program \/no\/such/],
    [
      "one that is too old",
      () => impostor("exit", "memcached 1.5.22"),
      /is memcached 1\.5\.22; needed is 1\.6\.18/,
    ],
    ["one that is no memcached", () => impostor("exit", "hello"), /does not say which memcached/],
  ])("%s", async (_, path, sentence) => {
    const failure = await startNode({ memcached: { path: path() } }).catch((error) => error);
    expect(failure).toMatchObject({ name: "Refusal", exitCode: 2 });
    expect(failure.message).toMatch(sentence);
  });
});
