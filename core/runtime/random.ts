/**
 * Chance comes in through this door. `Random` is for jitter and choices: fast, and seeded in
 * tests so that one number repeats a run. Secrets are made with `secureBytes`, never with it.
 */
import { randomBytes } from "node:crypto";

export interface Random {
  /** Uniform, 0 <= n < 1. */
  next(): number;
}

export const random: Random = {
  next: () => Math.random(),
};

/** `size` bytes that nobody can guess. */
export type SecureBytes = (size: number) => Uint8Array;

export const secureBytes: SecureBytes = (size) => randomBytes(size);

/**
 * The same seed gives the same numbers, everywhere: mulberry32 (Tommy Ettinger, public domain).
 * Its period is 2^32, plenty for jitter and for one test run.
 */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return {
    next() {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    },
  };
}
