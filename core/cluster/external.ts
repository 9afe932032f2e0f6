/**
 * Caches on servers that we do not run. Nobody can be asked to empty such a server, or a part of it,
 * so what keeps caches apart, and old values away, is what stands before every key: the stamp of the
 * shard that owns the key, 12 letters drawn by chance and never used twice. Another stamp is an
 * empty shard: that is how a cache is flushed, how a shard returns after a failure, and how keys come
 * to a server that had them before. What is left under old stamps is never read again, and goes
 * when the server evicts it.
 *
 * Pure: what is to be written, given what the state says. Whoever commits it is not here.
 */
import { isDeepStrictEqual } from "node:util";
import { secureBytes } from "../runtime/random.ts";
import { gainers, isSame, losesKeys, reEjected } from "./layout.ts";
import type { Cache, Ejection, Layout, Member, Pool, Shard } from "./records.ts";
import type { Change } from "./state.ts";

/** Bytes before every key, of 250. */
export const STAMP_SIZE = 12;

/** 72 random bits. */
export const newStamp = (): string => Buffer.from(secureBytes(9)).toString("base64url");

/** A record and the revision that wrote it. */
interface Known<T> {
  readonly value: T;
  readonly revision: number;
}

export interface ExternalView {
  readonly cacheId: string;
  readonly cache: Pick<Cache, "bytes" | "epoch" | "statsEpoch">;
  readonly pool: Pick<Pool, "servers">;
  readonly layout: Known<Layout> | undefined;
  readonly shards: readonly Known<Shard>[];
  readonly ejections: readonly Known<Ejection>[];
  /** All proxies that live have applied the layout. */
  readonly isKnownToAll: boolean;
}

/**
 * What brings the shards of a cache in line with its pool: nothing if they are, undefined if the
 * change before this one is not yet known to all.
 */
export function externalChanges(view: ExternalView): Change[] | undefined {
  const { cacheId, pool, layout } = view;
  const members = pool.servers.map(({ name, weight }): Member => {
    return { node: name, weight, zone: "" };
  });
  const next = nextLayout(members, layout?.value);
  if (next !== undefined && layout !== undefined && !view.isKnownToAll) return undefined;
  const states = new Map(view.shards.map(({ value }) => [value.node, value]));
  const ejections =
    next === undefined ? [] : view.ejections.map((known) => reEjected(known, next, states));
  const shards = pool.servers.flatMap((server): Change[] => {
    const id = `${cacheId}/${server.name}`;
    const before = view.shards.find(({ value }) => value.node === server.name);
    const ejection = ejections.find((change) => change.id === id)?.value;
    const clearedFor = ejection?.serial;
    const value = shardOf(view, server, { before: before?.value, next, clearedFor });
    const isSame = before !== undefined && isDeepStrictEqual(value, before.value);
    return isSame ? [] : [{ kind: "shard", id, value, expected: before?.revision ?? 0 }];
  });
  if (next === undefined) return shards;
  const gone = view.shards.filter(({ value }) => !members.some(({ node }) => node === value.node));
  return [
    { kind: "layout", id: cacheId, value: next, expected: layout?.revision ?? 0 },
    ...shards,
    ...gone.map(
      ({ value }): Change => ({ kind: "shard", id: `${cacheId}/${value.node}`, value: null }),
    ),
    ...ejections,
  ];
}

function nextLayout(members: Member[], before: Layout | undefined): Layout | undefined {
  if (before === undefined) return { serial: 1, members, before: [] };
  if (isSame(members, before.members)) return undefined;
  return { serial: before.serial + 1, members, before: before.members };
}

type Circumstances = {
  before: Shard | undefined;
  next: Layout | undefined;
  /** The shard is ejected, and with the next layout anew. */
  clearedFor: string | undefined;
};

/** One server of the pool as a shard of the cache. */
function shardOf(
  { cacheId, cache, pool, layout }: ExternalView,
  { name, address, weight }: Pool["servers"][number],
  { before, next, clearedFor }: Circumstances,
): Shard {
  const weightTotal = pool.servers.reduce((sum, server) => sum + server.weight, 0);
  const serial = next?.serial ?? layout?.value.serial ?? 1;
  const shard: Shard = {
    cache: cacheId,
    node: name,
    address,
    bytes: Math.floor((cache.bytes * weight) / weightTotal),
    epoch: before?.epoch ?? 1,
    flushedEpoch: cache.epoch,
    statsEpoch: cache.statsEpoch,
    weight,
    zone: "",
    process: null,
    clearedFor: clearedFor ?? before?.clearedFor ?? "",
    layout: before?.layout ?? serial,
    emptySinceMs: 0,
    stamp: before?.stamp ?? newStamp(),
    state: "ready",
  };
  if (before === undefined) return shard;
  const mustBeEmpty =
    before.address !== address || clearedFor !== undefined || gainsWhatItHad(name, before, next);
  if (mustBeEmpty) return { ...emptied(shard), layout: serial };
  const staysInLine =
    next !== undefined && before.layout === next.serial - 1 && !losesKeys(name, next);
  return staysInLine ? { ...shard, layout: serial } : shard;
}

/** Keys come to it that it may have owned before: nobody has dropped them. */
function gainsWhatItHad(name: string, before: Shard, next: Layout | undefined): boolean {
  if (next === undefined || before.layout >= next.serial - 1) return false;
  return gainers(next.before, next.members).some(({ node }) => node === name);
}

/** A shard that begins empty. */
export const emptied = (shard: Shard): Shard => ({
  ...shard,
  epoch: shard.epoch + 1,
  stamp: newStamp(),
});

/** What empties a cache: other stamps for all of its shards. */
export function flushChanges(
  { id, value, revision }: { id: string; value: Cache; revision: number },
  shards: readonly Known<Shard>[],
): Change[] {
  const cache = { ...value, epoch: value.epoch + 1 };
  return [
    { kind: "cache", id, value: cache, expected: revision },
    ...shards.map((known): Change => {
      const shard = { ...emptied(known.value), flushedEpoch: cache.epoch };
      return { kind: "shard", id: `${id}/${shard.node}`, value: shard, expected: known.revision };
    }),
  ];
}
