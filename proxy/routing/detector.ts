/**
 * Tells a sick shard from jitter by comparing siblings: every 100 ms, for each shard of a group,
 * which share of its operations was slow, completed ones and those still waiting. Waiting ones
 * make a full stall visible before the first deadline; comparing shares with the median of the
 * siblings makes what all of them suffer (a network, this proxy) invisible. Pure: counts in,
 * verdicts out; the clock is the number of ticks.
 *
 *     share ┤ ▁▁▁▁▁▁▁▂▇▇▇   shard 1: outlier
 *           ┤ ▁▁▁▂▁▁▁▁▁▁▁   shard 2
 *           ┤ ▁▁▁▁▁▁▂▁▁▁▁   shard 3
 *
 * Not here: what is done about an outlier, and hard failures, which need no comparison.
 */
import assert from "node:assert/strict";

export const TICK_MS = 100;

/** What one shard did in one tick. */
export interface ShardTick {
  /** Operations answered (or given up) in this tick, and how many of those were slow. */
  completedCount: number;
  slowCount: number;
  /** Operations now waiting for longer than what counts as slow. */
  waitingSlowCount: number;
}

const NOTHING: ShardTick = { completedCount: 0, slowCount: 0, waitingSlowCount: 0 };

export type Outlier = "fast" | "slow";

type Rule = {
  name: Outlier;
  windowTicks: number;
  /** Difference to the siblings' share, and how unlikely it has to be (standard deviations). */
  differenceMin: number;
  deviationsMin: number;
  slowCountMin: number;
  /** Operations in the window, and ticks of it in which something was slow. */
  countMin: number;
  slowTicksMin: number;
  /** Factor on `differenceMin` while most siblings are slow as well. */
  commonFactor: number;
};

/** A clear fault is seen in half a second; a slight one, hidden in jitter, in several. */
const RULES: readonly Rule[] = [
  {
    name: "fast",
    windowTicks: 10,
    differenceMin: 0.1,
    deviationsMin: 4,
    slowCountMin: 4,
    countMin: 10,
    slowTicksMin: 4,
    commonFactor: 3.2,
  },
  {
    name: "slow",
    windowTicks: 100,
    differenceMin: 0.03,
    deviationsMin: 5,
    slowCountMin: 6,
    countMin: 10,
    slowTicksMin: 12,
    commonFactor: 6.4,
  },
];
/** So many ticks are remembered. */
export const HISTORY_TICKS = 100;
/** A share expected of any shard, however healthy its siblings are. */
const SHARE_MIN = 0.01;
/** Verdicts of so many ticks are remembered, and so many of them have to agree. */
const VERDICT_TICKS = 3;
const VERDICTS_MIN = 2;

/** Common mode: half of the shards this slow, and the middle one this slow. */
const COMMON_SHARE = 0.05;
const COMMON_MEDIAN = 0.03;
const COMMON_TICKS = 20;
const COMMON_DEVIATIONS_FACTOR = 1.6;
const COMMON_COUNTS_FACTOR = 2;

export class Detector {
  readonly #members: Member[];
  /** The verdict on a group of which nothing was slow. */
  readonly #nobody: readonly undefined[];
  #commonTicksLeft = 0;

  constructor(memberCount: number) {
    this.#nobody = Array.from({ length: memberCount }, () => undefined);
    this.#members = Array.from({ length: memberCount }, () => new Member());
  }

  /** Most of the group is slow at the same time: nobody in it is to blame. */
  get isCommonMode(): boolean {
    return this.#commonTicksLeft > 0;
  }

  /**
   * Takes in one tick and tells, for each shard, by which rule it is an outlier now. A single shard
   * has nobody to be compared with and never is one.
   */
  tick(ticks: readonly ShardTick[]): readonly (Outlier | undefined)[] {
    assert(ticks.length === this.#members.length);
    for (let index = 0; index < ticks.length; index++) this.#members[index]!.add(ticks[index]!);
    if (this.isCalm && this.#members.every(({ isSpotless }) => isSpotless)) return this.#nobody;
    this.#watchCommonMode();
    return this.#members.map((member, index) => {
      const found = RULES.find((rule) => this.#breaks(rule, member, index));
      return member.judge(found?.name);
    });
  }

  /** As so many ticks in which nothing happened, while it is calm. */
  skip(tickCount: number): void {
    const count = Math.min(tickCount, HISTORY_TICKS);
    for (const member of this.#members) {
      for (let left = count; left > 0; left--) member.add(NOTHING);
    }
  }

  /** Something of the last window makes the group abnormal; nothing may be learned from it. */
  get isCalm(): boolean {
    return !this.isCommonMode && this.#members.every((member) => !member.isSuspect);
  }

  /** Operations in the window of a rule, and the slow ones of them. */
  windowOf(index: number, rule: Outlier): { count: number; slow: number } {
    const member = this.#members[index]!;
    const { windowTicks } = RULES.find(({ name }) => name === rule)!;
    return { count: member.count(windowTicks), slow: member.slow(windowTicks) };
  }

  #breaks(rule: Rule, member: Member, index: number): boolean {
    if (this.#members.length < 2) return false;
    const { windowTicks } = rule;
    const count = member.count(windowTicks);
    const slow = member.slow(windowTicks);
    const countsFactor = this.isCommonMode ? COMMON_COUNTS_FACTOR : 1;
    if (count < rule.countMin * countsFactor || slow < rule.slowCountMin * countsFactor) {
      return false;
    }
    if (member.slowTicks(windowTicks) < rule.slowTicksMin) return false;
    const siblings = this.#members.filter((_, at) => at !== index);
    const usual = median(siblings.map((sibling) => sibling.share(windowTicks)));
    const difference = slow / count - usual;
    const factor = this.isCommonMode ? rule.commonFactor : 1;
    if (difference < rule.differenceMin * factor) return false;
    const expected = Math.max(usual, SHARE_MIN);
    const deviation = Math.sqrt((expected * (1 - expected)) / count);
    const deviations = this.isCommonMode ? COMMON_DEVIATIONS_FACTOR : 1;
    return slow / count - expected >= rule.deviationsMin * deviations * deviation;
  }

  #watchCommonMode(): void {
    const shares = this.#members.map((member) => member.share(RULES[0]!.windowTicks));
    const slowMembers = shares.filter((share) => share >= COMMON_SHARE).length;
    const isCommon =
      shares.length > 1 && slowMembers * 2 >= shares.length && median(shares) >= COMMON_MEDIAN;
    this.#commonTicksLeft = isCommon ? COMMON_TICKS : Math.max(0, this.#commonTicksLeft - 1);
  }
}

/** What happened in the last ticks of a window, kept up to date with each tick. */
class Sums {
  readonly ticks: number;
  count = 0;
  slow = 0;
  slowTicks = 0;

  constructor(ticks: number) {
    this.ticks = ticks;
  }
}

/** The last ten seconds of one shard. */
class Member {
  readonly #counts = new Float64Array(HISTORY_TICKS);
  readonly #slows = new Float64Array(HISTORY_TICKS);
  readonly #isSlow = new Uint8Array(HISTORY_TICKS);
  readonly #windows: readonly Sums[] = RULES.map(({ windowTicks }) => new Sums(windowTicks));
  readonly #verdicts: (Outlier | undefined)[] = [];
  #waiting = 0;
  #at = 0;

  add({ completedCount, slowCount, waitingSlowCount }: ShardTick): void {
    this.#at = (this.#at + 1) % HISTORY_TICKS;
    const isSlow = slowCount + waitingSlowCount > 0 ? 1 : 0;
    for (const sums of this.#windows) {
      const gone = (this.#at - sums.ticks + HISTORY_TICKS) % HISTORY_TICKS;
      sums.count += completedCount - this.#counts[gone]!;
      sums.slow += slowCount - this.#slows[gone]!;
      sums.slowTicks += isSlow - this.#isSlow[gone]!;
    }
    this.#counts[this.#at] = completedCount;
    this.#slows[this.#at] = slowCount;
    this.#isSlow[this.#at] = isSlow;
    // Those who wait are counted as of now: once answered they are in the counts above.
    this.#waiting = waitingSlowCount;
  }

  #sums(ticks: number): Sums {
    return this.#windows.find((sums) => sums.ticks === ticks)!;
  }

  count(ticks: number): number {
    return this.#sums(ticks).count + this.#waiting;
  }

  slow(ticks: number): number {
    return this.#sums(ticks).slow + this.#waiting;
  }

  slowTicks(ticks: number): number {
    return this.#sums(ticks).slowTicks;
  }

  /** Nothing of it was slow for as long as it is remembered, or is now. */
  get isSpotless(): boolean {
    return this.#waiting === 0 && this.#windows.every(({ slowTicks }) => slowTicks === 0);
  }

  share(ticks: number): number {
    const count = this.count(ticks);
    return count === 0 ? 0 : this.slow(ticks) / count;
  }

  get isSuspect(): boolean {
    return this.#verdicts.some((verdict) => verdict !== undefined);
  }

  /** One odd tick proves nothing: two of the last three do. */
  judge(found: Outlier | undefined): Outlier | undefined {
    if (found === undefined && !this.isSuspect) return undefined;
    this.#verdicts.push(found);
    if (this.#verdicts.length > VERDICT_TICKS) this.#verdicts.shift();
    const positive = this.#verdicts.filter((verdict) => verdict !== undefined);
    return positive.length >= VERDICTS_MIN ? positive.at(-1) : undefined;
  }
}

/** Of an even number the lower middle one: two of four sick shards do not hide each other. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1] ?? 0;
}
