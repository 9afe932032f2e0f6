/**
 * The agent of a node: makes what runs here equal to what the cluster state wants. For each cache
 * that is placed on this node it opens a shard and publishes where it is; it resizes shards when a
 * plan or the set of nodes changes, empties those that were fenced or whose cache was flushed, takes
 * keys out that have moved to other nodes, and closes those whose cache is gone. (A disabled cache keeps its shards and what is in them.) It
 * only ever looks at the state as a whole, so it converges from wherever it starts.
 *
 * A node stays part of the placement as long as any shard record names it: its keys must not move
 * because it is away for a moment. Records of shards therefore outlive their process.
 */
import { isDeepStrictEqual } from "node:util";
import { AppliedByAll } from "../core/cluster/applied.ts";
import {
  bytesOf,
  type Placement,
  type PlacementNode,
  placeShards,
} from "../core/cluster/placement.ts";
import { Presence } from "../core/cluster/presence.ts";
import {
  type Cache,
  MANAGED_POOL,
  type Member,
  type Node,
  type NodeSetting,
  type Shard as ShardRecord,
} from "../core/cluster/records.ts";
import {
  type Change,
  type ClusterState,
  type Entry,
  type Seen,
  StateUnavailable,
  type Watch,
} from "../core/cluster/state.ts";
import { clock, sleep } from "../core/runtime/clock.ts";
import type { Logger } from "../core/runtime/log.ts";
import type { Engine, EngineShard } from "./engine.ts";
import { Layouts } from "./layouts.ts";
import { MemoryWatch } from "./memory.ts";
import type { NodeOptions } from "./options.ts";
import { type KnownEjection, StandIns } from "./standIns.ts";

/** Records that an agent follows. */
export const FOLLOWED_KINDS = [
  "cache",
  "node",
  "nodeSetting",
  "layout",
  "shard",
  "ejection",
  "proxy",
] as const;

const isFollowed = (kind: string): boolean => (FOLLOWED_KINDS as readonly string[]).includes(kind);

const RETRY_DELAY_MS = 500;
/** Shards that are seen to at the same time: an engine may start a process for each. */
const TASK_COUNT_MAX = 8;

/** A shard that is open on this node. */
export interface OpenShard {
  readonly id: string;
  readonly cacheId: string;
  readonly shard: EngineShard;
  epoch: number;
  /** The generation of the shard that `epoch` counts. */
  generation: number;
  /** The epochs of its cache that it has caught up with. */
  flushedEpoch: number;
  statsEpoch: number;
  /** Serial of the ejection for which it was emptied last. */
  clearedFor: string;
  /** Serial of the layout since which it holds nothing that other nodes own. */
  layout: number;
  /** When it last began empty by itself; 0 for never. */
  emptySinceMs: number;
}

/** A shard record and the revision that wrote it. */
type Known = { value: ShardRecord; revision: number };

export interface AgentParts {
  options: NodeOptions;
  state: ClusterState;
  log: Logger;
  engine: Engine;
  /** For stand-ins; the other one if absent. */
  standInEngine?: Engine;
}

export class Agent {
  readonly shards = new Map<string, OpenShard>();
  readonly #parts: AgentParts;
  readonly #caches = new Map<string, Cache>();
  /** Caches that are on servers of others. */
  readonly #foreign = new Set<string>();
  readonly #nodes = new Map<string, Node>();
  readonly #settings = new Map<string, NodeSetting>();
  readonly #records = new Map<string, Known>();
  readonly #ejections = new Map<string, KnownEjection>();
  readonly #applied = new AppliedByAll();
  readonly #standIns: StandIns;
  readonly #layouts: Layouts;
  /** The newest revision that was told. */
  #revision = 0;
  readonly #startedAtMs = clock.unixMs();
  #watch: Watch | undefined;
  /** Shards whose cache is gone and that still finish. */
  readonly #closing = new Map<string, Promise<void>>();
  readonly #presence: Presence<"node">;
  readonly #memory: MemoryWatch = new MemoryWatch(() => void this.#presence.publish());
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
    const { state, log, engine: own, standInEngine: engine = own } = parts;
    this.#standIns = new StandIns({ state, log, engine, node: parts.options.name });
    this.#layouts = new Layouts({
      state,
      log,
      node: parts.options.name,
      applied: this.#applied,
      wake: () => void this.#reconcile(),
    });
    this.#presence = new Presence({
      state: parts.state,
      log: parts.log,
      kind: "node",
      id: parts.options.name,
      value: () => ({
        pid: process.pid,
        engine: parts.engine.name,
        weight: parts.options.weight,
        zone: parts.options.zone,
        ready: this.#isReady,
        memoryUsed: this.#memory.told,
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
    await this.#round();
    await this.#parts.engine.settled();
    this.#isStarting = false;
    this.#isReady = true;
    await this.#presence.publish();
    this.#memory.start();
    void this.#reconcile();
    this.#parts.log.info({ shards: this.shards.size }, "serving shards");
  }

  // ---- what the state says -----------------------------------------------------------------------

  async #follow(): Promise<void> {
    const { state } = this.#parts;
    // What changes between these lists is told by the watch, from the oldest of them on.
    const [caches, nodes, settings, layouts, records, ejections, proxies] = [
      await state.list("cache"),
      await state.list("node"),
      await state.list("nodeSetting"),
      await state.list("layout"),
      await state.list("shard"),
      await state.list("ejection"),
      await state.list("proxy"),
    ];
    for (const entry of ejections.entries) this.#ejections.set(entry.id, entry);
    for (const { id, value } of proxies.entries) this.#applied.proxySeen(id, value);
    this.#revision = proxies.revision;
    for (const { id, value } of caches.entries) this.#cacheSeen(id, value);
    for (const { id, value } of nodes.entries) this.#nodes.set(id, value);
    for (const { id, value } of settings.entries) this.#settings.set(id, value);
    for (const entry of layouts.entries) this.#layouts.seen(entry.id, entry);
    for (const entry of records.entries) {
      if (isOurs(entry.value)) this.#records.set(entry.id, entry);
    }
    this.#watch = state.watch(caches.revision, {
      changed: (seen, revision) => this.#changed(seen, revision),
      reset: () => this.#forget(),
    });
  }

  #forget(): void {
    this.#caches.clear();
    this.#foreign.clear();
    this.#nodes.clear();
    this.#settings.clear();
    this.#layouts.forget();
    this.#records.clear();
    this.#ejections.clear();
    this.#applied.clear();
  }

  /** A cache on servers of others is nothing to us. */
  #cacheSeen(id: string, cache: Cache | null): void {
    const isForeign = cache !== null && cache.pool !== MANAGED_POOL;
    put(this.#caches, id, isForeign ? null : cache);
    if (isForeign) this.#foreign.add(id);
    else this.#foreign.delete(id);
  }

  #changed(seen: readonly Seen[], newest: number): void {
    this.#revision = newest;
    const { revision: appliedBefore } = this.#applied;
    for (const { kind, id, value, revision } of seen) {
      if (kind === "cache") this.#cacheSeen(id, value);
      else if (kind === "node") put(this.#nodes, id, value);
      else if (kind === "nodeSetting") put(this.#settings, id, value);
      else if (kind === "layout")
        this.#layouts.seen(id, value === null ? null : { value, revision });
      else if (kind === "shard")
        put(this.#records, id, value === null || !isOurs(value) ? null : { value, revision });
      else if (kind === "ejection")
        put(this.#ejections, id, value === null ? null : { value, revision });
      else if (kind === "proxy") this.#applied.proxySeen(id, value);
    }
    const isNews = seen.some(({ kind }) => kind !== "proxy" && isFollowed(kind));
    const isAwaited = this.#applied.revision !== appliedBefore && this.#awaitsProxies;
    if (isNews || isAwaited) void this.#reconcile();
  }

  /** What all proxies have applied matters while a shard is out, or keys move. */
  get #awaitsProxies(): boolean {
    return this.#layouts.isWaiting || this.#ejections.size + this.#standIns.size > 0;
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
    this.#layouts.isWaiting = false;
    const tasks: (() => Promise<void>)[] = [];
    const nodes = this.#allNodes();
    for (const [cacheId, cache] of [...this.#caches]) {
      if (this.#isDraining) return;
      tasks.push(() => this.#place(cacheId, cache, nodes));
    }
    // Clients wait for stand-ins: they come first.
    tasks.unshift(() => this.#standFor());
    await this.#doAll(tasks);
  }

  /** Layout and shard of one cache. */
  async #place(cacheId: string, cache: Cache, nodes: readonly PlacementNode[]): Promise<void> {
    const layouts = this.#layouts;
    const placed = placeShards({ id: cacheId, bytes: bytesOf(cache) }, nodes);
    await this.#propose(cacheId, placed, nodes);
    const id = `${cacheId}/${this.name}`;
    const open = this.shards.get(id);
    const bytes = placed.find(({ node }) => node === this.name)?.bytes;
    if (bytes !== undefined) {
      if (open !== undefined) return this.#adjust(open, { cache, bytes });
      // Without a layout nobody knows yet who owns what.
      if (layouts.get(cacheId) !== undefined) return this.#open(id, { cacheId, cache, bytes });
    } else if (open !== undefined) {
      const isLeft = !layouts.isMember(cacheId) && layouts.isKnownToAll(cacheId);
      if (isLeft) return this.#remove(open, "its cache has moved to other nodes");
      layouts.isWaiting = true;
      return this.#adjust(open, { cache, bytes: open.shard.bytes });
    } else if (this.#records.has(id) && !layouts.isMember(cacheId)) {
      await this.#removeRecord(id);
    }
  }

  async #propose(
    cacheId: string,
    placed: readonly Placement[],
    nodes: readonly PlacementNode[],
  ): Promise<void> {
    const wanted = placed.map(({ node }): Member => {
      const { weight = 1, zone = "" } = nodes.find(({ name }) => name === node) ?? {};
      return { node, weight, zone };
    });
    const living = new Set([...this.#nodes.keys(), this.name]);
    const around = { shards: this.#records, ejections: this.#ejections, living };
    await this.#layouts
      .propose(cacheId, wanted, around)
      .catch((error: unknown) => this.#publishLater(error));
  }

  #standFor(): Promise<void> {
    const shards = new Map([...this.#records].map(([id, { value }]) => [id, value]));
    const ours = [...this.#ejections].filter(([, { value }]) => !this.#foreign.has(value.cache));
    return this.#standIns
      .reconcile(new Map(ours), {
        shards,
        revision: this.#revision,
        appliedByAll: this.#applied.revision,
      })
      .catch((error: unknown) => this.#publishLater(error));
  }

  /** Asks the state itself: what we know may be half of a list that is being read anew. */
  async #isGone(cacheId: string): Promise<boolean> {
    if (this.#foreign.has(cacheId)) return false;
    return (
      !this.#caches.has(cacheId) && (await this.#parts.state.get("cache", cacheId)) === undefined
    );
  }

  /** Several at a time. What goes wrong with one shard does not keep the others waiting. */
  async #doAll(tasks: (() => Promise<void>)[]): Promise<void> {
    const failures: unknown[] = [];
    const doNext = async (): Promise<void> => {
      for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) {
        if (!this.#isDraining) await task().catch((error) => failures.push(error));
      }
    };
    await Promise.all(Array.from({ length: TASK_COUNT_MAX }, doNext));
    if (failures.length > 0) throw failures[0];
  }

  async #open(
    id: string,
    { cacheId, cache, bytes }: { cacheId: string; cache: Cache; bytes: number },
  ): Promise<void> {
    const { engine, log, state } = this.#parts;
    await this.#closing.get(id);
    const before = await state.get("shard", id);
    const changed = (): void => void this.#reconcile();
    const shard = await engine.open({ id, bytes, before: before?.value, changed });
    this.#remember(id, before);
    // One that begins empty counts from zero, and what was wished until now is done.
    const told = shard.generation === 0 ? before?.value : undefined;
    const open: OpenShard = {
      id,
      cacheId,
      shard,
      epoch: before?.value.epoch ?? 0,
      generation: 0,
      flushedEpoch: told?.flushedEpoch ?? cache.epoch,
      statsEpoch: told?.statsEpoch ?? cache.statsEpoch,
      clearedFor: told?.clearedFor ?? "",
      layout: told?.layout ?? this.#cleanSince(cacheId),
      emptySinceMs: before?.value.emptySinceMs ?? 0,
    };
    this.shards.set(id, open);
    await this.#adjust(open, { cache, bytes });
    const { address, state: shardState } = shard;
    log.info({ shard: id, address, bytes, epoch: open.epoch, state: shardState }, "shard opened");
  }

  /** Follows the plan, the placement, wished flushes, and whoever fenced the shard. */
  async #adjust(open: OpenShard, { cache, bytes }: { cache: Cache; bytes: number }): Promise<void> {
    const { log } = this.#parts;
    const { shard } = open;
    const record = this.#records.get(open.id)?.value;
    if (shard.bytes !== bytes) {
      log.info({ shard: open.id, from: shard.bytes, to: bytes }, "shard resized");
      await shard.resize(bytes);
    }
    const ejectedAs = this.#serialToClear(open);
    const isFenced =
      ejectedAs !== undefined ||
      (record?.state === "fenced" && shard.generation === open.generation);
    if (isFenced || cache.epoch > open.flushedEpoch) {
      await shard.empty(isFenced ? "fenced" : "flushed");
      log.info({ shard: open.id, isFenced }, "shard emptied");
    }
    open.clearedFor = ejectedAs ?? open.clearedFor;
    if (cache.statsEpoch > open.statsEpoch) await shard.resetStats();
    // One that is not ready begins empty when it is; until then nothing is claimed.
    if (shard.state === "ready") this.#caughtUp(open, cache);
    this.#layouts.settle(open, cache.copies);
    if (!isPublished(record, this.#recordOf(open))) await this.#publish(open);
  }

  /** What is empty now may still be sent keys that have just moved: not what moved before. */
  #cleanSince(cacheId: string): number {
    return (this.#layouts.get(cacheId)?.value.serial ?? 1) - 1;
  }

  /**
   * The ejection for which it has to be emptied. Not before all proxies have left it: one of them
   * may still be storing something that nobody else will know of.
   */
  #serialToClear({ id, clearedFor }: OpenShard): string | undefined {
    const ejection = this.#ejections.get(id);
    if (ejection === undefined || ejection.value.serial === clearedFor) return undefined;
    return this.#applied.revision >= ejection.revision ? ejection.value.serial : undefined;
  }

  #caughtUp(open: OpenShard, cache: Cache): void {
    const { generation } = open.shard;
    if (generation !== open.generation) {
      // A flush empties all shards of the cache, and at first all are empty.
      const isLater =
        this.#records.has(open.id) || (this.#layouts.get(open.cacheId)?.value.serial ?? 0) > 1;
      const isAlone = cache.epoch === open.flushedEpoch && isLater;
      open.emptySinceMs = isAlone ? clock.unixMs() : 0;
      const published = this.#records.get(open.id)?.value.epoch ?? 0;
      open.epoch = Math.max(open.epoch, published) + 1;
      open.generation = generation;
      open.layout = Math.max(open.layout, this.#cleanSince(open.cacheId));
      this.#parts.log.info({ shard: open.id, epoch: open.epoch }, "shard begins empty");
    }
    // Where they are lower than before, the state is an older one: the next wish counts again.
    open.flushedEpoch = cache.epoch;
    open.statsEpoch = cache.statsEpoch;
  }

  #recordOf(open: OpenShard): ShardRecord {
    const { cacheId, epoch, flushedEpoch, statsEpoch, clearedFor, layout, emptySinceMs, shard } =
      open;
    const { name, weight, zone } = this.#parts.options;
    return {
      cache: cacheId,
      node: name,
      weight,
      zone,
      address: shard.address,
      bytes: shard.bytes,
      epoch,
      flushedEpoch,
      statsEpoch,
      process: shard.process,
      clearedFor,
      layout,
      emptySinceMs,
      stamp: "",
      state: shard.state,
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
    this.#layouts.closed(open);
    await this.#removeRecord(open.id);
    const closed = open.shard.close().finally(() => this.#closing.delete(open.id));
    this.#closing.set(open.id, closed);
    this.#parts.log.info({ shard: open.id, reason }, "shard closed");
  }

  async #removeRecord(id: string): Promise<void> {
    if (await this.#erase({ kind: "shard", id, value: null })) this.#records.delete(id);
  }

  /** Whether that was written; while the state is away it can wait for a later round. */
  async #erase(change: Change): Promise<boolean> {
    try {
      await this.#parts.state.commit([change]);
      return true;
    } catch (error) {
      if (!(error instanceof StateUnavailable)) throw error;
      this.#isUnpublished = true;
      return false;
    }
  }

  /** Records of ours whose cache was deleted while we were away, and layouts of such caches. */
  async #removeOrphans(): Promise<void> {
    for (const id of this.#layouts.ids) {
      if (!(await this.#isGone(id))) continue;
      if (await this.#erase({ kind: "layout", id, value: null })) this.#layouts.seen(id, null);
    }
    for (const [id, { value }] of [...this.#records]) {
      const { cache, node } = value;
      if (node !== this.#parts.options.name || !(await this.#isGone(cache))) continue;
      await this.#removeRecord(id);
    }
  }

  // ---- being here --------------------------------------------------------------------------------

  /** Answers what was read, then closes. The records stay: the keys of this node are still its. */
  async drain(): Promise<void> {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#memory.stop();
    this.#watch?.close();
    await this.#reconciling?.catch(() => {});
    await this.#standIns.close().catch((error: unknown) => {
      this.#parts.log.warn({ err: error }, "stand-ins not taken back");
    });
    const closed = [...this.shards.values()].map(({ shard }) => shard.close());
    await Promise.all([...closed, ...this.#closing.values()]);
    await this.#presence.end();
    const { engine, standInEngine = engine } = this.#parts;
    if (standInEngine !== engine) await standInEngine.close();
    await engine.close();
  }
}

const isOurs = ({ stamp }: ShardRecord): boolean => stamp === "";

function put<T>(into: Map<string, T>, id: string, value: T | null): void {
  if (value === null) into.delete(id);
  else into.set(id, value);
}

/** Whether everybody can read what `wanted` says. */
function isPublished(record: ShardRecord | undefined, wanted: ShardRecord): boolean {
  if (record === undefined) return false;
  const seen = record.state === "draining" ? { ...record, state: wanted.state } : record;
  return isDeepStrictEqual(seen, wanted);
}
