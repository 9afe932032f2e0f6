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
import { Continuum, continuumOf, type WeightedNode } from "../../core/cluster/continuum.ts";
import { Histogram } from "./counters.ts";
import { Health, type HealthEvents, type Trouble } from "./health.ts";
import { Link, type LinkFailure, type LinkOptions, type LinkOwner } from "./link.ts";

export interface ShardTarget {
  node: string;
  /** "" if nobody knows yet where it is: its keys are its all the same. */
  address: string;
  /** Share of the keys, compared with the other shards; 1 if absent. */
  weight?: number;
}

/**
 * Where the keys of a shard go that is out: for each node that takes a part of them its stand-in,
 * or null while that is not open. Without any of them nobody serves those keys.
 */
export type Detour = ReadonlyMap<string, string | null>;
/** More that wait on one link are not counted: so many say it all. */
const WAITING_COUNT_MAX = 256;
const NO_DETOURS: ReadonlyMap<string, Detour> = new Map();

export type RouteOptions = Omit<LinkOptions, "latency" | "owner">;

/** Told what goes wrong with a shard, as it happens. */
type Troubled = (shard: ShardLinks, trouble: Trouble) => void;

type ShardPlace = { target: ShardTarget; standsInFor: string | null };

/** One shard as seen from here. */
export class ShardLinks implements LinkOwner {
  readonly node: string;
  readonly address: string;
  /** The node of the ejected shard whose keys it has; null if it is a shard in its own right. */
  readonly standsInFor: string | null;
  readonly latency: Histogram = new Histogram();
  readonly text: Link;
  readonly binary: Link;
  isOut = false;
  readonly #troubled: Troubled;

  constructor({ target, standsInFor }: ShardPlace, options: RouteOptions, troubled: Troubled) {
    const { node, address } = target;
    this.node = node;
    this.address = address;
    this.standsInFor = standsInFor;
    this.#troubled = troubled;
    const linkOptions = { ...options, latency: this.latency, owner: this };
    this.text = new Link(address, "text", linkOptions);
    this.binary = new Link(address, "binary", linkOptions);
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
    const { text, binary } = this;
    if (text.state === "ready" || binary.state === "ready") return false;
    return text.state === "waiting" || binary.state === "waiting";
  }

  /** Operations that wait for longer than `durationMs`, counted up to a bound. */
  waitingCount(durationMs: number): number {
    return (
      this.text.waitingCount(durationMs, WAITING_COUNT_MAX) +
      this.binary.waitingCount(durationMs, WAITING_COUNT_MAX)
    );
  }

  setOut(isOut: boolean): void {
    if (this.isOut === isOut) return;
    this.isOut = isOut;
    for (const link of [this.text, this.binary]) {
      if (isOut) link.eject();
      else link.readmit();
    }
  }

  linkFailed(reason: LinkFailure): void {
    this.#troubled(this, reason);
  }

  outcomesUnknown(): void {
    this.#troubled(this, "outcomes_unknown");
  }

  retire(): void {
    this.text.retire();
    this.binary.retire();
  }
}

/** In the place of the owner of keys that are on the move: always out. */
const NOBODY: ShardTarget = { node: "nobody", address: "" };

/** Instead of a shard that is out: stand-ins by their place in `shards`, itself where none is. */
type Bypass = { continuum: Continuum; owners: readonly number[] };

export class Route {
  readonly #options: RouteOptions;
  readonly health: Health;
  #continuum: Continuum = new Continuum([]);
  /** All shards are in, and no keys are on the move: the continuum is all there is to ask. */
  #isPlain = true;
  /** By place in `shards`. */
  #bypasses: readonly (Bypass | undefined)[] = [];
  /** Who owned the keys until now, while not all proxies know the new owners. */
  #before: Continuum | null = null;
  #nobody = -1;
  /** Those of the continuum, by node; behind them the stand-ins. */
  shards: ShardLinks[] = [];

  constructor(options: RouteOptions, events: HealthEvents) {
    this.#options = options;
    this.health = new Health(this, events);
  }

  /**
   * Takes over the new list, and the detours of those that are out, by node. Shards that stay keep
   * their connections and what is in flight. Keys that had another owner among `before` are served
   * by nobody.
   */
  update(
    targets: readonly ShardTarget[],
    detours: ReadonlyMap<string, Detour> = NO_DETOURS,
    before: readonly WeightedNode[] | null = null,
  ): void {
    const troubled: Troubled = (shard, trouble) => {
      this.health.troubled(shard, trouble, this.#options.loop.nowMs);
    };
    const known = new Map(this.shards.map((shard) => [idOf(shard, shard.standsInFor), shard]));
    const keep = (target: ShardTarget, standsInFor: string | null): ShardLinks => {
      const id = idOf(target, standsInFor);
      const kept = known.get(id);
      known.delete(id);
      return kept ?? new ShardLinks({ target, standsInFor }, this.#options, troubled);
    };
    const sorted = targets.toSorted((a, b) => (a.node < b.node ? -1 : 1));
    const shards = sorted.map((target) => keep(target, null));
    const bypasses = sorted.map(({ node }, place) => {
      const detour = detours.get(node);
      if (detour === undefined) return undefined;
      const hosts = sorted.filter((target) => detour.has(target.node));
      const owners = hosts.map((host) => {
        const address = detour.get(host.node) ?? null;
        if (address === null) return place;
        return shards.push(keep({ node: host.node, address }, node)) - 1;
      });
      return { continuum: continuumOf(hosts.map(weighted)), owners };
    });
    this.#before = before === null ? null : continuumOf(before);
    if (before !== null) this.#nobody = shards.push(keep(NOBODY, null)) - 1;
    this.shards = shards;
    this.#continuum = continuumOf(sorted.map(weighted));
    this.#bypasses = bypasses;
    this.#isPlain = before === null && bypasses.every((bypass) => bypass === undefined);
    for (const [place, shard] of shards.entries()) {
      shard.setOut(bypasses[place] !== undefined || !shard.isThere);
    }
    for (const gone of known.values()) gone.retire();
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

  retire(): void {
    this.update([]);
  }
}

const idOf = ({ node, address }: ShardTarget, standsInFor: string | null): string =>
  `${node} ${standsInFor ?? ""} ${address}`;

const weighted = ({ node, weight = 1 }: ShardTarget): WeightedNode => ({ name: node, weight });
