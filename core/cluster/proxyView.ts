/**
 * What a proxy sees of the shards it talks to, as it streams it to monitors: `GET /view` on its ops
 * address answers with a line of JSON every VIEW_INTERVAL_MS. All figures are of all workers of the
 * proxy together. Counts are of the time since the line before; caches and shards of which there
 * is nothing to say are left out.
 */
import { z } from "zod";

export const VIEW_INTERVAL_MS = 200;
/** A longer line is no line of ours. */
export const VIEW_LINE_SIZE_MAX = 16 * 1024 * 1024;
export const VIEW_PATH = "/view";

const count = z.number().min(0);

/** One shard as its sessions see it; a stand-in has its traffic, but no detector. */
export const shardView = z.strictObject({
  node: z.string(),
  /** Node of the ejected shard whose keys it has; "" for a shard in its own right. */
  standsInFor: z.string(),
  /** Operations answered or given up, by the buckets of VIEW_BOUNDS_MS and one above. */
  latency: z.array(count),
  /** Operations of the detector's windows of 1 s and 10 s, and how many of them were slow. */
  fastCount: count,
  fastSlowCount: count,
  slowCount: count,
  slowSlowCount: count,
  /** Operations that wait now for longer than what counts as slow; the longest of them. */
  waiting: count,
  oldestMs: count,
  /** Ticks of the detector (100 ms each) in which it was an outlier, and by which rule. */
  outlierTicks: count,
  rule: z.enum(["", "fast", "slow"]),
  /** Connections lost or not made; operations without an answer in time. */
  failures: count,
  timeouts: count,
  /** Nobody could use it now: no connection stands, and one waits to be tried again. */
  isAway: z.boolean(),
  /** It is out of routing. */
  isOut: z.boolean(),
});
export type ShardView = z.infer<typeof shardView>;

export const cacheSeen = z.strictObject({
  id: z.string(),
  /** Most of its shards are slow at the same time. */
  isCommonMode: z.boolean(),
  hits: count,
  misses: count,
  /** Commands that failed: no shard answered, or it answered with an error. */
  errors: count,
  sessions: count,
  shards: z.array(shardView),
});
export type CacheSeen = z.infer<typeof cacheSeen>;

export const proxyView = z.strictObject({
  proxy: z.string(),
  /** Milliseconds since 1970. */
  atMs: z.int(),
  /** Its machine has too little CPU: whoever looks slow from there may be well. */
  isStarved: z.boolean().default(false),
  /** Workers that did not answer in time: their figures are missing. */
  silentWorkers: count,
  caches: z.array(cacheSeen),
});
export type ProxyView = z.infer<typeof proxyView>;

/** Upper bounds of `latency`, in milliseconds: those of the latency metric. */
export const VIEW_BOUNDS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000] as const;
