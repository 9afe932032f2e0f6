/**
 * What proxies have shown lately: the matrix of proxies and shards over the last two seconds, the
 * usual latency of each node, the operations of each cache. Lines in, sums out; pure but for its
 * memory, which is bounded by the proxies, nodes and caches that are.
 */
import { type ProxyView, type ShardView, VIEW_BOUNDS_MS } from "../../core/cluster/proxyView.ts";
import { Burn } from "../detect/burn.ts";
import { type Cell, TICKS } from "../detect/matrix.ts";

/** Ticks of a detector that one line tells of. */
const TICKS_OF_LINE = 2;
const LINES = TICKS / TICKS_OF_LINE;
const LINE_MASK = (1 << TICKS_OF_LINE) - 1;
const MASK = (1 << TICKS) - 1;
/**
 * A row is slow as a whole: half of its nodes this slow with so many slow operations in a second,
 * the middle one this slow. Less is enough for it to stay so: chance alone must not end it.
 */
const COMMON = {
  begins: { share: 0.05, medianShare: 0.03, slowCount: 4 },
  stays: { share: 0.025, medianShare: 0.015, slowCount: 2 },
} as const;
/** As many of the last ticks for it to be slow already. */
const COMMON_TICKS_MIN = 8;
/** Fewer operations of a node say nothing. */
const COMMON_COUNT_MIN = 20;
/** The usual latency of a node is that of the last ten seconds or so. */
const USUAL_KEEP_PER_LINE = Math.exp(-0.2 / 10);
const USUAL_COUNT_MIN = 100;
/** Without a line for so long a proxy's row says nothing any more. */
const SIGHT_MS_MAX = 3_000;
/** As long as the longest window of the error budget. */
const BURN_MS_MAX = 3_600_000;
/** A shard that owes an answer for so long, and gives no other, says nothing. */
const SILENT_MS_MIN = 150;
/** An operation that takes longer is a bad one. */
export const SLO_MS = 10;

/** Ticks of a shard at one proxy, newest in the lowest bits. */
type Trace = {
  cache: string;
  node: string;
  bad: number;
  dead: number;
  line: number;
  view: ShardView;
};

class Row {
  line = 0;
  lastLineAtMs = 0;
  isStarved = false;
  common = 0;
  readonly traces = new Map<string, Trace>();
  /** Latency buckets by node, older ones fading. */
  readonly usual = new Map<string, Float64Array>();
  readonly sessions = new Map<string, number>();

  add(view: ProxyView, nowMs: number): void {
    this.line++;
    this.lastLineAtMs = nowMs;
    this.isStarved = view.isStarved;
    for (const cache of view.caches) {
      for (const shard of cache.shards) {
        if (shard.standsInFor === "") this.#see(cache.id, shard);
      }
      if (cache.sessions > 0) this.sessions.set(cache.id, cache.sessions);
      else this.sessions.delete(cache.id);
    }
    const wasCommon = bitsOf(this.common) >= COMMON_TICKS_MIN;
    const isNow = isCommon(view, wasCommon ? COMMON.stays : COMMON.begins);
    this.common = ((this.common << TICKS_OF_LINE) & MASK) | (isNow ? LINE_MASK : 0);
    for (const [id, { line }] of this.traces) if (this.line - line >= LINES) this.traces.delete(id);
    this.#learn(view);
  }

  /** Nothing was heard for too long: what was seen before is of no use. */
  blind(): void {
    this.traces.clear();
    this.usual.clear();
    this.common = 0;
  }

  #see(cache: string, view: ShardView): void {
    const id = `${cache}/${view.node}`;
    const before = this.traces.get(id);
    const shift = before === undefined ? 0 : (this.line - before.line) * TICKS_OF_LINE;
    const isDead = view.isAway || isSilent(view);
    const badTicks =
      view.isOut || isDead ? TICKS_OF_LINE : Math.min(TICKS_OF_LINE, view.outlierTicks);
    this.traces.set(id, {
      cache,
      node: view.node,
      line: this.line,
      bad: (((before?.bad ?? 0) << shift) & MASK) | ((1 << badTicks) - 1),
      dead: (((before?.dead ?? 0) << shift) & MASK) | (isDead ? LINE_MASK : 0),
      view,
    });
  }

  #learn({ caches }: ProxyView): void {
    for (const usual of this.usual.values()) {
      for (let bucket = 0; bucket < usual.length; bucket++) usual[bucket]! *= USUAL_KEEP_PER_LINE;
    }
    for (const { node, standsInFor, latency } of caches.flatMap(({ shards }) => shards)) {
      if (standsInFor !== "") continue;
      let usual = this.usual.get(node);
      if (usual === undefined) {
        usual = new Float64Array(VIEW_BOUNDS_MS.length + 1);
        this.usual.set(node, usual);
      }
      for (let bucket = 0; bucket < usual.length; bucket++) usual[bucket]! += latency[bucket] ?? 0;
    }
  }
}

export class Sightings {
  readonly #rows = new Map<string, Row>();
  /** Operations of each cache through all proxies together. */
  readonly burns = new Map<string, Burn>();

  add(view: ProxyView, nowMs: number): void {
    let row = this.#rows.get(view.proxy);
    if (row === undefined) {
      row = new Row();
      this.#rows.set(view.proxy, row);
    }
    row.add(view, nowMs);
    for (const { id, shards, hits, misses, errors } of view.caches) {
      let burn = this.burns.get(id);
      if (burn === undefined) {
        burn = new Burn();
        this.burns.set(id, burn);
      }
      burn.add({ nowMs, hits, misses, errors, ...operationsOf(shards, errors) });
    }
  }

  /** The proxy is gone, or said nothing for too long for this to mean anything. */
  forgetProxy(proxy: string): void {
    this.#rows.delete(proxy);
  }

  /** A proxy that was just found has a moment to speak. */
  expect(proxy: string, nowMs: number): void {
    const row = this.#rows.get(proxy) ?? new Row();
    row.lastLineAtMs = nowMs;
    this.#rows.set(proxy, row);
  }

  /** What was seen long ago says nothing of now; caches without traffic are forgotten. */
  forgetOld(nowMs: number): void {
    for (const row of this.#rows.values()) {
      if (nowMs - row.lastLineAtMs > SIGHT_MS_MAX) row.blind();
    }
    for (const [cache, { lastMs }] of this.burns) {
      if (nowMs - lastMs > BURN_MS_MAX) this.burns.delete(cache);
    }
  }

  lastLineAtMs(proxy: string): number | undefined {
    return this.#rows.get(proxy)?.lastLineAtMs;
  }

  cells(): Cell[] {
    const cells: Cell[] = [];
    for (const [proxy, { line, traces }] of this.#rows) {
      for (const { cache, node, bad, dead, view, line: seen } of traces.values()) {
        const shift = (line - seen) * TICKS_OF_LINE;
        const badTicks = bitsOf((bad << shift) & MASK);
        const deadTicks = bitsOf((dead << shift) & MASK);
        cells.push({ proxy, cache, node, badTicks, deadTicks, what: whatOf(view) });
      }
    }
    return cells;
  }

  /** Proxies whose machines have too little CPU. */
  get starved(): Set<string> {
    const starved = [...this.#rows].filter(([, { isStarved }]) => isStarved);
    return new Set(starved.map(([proxy]) => proxy));
  }

  commonTicks(): Map<string, number> {
    return new Map([...this.#rows].map(([proxy, { common }]) => [proxy, bitsOf(common)]));
  }

  /** What the middle operation takes, in milliseconds, by proxy and node, where it is known. */
  usualMs(): Map<string, Map<string, number>> {
    return new Map(
      [...this.#rows].map(([proxy, { usual }]) => {
        const known = [...usual].flatMap(([node, counts]) => {
          const medianMs = medianOf(counts);
          return medianMs === undefined ? [] : [[node, medianMs] as const];
        });
        return [proxy, new Map(known)];
      }),
    );
  }

  /** Sessions of a cache at all proxies. */
  sessionsOf(cache: string): number {
    let sum = 0;
    for (const { sessions } of this.#rows.values()) sum += sessions.get(cache) ?? 0;
    return sum;
  }
}

/** Nothing was answered, and something should have been. */
function isSilent({ latency, timeouts, oldestMs }: ShardView): boolean {
  return (timeouts > 0 || oldestMs >= SILENT_MS_MIN) && sum(latency) <= timeouts;
}

/** Failed operations that no shard was asked for took no time, and are bad all the same. */
function operationsOf(
  shards: readonly ShardView[],
  errors: number,
): { total: number; bad: number } {
  const slowFrom = VIEW_BOUNDS_MS.indexOf(SLO_MS) + 1;
  const answered = shards.reduce((all, { latency }) => all + sum(latency), 0);
  const slow = shards.reduce((all, { latency }) => all + sum(latency.slice(slowFrom)), 0);
  const timeouts = shards.reduce((all, shard) => all + shard.timeouts, 0);
  const unasked = Math.max(0, errors - timeouts);
  return { total: answered + unasked, bad: slow + unasked };
}

type Counts = { fast: number; fastSlow: number; slow: number; slowSlow: number };

function isCommon(
  { caches }: ProxyView,
  { share, medianShare, slowCount }: (typeof COMMON)["begins" | "stays"],
): boolean {
  const counts = new Map<string, Counts>();
  for (const shard of caches.flatMap(({ shards }) => shards)) {
    const of = counts.get(shard.node) ?? { fast: 0, fastSlow: 0, slow: 0, slowSlow: 0 };
    of.fast += shard.fastCount;
    of.fastSlow += shard.fastSlowCount;
    of.slow += shard.slowCount;
    of.slowSlow += shard.slowSlowCount;
    counts.set(shard.node, of);
  }
  // Where a second holds too few operations the last ten seconds tell.
  const nodes = [...counts.values()]
    .map(({ fast, fastSlow, slow, slowSlow }) =>
      fast >= COMMON_COUNT_MIN ? { count: fast, slow: fastSlow } : { count: slow, slow: slowSlow },
    )
    .filter(({ count }) => count >= COMMON_COUNT_MIN);
  if (nodes.length < 2) return false;
  const shares = nodes.map(({ count, slow }) => slow / count).sort((a, b) => a - b);
  const slow = nodes.filter((node) => node.slow >= slowCount && node.slow / node.count >= share);
  return slow.length * 2 >= nodes.length && shares[(nodes.length - 1) >> 1]! >= medianShare;
}

function whatOf(view: ShardView): string {
  if (view.isOut) return "out of routing";
  if (view.isAway) return "cannot be connected to";
  if (isSilent(view)) return `answers nothing (oldest waits ${view.oldestMs} ms)`;
  const [slow, count] =
    view.rule === "slow"
      ? [view.slowSlowCount, view.slowCount]
      : [view.fastSlowCount, view.fastCount];
  return `${Math.round(100 * shareOf(slow, count))} % of ${count} operations slow`;
}

const shareOf = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);
const sum = (counts: readonly number[]): number => counts.reduce((total, one) => total + one, 0);

function bitsOf(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}

/** Between the bounds of its bucket where it stands in it: siblings are compared by ratios. */
function medianOf(counts: Float64Array): number | undefined {
  const total = counts.reduce((all, count) => all + count, 0);
  if (total < USUAL_COUNT_MIN) return undefined;
  let below = 0;
  for (let bucket = 0; bucket < counts.length; bucket++) {
    const count = counts[bucket]!;
    if (below + count >= total / 2) {
      const from = VIEW_BOUNDS_MS[bucket - 1] ?? 0;
      const to = VIEW_BOUNDS_MS[bucket] ?? from * 2;
      return from + ((to - from) * (total / 2 - below)) / count;
    }
    below += count;
  }
  return undefined;
}
