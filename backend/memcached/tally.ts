/**
 * The figures of a shard from what its processes say in `stats`. Their counters begin at zero with
 * each process and each `stats reset`, a tenant's included; the operator's go on: what was counted
 * between the last look and a reset is lost, no more.
 */
import type { Figures } from "../engine.ts";

/** Rows of `stats` (protocol.txt, "General-purpose statistics") that make up each counter. */
const COUNTERS = {
  hits: ["get_hits", "touch_hits"],
  misses: ["get_misses", "touch_misses"],
  evictions: ["evictions"],
  expired: ["get_expired", "crawler_reclaimed", "reclaimed"],
} as const;
type CounterName = keyof typeof COUNTERS;
const NAMES = Object.keys(COUNTERS) as CounterName[];

/** The one that we ask by. */
const OWN_CONNECTIONS = 1;

export class Tally {
  #gauges = { items: 0, bytes: 0, limit: 0, connections: 0 };
  readonly #before: Record<CounterName, number> = { hits: 0, misses: 0, evictions: 0, expired: 0 };
  readonly #current: Record<CounterName, number> = { hits: 0, misses: 0, evictions: 0, expired: 0 };

  /** Takes in what `stats` says now. */
  read(stats: ReadonlyMap<string, string>): void {
    const value = (name: string): number => Number(stats.get(name) ?? 0);
    this.#gauges = {
      items: value("curr_items"),
      bytes: value("bytes"),
      limit: value("limit_maxbytes"),
      connections: Math.max(0, value("curr_connections") - OWN_CONNECTIONS),
    };
    for (const name of NAMES) {
      const now = COUNTERS[name].reduce((sum, row) => sum + value(row), 0);
      if (now < this.#current[name]) this.#before[name] += this.#current[name];
      this.#current[name] = now;
    }
  }

  /** Counters begin at zero now, and what is stored is gone with its process. */
  restarted(): void {
    for (const name of NAMES) {
      this.#before[name] += this.#current[name];
      this.#current[name] = 0;
    }
    this.#gauges = { items: 0, bytes: 0, limit: this.#gauges.limit, connections: 0 };
  }

  get figures(): Figures {
    const counted = (name: CounterName): number => this.#before[name] + this.#current[name];
    return {
      ...this.#gauges,
      hits: counted("hits"),
      misses: counted("misses"),
      evictions: counted("evictions"),
      expired: counted("expired"),
    };
  }
}
