/**
 * Which nodes hold a cache, and how much of it. A pure function of the cache and the nodes, so
 * every process comes to the same answer by itself: no scheduler, no leader.
 */
import assert from "node:assert/strict";
import type { WeightedNode } from "./continuum.ts";
import type { Cache } from "./records.ts";

export interface Placement {
  readonly node: string;
  readonly bytes: number;
}

/**
 * For now every cache is on all nodes. The bytes are divided by weight, as the continuum divides
 * the keys, and none is lost by rounding: the shares add up to `cache.bytes`. The order of
 * `nodes` does not matter; the answer is sorted by name. Without nodes it is empty.
 */
export function placeShards(
  cache: Pick<Cache, "bytes">,
  nodes: readonly WeightedNode[],
): Placement[] {
  const byName = nodes.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const weightTotal = byName.reduce((sum, node) => sum + (node.weight ?? 1), 0);
  let weightBefore = 0;
  let bytesBefore = 0;
  return byName.map(({ name, weight = 1 }) => {
    assert(Number.isInteger(weight) && weight >= 1, `weight of ${name}`);
    weightBefore += weight;
    // From a running sum: each boundary is rounded once, so the last one is the whole.
    const bytesUntil = Math.floor((cache.bytes / weightTotal) * weightBefore);
    const share = (weightBefore === weightTotal ? cache.bytes : bytesUntil) - bytesBefore;
    bytesBefore += share;
    return { node: name, bytes: share };
  });
}
