/**
 * What clients did and saw, and whether that can be: no get may return a value older than the last
 * mutation of its key that was acknowledged before the get began. A miss is always allowed, and a
 * mutation that got an error may have happened or not. Every key has one writer, so that versions
 * are in the order of time; any client may read it.
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
};

export class History {
  readonly mutations = new Map<string, Mutation[]>();
  readonly gets: Get[] = [];
  failedGets = 0;

  mutated(mutation: Mutation): void {
    const before = this.mutations.get(mutation.key);
    if (before === undefined) this.mutations.set(mutation.key, [mutation]);
    else before.push(mutation);
  }

  got(get: Get): void {
    this.gets.push(get);
  }

  totals(): Totals {
    const mutations = [...this.mutations.values()].flat();
    const hits = this.gets.filter(({ version }) => version !== null).length;
    return {
      mutations: mutations.length,
      failedMutations: mutations.filter(({ outcome }) => outcome === "failed").length,
      hits,
      misses: this.gets.length - hits,
      failedGets: this.failedGets,
    };
  }

  /** Gets that returned what was no longer so `graceMs` before they began. */
  stale(graceMs: number): Stale[] {
    return this.gets.flatMap((get) => {
      const acknowledged = this.#lastAcknowledged(get, graceMs);
      const isStale =
        acknowledged !== undefined &&
        get.version !== null &&
        get.version <= acknowledged.version - (acknowledged.kind === "set" ? 1 : 0);
      return isStale ? [{ ...get, acknowledged }] : [];
    });
  }

  #lastAcknowledged({ key, startMs }: Get, graceMs: number): Mutation | undefined {
    return this.mutations
      .get(key)
      ?.findLast(({ outcome, endMs }) => outcome === "ok" && endMs + graceMs <= startMs);
  }
}
