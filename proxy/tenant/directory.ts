/**
 * The caches and credentials that this proxy knows: the cluster state turned into what a login and
 * a lookup need. Follows the state by itself; sessions of a credential that is gone are told.
 */
import { type Digest, verify } from "../../core/cluster/credentials.ts";
import type { Cache, Credential, Shard } from "../../core/cluster/records.ts";
import type { ClusterState, Seen, Watch } from "../../core/cluster/state.ts";
import { CacheCounters } from "../routing/counters.ts";
import type { Route } from "../routing/route.ts";
import { credentialRights } from "./rights.ts";

/** A session as the directory sees it. */
export interface Member {
  /** What it may do, as of its login or of the last change. */
  rights: number;
  /** Its login is no longer good. */
  revoked(): void;
}

/** One cache, with everything of it that lives in this proxy. */
export class Tenant {
  readonly id: string;
  readonly route: Route;
  readonly counters: CacheCounters = new CacheCounters();
  readonly members: Set<Member> = new Set();
  /** Shards by their id in the state. */
  readonly shards: Map<string, Shard> = new Map();
  name = "";
  isEnabled = false;

  constructor(id: string, route: Route) {
    this.id = id;
    this.route = route;
  }
}

export class Login {
  readonly username: string;
  readonly tenant: Tenant;
  digest: Digest;
  rights: number;
  /** Stands before every key of its sessions; null for none. */
  readonly keyPrefix: Buffer | null;
  readonly members: Set<Member> = new Set();

  constructor(username: string, tenant: Tenant, credential: Credential) {
    this.username = username;
    this.tenant = tenant;
    this.digest = credential.digest;
    this.rights = credentialRights(credential);
    this.keyPrefix = credential.keyPrefix === "" ? null : Buffer.from(credential.keyPrefix);
  }

  /** Whether its sessions may stay: their keys must not change their place under them. */
  isFor({ cache, keyPrefix }: Credential): boolean {
    return this.tenant.id === cache && (this.keyPrefix?.toString() ?? "") === keyPrefix;
  }
}

/** Records that a proxy follows. */
export const FOLLOWED_KINDS = ["cache", "credential", "shard"] as const;
const isFollowed = (kind: string): boolean => (FOLLOWED_KINDS as readonly string[]).includes(kind);

export interface DirectoryOptions {
  state: Pick<ClusterState, "list" | "watch">;
  newRoute(): Route;
  /** Everything up to this revision is in force here. */
  applied(revision: number): void;
}

export class Directory {
  readonly tenants: Map<string, Tenant> = new Map();
  readonly #logins: Map<string, Login> = new Map();
  readonly #options: DirectoryOptions;
  #watch: Watch | null = null;
  /** We were too far behind: the next call tells all that exists. */
  #isResyncing = false;

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  /** Loads what is there, then follows. */
  async start(): Promise<void> {
    const { state } = this.#options;
    let fromRevision = Number.POSITIVE_INFINITY;
    for (const kind of FOLLOWED_KINDS) {
      const { entries, revision } = await state.list(kind);
      fromRevision = Math.min(fromRevision, revision);
      for (const entry of entries) this.#apply(entry);
    }
    // Lists were read one after another: what happened between is seen again, harmlessly.
    this.#options.applied(fromRevision);
    this.#watch = state.watch(fromRevision, {
      changed: (seen, revision) => {
        const followed = seen.filter((change) => isFollowed(change.kind));
        for (const change of followed) this.#apply(change);
        if (this.#isResyncing) this.#forgetAllBut(followed);
        if (followed.length > 0) this.#options.applied(revision);
      },
      reset: () => {
        this.#isResyncing = true;
      },
    });
  }

  close(): void {
    this.#watch?.close();
    for (const tenant of this.tenants.values()) tenant.route.retire();
  }

  /** The login behind a username and password, or null: one SHA-256, in constant time. */
  authenticate(username: string, password: Uint8Array): Login | null {
    const login = this.#logins.get(username);
    const isRight = verify(login?.digest, password);
    return login !== undefined && isRight && login.tenant.isEnabled ? login : null;
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
      case "shard":
        return this.#applyShard(seen.id, seen.value);
      default:
        return;
    }
  }

  #applyCache(id: string, cache: Cache | null): void {
    if (cache !== null) {
      const tenant = this.#tenant(id);
      tenant.name = cache.name;
      tenant.isEnabled = cache.enabled;
      if (!cache.enabled) revoke(tenant.members);
      return;
    }
    const tenant = this.tenants.get(id);
    if (tenant === undefined) return;
    tenant.isEnabled = false;
    revoke(tenant.members);
    tenant.shards.clear();
    tenant.route.retire();
    this.tenants.delete(id);
  }

  #applyCredential(username: string, credential: Credential | null): void {
    const login = this.#logins.get(username);
    if (credential === null || !login?.isFor(credential)) {
      this.#logins.delete(username);
      if (login !== undefined) revoke(login.members);
    }
    if (credential === null) return;
    const known = this.#logins.get(username);
    if (known === undefined) {
      this.#logins.set(username, new Login(username, this.#tenant(credential.cache), credential));
      return;
    }
    known.digest = credential.digest;
    known.rights = credentialRights(credential);
    for (const member of known.members) member.rights = known.rights;
  }

  #applyShard(id: string, shard: Shard | null): void {
    const cacheId = shard?.cache ?? id.slice(0, id.lastIndexOf("/"));
    if (shard === null && !this.tenants.has(cacheId)) return;
    const tenant = this.#tenant(cacheId);
    if (shard === null) tenant.shards.delete(id);
    else tenant.shards.set(id, shard);
    // A shard that is starting keeps its place on the continuum: its keys must not move.
    tenant.route.update(
      [...tenant.shards.values()].map(({ node, address }) => ({ node, address })),
    );
  }

  /** Records may come before the cache they belong to. */
  #tenant(id: string): Tenant {
    let tenant = this.tenants.get(id);
    if (tenant === undefined) {
      tenant = new Tenant(id, this.#options.newRoute());
      this.tenants.set(id, tenant);
    }
    return tenant;
  }

  #forgetAllBut(seen: readonly Seen[]): void {
    this.#isResyncing = false;
    const living = new Set(seen.map(({ kind, id }) => `${kind} ${id}`));
    for (const username of [...this.#logins.keys()]) {
      if (!living.has(`credential ${username}`)) this.#applyCredential(username, null);
    }
    for (const tenant of [...this.tenants.values()]) {
      if (!living.has(`cache ${tenant.id}`)) this.#applyCache(tenant.id, null);
      for (const id of [...tenant.shards.keys()]) {
        if (!living.has(`shard ${id}`)) this.#applyShard(id, null);
      }
    }
  }
}

function revoke(members: Set<Member>): void {
  for (const member of [...members]) member.revoked();
}
