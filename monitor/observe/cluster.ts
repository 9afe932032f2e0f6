/**
 * The part of the cluster state that monitors judge by: who is there, who has gone without saying
 * so, what is out of routing, which caches and limits there are. Followed in the background; that
 * the state does not answer is an observation like any other.
 */
import { follow } from "../../core/cluster/follow.ts";
import type { Monitor } from "../../core/cluster/incidents.ts";
import type {
  Cache,
  Ejection,
  Node,
  NodeSetting,
  Proxy as ProxyRecord,
  Shard,
  Suspicion,
} from "../../core/cluster/records.ts";
import {
  type ClusterState,
  type Entry,
  type Seen,
  StateUnavailable,
  type Watch,
} from "../../core/cluster/state.ts";
import { clock, every, sleep, type Timer } from "../../core/runtime/clock.ts";
import type { Logger } from "../../core/runtime/log.ts";

const KINDS = [
  "cache",
  "credential",
  "node",
  "nodeSetting",
  "shard",
  "ejection",
  "suspicion",
  "proxy",
  "monitor",
] as const;
type FollowedKind = (typeof KINDS)[number];

const RETRY_DELAY_MS = 500;
const ASK_INTERVAL_MS = 1_000;

/** When a credential ends by itself. */
export interface Expiring {
  readonly cache: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
}

/** Maps are by the id of the record. */
export interface ClusterFacts {
  readonly caches: ReadonlyMap<string, Cache>;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly nodeSettings: ReadonlyMap<string, NodeSetting>;
  readonly shards: ReadonlyMap<string, Shard>;
  readonly ejections: ReadonlyMap<string, Ejection>;
  readonly suspicions: ReadonlyMap<string, Suspicion>;
  readonly proxies: ReadonlyMap<string, ProxyRecord>;
  readonly monitors: ReadonlyMap<string, Monitor>;
  /** Credentials that end and were not rotated, by username. */
  readonly expiring: ReadonlyMap<string, Expiring>;
  /** `proxy:<name>` and `monitor:<name>` of those that went without a word, and when. */
  readonly gone: ReadonlyMap<string, number>;
  /** Since when the state does not answer; null while it does. */
  readonly unreachableSinceMs: number | null;
  /** Everything was read once. */
  readonly isLoaded: boolean;
}

export interface ClusterWatchParts {
  state: ClusterState;
  log: Logger;
}

/** What is drained says so first: a proxy is not ready then, a monitor has seen nothing ever. */
const isFarewell = (record: ProxyRecord | Monitor): boolean =>
  "ready" in record ? !record.ready : record.seenAtMs === 0;

export class ClusterWatch implements ClusterFacts {
  readonly caches = new Map<string, Cache>();
  readonly nodes = new Map<string, Node>();
  readonly nodeSettings = new Map<string, NodeSetting>();
  readonly shards = new Map<string, Shard>();
  readonly ejections = new Map<string, Ejection>();
  readonly suspicions = new Map<string, Suspicion>();
  readonly proxies = new Map<string, ProxyRecord>();
  readonly monitors = new Map<string, Monitor>();
  readonly expiring = new Map<string, Expiring>();
  readonly gone = new Map<string, number>();
  unreachableSinceMs: number | null = null;
  isLoaded = false;
  readonly #parts: ClusterWatchParts;
  #watch: Watch | null = null;
  #timer: Timer | null = null;
  #isAsking = false;
  #isClosed = false;

  constructor(parts: ClusterWatchParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#timer = every(ASK_INTERVAL_MS, () => void this.#ask());
    void this.#follow();
  }

  close(): void {
    this.#isClosed = true;
    this.#watch?.close();
    this.#timer?.stop();
  }

  async #follow(): Promise<void> {
    while (!this.#isClosed && this.#watch === null) {
      await this.#load().catch(async (error: unknown) => {
        if (!(error instanceof StateUnavailable)) throw error;
        this.#forget();
        this.#unreachable();
        await sleep(RETRY_DELAY_MS);
      });
    }
  }

  async #load(): Promise<void> {
    this.#watch = await follow<FollowedKind>(this.#parts.state, KINDS, {
      listed: (entry) => this.#see(entry),
      loaded: () => {
        this.isLoaded = true;
      },
      changed: (seen) => {
        for (const change of seen) this.#see(change as Seen<FollowedKind>);
      },
      reset: () => this.#forget(),
    });
    if (this.#isClosed) this.#watch.close();
  }

  /** A watch that is silent says nothing of whether the state is there. */
  async #ask(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      await this.#parts.state.list("speaker", { limit: 1 });
      if (this.unreachableSinceMs !== null) this.#parts.log.info("the cluster state answers again");
      this.unreachableSinceMs = null;
    } catch (error) {
      if (!(error instanceof StateUnavailable)) {
        this.#parts.log.error({ err: error }, "the cluster state cannot be asked");
      }
      this.#unreachable();
    } finally {
      this.#isAsking = false;
    }
  }

  #unreachable(): void {
    if (this.#isClosed || this.unreachableSinceMs !== null) return;
    this.unreachableSinceMs = clock.unixMs();
    this.#parts.log.warn("the cluster state does not answer");
  }

  #see(seen: Seen<FollowedKind> | Entry<FollowedKind>): void {
    switch (seen.kind) {
      case "cache":
        return put(this.caches, seen.id, seen.value);
      case "node":
        return put(this.nodes, seen.id, seen.value);
      case "nodeSetting":
        return put(this.nodeSettings, seen.id, seen.value);
      case "shard":
        return put(this.shards, seen.id, seen.value);
      case "ejection":
        return put(this.ejections, seen.id, seen.value);
      case "suspicion":
        return put(this.suspicions, seen.id, seen.value);
      case "proxy":
        return this.#seeLiving(this.proxies, seen.kind, seen.id, seen.value);
      case "monitor":
        return this.#seeLiving(this.monitors, seen.kind, seen.id, seen.value);
      case "credential": {
        const { expiresAtMs, replacedBy, cache, createdAtMs } = seen.value ?? {};
        if (
          cache === undefined ||
          createdAtMs === undefined ||
          replacedBy !== null ||
          !expiresAtMs
        ) {
          return void this.expiring.delete(seen.id);
        }
        return void this.expiring.set(seen.id, { cache, createdAtMs, expiresAtMs });
      }
    }
  }

  #seeLiving<T extends ProxyRecord | Monitor>(
    into: Map<string, T>,
    kind: "proxy" | "monitor",
    id: string,
    value: T | null,
  ): void {
    const before = into.get(id);
    const key = `${kind}:${id}`;
    put(into, id, value);
    if (value !== null) this.gone.delete(key);
    else if (before !== undefined && !isFarewell(before)) this.gone.set(key, clock.unixMs());
  }

  #forget(): void {
    for (const map of [
      this.caches,
      this.nodes,
      this.nodeSettings,
      this.shards,
      this.ejections,
      this.suspicions,
      this.proxies,
      this.monitors,
      this.expiring,
    ]) {
      map.clear();
    }
  }
}

function put<T>(into: Map<string, T>, id: string, value: T | null): void {
  if (value === null) into.delete(id);
  else into.set(id, value);
}
