/**
 * Cas uniques of a memcached that begins anew. It counts them from 1 in each process and offers no
 * way to begin elsewhere, so a unique that a client holds from before could be given to the same
 * key again, and most likely is where keys are stored in the same order at each start. A random
 * number of stores beforehand sets the two apart: what is left is a chance of one in `APART_MAX`.
 */

import { sleep } from "../../core/runtime/clock.ts";
import type { Random } from "../../core/runtime/random.ts";
import { secureBytes } from "../../core/runtime/random.ts";

/** 30 ms of CPU at most: memcached 1.6.18 does 4 million of them in a second. */
const APART_MAX = 131_072;
/** Others need the CPU, too: a process is replaced while the keys of its shard move. */
const PORTION = 2_048;
const PAUSE_MS = 2;

/** A key that no client has. */
export function privateKey(): string {
  return Buffer.from(secureBytes(12)).toString("base64url");
}

export async function setCasApart(
  ask: (command: string) => Promise<string>,
  { random }: { random: Random },
): Promise<void> {
  const key = privateKey();
  await ask(`ms ${key} 1\r\n0`);
  for (let left = Math.floor(random.next() * APART_MAX); left > 0; left -= PORTION) {
    // Each adds 1 without a reply; the reply to `mn` says that all are done.
    await ask(`${`ma ${key} q\r\n`.repeat(Math.min(left, PORTION))}mn`);
    await sleep(PAUSE_MS);
  }
  await ask(`md ${key}`);
  await ask("stats reset");
}
