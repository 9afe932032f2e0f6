/**
 * Which nodes hold a cache, and how much of it. A pure function of the cache and the nodes, so
 * every process comes to the same answer by itself: no scheduler, no leader.
 *
 * A small cache sits on few nodes, a large one on all. Which few is decided by rendezvous hashing
 * (Thaler and Ravishankar, 1998): each node draws a lot for each cache, the highest lots win. So a
 * node that joins or leaves changes one seat of a cache at most, and never how the others sit.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { WeightedNode } from "./continuum.ts";
import { PROBE_CACHE } from "./internal.ts";
import type { Cache } from "./records.ts";

export interface PlacementNode extends WeightedNode {
  /** Nodes of one zone fail together; a cache is spread over zones first. */
  readonly zone?: string;
  /** Gets no shards, unless all nodes are draining. */
  readonly isDraining?: boolean;
}

export interface Placement {
  readonly node: string;
  readonly bytes: number;
}

/** Less than this is not worth a shard of its own. */
export const SHARE_BYTES_MIN = 25 * 1024 * 1024;
/** Even the smallest cache loses no more than a quarter with one node, if there are so many. */
export const NODE_COUNT_MIN = 4;

/** What a cache takes of the nodes: two copies of each key take twice its size. */
export const bytesOf = ({ bytes, copies }: Pick<Cache, "bytes" | "copies">): number =>
  bytes * copies;

/**
 * The bytes are divided by weight, as the continuum divides the keys, and none is lost by
 * rounding: the shares add up to `cache.bytes`. The order of `nodes` does not matter; the answer
 * is sorted by name. Without nodes it is empty.
 */
export function placeShards(
  cache: Pick<Cache, "bytes"> & { readonly id: string },
  nodes: readonly PlacementNode[],
): Placement[] {
  const staying = nodes.filter(({ isDraining = false }) => !isDraining);
  const chosen = choose(cache, staying.length > 0 ? staying : nodes);
  const weightTotal = chosen.reduce((sum, node) => sum + (node.weight ?? 1), 0);
  let weightBefore = 0;
  let bytesBefore = 0;
  return chosen.map(({ name, weight = 1 }) => {
    weightBefore += weight;
    // From a running sum: each boundary is rounded once, so the last one is the whole.
    const bytesUntil = Math.floor((cache.bytes / weightTotal) * weightBefore);
    const share = (weightBefore === weightTotal ? cache.bytes : bytesUntil) - bytesBefore;
    bytesBefore += share;
    return { node: name, bytes: share };
  });
}

/** The nodes of a cache, by name: the best lot of each zone first, then the second ones, … */
function choose(
  { id, bytes }: { id: string; bytes: number },
  nodes: readonly PlacementNode[],
): PlacementNode[] {
  for (const { name, weight = 1 } of nodes) {
    assert(Number.isInteger(weight) && weight >= 1, `weight of ${name}`);
  }
  // Canaries are to meet every node.
  if (id === PROBE_CACHE) return nodes.toSorted(byName);
  const count = Math.max(NODE_COUNT_MIN, Math.ceil(bytes / SHARE_BYTES_MIN));
  if (count >= nodes.length) return nodes.toSorted(byName);
  const drawn = nodes.map((node) => ({ node, lot: lotOf(id, node), rank: 0 }));
  drawn.sort((a, b) => b.lot - a.lot || byName(a.node, b.node));
  const seatsOfZone = new Map<string, number>();
  for (const one of drawn) {
    const zone = one.node.zone ?? "";
    one.rank = seatsOfZone.get(zone) ?? 0;
    seatsOfZone.set(zone, one.rank + 1);
  }
  drawn.sort((a, b) => a.rank - b.rank); // Stable: by lot within a rank.
  return drawn
    .slice(0, count)
    .map(({ node }) => node)
    .sort(byName);
}

const LOT_MAX = 2 ** 48;

/** Weighted rendezvous: a node of weight 3 wins three times as often. Always negative. */
function lotOf(cacheId: string, { name, weight = 1 }: PlacementNode): number {
  const digest = createHash("sha256").update(`${cacheId} ${name}`).digest();
  const uniform = (digest.readUIntBE(0, 6) + 1) / (LOT_MAX + 1);
  return Math.log(uniform) / weight;
}

const byName = (a: PlacementNode, b: PlacementNode): number => (a.name < b.name ? -1 : 1);
