/**
 * How fast a cache uses up its error budget: 99.9 % of its operations are to be answered within
 * 10 ms, as the proxies see it. Windows of several lengths over one sum; a short window beside
 * each long one tells that it goes on.
 */

/** Lengths of buckets and how many: ten seconds, two minutes, an hour. */
const RINGS = [
  { bucketMs: 500, count: 20 },
  { bucketMs: 10_000, count: 12 },
  { bucketMs: 60_000, count: 60 },
] as const;

interface Pair {
  readonly longMs: number;
  readonly shortMs: number;
  readonly shareMin: number;
  /** Fewer bad operations in the long window are an accident. */
  readonly badMin: number;
}
/** The fast pair pages: 1 s at 100 % bad, 5 s at 20 %. The others are for working hours. */
const FAST: Pair = { longMs: 10_000, shortMs: 2_000, shareMin: 0.1, badMin: 20 };
const SLOW: readonly Pair[] = [
  { longMs: 120_000, shortMs: 10_000, shareMin: 0.02, badMin: 50 },
  { longMs: 3_600_000, shortMs: 300_000, shareMin: 0.0144, badMin: 200 },
];

export interface Operations {
  nowMs: number;
  total: number;
  bad: number;
  errors: number;
  hits: number;
  misses: number;
}

const FIGURES = ["total", "bad", "errors", "hits", "misses"] as const;
export type Sums = Record<(typeof FIGURES)[number], number>;

/** Buckets of time that come round; one row of them for each figure. */
class Ring {
  readonly lengthMs: number;
  readonly #bucketMs: number;
  readonly #count: number;
  readonly #values: Float64Array;
  /** The number of the newest bucket since the clock began; -1 before the first. */
  #newest = -1;

  constructor({ bucketMs, count }: { bucketMs: number; count: number }) {
    this.#bucketMs = bucketMs;
    this.#count = count;
    this.lengthMs = bucketMs * count;
    this.#values = new Float64Array(count * FIGURES.length);
  }

  add(operations: Operations): void {
    this.#turnTo(operations.nowMs);
    const at = this.#placeOf(this.#newest);
    for (let i = 0; i < FIGURES.length; i++) this.#values[at + i]! += operations[FIGURES[i]!];
  }

  sum(nowMs: number, windowMs: number): Sums {
    this.#turnTo(nowMs);
    const sums: Sums = { total: 0, bad: 0, errors: 0, hits: 0, misses: 0 };
    const count = Math.min(this.#count, Math.ceil(windowMs / this.#bucketMs));
    for (let back = 0; back < count; back++) {
      const at = this.#placeOf(this.#newest - back + this.#count);
      for (let i = 0; i < FIGURES.length; i++) sums[FIGURES[i]!] += this.#values[at + i]!;
    }
    return sums;
  }

  #placeOf(bucket: number): number {
    return (bucket % this.#count) * FIGURES.length;
  }

  #turnTo(nowMs: number): void {
    const newest = Math.floor(nowMs / this.#bucketMs);
    const from = Math.max(this.#newest + 1, newest - this.#count + 1);
    for (let bucket = from; bucket <= newest; bucket++) {
      const at = this.#placeOf(bucket);
      this.#values.fill(0, at, at + FIGURES.length);
    }
    this.#newest = Math.max(this.#newest, newest);
  }
}

export class Burn {
  readonly #rings = RINGS.map((row) => new Ring(row));
  lastMs = 0;

  add(operations: Operations): void {
    this.lastMs = operations.nowMs;
    for (const ring of this.#rings) ring.add(operations);
  }

  /** Of the last `windowMs`, at most an hour; the newest bucket is still filling. */
  sum(nowMs: number, windowMs: number): Sums {
    const ring = this.#rings.find(({ lengthMs }) => lengthMs >= windowMs) ?? this.#rings.at(-1)!;
    return ring.sum(nowMs, windowMs);
  }

  /** Whether it burns, and how much of the last operations was bad. */
  verdict(nowMs: number): { burn: "fast" | "slow"; share: number; windowMs: number } | undefined {
    if (this.#burns(FAST, nowMs)) return this.#told("fast", FAST, nowMs);
    const slow = SLOW.find((pair) => this.#burns(pair, nowMs));
    return slow === undefined ? undefined : this.#told("slow", slow, nowMs);
  }

  #burns({ longMs, shortMs, shareMin, badMin }: Pair, nowMs: number): boolean {
    const long = this.sum(nowMs, longMs);
    if (long.bad < badMin || long.bad < shareMin * long.total) return false;
    const short = this.sum(nowMs, shortMs);
    return short.bad > 0 && short.bad >= shareMin * short.total;
  }

  #told(burn: "fast" | "slow", { longMs }: Pair, nowMs: number) {
    const { total, bad } = this.sum(nowMs, longMs);
    return { burn, share: bad / total, windowMs: longMs };
  }
}
