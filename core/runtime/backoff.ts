/** How long to wait before a process that died, or a connection that broke, is tried again. */
import type { Random } from "./random.ts";

const DELAY_MS_MIN = 50;
const DELAY_MS_MAX = 5_000;

/** Full jitter: those who died together must not return together. The first attempt is 0. */
export function restartDelayMs(attempt: number, random: Random): number {
  const ceilingMs = Math.min(DELAY_MS_MAX, DELAY_MS_MIN * 2 ** (attempt + 1));
  return DELAY_MS_MIN + Math.floor(random.next() * (ceilingMs - DELAY_MS_MIN));
}
