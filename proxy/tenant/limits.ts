/**
 * The limits of one cache as one worker enforces them. A limit is for all proxies and workers
 * together; nobody asks anybody else, each enforces its share:
 *
 *     sessions    limit / live proxies / own workers, rounded up
 *     rates       limit / live proxies / own workers, not rounded, at least 1 per second
 *     value size  as it is
 *
 * So all together may exceed a limit on sessions by less than one for each worker, and a rate below
 * one per second and worker is as much as that. A limit that is not set costs one branch.
 */
import type { Limits } from "../../core/cluster/records.ts";
import { VALUE_SIZE_MAX } from "../../core/protocol/limits.ts";
import { Entrance } from "./entrance.ts";
import { Pace } from "./pace.ts";

/** What a limit did to somebody: metric labels. */
export const LIMIT_EFFECTS = [
  ["sessions", "refused"],
  ["new_sessions", "delayed"],
  ["new_sessions", "refused"],
  ["operations", "delayed"],
  ["value_size", "refused"],
] as const;

/** Between how many a limit is shared. */
export interface Sharers {
  proxyCount: number;
  workerCount: number;
}

/** Something with waiters that have to be looked after until nobody waits. */
export interface Waiting {
  /** False when nobody waits any more. */
  wake(nowMs: number): boolean;
}

export const shareOfCount = (max: number, { proxyCount, workerCount }: Sharers): number =>
  Math.ceil(max / (proxyCount * workerCount));

export const shareOfRate = (perSecond: number, { proxyCount, workerCount }: Sharers): number =>
  Math.max(1, perSecond / (proxyCount * workerCount));

type Limiter = { setRate(perSecond: number, nowMs: number): void };
type LimiterClass<L> = new (rate: number, nowMs: number, waits: (one: Waiting) => void) => L;

export class CacheLimits {
  sessionsMax: number = Number.POSITIVE_INFINITY;
  valueSizeMax: number = VALUE_SIZE_MAX;
  entrance: Entrance | null = null;
  pace: Pace | null = null;
  readonly #refusals = { sessions: 0, new_sessions: 0, value_size: 0 };
  readonly #waits: (waiting: Waiting) => void;
  /** Of limiters that are no more. */
  #delayedBefore = { new_sessions: 0, operations: 0 };

  constructor(waits: (waiting: Waiting) => void) {
    this.#waits = waits;
  }

  /** Something has to be asked for each command. */
  get concernsCommands(): boolean {
    return this.pace !== null || this.valueSizeMax < VALUE_SIZE_MAX;
  }

  /** In force from now on; no session is touched by it, and those that wait for no more go on. */
  update(limits: Limits, sharers: Sharers, nowMs: number): void {
    const { sessionsMax, newSessionsPerSecondMax, operationsPerSecondMax, valueSizeMax } = limits;
    this.sessionsMax =
      sessionsMax === null ? Number.POSITIVE_INFINITY : shareOfCount(sessionsMax, sharers);
    this.valueSizeMax = valueSizeMax;
    const rateOf = (max: number | null): number | null =>
      max === null ? null : shareOfRate(max, sharers);
    const { entrance, pace } = this;
    this.entrance = this.#limiter(entrance, Entrance, rateOf(newSessionsPerSecondMax), nowMs);
    this.pace = this.#limiter(pace, Pace, rateOf(operationsPerSecondMax), nowMs);
    if (entrance !== null && this.entrance === null) {
      this.#delayedBefore.new_sessions += entrance.delayedCount;
      entrance.open();
    }
    if (pace !== null && this.pace === null) {
      this.#delayedBefore.operations += pace.delayedCount;
      pace.open();
    }
  }

  #limiter<L extends Limiter>(
    now: L | null,
    type: LimiterClass<L>,
    rate: number | null,
    nowMs: number,
  ): L | null {
    if (rate === null) return null;
    if (now === null) return new type(rate, nowMs, this.#waits);
    now.setRate(rate, nowMs);
    return now;
  }

  countRefused(limit: "sessions" | "new_sessions" | "value_size"): void {
    this.#refusals[limit]++;
  }

  /** How often the limit had this effect. */
  effectCount([limit, effect]: (typeof LIMIT_EFFECTS)[number]): number {
    if (effect === "refused") return this.#refusals[limit];
    const limiter = limit === "operations" ? this.pace : this.entrance;
    return this.#delayedBefore[limit] + (limiter?.delayedCount ?? 0);
  }
}
