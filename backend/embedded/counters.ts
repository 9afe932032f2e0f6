/**
 * What a shard counts, under memcached's names (`stats`; protocol.txt, "General-purpose
 * statistics"): one number per row in a typed array. The literal is the table; its order is the
 * index.
 */

export const Counter = {
  cmd_get: 0,
  cmd_set: 1,
  cmd_flush: 2,
  cmd_touch: 3,
  cmd_meta: 4,
  get_hits: 5,
  get_misses: 6,
  get_expired: 7,
  get_flushed: 8,
  delete_misses: 9,
  delete_hits: 10,
  incr_misses: 11,
  incr_hits: 12,
  decr_misses: 13,
  decr_hits: 14,
  cas_misses: 15,
  cas_hits: 16,
  cas_badval: 17,
  touch_hits: 18,
  touch_misses: 19,
  store_too_large: 20,
  store_no_memory: 21,
  total_items: 22,
  expired_unfetched: 23,
  evicted_unfetched: 24,
  evictions: 25,
  reclaimed: 26,
  crawler_reclaimed: 27,
  crawler_items_checked: 28,
  total_connections: 29,
  bytes_read: 30,
  bytes_written: 31,
  commands: 32,
} as const;

export type CounterName = keyof typeof Counter;

export const newCounters = (): Float64Array => new Float64Array(Object.keys(Counter).length);
