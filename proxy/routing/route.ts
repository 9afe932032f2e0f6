/**
 * The way from a key of one cache to its shard: the continuum of its nodes, and for each of them
 * the links in both dialects, opened on first use. A shard that is out of routing has a detour: its
 * keys go to stand-ins, along the same circle without it.
 *
 *     key -> continuum -> shard                       (nearly always)
 *                         | is out
 *                         v
 *                         detour -> stand-in          or, until it is open, nobody
 */
import {
  Continuum,
  continuumOf,
  hashKey,
  type WeightedNode,
} from "../../core/cluster/continuum.ts";
import { BusyKeys } from "./busyKeys.ts";
import { ShardLatency } from "./counters.ts";
import { Flights } from "./flights.ts";
import { Health, type HealthEvents, type Trouble } from "./health.ts";
import { HEDGE_AFTER_MS, Hedges } from "./hedges.ts";
import { DEADLINE_MS, Link, type LinkFailure, type LinkOptions, type LinkOwner } from "./link.ts";
import type { Dialect } from "./replies.ts";
import type { Rounds } from "./rounds.ts";

export interface ShardTarget {
  node: string;
  /** "" if nobody knows yet where it is: its keys are its all the same. */
  address: string;
  /** Share of the keys, compared with the other shards; 1 if absent. */
  weight?: number;
  /** Shards of one zone fail together; "" if absent. */
  zone?: string;
  /** When it last began empty while its siblings did not, since 1970; 0 if absent. */
  emptySinceMs?: number;
  /** Stands before every key of its own, wherever that is; none on our nodes. */
  stamp?: Buffer | null;
}

/**
 * Where the keys of a shard go that is out: for each node that takes a part of them its stand-in,
 * or null while that is not open. Without any of them nobody serves those keys.
 */
export type Detour = ReadonlyMap<string, string | null>;
/** More that wait on one link are not counted: so many say it all. */
const WAITING_COUNT_MAX = 256;
const NO_DETOURS: ReadonlyMap<string, Detour> = new Map();

export type RouteOptions = Omit<LinkOptions, "latency" | "owner" | "deadline"> & {
  rounds: Rounds;
  /** Nobody will ever ask it: it needs no shards. */
  isDormant?: boolean;
};

/** What links need of their route. */
type SharedOptions = RouteOptions & Pick<LinkOptions, "deadline">;

/** Told what happens to a shard, as it happens. */
interface ShardEvents {
  stirred(): void;
  troubled(shard: ShardLinks, trouble: Trouble): void;
}

type ShardPlace = { target: ShardTarget; standsInFor: string | null };

/** One shard as seen from here. */
export class ShardLinks implements LinkOwner {
  readonly node: string;
  readonly address: string;
  /** The node of the ejected shard whose keys it has; null if it is a shard in its own right. */
  readonly standsInFor: string | null;
  readonly latency: ShardLatency = new ShardLatency();
  /** One for each dialect in which somebody has wanted something of it: mostly one. */
  readonly links: Link[] = [];
  #text: Link | null = null;
  #binary: Link | null = null;
  #isRetired = false;
  isOut = false;
  /** Nobody uses its keys' other place yet, or still. */
  isClosed = false;
  emptySinceMs = 0;
  /** A read of it that waits for longer is late: health.ts keeps it up to date. */
  hedgeAfterMs = HEDGE_AFTER_MS;
  /** Of the shard whose keys it has. */
  stamp: Buffer | null = null;
  readonly #options: SharedOptions;
  readonly #events: ShardEvents;

  constructor({ target, standsInFor }: ShardPlace, options: SharedOptions, events: ShardEvents) {
    const { node, address } = target;
    this.node = node;
    this.address = address;
    this.standsInFor = standsInFor;
    this.#options = options;
    this.#events = events;
  }

  get text(): Link {
    this.#text ??= this.#linkIn("text");
    return this.#text;
  }

  get binary(): Link {
    this.#binary ??= this.#linkIn("binary");
    return this.#binary;
  }

  #linkIn(dialect: Dialect): Link {
    const link = new Link(this.address, dialect, {
      ...this.#options,
      latency: this.latency,
      owner: this,
    });
    if (this.isOut) link.eject();
    if (this.#isRetired) link.retire();
    this.links.push(link);
    return link;
  }

  /** For people and metrics; no two shards of a cache share it. */
  get label(): string {
    return this.standsInFor === null ? this.node : `${this.node} for ${this.standsInFor}`;
  }

  /** It is somewhere: not so are nobody, and a member of which no address is known yet. */
  get isThere(): boolean {
    return this.address !== "";
  }

  /** Nobody could use it now, whether somebody tries or not. */
  get isAway(): boolean {
    let isWaiting = false;
    for (const { state } of this.links) {
      if (state === "ready") return false;
      isWaiting ||= state === "waiting";
    }
    return isWaiting;
  }

  /** Commands in flight. */
  get depth(): number {
    let depth = 0;
    for (const link of this.links) depth += link.depth;
    return depth;
  }

  /** Of the connection that has most of them. */
  get timeoutsInRow(): number {
    let most = 0;
    for (const { timeoutsInRow } of this.links) most = Math.max(most, timeoutsInRow);
    return most;
  }

  /** Age of the operation that waits for longest; 0 without one. */
  get oldestMs(): number {
    let oldestMs = 0;
    for (const link of this.links) oldestMs = Math.max(oldestMs, link.oldestMs);
    return oldestMs;
  }

  /** Operations that wait for longer than `durationMs`, counted up to a bound. */
  waitingCount(durationMs: number): number {
    let count = 0;
    for (const link of this.links) count += link.waitingCount(durationMs, WAITING_COUNT_MAX);
    return count;
  }

  setOut(isOut: boolean): void {
    if (this.isOut === isOut) return;
    this.isOut = isOut;
    for (const link of this.links) {
      if (isOut) link.eject();
      else link.readmit();
    }
  }

  stirred(): void {
    this.#events.stirred();
  }

  /** What one dialect has found the other need not wait for. */
  answered(): void {
    for (const link of this.links) link.retryNow();
  }

  linkFailed(reason: LinkFailure): void {
    this.#events.troubled(this, reason);
  }

  outcomesUnknown(): void {
    this.#events.troubled(this, "outcomes_unknown");
  }

  closeIfIdle(nowMs: number): void {
    for (const link of this.links) link.closeIfIdle(nowMs);
  }

  retire(): void {
    this.#isRetired = true;
    for (const link of this.links) link.retire();
  }
}

/**
 * A shard returns empty, and the clients of its keys all find nothing: for so long reads of one key
 * share one read, and with that one answer "nothing there" comes to fewer of them at a time.
 */
const FRESH_MS = 10_000;

/** What a cache wishes of its route. */
type Policy = {
  copies: 1 | 2;
  isShared: boolean;
  isAdaptive?: boolean;
  /** On servers of others. */
  isExternal?: boolean;
};

/** In the place of the owner of keys that are on the move: always out. */
const NOBODY: ShardTarget = { node: "nobody", address: "" };

/** Where the copies of a key are now. One object, filled anew by each `locate`. */
export interface KeyPlace {
  hash: number;
  /** Decides; null if nobody has the key now. */
  first: ShardLinks | null;
  /** Follows; null if keys have one copy, or its shard is out. */
  second: ShardLinks | null;
  /** May be read, but not changed: who decides is about to become another one. */
  isClosed: boolean;
  /** The first began empty later than the second. */
  asksOnMiss: boolean;
  /** The first is not the owner of the key: that one is out. */
  isMoved: boolean;
}

/** Instead of a shard that is out: stand-ins by their place in `shards`, itself where none is. */
type Bypass = { continuum: Continuum; owners: readonly number[]; order: number };

export class Route {
  readonly #options: SharedOptions;
  readonly health: Health;
  readonly #shardEvents: ShardEvents;
  /** How long its shards may take to answer a command; follows what is usual if `isAdaptive`. */
  readonly deadline: { ms: number } = { ms: DEADLINE_MS };
  isAdaptive = false;
  #continuum: Continuum = new Continuum([]);
  /** All shards are in, and no keys are on the move: the continuum is all there is to ask. */
  #isPlain = true;
  #isAnyOut = false;
  /** Until then a shard that has returned empty counts as just back. */
  #freshUntilMs = 0;
  /** By place in `shards`. */
  #bypasses: readonly (Bypass | undefined)[] = [];
  /** Who owned the keys until now, while not all proxies know the new owners. */
  #before: Continuum | null = null;
  #nobody = -1;
  /** Those of the continuum, by node; behind them the stand-ins. */
  shards: ShardLinks[] = [];
  /** Each key is in this many shards. */
  copies: 1 | 2 = 1;
  /** Reads whose first copy is late; null if there is no second. */
  hedges: Hedges | null = null;
  /** Reads that others may join; null while reads are not shared. */
  flights: Flights | null = null;
  /** Commands are followed one by one: costs nothing where it is false. */
  isTracked = false;
  /** Reads are shared even while all shards are in. */
  #isShared = false;
  #isExternal = false;
  /** Keys that are being changed in both copies. */
  readonly busy: BusyKeys = new BusyKeys();
  readonly #place: KeyPlace = {
    hash: 0,
    first: null,
    second: null,
    isClosed: false,
    asksOnMiss: false,
    isMoved: false,
  };

  constructor(options: RouteOptions, events: HealthEvents) {
    this.#options = { ...options, deadline: this.deadline };
    this.health = new Health(this, events);
    this.#shardEvents = {
      stirred: () => this.health.wake(),
      troubled: (shard, trouble) => this.health.troubled(shard, trouble, options.loop.nowMs),
    };
  }

  /** How many copies of each key there are, and whether reads of one key are always shared. */
  follow({ copies, isShared, isAdaptive = false, isExternal = false }: Policy): void {
    this.copies = isExternal ? 1 : copies;
    this.isAdaptive = isAdaptive;
    if (this.copies === 2) this.hedges ??= new Hedges(this.#options.sweep);
    this.#isShared = isShared;
    this.#isExternal = isExternal;
    this.#track();
  }

  /** This machine is short of CPU: slowness says nothing. */
  get isStarved(): boolean {
    return this.#options.sweep.patience > 1;
  }

  /** Asks to be looked at in every tick, from now on. */
  watch(health: Health): void {
    this.#options.rounds.add(health);
  }

  /** Every tick of its health; true while it waits for one. */
  tick(nowMs: number): boolean {
    if (this.#freshUntilMs === 0) return false;
    if (nowMs < this.#freshUntilMs) return true;
    this.#freshUntilMs = 0;
    this.#track();
    return false;
  }

  #track(): void {
    const isFresh = this.#freshUntilMs > 0;
    // Where a key lives changes with its stamp: those reads are not shared.
    const isShared = !this.#isExternal && (this.#isShared || this.#isAnyOut || isFresh);
    this.flights?.clear();
    if (isShared !== (this.flights !== null)) this.flights = isShared ? new Flights() : null;
    this.isTracked = isShared || this.copies === 2;
  }

  /**
   * Takes over the new list, and the detours of those that are out, by node: in the order in
   * which they went out. Shards that stay keep their connections and what is in flight. Keys that
   * had another owner among `before` are served by nobody.
   */
  update(
    targets: readonly ShardTarget[],
    detours: ReadonlyMap<string, Detour> = NO_DETOURS,
    before: readonly WeightedNode[] | null = null,
  ): void {
    if (this.#options.isDormant === true) return;
    const known = new Map(this.shards.map((shard) => [idOf(shard, shard.standsInFor), shard]));
    const keep = (target: ShardTarget, standsInFor: string | null): ShardLinks => {
      const id = idOf(target, standsInFor);
      const kept = known.get(id);
      known.delete(id);
      const links =
        kept ?? new ShardLinks({ target, standsInFor }, this.#options, this.#shardEvents);
      links.stamp = target.stamp ?? null;
      return links;
    };
    const sorted = targets.toSorted((a, b) => (a.node < b.node ? -1 : 1));
    const shards = sorted.map((target) => keep(target, null));
    for (const [place, { emptySinceMs = 0 }] of sorted.entries()) {
      shards[place]!.emptySinceMs = emptySinceMs;
    }
    const order = [...detours.keys()];
    const bypasses = sorted.map(({ node, stamp = null }, place) => {
      const detour = detours.get(node);
      if (detour === undefined) return undefined;
      const hosts = sorted.filter((target) => detour.has(target.node));
      const owners = hosts.map((host) => {
        const address = detour.get(host.node) ?? null;
        if (address === null) return place;
        return shards.push(keep({ node: host.node, address, stamp }, node)) - 1;
      });
      const continuum = continuumOf(hosts.map(weighted));
      return { continuum, owners, order: order.indexOf(node) };
    });
    this.#before = before === null ? null : continuumOf(before);
    if (before !== null) this.#nobody = shards.push(keep(NOBODY, null)) - 1;
    this.shards = shards;
    this.#continuum = continuumOf(sorted.map(weighted));
    this.#bypasses = bypasses;
    const wasAnyOut = this.#isAnyOut;
    this.#isAnyOut = bypasses.some((bypass) => bypass !== undefined);
    if (wasAnyOut && !this.#isAnyOut) this.#freshUntilMs = this.#options.loop.nowMs + FRESH_MS;
    this.#isPlain = before === null && !this.#isAnyOut;
    for (const [place, shard] of shards.entries()) {
      const bypass = bypasses[place];
      shard.isClosed = !shard.isThere || bypass?.owners.length === 0;
      shard.setOut(bypass !== undefined || !shard.isThere);
    }
    this.#track();
    for (const gone of known.values()) gone.retire();
    this.health.wake();
  }

  /** Index into `shards` of the owner of the key in `bytes[from, to)`; -1 without shards. */
  ownerOfKey(bytes: Uint8Array, from: number, to: number): number {
    const owner = this.#continuum.ownerOfKey(bytes, from, to);
    return this.#isPlain ? owner : this.#redirected(owner, bytes, from, to);
  }

  #redirected(owner: number, bytes: Uint8Array, from: number, to: number): number {
    if (this.#before !== null) {
      const was = this.#before.ownerOfKey(bytes, from, to);
      if (this.#before.labels[was] !== this.#continuum.labels[owner]) return this.#nobody;
    }
    const bypass = this.#bypasses[owner];
    if (bypass === undefined) return owner;
    const host = bypass.continuum.ownerOfKey(bytes, from, to);
    return host < 0 ? owner : bypass.owners[host]!;
  }

  /** Where the key in `bytes[from, to)` is; valid until the next call. */
  locate(bytes: Uint8Array, from: number, to: number): KeyPlace {
    const place = this.#place;
    const hash = hashKey(bytes, from, to);
    place.hash = hash;
    place.second = null;
    place.isClosed = false;
    place.asksOnMiss = false;
    place.isMoved = false;
    if (this.copies === 1) {
      const owner = this.ownerOfKey(bytes, from, to);
      place.first = owner < 0 ? null : this.shards[owner]!;
      return place;
    }
    const owner = this.#continuum.owner(hash);
    const other = this.#continuum.secondOwner(hash);
    if (this.#before !== null && this.#isMoving(hash, owner, other)) {
      place.first = null;
      place.isClosed = true;
      return place;
    }
    const first = owner < 0 ? null : this.shards[owner]!;
    const second = other < 0 ? null : this.shards[other]!;
    place.first = first;
    if (first === null || second === null) return this.#onlyIn(first, place);
    if (!first.isOut && !second.isOut) {
      place.second = second;
      place.asksOnMiss = first.emptySinceMs > second.emptySinceMs;
      return place;
    }
    place.isClosed = first.isClosed || second.isClosed;
    if (!first.isOut) return place;
    place.isMoved = true;
    place.first = second.isOut ? this.#standInOf(hash, owner, other) : second;
    return place;
  }

  /** Its copies were in other shards, and not all proxies know that they are in these now. */
  #isMoving(hash: number, owner: number, other: number): boolean {
    const before = this.#before!;
    const { labels } = this.#continuum;
    const wasIn = (at: number): string | undefined => before.labels[at];
    return (
      wasIn(before.owner(hash)) !== labels[owner] ||
      wasIn(before.secondOwner(hash)) !== labels[other]
    );
  }

  /** A cache with one shard has one copy of each key, wherever that is. */
  #onlyIn(first: ShardLinks | null, place: KeyPlace): KeyPlace {
    if (first?.isOut !== true) return place;
    place.isClosed = true;
    place.first = null;
    return place;
  }

  /**
   * Both shards of a key are out: stand-ins have it. Those of the shard that went out last, as they
   * are fresh since the key has been without both.
   */
  #standInOf(hash: number, owner: number, other: number): ShardLinks | null {
    const [one, two] = [this.#bypasses[owner], this.#bypasses[other]];
    if (one === undefined || two === undefined) return null;
    const later = one.order > two.order ? one : two;
    const host = later.continuum.owner(hash);
    const standIn = host < 0 ? undefined : this.shards[later.owners[host]!];
    return standIn === undefined || standIn.isOut ? null : standIn;
  }

  /** A change of the key of `hash` begins, in both copies or only in one. */
  changeBegins(hash: number, isInBoth: boolean): void {
    this.flights?.keyChanges(hash);
    if (isInBoth) this.busy.begin(hash);
  }

  /** It is about to be acknowledged, or given up. */
  changeEnds(hash: number, isInBoth: boolean): void {
    this.flights?.keyChanges(hash);
    if (isInBoth) this.busy.end(hash);
  }

  retire(): void {
    this.update([]);
  }
}

const idOf = ({ node, address }: ShardTarget, standsInFor: string | null): string =>
  `${node} ${standsInFor ?? ""} ${address}`;

const weighted = ({ node, weight = 1, zone = "" }: ShardTarget): WeightedNode => {
  return { name: node, weight, zone };
};
