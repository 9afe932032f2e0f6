/**
 * Reads of one cache whose first copy is late: looked at in every sweep, and asked of the second when
 * they wait for longer than 95 of 100 reads of their shard do. So many in a hundred at most, or a
 * shard that is slow would make its neighbours slow as well; and none while all are slow together.
 */
import type { Sweep, Swept } from "./sweep.ts";
import type { TrackedRead } from "./trackedRead.ts";

/** Of all reads so many may be asked twice for being late, and so many at once after a calm time. */
const SHARE_MAX = 0.05;
const BURST_MAX = 100;

/** Until it is known how long reads of a shard usually take. */
export const HEDGE_AFTER_MS = 25;

/** Why the second copy was asked: metric label. */
export const SECOND_READS = ["late", "failed", "missing"] as const;
export type SecondRead = (typeof SECOND_READS)[number];

export class Hedges implements Swept {
  /** Reads that were asked of the second copy, by the order of SECOND_READS. */
  readonly counts: Float64Array = new Float64Array(SECOND_READS.length);
  readonly #sweep: Sweep;
  #waiting: TrackedRead[] = [];
  #budget = BURST_MAX;

  constructor(sweep: Sweep) {
    this.#sweep = sweep;
  }

  /** `read` has asked its first copy, and has a second. */
  watch(read: TrackedRead): void {
    this.#budget = Math.min(BURST_MAX, this.#budget + SHARE_MAX);
    if (this.#waiting.length === 0) this.#sweep.add(this);
    this.#waiting.push(read);
  }

  sweep(nowMs: number): boolean {
    const before = this.#waiting;
    this.#waiting = [];
    for (const read of before) {
      if (!read.mayHedge) continue;
      if (this.#budget < 1 || !read.isLate(nowMs)) this.#waiting.push(read);
      else if (read.hedge()) this.#budget--;
    }
    return this.#waiting.length > 0;
  }

  count(reason: SecondRead): void {
    this.counts[SECOND_READS.indexOf(reason)]!++;
  }
}
