/**
 * The cluster state as this process has followed it: what the API lists, finds by name and counts.
 * It may lag behind by a poll; whoever just wrote waits with `reached` and then sees his own change.
 * Digests stay in the state, and what many credentials share is kept once, so that 100,000 of them
 * fit. Nothing is decided from it that a commit does not check again.
 */
import { follow } from "../core/cluster/follow.ts";
import type { Incident, Monitor, Person, Silence, Speaker } from "../core/cluster/incidents.ts";
import { PROBE_CACHE } from "../core/cluster/internal.ts";
import type {
  Cache,
  Credential,
  Kind,
  LastUse,
  Layout,
  Node,
  NodeSetting,
  Pool,
  Proxy as ProxyRecord,
  RecordOf,
  Shard,
  Token,
  Usage,
} from "../core/cluster/records.ts";
import type { ClusterState, Seen, Watch } from "../core/cluster/state.ts";
import { sleep } from "../core/runtime/clock.ts";

/** A record and the revision that wrote it last. */
export interface Kept<T> {
  readonly id: string;
  readonly value: T;
  readonly revision: number;
}
/** A credential without its digest. */
export type KnownCredential = Omit<Credential, "digest">;

/** An incident without what only its own page shows. */
export type KnownIncident = Omit<Incident, "notifications" | "log" | "handled" | "policy">;

export const FOLLOWED_KINDS = [
  "cache",
  "credential",
  "layout",
  "pool",
  "shard",
  "node",
  "nodeSetting",
  "proxy",
  "usage",
  "lastUse",
  "token",
  "incident",
  "silence",
  "person",
  "order",
  "monitor",
  "speaker",
] as const satisfies Kind[];
type FollowedKind = (typeof FOLLOWED_KINDS)[number];

/** Waiting for a revision that does not come is not endless: the state may be away. */
const REACHED_MS_MAX = 1_000;
/** Values remembered for sharing; beyond it remembering begins anew. */
const SHARED_COUNT_MAX = 20_000;

export class View {
  readonly caches: Map<string, Kept<Cache>> = new Map();
  readonly pools: Map<string, Kept<Pool>> = new Map();
  readonly layouts: Map<string, Kept<Layout>> = new Map();
  readonly shards: Map<string, Kept<Shard>> = new Map();
  readonly nodes: Map<string, Kept<Node>> = new Map();
  readonly nodeSettings: Map<string, Kept<NodeSetting>> = new Map();
  readonly proxies: Map<string, Kept<ProxyRecord>> = new Map();
  readonly tokens: Map<string, Kept<Token>> = new Map();
  /** By `<cache id>/<proxy>`. */
  readonly usage: Map<string, Kept<Usage>> = new Map();
  readonly credentials: Map<string, Kept<KnownCredential>> = new Map();
  /** Those that end by themselves, with the moment. */
  readonly expiring: Map<string, number> = new Map();
  readonly incidents: Map<string, Kept<KnownIncident>> = new Map();
  readonly silences: Map<string, Kept<Silence>> = new Map();
  readonly people: Map<string, Kept<Person>> = new Map();
  /** Ids of those that nobody has obeyed yet. */
  readonly orders: Map<string, number> = new Map();
  readonly monitors: Map<string, Kept<Monitor>> = new Map();
  readonly speakers: Map<string, Kept<Speaker>> = new Map();
  readonly #cacheIds = new Map<string, string>();
  readonly #usernames = new Map<string, Set<string>>();
  /** Usernames of primaries by cache: one, but for moments. */
  readonly #primaries = new Map<string, Set<string>>();
  /** By username, then by proxy. */
  readonly #lastUse = new Map<string, Map<string, LastUse>>();
  readonly #shared = new Map<string, unknown>();
  readonly #waiting = new Set<() => void>();
  #watch: Watch | undefined;
  #revision = 0;

  /** Loads what is there, then follows. Rejects with StateUnavailable. */
  async start(state: Pick<ClusterState, "list" | "watch">): Promise<void> {
    this.#watch = await follow<FollowedKind>(state, FOLLOWED_KINDS, {
      listed: (entry) => this.#apply(entry),
      loaded: (revision) => {
        this.#revision = revision;
      },
      changed: (seen, revision) => {
        for (const change of seen) this.#apply(change);
        this.#revision = revision;
        for (const wake of [...this.#waiting]) wake();
      },
      reset: () => this.#forget(),
    });
  }

  close(): void {
    this.#watch?.close();
    for (const wake of [...this.#waiting]) wake();
  }

  get revision(): number {
    return this.#revision;
  }

  /** Resolves when the view shows that revision, or after a second without it. */
  async reached(revision: number): Promise<void> {
    await this.until(() => this.#revision >= revision, REACHED_MS_MAX);
  }

  /** Resolves with true when the condition holds after some change, with false after `limitMs`. */
  async until(condition: () => boolean, limitMs: number): Promise<boolean> {
    if (condition()) return true;
    let late = false;
    let wake = (): void => {};
    const changed = new Promise<void>((resolve) => {
      wake = () => {
        if (late || condition()) resolve();
      };
    });
    this.#waiting.add(wake);
    void sleep(limitMs).then(() => {
      late = true;
      wake();
    });
    await changed;
    this.#waiting.delete(wake);
    return condition();
  }

  /** By id, or else by name. */
  cache(nameOrId: string): Kept<Cache> | undefined {
    return this.caches.get(nameOrId) ?? this.caches.get(this.#cacheIds.get(nameOrId) ?? "");
  }

  /** By username. Sorting 100,000 takes a tenth of a second: for lists, not for looking. */
  credentialsOf(cacheId: string): Kept<KnownCredential>[] {
    const usernames = [...this.usernamesOf(cacheId)].sort();
    return usernames.flatMap((username) => this.credentials.get(username) ?? []);
  }

  usernamesOf(cacheId: string): ReadonlySet<string> {
    return this.#usernames.get(cacheId) ?? NOBODY;
  }

  primariesOf(cacheId: string): ReadonlySet<string> {
    return this.#primaries.get(cacheId) ?? NOBODY;
  }

  credentialCount(cacheId: string): number {
    return this.#usernames.get(cacheId)?.size ?? 0;
  }

  shardsOf(cacheId: string): Kept<Shard>[] {
    return [...this.shards.values()].filter(({ value }) => value.cache === cacheId);
  }

  /** Per proxy: when it was last used there, and who is logged in with it. */
  lastUseOf(username: string): ReadonlyMap<string, LastUse> {
    return this.#lastUse.get(username) ?? NONE;
  }

  /** Usernames that were used, whether or not they still exist. */
  usedUsernames(): IterableIterator<string> {
    return this.#lastUse.keys();
  }

  /** Caches that have credentials, whether or not they still exist. */
  cachesWithCredentials(): IterableIterator<string> {
    return this.#usernames.keys();
  }

  #forget(): void {
    for (const map of [
      this.caches,
      this.layouts,
      this.pools,
      this.shards,
      this.nodes,
      this.nodeSettings,
      this.proxies,
      this.tokens,
      this.usage,
      this.credentials,
      this.incidents,
      this.silences,
      this.people,
      this.orders,
      this.monitors,
      this.speakers,
      this.expiring,
      this.#cacheIds,
      this.#usernames,
      this.#primaries,
      this.#lastUse,
      this.#shared,
    ]) {
      map.clear();
    }
  }

  #apply(seen: Seen): void {
    const { id, revision } = seen;
    if (isOfCanaries(seen)) return;
    switch (seen.kind) {
      case "cache":
        return this.#applyCache(id, seen.value, revision);
      case "credential":
        return this.#applyCredential(id, seen.value, revision);
      case "lastUse":
        return this.#applyLastUse(id, seen.value);
      case "layout":
        return keep(this.layouts, id, seen.value, revision);
      case "pool":
        return keep(this.pools, id, seen.value, revision);
      case "shard":
        return keep(this.shards, id, seen.value, revision);
      case "node":
        return keep(this.nodes, id, seen.value, revision);
      case "nodeSetting":
        return keep(this.nodeSettings, id, seen.value, revision);
      case "proxy":
        return keep(this.proxies, id, seen.value, revision);
      case "token":
        return keep(this.tokens, id, seen.value, revision);
      case "usage":
        return keep(this.usage, id, seen.value, revision);
      case "incident":
        return this.#applyIncident(id, seen.value, revision);
      case "silence":
        return keep(this.silences, id, seen.value, revision);
      case "person":
        return keep(this.people, id, seen.value, revision);
      case "order":
        if (seen.value === null) this.orders.delete(id);
        else this.orders.set(id, revision);
        return;
      case "monitor":
        return keep(this.monitors, id, seen.value, revision);
      case "speaker":
        return keep(this.speakers, id, seen.value, revision);
      default:
        return;
    }
  }

  #applyCache(id: string, cache: Cache | null, revision: number): void {
    const before = this.caches.get(id)?.value.name;
    if (before !== undefined && this.#cacheIds.get(before) === id) this.#cacheIds.delete(before);
    keep(this.caches, id, cache, revision);
    if (cache !== null) this.#cacheIds.set(cache.name, id);
  }

  #applyCredential(username: string, credential: Credential | null, revision: number): void {
    const before = this.credentials.get(username)?.value.cache;
    if (before !== undefined) {
      removeFrom(this.#usernames, before, username);
      removeFrom(this.#primaries, before, username);
    }
    this.expiring.delete(username);
    if (credential === null) {
      this.credentials.delete(username);
      return;
    }
    const { digest: _, ...known } = credential;
    const cache = this.#once(known.cache);
    const rights = this.#once(known.rights);
    const networks = this.#once(known.networks);
    const value: KnownCredential = { ...known, cache, rights, networks };
    this.credentials.set(username, { id: username, value, revision });
    if (value.expiresAtMs !== null) this.expiring.set(username, value.expiresAtMs);
    addTo(this.#usernames, cache, username);
    if (value.primary) addTo(this.#primaries, cache, username);
  }

  #applyIncident(id: string, incident: Incident | null, revision: number): void {
    if (incident === null) {
      this.incidents.delete(id);
      return;
    }
    const { notifications: _, log: __, handled: ___, policy: ____, ...value } = incident;
    this.incidents.set(id, { id, value, revision });
  }

  #applyLastUse(id: string, lastUse: LastUse | null): void {
    const slash = id.lastIndexOf("/");
    const username = id.slice(0, slash);
    const proxy = this.#once(id.slice(slash + 1));
    const byProxy = this.#lastUse.get(username) ?? new Map<string, LastUse>();
    if (lastUse === null) byProxy.delete(proxy);
    else byProxy.set(proxy, { ...lastUse, cache: this.#once(lastUse.cache) });
    if (byProxy.size === 0) this.#lastUse.delete(username);
    else this.#lastUse.set(username, byProxy);
  }

  /** The same value for all who have an equal one. */
  #once<T>(value: T): T {
    const key = JSON.stringify(value);
    if (this.#shared.size >= SHARED_COUNT_MAX) this.#shared.clear();
    if (!this.#shared.has(key)) this.#shared.set(key, value);
    return this.#shared.get(key) as T;
  }
}

/** The cache of the monitor's canaries is no customer's, and not shown. */
function isOfCanaries({ kind, id, value }: Seen): boolean {
  switch (kind) {
    case "cache":
      return id === PROBE_CACHE;
    case "usage":
      return id.startsWith(`${PROBE_CACHE}/`);
    case "lastUse":
    case "credential":
      return id.startsWith(`${PROBE_CACHE}.`) || value?.cache === PROBE_CACHE;
    default:
      return false;
  }
}

const NONE: ReadonlyMap<string, LastUse> = new Map();
const NOBODY: ReadonlySet<string> = new Set();

export function firstOf<T>(all: Iterable<T>, count: number): T[] {
  const found: T[] = [];
  for (const one of all) {
    if (found.length >= count) break;
    found.push(one);
  }
  return found;
}

function addTo(sets: Map<string, Set<string>>, key: string, member: string): void {
  sets.set(key, (sets.get(key) ?? new Set()).add(member));
}

function removeFrom(sets: Map<string, Set<string>>, key: string, member: string): void {
  const set = sets.get(key);
  set?.delete(member);
  if (set?.size === 0) sets.delete(key);
}

function keep<K extends Kind>(
  map: Map<string, Kept<RecordOf<K>>>,
  id: string,
  value: RecordOf<K> | null,
  revision: number,
): void {
  if (value === null) map.delete(id);
  else map.set(id, { id, value, revision });
}
