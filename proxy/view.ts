/**
 * What a proxy tells monitors (core/cluster/proxyView.ts): collected in each worker from counters
 * that the request path keeps anyway, joined in the main thread. A cache of which there is nothing
 * to say costs a look at the counters of its shards.
 */
import type { CacheSeen, ShardView } from "../core/cluster/proxyView.ts";
import { COMMAND_COUNT, RESULT_COUNT, Result } from "../core/protocol/command.ts";
import { LINK_FAILURES } from "./routing/link.ts";
import type { ShardLinks } from "./routing/route.ts";
import type { Directory } from "./tenant/directory.ts";
import type { Tenant } from "./tenant/tenant.ts";

const FORGET_AFTER_MS = 2_000;
/** These ends of a connection are our own doing. */
const OWN_ENDS = (["ejected", "retired"] as const).map((end) => LINK_FAILURES.indexOf(end));

/** What was told of a shard so far. */
type Told = {
  latency: Float64Array;
  failures: number;
  timeouts: number;
  outlierTicks: number;
};
type ToldOfCache = { hits: number; misses: number; errors: number; sessions: number };

/** One for each worker. */
export class ViewCollector {
  readonly #directory: Pick<Directory, "tenants">;
  #told = new WeakMap<ShardLinks, Told>();
  #toldOfCache = new WeakMap<Tenant, ToldOfCache>();
  #toldAtMs = Number.NEGATIVE_INFINITY;

  constructor(directory: Pick<Directory, "tenants">) {
    this.#directory = directory;
  }

  /** Since the last call; with `isAnew` also the sessions of caches that do nothing. */
  collect({ isAnew, nowMs }: { isAnew: boolean; nowMs: number }): CacheSeen[] {
    if (nowMs - this.#toldAtMs > FORGET_AFTER_MS) {
      // Nobody has looked for a while: what happened meanwhile is no news.
      this.#told = new WeakMap();
      this.#toldOfCache = new WeakMap();
    }
    this.#toldAtMs = nowMs;
    const seen: CacheSeen[] = [];
    for (const tenant of this.#directory.tenants.values()) {
      const shards: ShardView[] = [];
      for (const shard of tenant.route.shards) {
        if (!shard.isThere) continue;
        const view = this.#lookAt(shard, tenant);
        if (view !== undefined) shards.push(view);
      }
      const { sessions } = tenant.counters;
      let told = this.#toldOfCache.get(tenant);
      if (told === undefined) {
        told = { ...countersOf(tenant), sessions: 0 };
        this.#toldOfCache.set(tenant, told);
      }
      const hasNews = sessions !== told.sessions || (isAnew && sessions > 0);
      if (shards.length === 0 && !hasNews) continue;
      seen.push(this.#cacheOf(tenant, shards, told));
    }
    return seen;
  }

  #cacheOf(tenant: Tenant, shards: ShardView[], before: ToldOfCache): CacheSeen {
    const now = countersOf(tenant);
    this.#toldOfCache.set(tenant, now);
    return {
      id: tenant.id,
      isCommonMode: tenant.route.health.isCommonMode,
      hits: now.hits - before.hits,
      misses: now.misses - before.misses,
      errors: now.errors - before.errors,
      sessions: now.sessions,
      shards,
    };
  }

  /** Undefined when nothing happened and nothing is wrong. */
  #lookAt(shard: ShardLinks, { route }: Tenant): ShardView | undefined {
    const { counts } = shard.latency;
    let told = this.#told.get(shard);
    if (told === undefined) {
      // The first look only remembers: what happened before is no news.
      told = toldOf(shard, route.health.outlierTicksOf(shard));
      this.#told.set(shard, told);
    }
    let completed = 0;
    for (let bucket = 0; bucket < counts.length; bucket++) {
      completed += counts[bucket]! - told.latency[bucket]!;
    }
    const { text, binary, isOut } = shard;
    const inFlight = text.depth + binary.depth;
    const isAway = shard.isAway;
    if (completed === 0 && inFlight === 0 && !isOut && !isAway) return undefined;
    return this.#viewOf(shard, route, told);
  }

  #viewOf(shard: ShardLinks, { health }: Tenant["route"], told: Told): ShardView {
    const now = toldOf(shard, health.outlierTicksOf(shard));
    this.#told.set(shard, now);
    const { fast, slow, rule } = health.seenOf(shard);
    const slowMs = health.slowMs;
    return {
      node: shard.node,
      standsInFor: shard.standsInFor ?? "",
      latency: Array.from(now.latency, (value, bucket) => value - told.latency[bucket]!),
      fastCount: fast.count,
      fastSlowCount: fast.slow,
      slowCount: slow.count,
      slowSlowCount: slow.slow,
      waiting: shard.waitingCount(slowMs),
      oldestMs: Math.round(shard.oldestMs),
      // Watched anew after it was out, it begins at zero.
      outlierTicks: now.outlierTicks - Math.min(told.outlierTicks, now.outlierTicks),
      rule: rule ?? "",
      failures: now.failures - told.failures,
      timeouts: now.timeouts - told.timeouts,
      isAway: shard.isAway,
      isOut: shard.isOut,
    };
  }
}

function toldOf({ latency, links }: ShardLinks, outlierTicks: number): Told {
  let failures = 0;
  let timeouts = 0;
  for (const { failureCounts, timedOutCount } of links) {
    timeouts += timedOutCount;
    for (let reason = 0; reason < failureCounts.length; reason++) {
      if (!OWN_ENDS.includes(reason)) failures += failureCounts[reason]!;
    }
  }
  return {
    latency: Float64Array.from(latency.counts),
    failures,
    timeouts,
    outlierTicks,
  };
}

function countersOf({ counters }: Tenant): ToldOfCache {
  const { requests, sessions } = counters;
  const told = { hits: 0, misses: 0, errors: 0, sessions };
  for (let command = 0; command < COMMAND_COUNT; command++) {
    const at = command * RESULT_COUNT;
    told.hits += requests[at + Result.hit]!;
    told.misses += requests[at + Result.miss]!;
    told.errors += requests[at + Result.failed]! + requests[at + Result.serverError]!;
  }
  return told;
}

/** What several workers of a proxy see, as one. */
export function joinViews(parts: readonly (readonly CacheSeen[])[]): CacheSeen[] {
  if (parts.length === 1) return [...parts[0]!];
  const caches = new Map<string, CacheSeen>();
  for (const cache of parts.flat()) {
    const known = caches.get(cache.id);
    caches.set(cache.id, known === undefined ? cache : joinCaches(known, cache));
  }
  return [...caches.values()];
}

function joinCaches(a: CacheSeen, b: CacheSeen): CacheSeen {
  const shards = new Map(a.shards.map((shard) => [idOf(shard), shard]));
  for (const shard of b.shards) {
    const known = shards.get(idOf(shard));
    shards.set(idOf(shard), known === undefined ? shard : joinShards(known, shard));
  }
  return {
    id: a.id,
    isCommonMode: a.isCommonMode || b.isCommonMode,
    hits: a.hits + b.hits,
    misses: a.misses + b.misses,
    errors: a.errors + b.errors,
    sessions: a.sessions + b.sessions,
    shards: [...shards.values()],
  };
}

const idOf = ({ node, standsInFor }: ShardView): string => `${node} ${standsInFor}`;

function joinShards(a: ShardView, b: ShardView): ShardView {
  return {
    node: a.node,
    standsInFor: a.standsInFor,
    latency: a.latency.map((value, bucket) => value + b.latency[bucket]!),
    fastCount: a.fastCount + b.fastCount,
    fastSlowCount: a.fastSlowCount + b.fastSlowCount,
    slowCount: a.slowCount + b.slowCount,
    slowSlowCount: a.slowSlowCount + b.slowSlowCount,
    waiting: a.waiting + b.waiting,
    oldestMs: Math.max(a.oldestMs, b.oldestMs),
    // One worker that sees it is enough: each compares for itself.
    outlierTicks: Math.max(a.outlierTicks, b.outlierTicks),
    rule: a.rule === "" ? b.rule : a.rule,
    failures: a.failures + b.failures,
    timeouts: a.timeouts + b.timeouts,
    isAway: a.isAway && b.isAway,
    isOut: a.isOut || b.isOut,
  };
}
