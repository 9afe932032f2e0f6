/**
 * What the fuzzer talks to: a real memcached, and Memward proxies in this process whose shards are
 * real memcacheds of their own. A proxy with one shard must answer as memcached does; one with
 * three must too, and has to split and gather for it; and one whose keys have two copies.
 */
import { pino } from "pino";
import { openSqliteState } from "../../core/cluster/sqlite.ts";
import type { Change } from "../../core/cluster/state.ts";
import type { RunningRole } from "../../core/runtime/role.ts";
import { startProxy } from "../../proxy/main.ts";
import { proxyOptions } from "../../proxy/options.ts";
import { type Memcached, startMemcached, temporaryFolder } from "../harness/processes.ts";

export type FuzzedProxy = {
  name: string;
  /** Its listener without login, and the one with. */
  address: string;
  loginAddress: string;
  /** What went wrong between it and its shards so far, by reason; all zero while all is well. */
  failures(): Promise<Record<string, number>>;
};

export type Servers = {
  reference: string;
  proxies: readonly FuzzedProxy[];
  stop(): Promise<void>;
};

type Shape = { shardCount: number; copies: 1 | 2 };
const SHAPES: readonly Shape[] = [
  { shardCount: 1, copies: 1 },
  { shardCount: 3, copies: 1 },
  { shardCount: 3, copies: 2 },
];

export async function startServers(shapes: readonly Shape[] = SHAPES): Promise<Servers> {
  const reference = await startMemcached();
  const running = await Promise.all(shapes.map(startOne));
  return {
    reference: reference.address,
    proxies: running.map(({ proxy }) => proxy),
    stop: async () => {
      for (const { stop } of running) await stop();
      await reference.stop();
    },
  };
}

async function startOne({
  shardCount,
  copies,
}: Shape): Promise<{ proxy: FuzzedProxy; stop(): Promise<void> }> {
  const shards = await Promise.all(Array.from({ length: shardCount }, () => startMemcached()));
  const state = openSqliteState({ path: `${temporaryFolder("fuzz")}/state.db` });
  const commit = await state.commit(records(shards, copies));
  if (!commit.ok) throw new Error(`state: ${JSON.stringify(commit)}`);
  const options = proxyOptions.parse({
    sharesMainThread: true,
    listen: ["127.0.0.1:0"],
    plain: [{ address: "127.0.0.1:0", cache: "default" }],
  });
  const role = await startProxy(options, { state, log: pino({ level: "silent" }) });
  const proxy: FuzzedProxy = {
    name: `proxy with ${shardCount} ${shardCount === 1 ? "shard" : "shards"}, copies ${copies}`,
    address: role.addresses[1] ?? "",
    loginAddress: role.addresses[0] ?? "",
    failures: () => failuresOf(role),
  };
  const stop = async (): Promise<void> => {
    await role.drain();
    await state.close();
    for (const shard of shards) await shard.stop();
  };
  return { proxy, stop };
}

function records(shards: readonly Memcached[], copies: 1 | 2): Change[] {
  const cache = {
    name: "default",
    bytes: 64 << 20,
    copies,
    pool: "managed",
    enabled: true,
    createdAtMs: 1,
  };
  return [
    { kind: "cache", id: "c1", value: { ...cache, pool: "managed" } },
    ...shards.map(({ address }, index): Change => {
      const node = `node-${index + 1}`;
      const value = {
        cache: "c1",
        node,
        address,
        bytes: 32 << 20,
        epoch: 1,
        state: "ready",
      } as const;
      return { kind: "shard", id: `c1/${node}`, value };
    }),
  ];
}

const FAILURES = "memward_proxy_shard_failures_total";

async function failuresOf(role: RunningRole): Promise<Record<string, number>> {
  const failures: Record<string, number> = {};
  const metric = role.registry.getSingleMetric(FAILURES);
  if (metric === undefined) throw new Error(`no metric ${FAILURES}`);
  for (const { labels, value } of (await metric.get()).values) {
    const reason = String(labels["reason"]);
    failures[reason] = (failures[reason] ?? 0) + value;
  }
  return failures;
}
