/**
 * The detector on simulated traffic: six shards of one proxy, each operation healthy (0.3 % slow)
 * or not. A seed repeats a run; the figures asked for are counts of ticks, never of real time.
 */
import { describe, expect, test } from "vitest";
import { type Random, seededRandom } from "../../../core/runtime/random.ts";
import { Detector, type ShardTick, TICK_MS } from "../../../proxy/routing/detector.ts";

const SHARD_COUNT = 6;
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];
const HEALTHY_SLOW_SHARE = 0.003;
const TICKS_PER_SECOND = 1000 / TICK_MS;

/** How a shard behaves in a tick: the share of its operations that is slow, or a full stall. */
type Behaviour = { slowShare: number } | "stalled";
type Traffic = { perSecond: number; behaviourOf(shard: number, tick: number): Behaviour };

class Simulation {
  readonly #detector = new Detector(SHARD_COUNT);
  readonly #random: Random;
  readonly #traffic: Traffic;
  readonly #waiting = new Array<number>(SHARD_COUNT).fill(0);
  tickCount = 0;

  constructor(seed: number, traffic: Traffic) {
    this.#random = seededRandom(seed);
    this.#traffic = traffic;
  }

  get isCommonMode(): boolean {
    return this.#detector.isCommonMode;
  }

  /** The shards that are outliers after one more tick. */
  tick(): number[] {
    const tick = this.tickCount++;
    const ticks = this.#waiting.map((_, shard) => this.#shardTick(shard, tick));
    const verdicts = this.#detector.tick(ticks);
    return verdicts.flatMap((verdict, shard) => (verdict === undefined ? [] : [shard]));
  }

  /** The first second after which `shard` is an outlier, counted from tick `from`. */
  secondsUntilFound(shard: number, from: number, secondsMax: number): number {
    while (this.tickCount < from) this.tick();
    for (let ticks = 1; ticks <= secondsMax * TICKS_PER_SECOND; ticks++) {
      if (this.tick().includes(shard)) return ticks / TICKS_PER_SECOND;
    }
    return Number.POSITIVE_INFINITY;
  }

  #shardTick(shard: number, tick: number): ShardTick {
    const behaviour = this.#traffic.behaviourOf(shard, tick);
    const count = this.#arrivals();
    if (behaviour === "stalled") {
      // Those of the last tick have waited long enough by now.
      const waitingSlowCount = this.#waiting[shard]!;
      this.#waiting[shard]! += count;
      return { completedCount: 0, slowCount: 0, waitingSlowCount };
    }
    const held = this.#waiting[shard]!;
    this.#waiting[shard] = 0;
    let slowCount = held;
    for (let i = 0; i < count; i++) if (this.#random.next() < behaviour.slowShare) slowCount++;
    return { completedCount: count + held, slowCount, waitingSlowCount: 0 };
  }

  /** Poisson by counting exponential gaps in one tick. */
  #arrivals(): number {
    const mean = (this.#traffic.perSecond * TICK_MS) / 1000;
    let count = 0;
    for (let at = 0; ; count++) {
      at -= Math.log(1 - this.#random.next());
      if (at > mean) return count;
    }
  }
}

const healthy: Behaviour = { slowShare: HEALTHY_SLOW_SHARE };
const ONSET = 600;
const faultOf = (fault: Behaviour, sick: readonly number[] = [2]) => ({
  behaviourOf: (shard: number, tick: number) =>
    tick >= ONSET && sick.includes(shard) ? fault : healthy,
});

describe("a sick shard among healthy ones is found", () => {
  test.each([
    ["all 20 ms slower", { slowShare: 1 }, 200, 0.8],
    ["all 20 ms slower, thin traffic", { slowShare: 1 }, 30, 0.9],
    ["stalled", "stalled", 200, 0.7],
    ["stalled, thin traffic", "stalled", 30, 1.1],
    ["a third slow", { slowShare: 0.3 }, 200, 1],
    ["15 % slow", { slowShare: 0.15 }, 200, 2],
    ["12 % slow", { slowShare: 0.12 }, 200, 3.5],
    ["5 % slow", { slowShare: 0.05 }, 200, 12],
  ] as const)("%s: within %j operations per second and %s s", (_, fault, perSecond, secondsMax) => {
    for (const seed of SEEDS) {
      const simulation = new Simulation(seed, { perSecond, ...faultOf(fault) });
      expect(simulation.secondsUntilFound(2, ONSET, secondsMax), `seed ${seed}`).toBeLessThan(
        Number.POSITIVE_INFINITY,
      );
    }
  });

  test("two at once, and no other with them", () => {
    for (const seed of SEEDS) {
      const simulation = new Simulation(seed, {
        perSecond: 200,
        ...faultOf({ slowShare: 1 }, [1, 4]),
      });
      expect(simulation.secondsUntilFound(1, ONSET, 1)).toBeLessThan(Number.POSITIVE_INFINITY);
      for (let i = 0; i < 50; i++) simulation.tick();
      expect(simulation.tick()).toEqual([1, 4]);
    }
  });

  test("in the middle of a jitter that all suffer", () => {
    for (const seed of SEEDS) {
      const simulation = new Simulation(seed, {
        perSecond: 200,
        behaviourOf: (shard, tick) => ({
          slowShare: tick >= ONSET && shard === 3 ? 0.9 : 0.15,
        }),
      });
      expect(simulation.secondsUntilFound(3, ONSET, 2)).toBeLessThan(Number.POSITIVE_INFINITY);
    }
  });

  test("and is no outlier any more soon after it has healed", () => {
    const simulation = new Simulation(1, {
      perSecond: 200,
      behaviourOf: (shard, tick) =>
        shard === 2 && tick >= ONSET && tick < ONSET + 50 ? { slowShare: 1 } : healthy,
    });
    simulation.secondsUntilFound(2, ONSET, 2);
    while (simulation.tickCount < ONSET + 50 + 105) simulation.tick();
    expect(simulation.tick()).toEqual([]);
  });
});

describe("nobody is blamed", () => {
  const outlierTicks = (traffic: Traffic, ticks: number, seed: number): number => {
    const simulation = new Simulation(seed, traffic);
    let count = 0;
    for (let i = 0; i < ticks; i++) count += simulation.tick().length;
    return count;
  };

  test.each([200, 30, 10])("in healthy traffic of %i operations per second", (perSecond) => {
    for (const seed of SEEDS.slice(0, 3)) {
      const traffic = { perSecond, behaviourOf: () => healthy };
      expect(outlierTicks(traffic, 36_000 / 4, seed), `seed ${seed}`).toBe(0);
    }
  });

  test("when 15 % of all operations everywhere are slow", () => {
    for (const seed of SEEDS.slice(0, 3)) {
      const traffic = { perSecond: 200, behaviourOf: () => ({ slowShare: 0.15 }) };
      expect(outlierTicks(traffic, 36_000 / 4, seed), `seed ${seed}`).toBe(0);
    }
  });

  test("when all stall together, which is this proxy's own trouble", () => {
    const traffic: Traffic = {
      perSecond: 200,
      behaviourOf: (_, tick) => (tick >= ONSET && tick < ONSET + 20 ? "stalled" : healthy),
    };
    for (const seed of SEEDS) expect(outlierTicks(traffic, ONSET + 300, seed)).toBe(0);
  });

  test("when four of six are sick: that is common mode", () => {
    const simulation = new Simulation(1, {
      perSecond: 200,
      ...faultOf({ slowShare: 0.5 }, [0, 1, 2, 3]),
    });
    while (simulation.tickCount < ONSET + 50) simulation.tick();
    expect(simulation.isCommonMode).toBe(true);
    expect(simulation.tick()).toEqual([]);
  });

  test("when it is alone", () => {
    const detector = new Detector(1);
    const stall = { completedCount: 0, slowCount: 0, waitingSlowCount: 100 };
    for (let i = 0; i < 50; i++) expect(detector.tick([stall])).toEqual([undefined]);
  });
});

test.each([
  1, 7, 99, 100, 250,
])("%d ticks skipped are as many in which nothing happened", (count) => {
  const random = seededRandom(count);
  const some = (): ShardTick => {
    const completedCount = Math.floor(random.next() * 30);
    return { completedCount, slowCount: completedCount >> 4, waitingSlowCount: 0 };
  };
  const [skipping, ticking] = [new Detector(3), new Detector(3)];
  const windowsOf = (detector: Detector) =>
    [0, 1, 2].flatMap((index) => [
      detector.windowOf(index, "fast"),
      detector.windowOf(index, "slow"),
    ]);
  const nothing = { completedCount: 0, slowCount: 0, waitingSlowCount: 0 };
  for (let round = 0; round < 30; round++) {
    const ticks = [some(), some(), some()];
    expect(skipping.tick(ticks)).toEqual(ticking.tick(ticks));
    skipping.skip(count);
    for (let left = count; left > 0; left--) ticking.tick([nothing, nothing, nothing]);
    expect(windowsOf(skipping)).toEqual(windowsOf(ticking));
  }
});
