/**
 * The cache of the monitor's canaries: the only one that is ours. It has a small shard on every
 * node, belongs to no customer, and is not shown where customers' caches are.
 */
export const PROBE_CACHE = "memward-monitor";
export const PROBE_CACHE_BYTES = 16 * 1024 * 1024;
