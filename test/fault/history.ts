/**
 * What clients did and saw, and whether that can be: no get may return a value older than the last
 * mutation of its key that was acknowledged before the get began. A miss is always allowed, and a
 * mutation that got an error may have happened or not. Every key has one writer, so that versions
 * are in the order of time; any client may read it.
 *
 * Each get is judged when it ends: all that it could have missed has ended before it began. So an
 * hour needs no more memory than a minute.
 */

/** Times are milliseconds of one clock; `endMs` is when the answer was there. */
export type Mutation = {
  key: string;
  /** Grows with each mutation of the key. */
  version: number;
  kind: "set" | "delete";
  startMs: number;
  endMs: number;
  outcome: "ok" | "failed";
};
export type Get = {
  key: string;
  startMs: number;
  endMs: number;
  /** The version that was read; null for a miss. */
  version: number | null;
  proxy: number;
};
export type Stale = Get & { acknowledged: Mutation };

export type Totals = {
  mutations: number;
  failedMutations: number;
  hits: number;
  misses: number;
  failedGets: number;
  /** Values that nobody had written: bytes were changed on their way. */
  falsified: number;
  /** Gets of a value older than the last acknowledged mutation of its key. */
  stale: number;
  /** The same, counted only where that mutation was older than the convergence of views. */
  staleAfterConvergence: number;
  /** The longest time over which mutations failed without a pause of a second. */
  failedMutationsMsMax: number;
};

const EXAMPLES_MAX = 20;
/** Failures of mutations further apart than this are two outages. */
const OUTAGE_PAUSE_MS = 1_000;
/** Mutations of a key that are remembered: more than it can have within the grace. */
const REMEMBERED_MAX = 4_096;

export class History {
  /** Stale gets, the first ones only. */
  readonly examples: Stale[] = [];
  readonly falsifiedExamples: { asked: string; answer: string }[] = [];
  readonly #graceMs: number;
  /** Acknowledged ones by key, oldest first. */
  readonly #acknowledged = new Map<string, Mutation[]>();
  readonly #totals: Totals = {
    mutations: 0,
    failedMutations: 0,
    hits: 0,
    misses: 0,
    failedGets: 0,
    falsified: 0,
    stale: 0,
    staleAfterConvergence: 0,
    failedMutationsMsMax: 0,
  };
  #outage = { firstMs: 0, lastMs: Number.NEGATIVE_INFINITY };

  /** Views have converged `graceMs` after a mutation was acknowledged. */
  constructor(graceMs: number) {
    this.#graceMs = graceMs;
  }

  get totals(): Readonly<Totals> {
    return { ...this.#totals };
  }

  /** To be told in the order of the ends. */
  mutated(mutation: Mutation): void {
    const totals = this.#totals;
    totals.mutations++;
    if (mutation.outcome === "failed") {
      totals.failedMutations++;
      return this.#failed(mutation.endMs);
    }
    const before = this.#acknowledged.get(mutation.key);
    if (before === undefined) this.#acknowledged.set(mutation.key, [mutation]);
    else if (before.push(mutation) > REMEMBERED_MAX) before.shift();
  }

  got(get: Get): void {
    const totals = this.#totals;
    if (get.version === null) {
      totals.misses++;
      return;
    }
    totals.hits++;
    const acknowledged = this.#staleBy(get, 0);
    if (acknowledged === undefined) return;
    totals.stale++;
    if (this.#staleBy(get, this.#graceMs) === undefined) return;
    totals.staleAfterConvergence++;
    if (this.examples.length < EXAMPLES_MAX) this.examples.push({ ...get, acknowledged });
  }

  getFailed(): void {
    this.#totals.failedGets++;
  }

  falsified(asked: string, answer: string): void {
    this.#totals.falsified++;
    if (this.falsifiedExamples.length >= EXAMPLES_MAX) return;
    this.falsifiedExamples.push({ asked, answer });
  }

  /** The mutation that makes it stale: the last one acknowledged `graceMs` before it began. */
  #staleBy({ key, startMs, version }: Get, graceMs: number): Mutation | undefined {
    const last = this.#acknowledged.get(key)?.findLast(({ endMs }) => endMs + graceMs <= startMs);
    if (last === undefined || version === null) return undefined;
    return version <= last.version - (last.kind === "set" ? 1 : 0) ? last : undefined;
  }

  #failed(atMs: number): void {
    const outage = this.#outage;
    if (atMs - outage.lastMs > OUTAGE_PAUSE_MS) outage.firstMs = atMs;
    outage.lastMs = atMs;
    const durationMs = Math.round(atMs - outage.firstMs);
    this.#totals.failedMutationsMsMax = Math.max(this.#totals.failedMutationsMsMax, durationMs);
  }
}
