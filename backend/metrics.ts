/** The metrics of a node as rows, and where their values are read. */
import {
  createRegistry,
  type MetricTable,
  type Registry,
  registerMetrics,
} from "../core/runtime/metrics.ts";
import type { Agent, OpenShard } from "./agent.ts";
import { Counter } from "./embedded/counters.ts";

const LABELS = ["cache", "shard"] as const;

export const BACKEND_METRICS = {
  items: {
    name: "memward_shard_items",
    kind: "gauge",
    labels: LABELS,
    help: "Items stored, by cache and shard (node name); expired ones until they are swept.",
  },
  bytes: {
    name: "memward_shard_memory_bytes",
    kind: "gauge",
    labels: LABELS,
    help: "Memory that the items take, keys, heads and index included.",
  },
  limit: {
    name: "memward_shard_memory_limit_bytes",
    kind: "gauge",
    labels: LABELS,
    help: "Memory that the items may take.",
  },
  connections: {
    name: "memward_shard_connections",
    kind: "gauge",
    labels: LABELS,
    help: "Connections to the shard.",
  },
  epoch: {
    name: "memward_shard_epoch",
    kind: "gauge",
    labels: LABELS,
    help: "How often the shard began empty.",
  },
  commands: {
    name: "memward_shard_commands_total",
    kind: "counter",
    labels: LABELS,
    help: "Commands executed; a retrieval of many keys is one.",
  },
  hits: {
    name: "memward_shard_hits_total",
    kind: "counter",
    labels: LABELS,
    help: "Keys asked for and found.",
  },
  misses: {
    name: "memward_shard_misses_total",
    kind: "counter",
    labels: LABELS,
    help: "Keys asked for and not found.",
  },
  evictions: {
    name: "memward_shard_evictions_total",
    kind: "counter",
    labels: LABELS,
    help: "Living items that had to go because the memory was full.",
  },
  expired: {
    name: "memward_shard_expired_total",
    kind: "counter",
    labels: LABELS,
    help: "Items removed because their time was over: found by a command, swept, or reclaimed.",
  },
} as const satisfies MetricTable;

export function createBackendRegistry(agents: readonly Agent[]): Registry {
  const registry = createRegistry();
  type Emit = (reading: number, cache: string, shard: string) => void;
  const each =
    (read: (open: OpenShard) => number) =>
    (emit: Emit): void => {
      for (const agent of agents) {
        for (const open of agent.shards.values())
          emit(read(open), agent.cacheName(open), agent.name);
      }
    };
  const counted = (...counters: number[]) =>
    each(({ shard }) => counters.reduce((sum, index) => sum + shard.store.counters[index]!, 0));
  registerMetrics(registry, BACKEND_METRICS, {
    items: each(({ shard }) => shard.store.items.count),
    bytes: each(({ shard }) => shard.store.items.size),
    limit: each(({ shard }) => shard.store.items.limit),
    connections: each(({ shard }) => shard.connectionCount),
    epoch: each(({ epoch }) => epoch),
    commands: counted(Counter.commands),
    hits: counted(Counter.get_hits, Counter.touch_hits),
    misses: counted(Counter.get_misses, Counter.touch_misses),
    evictions: counted(Counter.evictions),
    expired: counted(Counter.get_expired, Counter.crawler_reclaimed, Counter.reclaimed),
  });
  return registry;
}
