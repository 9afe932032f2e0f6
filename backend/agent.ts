/**
 * The agent of a node: makes what runs here equal to what the cluster state wants. For each cache
 * that is placed on this node it opens a shard and publishes where it is; it resizes shards when a
 * plan or the set of nodes changes, empties those that were fenced or whose cache was flushed, and
 * closes those whose cache is gone. (A disabled cache keeps its shards and what is in them.) It
 * only ever looks at the state as a whole, so it converges from wherever it starts.
 *
 * A node stays part of the placement as long as any shard record names it: its keys must not move
 * because it is away for a moment. Records of shards therefore outlive their process.
 */
import { isDeepStrictEqual } from "node:util";
import { type PlacementNode, placeShards } from "../core/cluster/placement.ts";
import { Presence } from "../core/cluster/presence.ts";
import type { Cache, Node, NodeSetting, Shard as ShardRecord } from "../core/cluster/records.ts";
import {
  type ClusterState,
  type Entry,
  type Seen,
  StateUnavailable,
  type Watch,
} from "../core/cluster/state.ts";
import type { Loop } from "../core/io/loop.ts";
import { clock, every, sleep, type Timer } from "../core/runtime/clock.ts";
import { formatAddress } from "../core/runtime/config.ts";
import type { Logger } from "../core/runtime/log.ts";
import { secureBytes } from "../core/runtime/random.ts";
import { Output } from "./embedded/output.ts";
import { ShardServer } from "./embedded/server.ts";
import { Shard } from "./embedded/shard.ts";
import { resetStats } from "./embedded/stats.ts";
import type { NodeOptions } from "./options.ts";
import { removeStaleSocket, type SocketDirectory } from "./sockets.ts";

const RETRY_DELAY_MS = 500;
const TICK_INTERVAL_MS = 100;
/** While memory is being brought in line with a new limit: a turn of a millisecond in each. */
const BUSY_TICK_INTERVAL_MS = 10;
/** Cas uniques of a shard that starts anew are above all it gave out before, see `casStart`. */
const CAS_EPOCH_MS = 1_700_000_000_000;
const CAS_PER_MS = 1024;

/** A shard that is open on this node. */
export interface OpenShard {
  readonly id: string;
  readonly cacheId: string;
  readonly shard: Shard;
  readonly server: ShardServer;
  readonly address: string;
  epoch: number;
  /** The epochs of its cache that it has caught up with. */
  flushedEpoch: number;
  statsEpoch: number;
}

/** A shard record and the revision that wrote it. */
type Known = { value: ShardRecord; revision: number };

export interface AgentParts {
  options: NodeOptions;
  state: ClusterState;
  log: Logger;
  loop: Loop;
  sockets: SocketDirectory | null;
}

export class Agent {
  readonly shards = new Map<string, OpenShard>();
  readonly #parts: AgentParts;
  readonly #output: Output;
  readonly #caches = new Map<string, Cache>();
  readonly #nodes = new Map<string, Node>();
  readonly #settings = new Map<string, NodeSetting>();
  readonly #records = new Map<string, Known>();
  readonly #startedAtMs = clock.unixMs();
  #watch: Watch | undefined;
  #ticking: Timer | undefined;
  #isTickingBusily = false;
  readonly #presence: Presence<"node">;
  /** The reconciliation under way; at most one. */
  #reconciling: Promise<void> | undefined;
  #isBehind = false;
  /** The state was away when a shard should have been published. */
  #isUnpublished = false;
  #isStarting = true;
  #isReady = false;
  #isDraining = false;

  constructor(parts: AgentParts) {
    this.#parts = parts;
    this.#output = new Output(parts.loop);
    this.#presence = new Presence({
      state: parts.state,
      log: parts.log,
      kind: "node",
      id: parts.options.name,
      value: () => ({
        pid: process.pid,
        engine: "embedded",
        weight: parts.options.weight,
        zone: parts.options.zone,
        ready: this.#isReady,
        startedAtMs: this.#startedAtMs,
      }),
    });
  }

  /** Every shard that this node should have is open and published. */
  get isReady(): boolean {
    return this.#isReady && !this.#isDraining;
  }

  /** The name of this node. */
  get name(): string {
    return this.#parts.options.name;
  }

  /** The name of the cache of a shard, for people and metrics. */
  cacheName({ cacheId }: OpenShard): string {
    return this.#caches.get(cacheId)?.name ?? cacheId;
  }

  /** Resolves when the shards of the state as it is now are served; rejects if they cannot be. */
  async start(): Promise<void> {
    await this.#follow();
    await this.#presence.publish();
    this.#ticking = every(TICK_INTERVAL_MS, () => this.#tick());
    await this.#round();
    this.#isStarting = false;
    this.#isReady = true;
    await this.#presence.publish();
    void this.#reconcile();
    this.#parts.log.info({ shards: this.shards.size }, "serving shards");
  }

  // ---- what the state says -----------------------------------------------------------------------

  async #follow(): Promise<void> {
    const { state } = this.#parts;
    // What changes between these lists is told by the watch, from the oldest of them on.
    const [caches, nodes, settings, records] = [
      await state.list("cache"),
      await state.list("node"),
      await state.list("nodeSetting"),
      await state.list("shard"),
    ];
    for (const { id, value } of caches.entries) this.#caches.set(id, value);
    for (const { id, value } of nodes.entries) this.#nodes.set(id, value);
    for (const { id, value } of settings.entries) this.#settings.set(id, value);
    for (const entry of records.entries) this.#records.set(entry.id, entry);
    this.#watch = state.watch(caches.revision, {
      changed: (seen) => this.#changed(seen),
      reset: () => this.#forget(),
    });
  }

  #forget(): void {
    this.#caches.clear();
    this.#nodes.clear();
    this.#settings.clear();
    this.#records.clear();
  }

  #changed(seen: readonly Seen[]): void {
    for (const { kind, id, value, revision } of seen) {
      if (kind === "cache") put(this.#caches, id, value);
      else if (kind === "node") put(this.#nodes, id, value);
      else if (kind === "nodeSetting") put(this.#settings, id, value);
      else if (kind === "shard")
        put(this.#records, id, value === null ? null : { value, revision });
    }
    void this.#reconcile();
  }

  /** Bytes that this node should have of a cache; undefined if the cache is not placed here. */
  #share(cacheId: string, cache: Cache): number | undefined {
    const placed = placeShards({ id: cacheId, bytes: cache.bytes }, this.#allNodes());
    return placed.find(({ node }) => node === this.name)?.bytes;
  }

  /** Living nodes, and those that are away: their shards tell what they were like. */
  #allNodes(): PlacementNode[] {
    const known = new Map<string, Pick<Node, "weight" | "zone">>();
    for (const { value } of this.#records.values()) known.set(value.node, value);
    for (const [id, node] of this.#nodes) known.set(id, node);
    known.set(this.name, this.#parts.options);
    return [...known].map(([name, { weight, zone }]) => {
      return { name, weight, zone, isDraining: this.#settings.get(name)?.draining === true };
    });
  }

  // ---- making it so ------------------------------------------------------------------------------

  /** One at a time; what changes meanwhile makes another round. */
  #reconcile(): Promise<void> {
    this.#isBehind = true;
    // What is told during the first round makes the second: two at once would open a shard twice.
    if (this.#isStarting) return Promise.resolve();
    this.#reconciling ??= this.#catchUp().finally(() => {
      this.#reconciling = undefined;
    });
    return this.#reconciling;
  }

  async #catchUp(): Promise<void> {
    while (this.#isBehind && !this.#isDraining) {
      this.#isBehind = false;
      try {
        await this.#round();
      } catch (error) {
        this.#parts.log.error({ err: error }, "shards could not be brought in line; trying again");
        this.#isUnpublished = true;
      }
      if (!this.#isUnpublished) continue;
      this.#isBehind = true;
      await sleep(RETRY_DELAY_MS);
    }
  }

  async #round(): Promise<void> {
    this.#isUnpublished = false;
    for (const open of [...this.shards.values()]) {
      if (await this.#isGone(open.cacheId)) await this.#remove(open, "its cache is gone");
    }
    await this.#removeOrphans();
    for (const [cacheId, cache] of [...this.#caches]) {
      const bytes = this.#share(cacheId, cache);
      if (this.#isDraining) return;
      const id = `${cacheId}/${this.#parts.options.name}`;
      const open = this.shards.get(id);
      if (bytes === undefined) {
        if (open !== undefined) await this.#remove(open, "its cache has moved to other nodes");
      } else if (open === undefined) await this.#open(id, { cacheId, cache, bytes });
      else await this.#adjust(open, { cache, bytes });
    }
  }

  /** Asks the state itself: what we know may be half of a list that is being read anew. */
  async #isGone(cacheId: string): Promise<boolean> {
    return (
      !this.#caches.has(cacheId) && (await this.#parts.state.get("cache", cacheId)) === undefined
    );
  }

  async #open(
    id: string,
    { cacheId, cache, bytes }: { cacheId: string; cache: Cache; bytes: number },
  ): Promise<void> {
    const { log, loop } = this.#parts;
    const shard = new Shard(this.#output, {
      bytes,
      clockOffsetMs: clock.unixMs() - clock.nowMs(),
      nowMs: clock.nowMs(),
      seed: newSeed(),
      casStart: casStart(),
    });
    const server = new ShardServer(loop, shard);
    const before = await this.#parts.state.get("shard", id);
    const address = await this.#listen(server, id, before?.value.address);
    const epoch = (before?.value.epoch ?? 0) + 1;
    this.#remember(id, before);
    // It begins empty, and counts from zero: what was wished until now is done.
    const { epoch: flushedEpoch, statsEpoch } = cache;
    const open = { id, cacheId, shard, server, address, epoch, flushedEpoch, statsEpoch };
    this.shards.set(id, open);
    log.info({ shard: id, address, bytes, epoch }, "shard opened");
    await this.#publish(open);
  }

  /** Where it was before if that is possible: then nobody needs to be told. */
  async #listen(server: ShardServer, id: string, before: string | undefined): Promise<string> {
    const { options, sockets, loop } = this.#parts;
    if (sockets === null) return listenOnTcp(server, options, before);
    const path = sockets.pathOf(id);
    await removeStaleSocket(loop, path);
    return server.listen({ path });
  }

  /** Follows the plan, the placement, wished flushes, and whoever fenced the shard. */
  async #adjust(open: OpenShard, { cache, bytes }: { cache: Cache; bytes: number }): Promise<void> {
    const { log } = this.#parts;
    const { store } = open.shard;
    const record = this.#records.get(open.id)?.value;
    if (store.items.limit !== bytes) {
      log.info({ shard: open.id, from: store.items.limit, to: bytes }, "shard resized");
      store.items.limit = bytes;
    }
    const isFenced = record?.state === "fenced";
    if (isFenced || cache.epoch > open.flushedEpoch) {
      store.flush(0);
      open.epoch = Math.max(open.epoch, record?.epoch ?? 0) + 1;
      log.info({ shard: open.id, epoch: open.epoch, isFenced }, "shard emptied");
    }
    if (cache.statsEpoch > open.statsEpoch) resetStats(open.shard);
    // Where they are lower than before, the state is an older one: the next wish counts again.
    open.flushedEpoch = cache.epoch;
    open.statsEpoch = cache.statsEpoch;
    if (!isPublished(record, this.#recordOf(open))) await this.#publish(open);
  }

  #recordOf({ cacheId, address, epoch, flushedEpoch, statsEpoch, shard }: OpenShard): ShardRecord {
    const { name, weight, zone } = this.#parts.options;
    return {
      cache: cacheId,
      node: name,
      weight,
      zone,
      address,
      bytes: shard.store.items.limit,
      epoch,
      flushedEpoch,
      statsEpoch,
      state: "ready",
    };
  }

  /** Unless somebody fenced it meanwhile: then that is looked at first. */
  async #publish(open: OpenShard): Promise<void> {
    const { state } = this.#parts;
    const { id } = open;
    const value = this.#recordOf(open);
    const expected = this.#records.get(id)?.revision ?? 0;
    const commit = await state
      .commit([{ kind: "shard", id, value, expected }])
      .catch((error: unknown) => this.#publishLater(error));
    if (commit === undefined) return;
    if (commit.ok) {
      this.#records.set(id, { value, revision: commit.revision });
    } else if (commit.reason === "conflict") {
      this.#remember(id, await state.get("shard", id));
      this.#isBehind = true;
    } else {
      throw new Error(`shard ${id} not published: ${commit.reason}`);
    }
  }

  /** A shard serves whether or not the state can be told; proxies look where it was before. */
  #publishLater(error: unknown): undefined {
    if (!(error instanceof StateUnavailable)) throw error;
    if (!this.#isUnpublished) this.#parts.log.warn({ err: error }, "shard not published yet");
    this.#isUnpublished = true;
  }

  #remember(id: string, entry: Entry<"shard"> | undefined): void {
    put(this.#records, id, entry ?? null);
  }

  async #remove(open: OpenShard, reason: string): Promise<void> {
    this.shards.delete(open.id);
    await this.#parts.state.commit([{ kind: "shard", id: open.id, value: null }]);
    this.#records.delete(open.id);
    await open.server.drain();
    void release(open.shard);
    this.#parts.log.info({ shard: open.id, reason }, "shard closed");
  }

  /** Records of ours whose cache was deleted while we were away. */
  async #removeOrphans(): Promise<void> {
    for (const [id, { value }] of [...this.#records]) {
      const { cache, node } = value;
      if (node !== this.#parts.options.name || !(await this.#isGone(cache))) continue;
      await this.#parts.state.commit([{ kind: "shard", id, value: null }]);
      this.#records.delete(id);
    }
  }

  #tick(): void {
    const nowMs = clock.nowMs();
    let isBusy = false;
    for (const { shard } of this.shards.values()) isBusy = shard.tick(nowMs) || isBusy;
    if (isBusy && !this.#isTickingBusily) void this.#tickBusily();
  }

  async #tickBusily(): Promise<void> {
    this.#isTickingBusily = true;
    await sleep(BUSY_TICK_INTERVAL_MS);
    this.#isTickingBusily = false;
    if (!this.#isDraining) this.#tick();
  }

  // ---- being here --------------------------------------------------------------------------------

  /** Answers what was read, then closes. The records stay: the keys of this node are still its. */
  async drain(): Promise<void> {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#watch?.close();
    this.#ticking?.stop();
    await this.#reconciling?.catch(() => {});
    await Promise.all([...this.shards.values()].map(({ server }) => server.drain()));
    await this.#presence.end();
    await this.#parts.sockets?.close();
  }
}

function put<T>(into: Map<string, T>, id: string, value: T | null): void {
  if (value === null) into.delete(id);
  else into.set(id, value);
}

/** A free port, but the one of before while nobody else has it. */
async function listenOnTcp(
  server: ShardServer,
  { host = "127.0.0.1", advertise = host }: NodeOptions,
  before: string | undefined,
): Promise<string> {
  const portBefore = before?.startsWith("unix:") ? 0 : portOf(before ?? ":0");
  const address = await server
    .listen({ host, port: portBefore })
    .catch(() => server.listen({ host, port: 0 }));
  return formatAddress({ host: advertise, port: portOf(address) });
}

const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(":") + 1));

/** Whether everybody can read what `wanted` says. */
function isPublished(record: ShardRecord | undefined, wanted: ShardRecord): boolean {
  if (record === undefined) return false;
  const seen = record.state === "draining" ? { ...record, state: wanted.state } : record;
  return isDeepStrictEqual(seen, wanted);
}

/** Gives the memory of a closed shard back to the machine, in turns. */
async function release({ store }: Shard): Promise<void> {
  store.items.clear();
  while (!store.items.trim()) await sleep(BUSY_TICK_INTERVAL_MS);
}

function newSeed(): [number, number] {
  const bytes = Buffer.from(secureBytes(8));
  return [bytes.readInt32LE(0), bytes.readInt32LE(4)];
}

/**
 * A client may hold a cas unique from before a restart, and must not overwrite with it what others
 * stored since. A shard stores less than 1,024 items per millisecond in the long run, so a number
 * that grows by that every millisecond is above all that were given out.
 */
function casStart(): number {
  return Math.max(0, clock.unixMs() - CAS_EPOCH_MS) * CAS_PER_MS;
}
