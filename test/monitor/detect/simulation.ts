/**
 * Days of traffic in seconds: proxies and nodes as random numbers, through the real detector of
 * the proxies (`proxy/routing/detector.ts`), the real lines of their views and the real verdicts.
 * The latency model: 0.3 ms in the middle, 0.3 % of the operations 5 to 50 ms; an operation is slow
 * above 5 ms and given up after 250. Nothing is ejected: a fault stays as it is. Seeded.
 */
import { type ProxyView, type ShardView, VIEW_BOUNDS_MS } from "../../../core/cluster/proxyView.ts";
import type { Condition } from "../../../monitor/condition.ts";
import { conditionKey } from "../../../monitor/condition.ts";
import { burnFindings, explainBurns } from "../../../monitor/detect/burning.ts";
import { Hold } from "../../../monitor/detect/hold.ts";
import { judgeMatrix } from "../../../monitor/detect/matrix.ts";
import { Sightings } from "../../../monitor/observe/sightings.ts";
import { Detector, type ShardTick, TICK_MS } from "../../../proxy/routing/detector.ts";

const SLOW_MS = 5;
const DEADLINE_MS = 250;
const OUTLIER_SHARE = 0.003;
const CACHE = "c1";
/** Ticks in which an operation that began now may end. */
const AHEAD = 4;

/** What a node does to operations in this tick: a share of them takes that long. */
export interface Trouble {
  share: number;
  fromMs: number;
  toMs: number;
}
/** Undefined: healthy. `offsetMs` is where in the tick an operation begins. */
export type Fault = (node: number, atMs: number) => Trouble | undefined;

export interface Setting {
  proxies: number;
  nodes: number;
  /** Operations per second of each proxy with each node. */
  rate: number;
  seed: number;
  fault?: Fault;
  /** Seen by all proxies unless it says otherwise. */
  concerns?: (proxy: number) => boolean;
}

/** Mulberry32: quick, and good enough for traffic. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Poisson numbers from a table: one random number each. */
function poissonOf(mean: number, random: () => number): () => number {
  const below: number[] = [];
  let term = Math.exp(-mean);
  let sum = term;
  for (let count = 0; sum < 1 - 1e-12 && count < mean * 10 + 30; count++) {
    below.push(sum);
    term *= mean / (count + 1);
    sum += term;
  }
  return () => {
    const at = random();
    let count = 0;
    while (count < below.length && below[count]! < at) count++;
    return count;
  };
}

/** One proxy and one node. */
class Pair {
  readonly #random: () => number;
  readonly #arrivals: () => number;
  /** Slow operations that end in this tick and the next ones; those over 10 ms of them. */
  readonly #slow = new Int32Array(AHEAD);
  readonly #bad = new Int32Array(AHEAD);
  readonly #timeouts = new Int32Array(AHEAD);
  #waiting = 0;
  tick: ShardTick = { completedCount: 0, slowCount: 0, waitingSlowCount: 0 };
  /** Since the last line. */
  quick = 0;
  slow = 0;
  bad = 0;
  timeouts = 0;
  outlierTicks = 0;

  constructor(rate: number, random: () => number) {
    this.#random = random;
    this.#arrivals = poissonOf((rate * TICK_MS) / 1000, random);
  }

  advance(trouble: Trouble | undefined): void {
    const random = this.#random;
    const count = this.#arrivals();
    const share = trouble === undefined ? OUTLIER_SHARE : trouble.share + OUTLIER_SHARE;
    let quick = count;
    let waiting = 0;
    // Most ticks have no slow operation: one random number tells that.
    if (share >= 0.5 || random() > (1 - share) ** count) {
      let first = share < 0.5;
      for (let i = 0; i < count; i++) {
        if (!first && random() >= share) continue;
        first = false;
        const isTrouble = trouble !== undefined && random() < trouble.share / share;
        const fromMs = isTrouble ? trouble.fromMs : SLOW_MS;
        const toMs = isTrouble ? trouble.toMs : 50;
        const tookMs = Math.min(DEADLINE_MS, fromMs + random() * (toMs - fromMs));
        quick--;
        if (tookMs < SLOW_MS) {
          quick++;
          continue;
        }
        const beganMs = random() * TICK_MS;
        const endsIn = Math.floor((beganMs + tookMs) / TICK_MS);
        this.#slow[endsIn]!++;
        if (tookMs > 10) this.#bad[endsIn]!++;
        if (tookMs >= DEADLINE_MS) this.#timeouts[endsIn]!++;
        if (endsIn > 0 && TICK_MS - beganMs > SLOW_MS) waiting++;
      }
    }
    const slow = this.#slow[0]!;
    // Those that waited at the last tick still do unless they ended.
    this.#waiting = Math.max(0, this.#waiting - slow) + waiting;
    this.tick.completedCount = quick + slow;
    this.tick.slowCount = slow;
    this.tick.waitingSlowCount = this.#waiting;
    this.quick += quick;
    this.slow += slow;
    this.bad += this.#bad[0]!;
    this.timeouts += this.#timeouts[0]!;
    for (const ahead of [this.#slow, this.#bad, this.#timeouts]) {
      ahead.copyWithin(0, 1);
      ahead[AHEAD - 1] = 0;
    }
  }

  view(node: number, detector: Detector, rule: string | undefined): ShardView {
    const latency = VIEW_BOUNDS_MS.map(() => 0).concat(0);
    latency[2] = this.quick;
    latency[VIEW_BOUNDS_MS.indexOf(10)] = this.slow - this.bad;
    latency[VIEW_BOUNDS_MS.indexOf(50)] = this.bad;
    const fast = detector.windowOf(node, "fast");
    const slow = detector.windowOf(node, "slow");
    const view: ShardView = {
      node: `node-${node + 1}`,
      standsInFor: "",
      latency,
      fastCount: fast.count,
      fastSlowCount: fast.slow,
      slowCount: slow.count,
      slowSlowCount: slow.slow,
      waiting: this.tick.waitingSlowCount,
      oldestMs: 0,
      outlierTicks: this.outlierTicks,
      rule: rule === "fast" || rule === "slow" ? rule : "",
      failures: 0,
      timeouts: this.timeouts,
      isAway: false,
      isOut: false,
    };
    this.quick = 0;
    this.slow = 0;
    this.bad = 0;
    this.timeouts = 0;
    this.outlierTicks = 0;
    return view;
  }
}

export class Simulation {
  readonly #setting: Setting;
  readonly #pairs: Pair[][];
  readonly #detectors: Detector[];
  readonly #sightings = new Sightings();
  readonly #hold = new Hold();
  #nowMs = 0;
  #ticks = 0;
  conditions: readonly Condition[] = [];

  constructor(setting: Setting) {
    this.#setting = setting;
    const { proxies, nodes, rate, seed } = setting;
    const random = randomOf(seed);
    this.#detectors = Array.from({ length: proxies }, () => new Detector(nodes));
    this.#pairs = this.#detectors.map(() =>
      Array.from({ length: nodes }, () => new Pair(rate, random)),
    );
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Keys of what is told now and is not explained by something else. */
  get told(): string[] {
    const explained = new Set(this.conditions.flatMap(({ explains }) => explains));
    return this.conditions.map(conditionKey).filter((key) => !explained.has(key));
  }

  step(): void {
    const { fault, concerns = () => true } = this.#setting;
    this.#nowMs += TICK_MS;
    this.#ticks++;
    for (const [proxy, pairs] of this.#pairs.entries()) {
      const isConcerned = fault !== undefined && concerns(proxy);
      for (const [node, pair] of pairs.entries()) {
        pair.advance(isConcerned ? fault(node, this.#nowMs) : undefined);
      }
      const detector = this.#detectors[proxy]!;
      const verdicts = detector.tick(pairs.map(({ tick }) => tick));
      for (const [node, verdict] of verdicts.entries()) {
        if (verdict !== undefined) pairs[node]!.outlierTicks++;
      }
      if (this.#ticks % 2 === 0) this.#sightings.add(this.#lineOf(proxy, verdicts), this.#nowMs);
    }
    if (this.#ticks % 2 === 0) this.#judge();
  }

  #lineOf(proxy: number, verdicts: readonly (string | undefined)[]): ProxyView {
    const detector = this.#detectors[proxy]!;
    const shards = this.#pairs[proxy]!.map((pair, node) =>
      pair.view(node, detector, verdicts[node]),
    );
    const { isCommonMode } = detector;
    const cache = { id: CACHE, isCommonMode, hits: 0, misses: 0, errors: 0, sessions: 1, shards };
    return {
      proxy: `proxy-${proxy + 1}`,
      atMs: this.#nowMs,
      isStarved: false,
      silentWorkers: 0,
      caches: [cache],
    };
  }

  #judge(): void {
    const nowMs = this.#nowMs;
    const cells = this.#sightings.cells();
    const findings = judgeMatrix(
      {
        cells,
        commonTicks: this.#sightings.commonTicks(),
        starved: new Set(),
        confirmed: new Set(),
        probedBad: new Set(),
        probeCache: "",
        nameOf: (cache) => cache,
      },
      nowMs,
    );
    const caches = new Map([[CACHE, { name: CACHE }]]) as never;
    const burns = burnFindings(this.#sightings.burns, { caches }, { nowMs, probeCache: "" });
    this.conditions = this.#hold.settle(explainBurns([...findings, ...burns], cells), nowMs);
  }
}

/** Conditions of one key less than ten minutes apart are one incident. */
const SAME_INCIDENT_MS = 600_000;

export interface Incident {
  key: string;
  severity: string;
  atMs: number;
}

/** Runs for so long and tells which incidents would have been opened. */
export function incidentsOf(setting: Setting, durationMs: number): Incident[] {
  const simulation = new Simulation(setting);
  const incidents: Incident[] = [];
  const lastMs = new Map<string, number>();
  while (simulation.nowMs < durationMs) {
    simulation.step();
    if (simulation.conditions.length === 0) continue;
    const told = new Set(simulation.told);
    for (const condition of simulation.conditions) {
      const key = conditionKey(condition);
      if (!told.has(key)) continue;
      const before = lastMs.get(key);
      lastMs.set(key, simulation.nowMs);
      if (before !== undefined && simulation.nowMs - before < SAME_INCIDENT_MS) continue;
      incidents.push({ key, severity: condition.severity, atMs: simulation.nowMs });
    }
  }
  return incidents;
}

/** The shape of 2016: so many operations take 5 to 15 ms longer, on all nodes. */
export const jitter2016: Fault = () => ({ share: 0.15, fromMs: 5.3, toMs: 15.3 });

/** From `onsetMs` on, the nodes below `count` are in trouble. */
export const sickNodes =
  (count: number, onsetMs: number, trouble: Trouble): Fault =>
  (node, atMs) =>
    node < count && atMs > onsetMs ? trouble : undefined;
