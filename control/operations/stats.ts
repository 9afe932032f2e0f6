/**
 * Statistics of one cache, under the names that MemCachier's users know: what its shards count,
 * asked of each over a connection and added up, and what only proxies know (sessions, logins,
 * bytes of clients), which they publish. Of a cache on an external pool there is only the latter. A shard that does not answer is left out and counted.
 */
import { z } from "zod";
import { MANAGED_POOL } from "../../core/cluster/records.ts";
import { askStats } from "../../core/cluster/shardStats.ts";
import { noCache } from "./caches.ts";
import type { Parts } from "./change.ts";
import { done, type Outcome } from "./outcome.ts";

const ASKED_AT_ONCE_MAX = 64;

/** Names as they are told, with what shards call them. */
const FROM_SHARDS = {
  bytes: "bytes",
  cas_badval: "cas_badval",
  cas_hits: "cas_hits",
  cas_misses: "cas_misses",
  cmd_delete: ["delete_hits", "delete_misses"],
  cmd_flush: "cmd_flush",
  cmd_get: "cmd_get",
  cmd_set: "cmd_set",
  cmd_touch: "cmd_touch",
  curr_items: "curr_items",
  decr_hits: "decr_hits",
  decr_misses: "decr_misses",
  delete_hits: "delete_hits",
  delete_misses: "delete_misses",
  evictions: "evictions",
  expired: "get_expired",
  get_hits: "get_hits",
  get_misses: "get_misses",
  incr_hits: "incr_hits",
  incr_misses: "incr_misses",
  limit_maxbytes: "limit_maxbytes",
  total_items: "total_items",
  touch_hits: "touch_hits",
  touch_misses: "touch_misses",
} as const satisfies Record<string, string | readonly string[]>;

/** Names as they are told, with the field of a proxy's usage record. */
const FROM_PROXIES = {
  auth_cmds: "authCommands",
  auth_errors: "authErrors",
  bytes_read: "bytesRead",
  bytes_written: "bytesWritten",
  curr_connections: "sessions",
  total_connections: "sessionsTotal",
} as const;

type StatName = keyof typeof FROM_SHARDS | keyof typeof FROM_PROXIES | "time";

export const statsAnswer = z.strictObject({
  stats: z.record(z.string(), z.int()).describe("memcached's names"),
  shards: z.strictObject({ asked: z.int(), answered: z.int() }),
});
export interface CacheStats {
  readonly stats: Record<StatName, number>;
  readonly shards: { readonly asked: number; readonly answered: number };
}

export async function cacheStats(
  { view, clock }: Pick<Parts, "view" | "clock">,
  nameOrId: string,
): Promise<Outcome<CacheStats>> {
  const cache = view.cache(nameOrId);
  if (cache === undefined) return noCache(nameOrId);
  // Servers of others count for others, too.
  const isExternal = cache.value.pool !== MANAGED_POOL;
  const shards = isExternal ? [] : view.shardsOf(cache.id).slice(0, ASKED_AT_ONCE_MAX);
  const answers = await Promise.all(shards.map(({ value }) => askStats(value.address)));
  const found = answers.filter((answer) => answer !== undefined);
  const fromShards = isExternal ? [] : Object.entries(FROM_SHARDS);
  const sums: [string, number][] = fromShards.map(([name, source]) => {
    const names: readonly string[] = typeof source === "string" ? [source] : source;
    const values = found.flatMap((answer) => names.map((one) => answer.get(one) ?? 0));
    return [name, values.reduce((sum, value) => sum + value, 0)];
  });
  const usage = [...view.usage.values()].filter(({ id }) => id.startsWith(`${cache.id}/`));
  for (const [name, field] of Object.entries(FROM_PROXIES)) {
    sums.push([name, usage.reduce((sum, { value }) => sum + value[field], 0)]);
  }
  sums.push(["time", Math.floor(clock.unixMs() / 1000)]);
  const stats = Object.fromEntries(sums.sort(([a], [b]) => (a < b ? -1 : 1)));
  const counted = { asked: shards.length, answered: found.length };
  return done({ stats: stats as CacheStats["stats"], shards: counted }, view.revision);
}
