/**
 * What a shard says of itself, under memcached's names. What memcached counts and a shard has not
 * (threads, slab classes, LRU segments) is left out rather than made up; `items` and `slabs` show
 * the shard as memory of a single class, since any unit serves any item.
 */
import process from "node:process";
import { MEMCACHED_VERSION } from "../../core/protocol/limits.ts";
import { Counter, type CounterName } from "./counters.ts";
import type { Shard } from "./shard.ts";
import { UNIT_SIZE } from "./units.ts";

export type StatRows = [name: string, value: string | number][];

const GENERAL = [
  "cmd_get",
  "cmd_set",
  "cmd_flush",
  "cmd_touch",
  "cmd_meta",
  "get_hits",
  "get_misses",
  "get_expired",
  "get_flushed",
  "delete_misses",
  "delete_hits",
  "incr_misses",
  "incr_hits",
  "decr_misses",
  "decr_hits",
  "cas_misses",
  "cas_hits",
  "cas_badval",
  "touch_hits",
  "touch_misses",
  "store_too_large",
  "store_no_memory",
  "bytes_read",
  "bytes_written",
] as const satisfies CounterName[];

const MEMORY = [
  "total_items",
  "expired_unfetched",
  "evicted_unfetched",
  "evictions",
  "reclaimed",
  "crawler_reclaimed",
  "crawler_items_checked",
] as const satisfies CounterName[];

/** Rows of `stats <subject>`; undefined for a subject that there is none of. */
export function statsOf(shard: Shard, subject: string): StatRows | undefined {
  return SUBJECTS[subject]?.(shard);
}

/** `stats reset`: what is shown of all counters begins anew. */
export function resetStats({ store, countersBefore }: Shard): void {
  countersBefore.set(store.counters);
}

const SUBJECTS: Readonly<Record<string, (shard: Shard) => StatRows>> = {
  "": general,
  items: (shard) => {
    const { items } = shard.store;
    if (items.count === 0) return [];
    return [
      ["items:1:number", items.count],
      ["items:1:age", items.oldestAgeS],
      ["items:1:mem_requested", items.size],
      ...rowsOf(shard, ["evictions"]).map(([, value]): StatRows[0] => ["items:1:evicted", value]),
    ];
  },
  slabs: (shard) => {
    const { items } = shard.store;
    return [
      ["1:chunk_size", UNIT_SIZE],
      ["1:used_chunks", items.unitCount],
      ["active_slabs", 1],
      ["total_malloced", items.size],
    ];
  },
  settings: (shard) => [
    ["maxbytes", shard.store.items.limit],
    ["verbosity", 0],
    ["evictions", "on"],
    ["cas_enabled", "yes"],
    ["item_size_max", 1024 * 1024],
    ["flush_enabled", "yes"],
  ],
  sizes: () => [["sizes_status", "disabled"]],
  conns: () => [],
};

function general(shard: Shard): StatRows {
  const { store } = shard;
  const { user, system } = process.cpuUsage();
  return [
    ["pid", process.pid],
    ["uptime", store.uptimeS],
    ["time", store.now],
    ["version", MEMCACHED_VERSION],
    ["pointer_size", 64],
    ["rusage_user", (user / 1e6).toFixed(6)],
    ["rusage_system", (system / 1e6).toFixed(6)],
    ["curr_connections", shard.connectionCount],
    ...rowsOf(shard, ["total_connections"]),
    ...rowsOf(shard, GENERAL),
    ["limit_maxbytes", store.items.limit],
    ["threads", 1],
    ["bytes", store.items.size],
    ["curr_items", store.items.count],
    ...rowsOf(shard, MEMORY),
  ];
}

function rowsOf(shard: Shard, names: readonly CounterName[]): StatRows {
  const { store, countersBefore } = shard;
  return names.map((name) => {
    const index = Counter[name];
    return [name, store.counters[index]! - countersBefore[index]!];
  });
}
