/** A clock that moves only when the test says so. */
import type { Clock } from "../../core/runtime/clock.ts";

export class ManualClock implements Clock {
  #nowMs = 0;
  #unixMs: number;

  constructor(unixMs = 1_700_000_000_000) {
    this.#unixMs = unixMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  unixMs(): number {
    return this.#unixMs;
  }

  /** Time passes. */
  advance(ms: number): void {
    this.#nowMs += ms;
    this.#unixMs += ms;
  }

  /** The machine's owner sets the wall clock, or the machine wakes from sleep. */
  step(ms: number): void {
    this.#unixMs += ms;
  }
}
