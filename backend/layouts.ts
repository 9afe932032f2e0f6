/**
 * The layouts of caches as the agent of a node sees them: writes the next one when it is due, and
 * takes the keys out of its own shards that they no longer own (core/cluster/layout.ts says why).
 */
import type { AppliedByAll } from "../core/cluster/applied.ts";
import { continuumOf } from "../core/cluster/continuum.ts";
import { decideLayout, isSame, losesKeys, reEjected } from "../core/cluster/layout.ts";
import type { Layout, Member, Shard as ShardRecord } from "../core/cluster/records.ts";
import type { Change, ClusterState } from "../core/cluster/state.ts";
import { clock, sleep } from "../core/runtime/clock.ts";
import type { Logger } from "../core/runtime/log.ts";
import type { OpenShard } from "./agent.ts";
import type { Keeps } from "./engine.ts";
import type { KnownEjection } from "./standIns.ts";

/**
 * Between the moment when the last proxy has left the old way and the purge: what a proxy had sent
 * before is carried out by then, or its connection was given up (after a second of silence).
 */
const SETTLE_MS = 1_500;

export interface KnownLayout {
  readonly value: Layout;
  readonly revision: number;
}

export interface LayoutsParts {
  readonly state: ClusterState;
  readonly log: Logger;
  readonly node: string;
  readonly applied: AppliedByAll;
  /** There is something to do. */
  readonly wake: () => void;
}

/** What is known of the cluster when a layout is looked at. */
export interface Surroundings {
  readonly shards: ReadonlyMap<string, { readonly value: ShardRecord }>;
  readonly ejections: ReadonlyMap<string, KnownEjection>;
  readonly living: ReadonlySet<string>;
}

export class Layouts {
  readonly #parts: LayoutsParts;
  readonly #known = new Map<string, KnownLayout>();
  /** By id of the shard: what is waited for before it is purged, or the purge itself. */
  readonly #settling = new Map<string, { serial: number; fromMs: number; isPurging: boolean }>();
  /** Something waits for proxies to apply a layout. */
  isWaiting = false;

  constructor(parts: LayoutsParts) {
    this.#parts = parts;
  }

  seen(cacheId: string, layout: KnownLayout | null): void {
    if (layout === null) this.#known.delete(cacheId);
    else this.#known.set(cacheId, layout);
  }

  forget(): void {
    this.#known.clear();
  }

  get ids(): readonly string[] {
    return [...this.#known.keys()];
  }

  get(cacheId: string): KnownLayout | undefined {
    return this.#known.get(cacheId);
  }

  isMember(cacheId: string): boolean {
    const members = this.#known.get(cacheId)?.value.members ?? [];
    return members.some(({ node }) => node === this.#parts.node);
  }

  /** No proxy looks at this node for keys of a cache of which it is no member. */
  isKnownToAll(cacheId: string): boolean {
    return this.#parts.applied.revision >= (this.#known.get(cacheId)?.revision ?? 0);
  }

  // ---- the next layout -------------------------------------------------------------------------

  /** Writes the next layout if it is due, and it is for this node to do it. */
  async propose(cacheId: string, wanted: readonly Member[], around: Surroundings): Promise<void> {
    const known = this.#known.get(cacheId);
    if (known !== undefined) {
      if (isSame(known.value.members, wanted)) return;
      this.isWaiting = true;
      const scribe = wanted.find(({ node }) => around.living.has(node));
      if (scribe?.node !== this.#parts.node) return;
    }
    const of = <T extends { node: string }>(all: Iterable<{ value: T }>): Map<string, T> =>
      new Map([...all].map(({ value }) => [value.node, value]));
    const isOfCache = ({ value }: { value: { cache: string } }): boolean => value.cache === cacheId;
    const shards = of([...around.shards.values()].filter(isOfCache));
    const ejections = [...around.ejections.values()].filter(isOfCache);
    const layout = decideLayout({
      layout: known?.value,
      isKnownToAll: this.isKnownToAll(cacheId),
      wanted,
      shards,
      ejections: of(ejections),
      living: around.living,
    });
    if (layout === undefined) return;
    const expected = known?.revision ?? 0;
    const changes: Change[] = [
      { kind: "layout", id: cacheId, value: layout, expected },
      ...ejections.map((ejection) => reEjected(ejection, layout, shards)),
    ];
    const commit = await this.#parts.state.commit(changes);
    // On a conflict somebody was faster, which is told to us.
    if (!commit.ok) return;
    this.#known.set(cacheId, { value: layout, revision: commit.revision });
    const members = layout.members.map(({ node }) => node);
    this.#parts.log.info({ cache: cacheId, serial: layout.serial, members }, "layout changed");
  }

  // ---- what a shard no longer owns ---------------------------------------------------------------

  /** Brings `open` in line with the layout of its cache: at once, or by a purge in a while. */
  settle(open: OpenShard, copies: number): void {
    const known = this.#known.get(open.cacheId);
    if (known === undefined || open.layout >= known.value.serial) return;
    const { serial } = known.value;
    const hasNothingElse = open.layout === serial - 1 && !losesKeys(this.#parts.node, known.value);
    if (hasNothingElse) {
      open.layout = serial;
      return;
    }
    this.isWaiting = true;
    if (!this.isKnownToAll(open.cacheId)) return;
    const settling = this.#settling.get(open.id);
    if (settling?.isPurging === true) return;
    const nowMs = clock.nowMs();
    if (settling?.serial !== serial) {
      this.#settling.set(open.id, { serial, fromMs: nowMs + SETTLE_MS, isPurging: false });
      void sleep(SETTLE_MS).then(this.#parts.wake);
    } else if (nowMs >= settling.fromMs) {
      settling.isPurging = true;
      void this.#purge(open, known.value, copies);
    }
  }

  async #purge(open: OpenShard, layout: Layout, copies: number): Promise<void> {
    const { log, wake } = this.#parts;
    const { shard } = open;
    const { generation } = shard;
    try {
      const removed = await shard.purge(this.#keeps(layout, copies));
      log.info({ shard: open.id, serial: layout.serial, removed }, "keys of others removed");
      if (shard.generation === generation) open.layout = layout.serial;
    } catch (error) {
      log.warn({ err: error, shard: open.id }, "keys of others not removed; the shard is emptied");
      await shard.empty("fenced").catch((cause: unknown) => {
        log.error({ err: cause, shard: open.id }, "shard not emptied");
      });
    }
    this.#settling.delete(open.id);
    wake();
  }

  #keeps({ members }: Layout, copies: number): Keeps {
    const nodes = members.map(({ node, weight, zone }) => ({ name: node, weight, zone }));
    const continuum = continuumOf(nodes);
    const own = continuum.labels.indexOf(this.#parts.node);
    return (bytes, from, to) => own >= 0 && continuum.hasKey(own, copies, bytes, from, to);
  }

  closed(open: OpenShard): void {
    this.#settling.delete(open.id);
  }
}
