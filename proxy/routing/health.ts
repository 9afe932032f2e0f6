/**
 * What one worker thinks of the shards it talks to. Hard failures count at once: refused,
 * unreachable, stalled, three timeouts in a row, three broken connections in a second. Soft ones
 * are found by comparing the shards of a cache with each other (detector.ts), from counters that
 * the hot path keeps anyway. Nothing is done about it here: whoever is told decides for all.
 *
 *     trusted -> suspected -> trusted       by what traffic shows, while the shard is in routing
 *
 * A shard that is out is not judged: no traffic reaches it, probes bring it back.
 */
import type { SuspicionReason } from "../../core/cluster/records.ts";
import { LATENCY_BOUNDS_SECONDS, SLOW_MS_MIN } from "./counters.ts";
import { Detector, HISTORY_TICKS, type Outlier, type ShardTick, TICK_MS } from "./detector.ts";
import { HEDGE_AFTER_MS } from "./hedges.ts";
import { DEADLINE_MS, type LinkFailure } from "./link.ts";
import type { Route, ShardLinks } from "./route.ts";

/** Timeouts in a row that are no accident. */
const TIMEOUTS_MAX = 3;
/** And connections that broke, one after another, within this time. */
const BREAKS_MAX = 3;
const BREAKS_WITHIN_MS = 1_000;
/** A suspicion is over when nothing has fed it for so long. */
const TRUST_AFTER_MS = 2_000;
/** What is slow: at least SLOW_MS_MIN, and so many times what is usual. */
const SLOW_FACTOR = 4;
/** The usual latency is that of the last minutes: each tick forgets a 3,000th. */
const FORGET_PER_TICK = TICK_MS / 300_000;
/** What is slow follows what most operations take: a burst now and then teaches it nothing. */
const SLOW_QUANTILE = 0.95;
const DEADLINE_QUANTILE = 0.99;
/** It changes slowly: so often is soon enough to look. */
const USUAL_TICKS = 10;
/** An adaptive deadline: so many times what is usual, and at least this. */
const DEADLINE_FACTOR = 10;
const DEADLINE_MS_MIN = 25;
/** Reads that take longer than so many others are late. */
const LATE_QUANTILE = 0.95;
/** Fewer operations than these say nothing about what is usual. */
const USUAL_COUNT_MIN = 100;

type Window = { count: number; slow: number };
const UNSEEN = { fast: { count: 0, slow: 0 }, slow: { count: 0, slow: 0 }, rule: undefined };

const BOUNDS_MS = LATENCY_BOUNDS_SECONDS.map((seconds) => seconds * 1000);

/** What can go wrong with a shard, besides being slow. */
export type Trouble = LinkFailure | "outcomes_unknown";

const SUSPICION_OF: Partial<Record<Trouble, SuspicionReason>> = {
  refused: "refused",
  unreachable: "unreachable",
  connect_timeout: "unreachable",
  stalled: "stalled",
  outcomes_unknown: "unconfirmed",
};

/** One of them is an accident, or a restart; several are a shard that nobody can use. */
const BREAKS: ReadonlySet<Trouble> = new Set<LinkFailure>([
  "reset",
  "closed_by_shard",
  "not_valid",
  "broken_reply",
  "trailing_data",
  "opaque_mismatch",
]);

export interface HealthEvents {
  /** Told again with everything that feeds the suspicion. */
  suspected(node: string, reason: SuspicionReason): void;
  trusted(node: string): void;
}

/** One for each cache in each worker. */
export class Health {
  readonly #route: Route;
  readonly #events: HealthEvents;
  #detector: Detector | null = null;
  #watched: Watched[] = [];
  #idleTicks = 0;
  #isAwake = false;
  /** When it was last looked into; the detector has yet to hear of the ticks since. */
  #lookedAtMs = 0;
  /** What 99 of 100 operations take, and for how many more ticks that is taken for known. */
  #usualMs: number | undefined;
  #usualTicksLeft = 0;
  /** As they were when they were watched last; `update` makes another list. */
  #shards: readonly ShardLinks[] = [];
  readonly #suspectedAtMs = new Map<string, number>();
  /** When connections broke last, by node; at most BREAKS_MAX of each. */
  readonly #brokeAtMs = new Map<string, number[]>();
  /** From where on an operation counted as slow in the last tick. */
  slowMs = SLOW_MS_MIN;

  constructor(route: Route, events: HealthEvents) {
    this.#route = route;
    this.#events = events;
  }

  /** There is something to look into: it is looked at from the next tick on, for as long as there is. */
  wake(): void {
    if (this.#isAwake) return;
    this.#isAwake = true;
    this.#route.watch(this);
  }

  /** A connection to `shard` has failed, or what it did with a mutation cannot be found out. */
  troubled(shard: ShardLinks, trouble: Trouble, nowMs: number): void {
    const suspicion = this.#breaksAgain(shard, trouble, nowMs) ? "broken" : SUSPICION_OF[trouble];
    this.wake();
    if (suspicion === undefined) return;
    // A stand-in that has to go takes the shard beside it along: both are behind the same way.
    if (shard.standsInFor !== null && trouble !== "outcomes_unknown") return;
    this.#suspect(shard.node, suspicion, nowMs);
  }

  #breaksAgain({ node }: ShardLinks, trouble: Trouble, nowMs: number): boolean {
    if (!BREAKS.has(trouble)) return false;
    const breaks = [...(this.#brokeAtMs.get(node) ?? []), nowMs].slice(-BREAKS_MAX);
    this.#brokeAtMs.set(node, breaks);
    return breaks.length === BREAKS_MAX && nowMs - breaks[0]! < BREAKS_WITHIN_MS;
  }

  /** Every TICK_MS while it is awake; false when it need not be any longer. */
  tick(nowMs: number): boolean {
    const isRouteWaiting = this.#route.tick(nowMs);
    if (this.#hasLittleToSay()) {
      this.#isAwake = isRouteWaiting;
      return isRouteWaiting;
    }
    this.#watchShards();
    this.#compare(nowMs);
    for (const { shard } of this.#watched) {
      if (shard.timeoutsInRow >= TIMEOUTS_MAX) this.#suspect(shard.node, "timeouts", nowMs);
    }
    this.#trustAgain(nowMs);
    for (const { latency } of this.#route.shards) latency.looked();
    this.#lookedAtMs = nowMs;
    return true;
  }

  /** Nobody waits, nobody is suspected, and what was answered is looked into with what follows. */
  #hasLittleToSay(): boolean {
    const { shards } = this.#route;
    if (shards !== this.#shards || this.#suspectedAtMs.size > 0) return false;
    if (this.#detector?.isCalm === false) return false;
    return shards.every(({ links, latency }) => {
      const isQuiet = links.every((link) => link.depth === 0 && link.timeoutsInRow < TIMEOUTS_MAX);
      return isQuiet && latency.isLittle;
    });
  }

  /** Most of the shards are slow at the same time. */
  get isCommonMode(): boolean {
    return this.#detector?.isCommonMode ?? false;
  }

  /** Ticks in which it was an outlier, since it was first watched; 0 of one that is not. */
  outlierTicksOf(shard: ShardLinks): number {
    return this.#watched.find((watched) => watched.shard === shard)?.outlierTicks ?? 0;
  }

  /** What the detector has in its windows, and what it says of it now. */
  seenOf(shard: ShardLinks): { fast: Window; slow: Window; rule: Outlier | undefined } {
    const index = this.#watched.findIndex((watched) => watched.shard === shard);
    if (index < 0 || this.#detector === null) return UNSEEN;
    return {
      fast: this.#detector.windowOf(index, "fast"),
      slow: this.#detector.windowOf(index, "slow"),
      rule: this.#watched[index]!.verdict,
    };
  }

  /** The detector begins anew when other shards are in routing than before. */
  #watchShards(): void {
    if (this.#shards === this.#route.shards) return;
    this.#shards = this.#route.shards;
    const shards = this.#route.shards.filter((one) => one.standsInFor === null && !one.isOut);
    const isSame =
      shards.length === this.#watched.length &&
      shards.every((shard, index) => shard === this.#watched[index]!.shard);
    if (isSame) return;
    const before = new Map(this.#watched.map((watched) => [watched.shard, watched]));
    this.#watched = shards.map((shard) => before.get(shard) ?? new Watched(shard));
    this.#detector = shards.length > 1 ? new Detector(shards.length) : null;
    this.#usualTicksLeft = 0;
    const nodes = new Set(shards.map(({ node }) => node));
    for (const known of [this.#suspectedAtMs, this.#brokeAtMs]) {
      for (const node of [...known.keys()]) if (!nodes.has(node)) known.delete(node);
    }
  }

  #compare(nowMs: number): void {
    if (--this.#usualTicksLeft <= 0) {
      this.#usualTicksLeft = USUAL_TICKS;
      const usuals = this.#watched.map(({ usual }) => usual);
      this.#usualMs = usualOf(usuals, DEADLINE_QUANTILE);
      const isCompared = this.#detector !== null;
      this.slowMs = isCompared ? slowFrom(usualOf(usuals, SLOW_QUANTILE)) : SLOW_MS_MIN;
    }
    this.#setDeadline(this.#usualMs);
    if (this.#detector === null) return;
    this.#catchUp(nowMs);
    const ticks = this.#watched.map((watched) => watched.tick(this.slowMs));
    // A cache that is idle for as long as the detector remembers costs a look at its counters.
    this.#idleTicks = ticks.every(isIdle) ? this.#idleTicks + 1 : 0;
    if (this.#idleTicks > HISTORY_TICKS) return;
    const verdicts = this.#detector.tick(ticks);
    if (this.#detector.isCalm) {
      for (const { usual, completed } of this.#watched) usual.learn(completed);
    }
    if (this.#route.hedges !== null) this.#sayWhenLate();
    for (const [index, verdict] of verdicts.entries()) {
      const watched = this.#watched[index]!;
      watched.verdict = verdict;
      if (verdict === undefined) continue;
      watched.outlierTicks++;
      this.#suspect(watched.shard.node, "slow", nowMs);
    }
  }

  /** Quiet ticks were like any other in which nothing happens. */
  #catchUp(nowMs: number): void {
    const quietTicks = Math.round((nowMs - this.#lookedAtMs) / TICK_MS) - 1;
    if (quietTicks > 0) this.#detector?.skip(quietTicks);
  }

  /** While all are slow together, or this machine is, giving up early makes it worse. */
  #setDeadline(usualMs: number | undefined): void {
    const { isAdaptive, isStarved, deadline } = this.#route;
    const isShorter = isAdaptive && !isStarved && !this.isCommonMode && this.#detector !== null;
    deadline.ms = isShorter ? deadlineFrom(usualMs) : DEADLINE_MS;
  }

  /** While all are slow together, asking twice makes it worse. */
  #sayWhenLate(): void {
    for (const { shard, usual } of this.#watched) {
      shard.hedgeAfterMs = this.isCommonMode
        ? Number.POSITIVE_INFINITY
        : (usual.quantileMs(LATE_QUANTILE) ?? HEDGE_AFTER_MS);
    }
  }

  #suspect(node: string, reason: SuspicionReason, nowMs: number): void {
    this.#suspectedAtMs.set(node, nowMs);
    this.#events.suspected(node, reason);
  }

  #trustAgain(nowMs: number): void {
    for (const [node, atMs] of this.#suspectedAtMs) {
      if (nowMs - atMs < TRUST_AFTER_MS) continue;
      const shard = this.#watched.find((watched) => watched.shard.node === node)?.shard;
      if (shard?.isAway) continue;
      this.#suspectedAtMs.delete(node);
      this.#events.trusted(node);
    }
  }
}

const isIdle = ({ completedCount, waitingSlowCount }: ShardTick): boolean =>
  completedCount === 0 && waitingSlowCount === 0;

/** One shard between two ticks. */
class Watched {
  readonly shard: ShardLinks;
  /** Operations completed in the last tick, by latency bucket. */
  readonly completed: Float64Array;
  readonly usual = new Usual();
  outlierTicks = 0;
  verdict: Outlier | undefined;
  readonly #seen: Float64Array;

  constructor(shard: ShardLinks) {
    this.shard = shard;
    this.#seen = Float64Array.from(shard.latency.counts);
    this.completed = new Float64Array(this.#seen.length);
  }

  tick(slowMs: number): ShardTick {
    const { counts } = this.shard.latency;
    let completedCount = 0;
    let slowCount = 0;
    for (let bucket = 0; bucket < counts.length; bucket++) {
      const count = counts[bucket]! - this.#seen[bucket]!;
      this.#seen[bucket] = counts[bucket]!;
      this.completed[bucket] = count;
      completedCount += count;
      if ((BOUNDS_MS[bucket - 1] ?? 0) >= slowMs) slowCount += count;
    }
    return { completedCount, slowCount, waitingSlowCount: this.shard.waitingCount(slowMs) };
  }
}

/** The latencies of a shard in calm times; a slow rot must not teach it. */
class Usual {
  readonly #counts = new Float64Array(BOUNDS_MS.length + 1);
  #total = 0;

  learn(completed: Float64Array): void {
    let total = 0;
    for (let bucket = 0; bucket < completed.length; bucket++) {
      const count = this.#counts[bucket]! * (1 - FORGET_PER_TICK) + completed[bucket]!;
      this.#counts[bucket] = count;
      total += count;
    }
    this.#total = total;
  }

  /** What this share of operations does not exceed, in milliseconds; undefined if too few are known. */
  quantileMs(share: number): number | undefined {
    const total = this.#total;
    if (total < USUAL_COUNT_MIN) return undefined;
    let bucket = 0;
    let below = this.#counts[0]!;
    while (bucket < BOUNDS_MS.length && below < total * share) {
      bucket++;
      below += this.#counts[bucket]!;
    }
    return BOUNDS_MS[bucket] ?? BOUNDS_MS.at(-1)!;
  }
}

/** What is usual is what the middle one of the shards does: a sick one has no say in it. */
function usualOf(usuals: readonly Usual[], share: number): number | undefined {
  const known = usuals.flatMap((usual) => usual.quantileMs(share) ?? []).sort((a, b) => a - b);
  return known[(known.length - 1) >> 1];
}

/** Much longer than all but one in a hundred take, and never so short that a hiccup counts. */
function deadlineFrom(usualMs: number | undefined): number {
  if (usualMs === undefined) return DEADLINE_MS;
  return Math.min(DEADLINE_MS, Math.max(DEADLINE_MS_MIN, DEADLINE_FACTOR * usualMs));
}

/**
 * From where on an operation is slow: a bound of the buckets, so that counters can tell. Rounded
 * down, as `usualMs` is the upper end of a bucket already.
 */
function slowFrom(usualMs = 0): number {
  const wantedMs = Math.max(SLOW_MS_MIN, SLOW_FACTOR * usualMs);
  return BOUNDS_MS.findLast((bound) => bound <= wantedMs) ?? SLOW_MS_MIN;
}
