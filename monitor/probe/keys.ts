/** A key for each shard: the first of a numbered row that the continuum gives to it. Pure. */
import type { Continuum } from "../../core/cluster/continuum.ts";

/** Of some dozens of nodes each has its key after some hundreds of attempts. */
const ATTEMPT_COUNT_MAX = 100_000;

/** Node to key, for each node of the continuum that owns any of the keys tried. */
export function keyOfEach(continuum: Continuum, prefix: string): Map<string, string> {
  const keys = new Map<string, string>();
  const { labels } = continuum;
  for (let number = 0; number < ATTEMPT_COUNT_MAX && keys.size < labels.length; number++) {
    const key = `${prefix}:${number}`;
    const bytes = Buffer.from(key);
    const node = labels[continuum.ownerOfKey(bytes, 0, bytes.length)];
    if (node !== undefined && !keys.has(node)) keys.set(node, key);
  }
  return keys;
}
