/** The metrics of a node as rows, and where their values are read. */
import { IO_LAYER_METRIC } from "../core/io/layer.ts";
import type { Loop } from "../core/io/loop.ts";
import {
  createRegistry,
  type MetricTable,
  type Registry,
  registerMetrics,
} from "../core/runtime/metrics.ts";
import type { Agent, OpenShard } from "./agent.ts";
import type { Figures } from "./engine.ts";

const LABELS = ["cache", "shard"] as const;

export const BACKEND_METRICS = {
  io: IO_LAYER_METRIC,
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
  resident: {
    name: "memward_shard_process_resident_bytes",
    kind: "gauge",
    labels: LABELS,
    help: "Resident memory of the process that serves the shard, where it has one of its own.",
  },
  answers: {
    name: "memward_shard_answers",
    kind: "gauge",
    labels: LABELS,
    help: "Whether the shard serves and answers its node: 1 or 0.",
  },
  restarts: {
    name: "memward_shard_restarts_total",
    kind: "counter",
    labels: LABELS,
    help: "How often the process of the shard ended without being told to.",
  },
} as const satisfies MetricTable;

export function createBackendRegistry(agents: readonly Agent[], loop: Loop): Registry {
  const registry = createRegistry();
  type Emit = (reading: number, cache: string, shard: string) => void;
  const each =
    (read: (open: OpenShard) => number | undefined) =>
    (emit: Emit): void => {
      for (const agent of agents) {
        for (const open of agent.shards.values()) {
          const reading = read(open);
          if (reading !== undefined) emit(reading, agent.cacheName(open), agent.name);
        }
      }
    };
  const figure = (name: keyof Figures) => each(({ shard }) => shard.figures()[name]);
  registerMetrics(registry, BACKEND_METRICS, {
    io: (emit) => emit(1, loop.io),
    items: figure("items"),
    bytes: figure("bytes"),
    limit: figure("limit"),
    connections: figure("connections"),
    epoch: each(({ epoch }) => epoch),
    commands: figure("commands"),
    hits: figure("hits"),
    misses: figure("misses"),
    evictions: figure("evictions"),
    expired: figure("expired"),
    resident: figure("residentBytes"),
    answers: each(({ shard }) =>
      shard.state === "ready" && shard.process?.answers !== false ? 1 : 0,
    ),
    restarts: each(({ shard }) => shard.process?.restarts),
  });
  return registry;
}
