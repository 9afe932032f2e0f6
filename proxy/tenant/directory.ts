/**
 * The caches and credentials that this proxy knows: the cluster state turned into what a login and
 * a lookup need. Follows the state by itself; sessions of a credential that is gone are told.
 */

import { AppliedByAll } from "../../core/cluster/applied.ts";
import { follow } from "../../core/cluster/follow.ts";
import type {
  Cache,
  Credential,
  Ejection,
  Layout,
  RecordOf,
  Shard,
  StandIn,
} from "../../core/cluster/records.ts";
import type { ClusterState, Seen, Watch } from "../../core/cluster/state.ts";
import { type Clock, clock } from "../../core/runtime/clock.ts";
import type { Route } from "../routing/route.ts";
import { Expiries } from "./expiries.ts";
import type { Sharers, Waiting } from "./limits.ts";
import { Login, revoke, Tenant } from "./tenant.ts";

/** Records that a proxy follows. */
export const FOLLOWED_KINDS = [
  "cache",
  "credential",
  "layout",
  "shard",
  "ejection",
  "standIn",
  "proxy",
] as const;
type FollowedKind = (typeof FOLLOWED_KINDS)[number];
export const isFollowed = ({ kind }: Seen): boolean =>
  (FOLLOWED_KINDS as readonly string[]).includes(kind);
/** Proxies write their own records when something was applied: that must not go on for ever. */
const isApplied = ({ kind }: Seen): boolean => kind !== "proxy";

export interface DirectoryOptions {
  state: Pick<ClusterState, "list" | "watch">;
  newRoute(cacheId: string): Route;
  /** Event loops of this proxy. */
  workerCount: number;
  /** A limit makes somebody wait: `wake` it until nobody does. */
  waits(waiting: Waiting): void;
  clock?: Clock;
  /** Everything up to this revision is in force here. */
  applied(revision: number): void;
}

export class Directory {
  readonly tenants: Map<string, Tenant> = new Map();
  readonly #logins: Map<string, Login> = new Map();
  readonly #options: DirectoryOptions;
  readonly #clock: Clock;
  readonly #expiries: Expiries<Login>;
  /** The proxies that live, this one among them once it serves, and what each has applied. */
  readonly #applied: AppliedByAll = new AppliedByAll();
  /** Tenants whose detours or layout may wait for proxies that have not applied them. */
  readonly #detoured: Set<Tenant> = new Set();
  /** Logins whose password has a scrypt digest. */
  #scryptCount = 0;
  /** Grows with every change that was taken over. */
  changeCount = 0;
  #watch: Watch | null = null;
  /** We were too far behind: the next call tells all that exists. */
  #isResyncing = false;

  constructor(options: DirectoryOptions) {
    this.#options = options;
    this.#clock = options.clock ?? clock;
    this.#expiries = new Expiries(this.#clock, (login) =>
      revoke(login.members, "credential_expired"),
    );
  }

  /** Loads what is there, then follows. */
  async start(): Promise<void> {
    this.#watch = await follow<FollowedKind>(this.#options.state, FOLLOWED_KINDS, {
      listed: (entry) => this.#apply(entry),
      loaded: (revision) => this.#options.applied(revision),
      changed: (seen, revision) => {
        const followed = seen.filter(isFollowed);
        for (const change of followed) this.#apply(change);
        this.changeCount += followed.length;
        if (this.#isResyncing) this.#forgetAllBut(followed, revision);
        if (followed.some(isApplied)) this.#options.applied(revision);
      },
      reset: () => {
        this.#isResyncing = true;
      },
    });
  }

  close(): void {
    this.#watch?.close();
    this.#expiries.close();
    for (const tenant of this.tenants.values()) tenant.route.retire();
  }

  /** The revision that all living proxies have in force. */
  get appliedByAll(): number {
    return this.#applied.revision;
  }

  /** Keys of some cache are served by nobody until all proxies say that they applied more than this. */
  isWaiting(revision: number): boolean {
    for (const tenant of this.#detoured) {
      if (tenant.isMoving(revision) || tenant.detours.isWaiting(revision)) return true;
    }
    return false;
  }

  login(username: string): Login | undefined {
    return this.#logins.get(username);
  }

  /** Some passwords take long to check, so all refusals have to. */
  get hasScryptLogins(): boolean {
    return this.#scryptCount > 0;
  }

  /** Why a login with the right password is refused all the same from `address()`; null if not. */
  refusalOf(
    login: Login,
    address: () => string,
  ): "disabled" | "expired" | "outside_network" | null {
    if (!login.tenant.isEnabled) return "disabled";
    if (login.expiresAtMs <= this.#clock.unixMs()) return "expired";
    if (login.networks !== null && !login.networks.includes(address())) return "outside_network";
    return null;
  }

  tenantByName(name: string): Tenant | undefined {
    for (const tenant of this.tenants.values()) if (tenant.name === name) return tenant;
    return undefined;
  }

  #apply(seen: Seen): void {
    switch (seen.kind) {
      case "cache":
        return this.#applyCache(seen.id, seen.value);
      case "credential":
        return this.#applyCredential(seen.id, seen.value);
      case "layout":
        return this.#applyLayout(seen.id, seen.value, seen.revision);
      case "shard":
        return this.#applyShard(seen.id, seen.value, seen.revision);
      case "ejection":
        return this.#applyEjection(seen.id, seen.value, seen.revision);
      case "standIn":
        return this.#applyStandIn(seen.id, seen.value);
      case "proxy":
        return this.#applyProxy(seen.id, seen.value);
      default:
        return;
    }
  }

  #applyCache(id: string, cache: Cache | null): void {
    if (cache !== null) {
      const tenant = this.#tenant(id);
      tenant.follow(cache, this.#sharers, this.#clock.nowMs());
      if (!cache.enabled) revoke(tenant.members, "cache_disabled");
      return;
    }
    const tenant = this.tenants.get(id);
    if (tenant === undefined) return;
    tenant.isEnabled = false;
    revoke(tenant.members, "cache_disabled");
    tenant.shards.clear();
    tenant.route.retire();
    this.tenants.delete(id);
    this.#detoured.delete(tenant);
  }

  #applyCredential(username: string, credential: Credential | null): void {
    const known = this.#logins.get(username);
    if (known?.digest.algorithm === "scrypt") this.#scryptCount--;
    if (credential?.digest.algorithm === "scrypt") this.#scryptCount++;
    let login = known;
    if (known !== undefined && (credential === null || !known.isFor(credential))) {
      this.#logins.delete(username);
      this.#expiries.forget(known);
      revoke(known.members, "credential_revoked");
      login = undefined;
    }
    if (credential === null) return;
    if (login === undefined) {
      login = new Login(username, this.#tenant(credential.cache), credential);
      this.#logins.set(username, login);
    } else {
      login.follow(credential);
    }
    this.#expiries.set(login, credential.expiresAtMs ?? Number.POSITIVE_INFINITY);
  }

  #applyEjection(id: string, ejection: Ejection | null, revision: number): void {
    const [cacheId = "", node = ""] = id.split("/");
    if (ejection === null && !this.tenants.has(cacheId)) return;
    const tenant = this.#tenant(cacheId);
    tenant.detours.ejectionSeen(node, ejection, revision);
    if (!tenant.detours.isEmpty) this.#detoured.add(tenant);
    tenant.reroute(this.#applied.revision);
  }

  #applyStandIn(id: string, standIn: StandIn | null): void {
    const [cacheId = "", node = "", host = ""] = id.split("/");
    if (standIn === null && !this.tenants.has(cacheId)) return;
    const tenant = this.#tenant(cacheId);
    tenant.detours.standInSeen(node, host, standIn);
    tenant.reroute(this.#applied.revision);
  }

  #applyLayout(cacheId: string, layout: Layout | null, revision: number): void {
    if (layout === null && !this.tenants.has(cacheId)) return;
    const tenant = this.#tenant(cacheId);
    tenant.layoutSeen(layout, revision);
    if (tenant.isMoving(this.#applied.revision)) this.#detoured.add(tenant);
    tenant.reroute(this.#applied.revision);
  }

  #applyProxy(name: string, proxy: RecordOf<"proxy"> | null): void {
    const countBefore = this.#sharers.proxyCount;
    const appliedBefore = this.#applied.revision;
    this.#applied.proxySeen(name, proxy);
    if (this.#applied.revision !== appliedBefore) this.#rerouteDetoured();
    if (this.#sharers.proxyCount === countBefore) return;
    for (const tenant of this.tenants.values()) tenant.share(this.#sharers, this.#clock.nowMs());
  }

  #rerouteDetoured(): void {
    for (const tenant of this.#detoured) {
      const { revision } = this.#applied;
      tenant.reroute(revision);
      if (tenant.detours.isEmpty && !tenant.isMoving(revision)) this.#detoured.delete(tenant);
    }
  }

  get #sharers(): Sharers {
    const { workerCount } = this.#options;
    return { proxyCount: Math.max(1, this.#applied.proxyCount), workerCount };
  }

  #applyShard(id: string, shard: Shard | null, revision: number): void {
    const cacheId = shard?.cache ?? id.slice(0, id.lastIndexOf("/"));
    if (shard === null && !this.tenants.has(cacheId)) return;
    const tenant = this.#tenant(cacheId);
    tenant.shardSeen(id, shard, revision);
    if (tenant.isMoving(this.#applied.revision)) this.#detoured.add(tenant);
    tenant.reroute(this.#applied.revision);
  }

  /** Records may come before the cache they belong to. */
  #tenant(id: string): Tenant {
    let tenant = this.tenants.get(id);
    if (tenant === undefined) {
      tenant = new Tenant(id, this.#options.newRoute(id), this.#options.waits);
      this.tenants.set(id, tenant);
    }
    return tenant;
  }

  #forgetAllBut(seen: readonly Seen[], revision: number): void {
    this.#isResyncing = false;
    const living = new Set(seen.map(({ kind, id }) => `${kind} ${id}`));
    for (const username of [...this.#logins.keys()]) {
      if (!living.has(`credential ${username}`)) this.#applyCredential(username, null);
    }
    for (const name of this.#applied.names) {
      if (!living.has(`proxy ${name}`)) this.#applyProxy(name, null);
    }
    for (const tenant of [...this.tenants.values()]) {
      if (!living.has(`cache ${tenant.id}`)) this.#applyCache(tenant.id, null);
      if (!living.has(`layout ${tenant.id}`)) this.#applyLayout(tenant.id, null, revision);
      for (const id of [...tenant.shards.keys()]) {
        if (!living.has(`shard ${id}`)) this.#applyShard(id, null, revision);
      }
      for (const node of tenant.detours.ejected.keys()) {
        const id = `${tenant.id}/${node}`;
        if (!living.has(`ejection ${id}`)) this.#applyEjection(id, null, revision);
      }
    }
  }
}
