/**
 * Pools: `managed`, our nodes, which is always there, and external ones, memcached servers that we
 * do not run. What a change of its servers means for a cache is decided in core/cluster/external.ts;
 * here it is written, cache by cache, and what a crash leaves undone is done by upkeep.
 */
import { z } from "zod";
import { externalChanges } from "../../core/cluster/external.ts";
import {
  MANAGED_POOL,
  POOL_SERVER_COUNT_MAX,
  type Pool,
  poolRecord,
} from "../../core/cluster/records.ts";
import { type Change, StateUnavailable } from "../../core/cluster/state.ts";
import { parseAddress } from "../../core/runtime/config.ts";
import type { Kept, View } from "../view.ts";
import { type Context, change, outdated, type Parts } from "./change.ts";
import { momentText } from "./input.ts";
import { conflict, done, forbidden, notFound, type Outcome, type Refused } from "./outcome.ts";

export const POOL_COUNT_MAX = 100;
const ATTEMPT_COUNT_MAX = 10;

const serverSchema = poolRecord.shape.servers.element;
const server = z.strictObject({
  name: serverSchema.shape.name.describe("Divides the keys; the address may change under it"),
  address: serverSchema.shape.address
    .refine(
      (text) => /^unix:\/[^\s]+$/.test(text) || parseAddress(text) !== undefined,
      "HOST:PORT or unix:/path of a memcached server",
    )
    .describe("HOST:PORT, or unix:/path"),
  weight: serverSchema.shape.weight.describe("Share of the keys, compared with the others"),
});
const servers = z
  .array(server)
  .min(1)
  .max(POOL_SERVER_COUNT_MAX)
  .refine(
    (all) => new Set(all.map(({ name }) => name)).size === all.length,
    "a name is there twice",
  )
  .refine(
    (all) => new Set(all.map(({ address }) => address)).size === all.length,
    "an address is there twice",
  );

export const newPoolInput = z.strictObject({
  name: z
    .string()
    .regex(
      /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/,
      "lower-case letters, digits and dashes, at most 63",
    ),
  servers,
});
export const poolChangeInput = z.strictObject({ servers });

export const poolAnswer = z.strictObject({
  name: z.string(),
  kind: z.enum(["managed", "external"]),
  servers: z
    .array(z.strictObject({ name: z.string(), address: z.string(), weight: z.int() }))
    .describe("Of an external pool"),
  caches: z.int(),
  quota: z
    .enum(["enforced", "best effort"])
    .describe("Whether the size of its caches is a limit; nobody can limit servers of others"),
  createdAt: z.string().nullable(),
  revision: z.int(),
});
export type ShownPool = z.output<typeof poolAnswer>;

export const quotaOf = (pool: string): ShownPool["quota"] =>
  pool === MANAGED_POOL ? "enforced" : "best effort";

function shownPool(view: View, { id, value, revision }: Kept<Pool>): ShownPool {
  return {
    name: id,
    kind: "external",
    servers: [...value.servers],
    caches: cachesOf(view, id).length,
    quota: quotaOf(id),
    createdAt: momentText(value.createdAtMs),
    revision,
  };
}

const managedPool = (view: View): ShownPool => ({
  name: MANAGED_POOL,
  kind: "managed",
  servers: [],
  caches: cachesOf(view, MANAGED_POOL).length,
  quota: quotaOf(MANAGED_POOL),
  createdAt: null,
  revision: 0,
});

const cachesOf = (view: View, pool: string): string[] =>
  [...view.caches.values()].filter(({ value }) => value.pool === pool).map(({ id }) => id);

export function listPools({ view }: Pick<Parts, "view">): ShownPool[] {
  const external = [...view.pools.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  return [managedPool(view), ...external.map((pool) => shownPool(view, pool))];
}

export function showPool(view: View, name: string): Outcome<ShownPool> {
  if (name === MANAGED_POOL) return done(managedPool(view), view.revision);
  const pool = view.pools.get(name);
  return pool === undefined ? noPool(name) : done(shownPool(view, pool), pool.revision);
}

export const noPool = (name: string): Refused =>
  notFound(`there is no pool ${JSON.stringify(name)}`);
const notManaged = forbidden(`the pool ${MANAGED_POOL} is what the nodes are; see memward node`);

export async function createPool(
  parts: Parts,
  context: Context,
  { name, servers }: z.output<typeof newPoolInput>,
): Promise<Outcome<ShownPool>> {
  return change(parts, context, async () => {
    if (name === MANAGED_POOL) return notManaged;
    const existing = await parts.state.get("pool", name);
    if (existing !== undefined) return conflict(`there is a pool ${name}`, existing.revision);
    if (parts.view.pools.size >= POOL_COUNT_MAX) {
      return forbidden(`there are ${POOL_COUNT_MAX} pools; delete one first`);
    }
    const value: Pool = { servers, createdAtMs: parts.clock.unixMs() };
    return {
      ok: true,
      revision: 0,
      changes: [{ kind: "pool", id: name, value, expected: 0 }],
      audit: { action: "pool.create", cache: "", subject: name, before: null, after: value },
      value: (revision) => shownPool(parts.view, { id: name, value, revision }),
    };
  });
}

/** Other servers, for all of its caches. */
export async function changePool(
  parts: Parts,
  context: Context,
  name: string,
  { servers }: z.output<typeof poolChangeInput>,
): Promise<Outcome<ShownPool>> {
  const outcome = await change(parts, context, async () => {
    if (name === MANAGED_POOL) return notManaged;
    const found = await parts.state.get("pool", name);
    if (found === undefined) return noPool(name);
    const stale = outdated(context, found);
    if (stale !== undefined) return stale;
    const { value: before, revision } = found;
    const value: Pool = { ...before, servers };
    const isSame = JSON.stringify(before) === JSON.stringify(value);
    return {
      ok: true,
      revision,
      changes: isSame ? [] : [{ kind: "pool", id: name, value, expected: revision }],
      audit: { action: "pool.change", cache: "", subject: name, before, after: value },
      value: (now) => shownPool(parts.view, { id: name, value, revision: now }),
    };
  });
  if (!outcome.ok) return outcome;
  let { revision } = outcome;
  for (const cacheId of cachesOf(parts.view, name)) {
    revision = Math.max(revision, await bringInLine(parts, cacheId));
  }
  return done(outcome.value, revision);
}

export async function deletePool(
  parts: Parts,
  context: Context,
  name: string,
): Promise<Outcome<ShownPool>> {
  return change(parts, context, async () => {
    if (name === MANAGED_POOL) return notManaged;
    const found = await parts.state.get("pool", name);
    if (found === undefined) return noPool(name);
    const stale = outdated(context, found);
    if (stale !== undefined) return stale;
    const caches = cachesOf(parts.view, name);
    if (caches.length > 0) {
      return forbidden(`${caches.length} caches are on the pool ${name}; delete them first`);
    }
    const { value: before, revision } = found;
    return {
      ok: true,
      revision,
      changes: [{ kind: "pool", id: name, value: null, expected: revision }],
      audit: { action: "pool.delete", cache: "", subject: name, before, after: null },
      value: () => shownPool(parts.view, found),
    };
  });
}

/** The shards of a new cache on an external pool; whoever deletes the pool meanwhile conflicts. */
export async function firstShards(
  { state }: Pick<Parts, "state">,
  { cacheId, cache }: { cacheId: string; cache: { pool: string; bytes: number } },
): Promise<Change[] | Refused> {
  const pool = await state.get("pool", cache.pool);
  if (pool === undefined) return noPool(cache.pool);
  const changes = externalChanges({
    cacheId,
    cache: { bytes: cache.bytes, epoch: 0, statsEpoch: 0 },
    pool: pool.value,
    layout: undefined,
    shards: [],
    ejections: [],
    isKnownToAll: true,
  });
  const { value, revision } = pool;
  return [{ kind: "pool", id: cache.pool, value, expected: revision }, ...(changes ?? [])];
}

/** Makes the shards of a cache what its pool and size say; resolves with the revision, 0 if so. */
export async function bringInLine(parts: Parts, cacheId: string): Promise<number> {
  const { state, view } = parts;
  for (let attempt = 0; attempt < ATTEMPT_COUNT_MAX; attempt++) {
    const cache = await state.get("cache", cacheId);
    if (cache === undefined || cache.value.pool === MANAGED_POOL) return 0;
    const pool = await state.get("pool", cache.value.pool);
    if (pool === undefined) return 0;
    const layout = await state.get("layout", cacheId);
    const prefix = `${cacheId}/`;
    const shards = (await state.list("shard", { prefix })).entries;
    const ejections = (await state.list("ejection", { prefix })).entries;
    const revision = layout?.revision ?? 0;
    const isKnownToAll = (): boolean =>
      [...view.proxies.values()].every(({ value }) => value.appliedRevision >= revision);
    // What is not done now is done by upkeep.
    if (!(await view.until(isKnownToAll, KNOWN_MS_MAX))) return 0;
    const changes = externalChanges({
      cacheId,
      cache: cache.value,
      pool: pool.value,
      layout,
      shards,
      ejections,
      isKnownToAll: true,
    });
    if (changes === undefined || changes.length === 0) return 0;
    const commit = await state.commit(changes);
    if (commit.ok) {
      await view.reached(commit.revision);
      return commit.revision;
    }
  }
  throw new StateUnavailable("others were faster, again and again");
}
const KNOWN_MS_MAX = 5_000;

/** Caches whose shards are not what their pool says, or left over from one that is gone. */
export function outOfLine(view: View): string[] {
  return [...view.caches.values()].flatMap(({ id, value }) => {
    const pool = view.pools.get(value.pool);
    if (pool === undefined) return [];
    const shards = new Map(view.shardsOf(id).map((shard) => [shard.value.node, shard.value]));
    const isInLine =
      shards.size === pool.value.servers.length &&
      pool.value.servers.every(({ name, address, weight }) => {
        const shard = shards.get(name);
        return shard?.address === address && shard.weight === weight;
      });
    return isInLine ? [] : [id];
  });
}
