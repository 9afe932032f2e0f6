/**
 * Whether a change is in force: on every live proxy, which publishes the revision that it has
 * applied, and for what shards do (opening, resizing, flushing) on every shard of the cache, too.
 */
import { z } from "zod";
import { bytesOf, type PlacementNode, placeShards } from "../../core/cluster/placement.ts";
import { type Cache, MANAGED_POOL, type Node } from "../../core/cluster/records.ts";
import type { Kept, View } from "../view.ts";
import type { Parts } from "./change.ts";

/** After so long the answer names who is missing. */
export const APPLIED_MS_MAX = 5_000;

export const appliedAnswer = z.strictObject({
  revision: z.int(),
  ms: z.number().describe("From the request until the last was in line, or we stopped waiting"),
  proxies: z.array(
    z.strictObject({
      name: z.string(),
      appliedRevision: z.int(),
      ms: z.number().nullable().describe("null: it has not applied the revision"),
    }),
  ),
  missing: z.array(z.string()).describe("Proxies, and nodes where the change has shards to follow"),
});
export type Applied = z.output<typeof appliedAnswer>;

export interface AppliedWish {
  readonly revision: number;
  /** Id of a cache whose shards have to follow as well. */
  readonly cacheId?: string | undefined;
  readonly limitMs?: number;
  /** When the change was asked for, by the clock's `nowMs`; now, if it is not known. */
  readonly askedAtMs?: number;
}

/** Resolves when all live proxies (and shards) are in line, or with `missing` after `limitMs`. */
export async function whenApplied(
  { view, clock }: Pick<Parts, "view" | "clock">,
  { revision, cacheId, limitMs = APPLIED_MS_MAX, askedAtMs = clock.nowMs() }: AppliedWish,
): Promise<Applied> {
  const since = (): number => Math.round((clock.nowMs() - askedAtMs) * 10) / 10;
  const tookMs = new Map<string, number>();
  let wanted = revision;
  let lateNodes: string[] = [];
  const isDone = (): boolean => {
    const cache = cacheId === undefined ? undefined : view.caches.get(cacheId);
    const shards = cache === undefined ? [] : view.shardsOf(cache.id);
    lateNodes = cache === undefined ? [] : nodesBehind(view, cache);
    // Proxies must have seen the shards, too, before clients can use them.
    const layout = cache === undefined ? 0 : (view.layouts.get(cache.id)?.revision ?? 0);
    wanted = Math.max(revision, layout, ...shards.map((shard) => shard.revision));
    for (const { id, value } of view.proxies.values()) {
      if (value.appliedRevision < wanted) tookMs.delete(id);
      else if (!tookMs.has(id)) tookMs.set(id, since());
    }
    return lateNodes.length === 0 && lateProxies(view, wanted).length === 0;
  };
  await view.until(isDone, limitMs);
  const proxies = [...view.proxies.values()].map(({ id, value }) => ({
    name: id,
    appliedRevision: value.appliedRevision,
    ms: tookMs.get(id) ?? null,
  }));
  const missing = [...lateProxies(view, wanted), ...lateNodes];
  return { revision, ms: since(), proxies, missing };
}

function lateProxies(view: View, revision: number): string[] {
  const late = [...view.proxies.values()].filter(({ value }) => value.appliedRevision < revision);
  return late.map(({ id }) => id);
}

/** Nodes whose shard of the cache is not what the cache wants. */
function nodesBehind(view: View, { id, value }: Kept<Cache>): string[] {
  const shards = new Map(view.shardsOf(id).map((shard) => [shard.value.node, shard.value]));
  const layout = view.layouts.get(id)?.value;
  const members = new Set(layout?.members.map(({ node }) => node));
  if (value.pool !== MANAGED_POOL) {
    const late = view.shardsOf(id).filter((shard) => shard.value.flushedEpoch < value.epoch);
    return late.map((shard) => shard.value.node);
  }
  return placeShards({ id, bytes: bytesOf(value) }, placementNodes(view)).flatMap((placed) => {
    const shard = shards.get(placed.node);
    const isInLine =
      shard?.state === "ready" &&
      (layout === undefined || members.has(placed.node)) &&
      shard.bytes === placed.bytes &&
      shard.flushedEpoch >= value.epoch &&
      shard.statsEpoch >= value.statsEpoch;
    return isInLine ? [] : [placed.node];
  });
}

/** As agents see them: living nodes, and those that are away, of which their shards tell. */
function placementNodes(view: View): PlacementNode[] {
  const known = new Map<string, Pick<Node, "weight" | "zone">>();
  for (const { value } of view.shards.values()) {
    if (value.stamp === "") known.set(value.node, value);
  }
  for (const { id, value } of view.nodes.values()) known.set(id, value);
  return [...known].map(([name, { weight, zone }]) => {
    return { name, weight, zone, isDraining: view.nodeSettings.get(name)?.value.draining === true };
  });
}
