/**
 * One coarse timer for all deadlines: every 10 ms, over the links (and hedges) that have something
 * in flight.
 * No timer per request, and none at all while nothing is in flight.
 */
import type { Loop } from "../../core/io/loop.ts";

/** What has something in flight. */
export interface Swept {
  /** Returns true while anything still is. */
  sweep(nowMs: number): boolean;
}

export const SWEEP_INTERVAL_MS = 10;
/** A sweep that comes later than this was held up together with the replies it would miss. */
const HELD_UP_MS = 50;

export class Sweep {
  /** How much longer than usual a shard may take until it is fenced; more on a starved machine. */
  patience = 1;
  readonly #loop: Loop;
  readonly #swept: Set<Swept> = new Set();
  #timer: NodeJS.Timeout | null = null;
  #armedAtMs = 0;
  #wasHeldUp = false;
  // Timers run before reads: a turn later, replies that are already here have been taken in.
  readonly #tick = (): void => void setImmediate(this.#sweep);

  constructor(loop: Loop) {
    this.#loop = loop;
  }

  /** Watches `one` until its `sweep` says that nothing is in flight. */
  add(one: Swept): void {
    this.#swept.add(one);
    if (this.#timer === null) this.#arm();
  }

  #arm(): void {
    this.#armedAtMs = this.#loop.nowMs;
    this.#timer = setTimeout(this.#tick, SWEEP_INTERVAL_MS);
  }

  readonly #sweep = (): void => {
    this.#loop.turn();
    const { nowMs } = this.#loop;
    // Passed over once, never twice in a row: under constant overload deadlines still hold.
    this.#wasHeldUp = !this.#wasHeldUp && nowMs - this.#armedAtMs > HELD_UP_MS;
    if (!this.#wasHeldUp) {
      for (const one of this.#swept) if (!one.sweep(nowMs)) this.#swept.delete(one);
    }
    this.#timer = null;
    if (this.#swept.size > 0) this.#arm();
  };
}
