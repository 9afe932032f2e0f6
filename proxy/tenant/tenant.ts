/** One cache, with everything of it that lives in this worker; and its logins. */
import type { Digest } from "../../core/cluster/credentials.ts";
import { STAMP_SIZE } from "../../core/cluster/external.ts";
import { type Networks, parseNetworks } from "../../core/cluster/networks.ts";
import {
  type Cache,
  type Credential,
  type Layout,
  type Limits,
  MANAGED_POOL,
  type Shard,
} from "../../core/cluster/records.ts";
import { type Place, Roster } from "../../core/runtime/roster.ts";
import { CacheCounters } from "../routing/counters.ts";
import type { CachePolicies } from "../routing/failure.ts";
import type { Route, ShardTarget } from "../routing/route.ts";
import { CLOSED, Detours } from "./detours.ts";
import { CacheLimits, type Sharers, type Waiting } from "./limits.ts";
import { credentialRights } from "./rights.ts";

/** Why sessions have to end though they did nothing: a change of what they logged in to. */
export type RevokeReason =
  | "credential_revoked"
  | "credential_expired"
  | "outside_network"
  | "cache_disabled";

/** A session as the directory sees it. */
export interface Member {
  /** What it may do, as of its login or of the last change. */
  rights: number;
  /** Where it comes from, without port; "" for a unix socket. */
  readonly address: string;
  /** Its login is no longer good. */
  revoked(reason: RevokeReason): void;
}

/** To look at. */
export type Members = Pick<Roster<Member>, "size" | typeof Symbol.iterator>;

export class Tenant {
  readonly id: string;
  readonly route: Route;
  readonly counters: CacheCounters = new CacheCounters();
  readonly members: Roster<Member> = new Roster();
  /** Shards by their id in the state. */
  readonly shards: Map<string, Shard> = new Map();
  /** Revisions that gave a shard its stamp, by node: while they are not known to all. */
  readonly #stampedAt: Map<string, number> = new Map();
  /** On servers of others. */
  isExternal = false;
  readonly detours: Detours = new Detours();
  readonly limits: CacheLimits;
  /** The same, if it has to be asked for each command; null costs nothing. */
  commandLimits: CacheLimits | null = null;
  /** Shared with the reply queues of its sessions, so that a change reaches them. */
  readonly policies: CachePolicies = { unansweredRead: "miss" };
  /** What it may still do in this turn of the event loop, while it is not alone; see turns.ts. */
  readonly work = { turnAtMs: 0, left: 0 };
  /** The group in which its connections are read. */
  readonly group: number = newGroup();
  name = "";
  isEnabled = false;
  #limits: Limits | null = null;
  /** Who owns its keys; null while it is not known: then all of its shards do. */
  #layout: { value: Layout; revision: number } | null = null;

  constructor(id: string, route: Route, waits: (waiting: Waiting) => void) {
    this.id = id;
    this.route = route;
    this.limits = new CacheLimits(waits);
  }

  follow(cache: Cache, sharers: Sharers, nowMs: number): void {
    this.name = cache.name;
    this.isEnabled = cache.enabled;
    this.isExternal = cache.pool !== MANAGED_POOL;
    this.policies.unansweredRead = cache.policies.unansweredRead;
    const isShared = cache.policies.singleFlight === "always";
    const isAdaptive = cache.policies.deadline === "adaptive";
    const { isExternal } = this;
    this.route.follow({ copies: cache.copies, isShared, isAdaptive, isExternal });
    this.#limits = cache.limits;
    this.share(sharers, nowMs);
  }

  shardSeen(id: string, shard: Shard | null, revision: number): void {
    const before = this.shards.get(id);
    if (shard === null) this.shards.delete(id);
    else this.shards.set(id, shard);
    const stamp = shard?.stamp ?? "";
    if (shard !== null && stamp !== "" && stamp !== before?.stamp) {
      this.#stampedAt.set(shard.node, revision);
    }
  }

  layoutSeen(layout: Layout | null, revision: number): void {
    this.#layout = layout === null ? null : { value: layout, revision };
  }

  /** Some of its keys are on their way, as of what all living proxies have applied. */
  isMoving(revision: number): boolean {
    if (this.#layout !== null && this.#layout.revision > revision) return true;
    for (const stampedAt of this.#stampedAt.values()) if (stampedAt > revision) return true;
    return false;
  }

  /** Shards, detours or layout have changed, or all living proxies have now applied `revision`. */
  reroute(revision: number): void {
    const isNew = (this.#layout?.revision ?? 0) > revision;
    const before = isNew ? (this.#layout?.value.before ?? []) : [];
    const detours = this.detours.inForce(revision, this.isExternal ? this.#addressOf : null);
    for (const [node, stampedAt] of this.#stampedAt) {
      // Others may still store under the stamp before it.
      if (stampedAt > revision) detours.set(node, CLOSED);
      else this.#stampedAt.delete(node);
    }
    this.route.update(
      this.#targets(),
      detours,
      before.length === 0
        ? null
        : before.map(({ node, weight, zone }) => ({ name: node, weight, zone })),
    );
  }

  readonly #addressOf = (node: string): string | null =>
    this.shards.get(`${this.id}/${node}`)?.address ?? null;

  /** A shard that is starting, or not there yet, keeps its place: its keys must not move. */
  #targets(): ShardTarget[] {
    if (this.#layout === null) return [...this.shards.values()].map(targetOf);
    return this.#layout.value.members.map(({ node, weight, zone }) => {
      const shard = this.shards.get(`${this.id}/${node}`);
      if (shard === undefined) return { node, address: "", weight, zone };
      return { ...targetOf(shard), weight, zone };
    });
  }

  /** What stands before the keys of a session: room for a stamp, and the prefix of its login. */
  prefixFor(login: Login | null): Buffer | null {
    const own = login?.keyPrefix ?? null;
    if (!this.isExternal) return own;
    return Buffer.concat([Buffer.alloc(STAMP_SIZE), own ?? Buffer.alloc(0)]);
  }

  /** There are more sharers of the limits than before, or fewer. */
  share(sharers: Sharers, nowMs: number): void {
    if (this.#limits === null) return;
    this.limits.update(this.#limits, sharers, nowMs);
    this.commandLimits = this.limits.concernsCommands ? this.limits : null;
  }
}

/** Group 0 is that of strangers. After a million caches numbers are used again, which harms nobody. */
const GROUP_COUNT = (1 << 20) - 1;
let groupCount = 0;
const newGroup = (): number => 1 + (groupCount++ % GROUP_COUNT);

const targetOf = ({ node, address, weight, zone, emptySinceMs, stamp }: Shard): ShardTarget => ({
  node,
  address,
  weight,
  zone,
  emptySinceMs,
  stamp: stamp === "" ? null : Buffer.from(stamp, "latin1"),
});

const NOBODY: Roster<Member> = new Roster();

/** There may be a hundred thousand of these: what only few have is made when it is needed. */
export class Login {
  readonly username: string;
  readonly tenant: Tenant;
  digest: Digest;
  rights: number;
  /** Stands before every key of its sessions; null for none. */
  readonly keyPrefix: Buffer | null;
  /** Since 1970; Infinity for never. Set by `Expiries`. */
  expiresAtMs: number = Number.POSITIVE_INFINITY;
  /** From anywhere if null. */
  networks: Networks | null;
  /** What a scrypt password that was verified is compared with from then on. */
  remembered: Buffer | null = null;
  #members: Roster<Member> | null = null;

  constructor(username: string, tenant: Tenant, credential: Credential) {
    this.username = username;
    this.tenant = tenant;
    this.digest = credential.digest;
    this.rights = credentialRights(credential);
    this.keyPrefix = credential.keyPrefix === "" ? null : Buffer.from(credential.keyPrefix);
    this.networks = parseNetworks(credential.networks);
  }

  /** Its sessions. */
  get members(): Members {
    return this.#members ?? NOBODY;
  }

  join(member: Member): Place {
    this.#members ??= new Roster();
    return this.#members.add(member);
  }

  leave(place: Place): void {
    this.#members?.remove(place);
  }

  /** Whether its sessions may stay: their keys must not change their place under them. */
  isFor({ cache, keyPrefix }: Credential): boolean {
    return this.tenant.id === cache && (this.keyPrefix?.toString() ?? "") === keyPrefix;
  }

  /** Takes over what changed; sessions that may not stay are told. */
  follow(credential: Credential): void {
    this.rights = credentialRights(credential);
    for (const member of this.members) member.rights = this.rights;
    if (!isSameDigest(this.digest, credential.digest)) {
      this.digest = credential.digest;
      this.remembered = null;
      revoke(this.members, "credential_revoked");
    }
    this.networks = parseNetworks(credential.networks);
    if (this.networks === null) return;
    for (const member of this.members) {
      if (!this.networks.includes(member.address)) member.revoked("outside_network");
    }
  }
}

export function revoke(members: Members, reason: RevokeReason): void {
  for (const member of members) member.revoked(reason);
}

function isSameDigest(a: Digest, b: Digest): boolean {
  return a.algorithm === b.algorithm && a.salt === b.salt && a.hash === b.hash;
}
