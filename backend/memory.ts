/**
 * How much of the memory of its machine (or container) a node has used, as its record says it: in
 * steps, and only when it is much, so that nobody is told of the breathing of a healthy machine.
 */
import { every, type Timer } from "../core/runtime/clock.ts";
import { memoryUsed } from "../core/runtime/memory.ts";

const LOOK_INTERVAL_MS = 5_000;
/** Less than this is not told. */
const TOLD_SHARE_MIN = 0.8;
const STEP = 0.02;

/** The share as it is told; null for little. `told` stays until it is a step away. */
export function toldShare(share: number, told: number | null): number | null {
  if (share < TOLD_SHARE_MIN - (told === null ? 0 : STEP)) return null;
  if (told !== null && Math.abs(share - told) < STEP) return told;
  return Math.min(1, Math.floor(share / STEP) * STEP);
}

export class MemoryWatch {
  told: number | null = null;
  readonly #changed: () => void;
  #timer: Timer | null = null;

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  start(): void {
    this.#timer = every(LOOK_INTERVAL_MS, () => {
      const before = this.told;
      this.told = toldShare(memoryUsed(), before);
      if (this.told !== before) this.#changed();
    });
  }

  stop(): void {
    this.#timer?.stop();
  }
}
