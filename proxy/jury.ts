/**
 * Decides with the other proxies which shards leave routing and when they return. What the workers
 * of this proxy suspect is published, what others publish is followed; whoever sees that a decision
 * is due writes it (core/cluster/ejections.ts says when), and the state lets one of them win.
 */

import { CHANGES_MAX } from "../core/cluster/changes.ts";
import { type CacheView, decideEjection } from "../core/cluster/ejections.ts";
import { emptied } from "../core/cluster/external.ts";
import { follow } from "../core/cluster/follow.ts";
import { newSerial } from "../core/cluster/layout.ts";
import type {
  Ejection,
  RecordOf,
  Shard,
  Suspicion,
  SuspicionReason,
} from "../core/cluster/records.ts";
import {
  type Change,
  type ClusterState,
  type Entry,
  type Lease,
  type Seen,
  StateUnavailable,
  type Watch,
} from "../core/cluster/state.ts";
import { clock, every, sleep, type Timer } from "../core/runtime/clock.ts";
import type { Logger } from "../core/runtime/log.ts";
import { Canaries, type CanaryParts } from "./canaries.ts";
import { type Probation, Probations } from "./probations.ts";
import { PROBE_MS_MAX } from "./routing/probe.ts";

const LEASE_TTL_MS = 5_000;
const RETRY_DELAY_MS = 500;
const PROBE_INTERVAL_MS = 250;

/** Suspicions that say nothing about what other proxies would find. */
const OWN_TO_A_PROXY: ReadonlySet<SuspicionReason> = new Set(["slow", "unconfirmed"]);

/** Records that a jury follows. */
export const JURY_KINDS = ["shard", "ejection", "suspicion", "proxy", "node"] as const;
type JuryKind = (typeof JURY_KINDS)[number];

export interface JuryParts extends CanaryParts {
  state: ClusterState;
  log: Logger;
  /** Name of this proxy. */
  proxy: string;
}

/** What is known of a cache; maps are by node. */
class Case implements CacheView {
  readonly proxies: ReadonlySet<string>;
  readonly shards = new Map<string, Shard>();
  readonly ejections = new Map<string, Ejection>();
  readonly shardRevisions = new Map<string, number>();
  readonly ejectionRevisions = new Map<string, number>();
  readonly suspicions = new Map<string, Map<string, Suspicion>>();
  /** Those that live, and their processes. */
  readonly nodes: ReadonlyMap<string, number>;

  constructor(proxies: ReadonlySet<string>, nodes: ReadonlyMap<string, number>) {
    this.proxies = proxies;
    this.nodes = nodes;
  }

  /** A process number means nothing on another machine: only shards on unix sockets are near. */
  get pids(): ReadonlyMap<string, number> {
    const near = [...this.shards].flatMap(([node, { address, process }]) => {
      const pid = this.nodes.get(node);
      const isNear = pid !== undefined && process === null && address.startsWith("unix:");
      return isNear ? [[node, pid] as const] : [];
    });
    return new Map(near);
  }
}

export class Jury {
  readonly #parts: JuryParts;
  readonly #cases = new Map<string, Case>();
  /** Ids of caches of which something is suspected or out: of thousands, hardly any. */
  readonly #unsettled = new Set<string>();
  readonly #proxies = new Set<string>();
  readonly #nodes = new Map<string, number>();
  /** What this proxy would not use, and why; the shard id is the key. */
  readonly #mine = new Map<string, SuspicionReason>();
  /** As written in the state. */
  readonly #published = new Map<string, SuspicionReason>();
  readonly #confirming = new Set<string>();
  readonly #canaries: Canaries;
  readonly #probations = new Probations();
  #lease: Lease | null = null;
  #watch: Watch | null = null;
  #timer: Timer | null = null;
  #isPublishing = false;
  #isClosed = false;

  constructor(parts: JuryParts) {
    this.#parts = parts;
    this.#canaries = new Canaries(parts);
  }

  /** Begins in the background: a proxy serves whether or not the state can be reached. */
  start(): void {
    this.#timer = every(PROBE_INTERVAL_MS, () => this.#tick());
    void this.#follow();
  }

  async #follow(): Promise<void> {
    while (!this.#isClosed && this.#watch === null) {
      await this.#load().catch(async (error: unknown) => {
        if (!(error instanceof StateUnavailable)) throw error;
        this.#forget();
        await sleep(RETRY_DELAY_MS);
      });
    }
  }

  async #load(): Promise<void> {
    this.#watch = await follow<JuryKind>(this.#parts.state, JURY_KINDS, {
      listed: (entry) => void this.#see(entry),
      changed: (seen) => this.#changed(seen),
      reset: () => this.#forget(),
    });
    if (this.#isClosed) this.#watch.close();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#watch?.close();
    this.#timer?.stop();
    await this.#lease?.revoke();
  }

  /** A worker of this proxy would not use the shard. */
  suspect(shardId: string, reason: SuspicionReason): void {
    // While it is out probes alone tell.
    if (this.#ejectionOf(shardId) !== undefined) return;
    if (reason === "unconfirmed") return this.#hold(shardId, reason);
    if (this.#mine.has(shardId)) return;
    void this.#confirm(shardId, reason);
  }

  /** What canaries do not confirm is forgotten. */
  async #confirm(shardId: string, reason: SuspicionReason): Promise<void> {
    const [cacheId = "", node = ""] = shardId.split("/");
    const found = this.#cases.get(cacheId);
    const address = found?.shards.get(node)?.address;
    if (found === undefined || address === undefined || this.#confirming.has(shardId)) return;
    this.#confirming.add(shardId);
    const siblings = [...found.shards]
      .filter(([name]) => name !== node && !found.ejections.has(name))
      .map(([, shard]) => shard.address);
    const isSick = await this.#canaries.confirm(address, reason, siblings);
    this.#confirming.delete(shardId);
    if (isSick && this.#ejectionOf(shardId) === undefined) this.#hold(shardId, reason);
  }

  #hold(shardId: string, reason: SuspicionReason): void {
    this.#mine.set(shardId, reason);
    void this.#publish();
  }

  trust(shardId: string): void {
    if (this.#ejectionOf(shardId) !== undefined) return;
    this.#mine.delete(shardId);
    void this.#publish();
  }

  /** Shards that only this proxy would not use: its own connections. */
  get linkSuspicionCount(): number {
    return [...this.#mine.keys()].filter((id) => this.#ejectionOf(id) === undefined).length;
  }

  // ---- what the state says ------------------------------------------------------------------

  #changed(seen: readonly Seen[]): void {
    const touched = new Set<string>();
    for (const change of seen) {
      if (!(JURY_KINDS as readonly string[]).includes(change.kind)) continue;
      const cacheId = this.#see(change as Seen<JuryKind>);
      if (cacheId !== undefined) touched.add(cacheId);
      else if (change.kind === "proxy") for (const id of this.#unsettled) touched.add(id);
    }
    for (const cacheId of touched) void this.#judge(cacheId);
  }

  /** Takes in one record; returns the cache that it is about. */
  #see(seen: Seen<JuryKind> | Entry<JuryKind>): string | undefined {
    if (seen.kind === "proxy") {
      this.#proxySeen(seen.id, seen.value);
      return undefined;
    }
    if (seen.kind === "node") {
      put(this.#nodes, seen.id, seen.value?.pid ?? null);
      return undefined;
    }
    const [cacheId = "", rest = ""] = seen.id.split("/");
    const [node = "", proxy = ""] = rest.split("@");
    let found = this.#cases.get(cacheId);
    if (found === undefined) {
      found = new Case(this.#proxies, this.#nodes);
      this.#cases.set(cacheId, found);
    }
    if (seen.kind === "shard") {
      put(found.shards, node, seen.value);
      put(found.shardRevisions, node, seen.value === null ? null : seen.revision);
    } else if (seen.kind === "ejection") {
      put(found.ejections, node, seen.value);
      put(found.ejectionRevisions, node, seen.value === null ? null : seen.revision);
      this.#ejectionSeen(`${cacheId}/${node}`, seen.value);
    } else {
      const by = found.suspicions.get(node) ?? new Map<string, Suspicion>();
      put(by, proxy, seen.value);
      put(found.suspicions, node, by.size === 0 ? null : by);
      // Without traffic of our own we would never know: look, when somebody else has trouble.
      const isOfOthers = proxy !== this.#parts.proxy;
      if (seen.value !== null && isOfOthers && !OWN_TO_A_PROXY.has(seen.value.reason)) {
        this.suspect(`${cacheId}/${node}`, seen.value.reason);
      }
    }
    const { shards, ejections, suspicions } = found;
    if (ejections.size + suspicions.size > 0) this.#unsettled.add(cacheId);
    else this.#unsettled.delete(cacheId);
    if (shards.size + ejections.size + suspicions.size === 0) this.#cases.delete(cacheId);
    return cacheId;
  }

  #proxySeen(name: string, proxy: RecordOf<"proxy"> | null): void {
    if (proxy === null) this.#proxies.delete(name);
    else this.#proxies.add(name);
  }

  #ejectionSeen(shardId: string, ejection: Ejection | null): void {
    if (ejection === null) {
      this.#probations.end(shardId);
      this.#mine.delete(shardId); // From now on traffic tells.
    } else if (this.#probations.begin(shardId, ejection, clock.nowMs())) {
      // From now on its probes have to prove that it may return. It is emptied now: asking for that
      // again would eject it anew as soon as it is back.
      const asked = this.#mine.get(shardId) ?? "unconfirmed";
      if (asked === "unconfirmed") this.#mine.set(shardId, "unproven");
    } else return;
    void this.#publish();
  }

  #forget(): void {
    this.#cases.clear();
    this.#unsettled.clear();
    this.#proxies.clear();
    this.#probations.clear();
  }

  #ejectionOf(shardId: string): Ejection | undefined {
    const [cacheId = "", node = ""] = shardId.split("/");
    return this.#cases.get(cacheId)?.ejections.get(node);
  }

  // ---- what we say --------------------------------------------------------------------------

  /** Makes what is written the same as what we think; one commit at a time. */
  async #publish(): Promise<void> {
    if (this.#isPublishing) return;
    this.#isPublishing = true;
    try {
      while (!this.#isClosed) {
        const news = this.#news();
        if (news.length === 0 || !(await this.#write(news))) return;
      }
    } finally {
      this.#isPublishing = false;
    }
  }

  #news(): [string, SuspicionReason | null][] {
    const fresh = [...this.#mine].filter(([id, reason]) => this.#published.get(id) !== reason);
    const over = [...this.#published.keys()].filter((id) => !this.#mine.has(id));
    const news = [...fresh, ...over.map((id): [string, null] => [id, null])];
    return news.slice(0, CHANGES_MAX);
  }

  async #write(news: readonly [string, SuspicionReason | null][]): Promise<boolean> {
    const { state, log, proxy } = this.#parts;
    try {
      this.#lease ??= await this.#newLease();
      const lease = this.#lease;
      const changes = news.map(([shardId, reason]): Change => {
        const id = `${shardId}@${proxy}`;
        if (reason === null) return { kind: "suspicion", id, value: null };
        const [cache = "", node = ""] = shardId.split("/");
        const value = { cache, node, proxy, reason, sinceMs: clock.unixMs() };
        return { kind: "suspicion", id, value, lease };
      });
      const commit = await state.commit(changes);
      if (!commit.ok) throw new Error(`suspicions not written: ${commit.reason}`);
      for (const [id, reason] of news) {
        if (reason === null) this.#published.delete(id);
        else this.#published.set(id, reason);
      }
      return true;
    } catch (error) {
      // The next tick tries again.
      log.warn({ err: error }, "suspicions could not be written");
      return false;
    }
  }

  async #newLease(): Promise<Lease> {
    const lease = await this.#parts.state.lease({ ttlMs: LEASE_TTL_MS });
    void lease.lost.then(() => {
      this.#lease = null;
      this.#published.clear();
    });
    return lease;
  }

  // ---- deciding -----------------------------------------------------------------------------

  async #judge(cacheId: string): Promise<void> {
    const found = this.#cases.get(cacheId);
    if (found === undefined || this.#isClosed) return;
    for (const node of new Set([...found.suspicions.keys(), ...found.ejections.keys()])) {
      await this.#decide(found, { cache: cacheId, node });
    }
  }

  async #decide(found: Case, { cache, node }: { cache: string; node: string }): Promise<void> {
    const decision = decideEjection(found, node);
    if (decision.do === "keep") return;
    const { state, log } = this.#parts;
    const id = `${cache}/${node}`;
    const expected = found.ejectionRevisions.get(node) ?? 0;
    const serial = newSerial();
    const value: RecordOf<"ejection"> | null =
      decision.do === "readmit"
        ? null
        : {
            cache,
            node,
            serial,
            standIns: decision.standIns,
            reason: decision.reason,
            seenBy: decision.seenBy,
            atMs: clock.unixMs(),
          };
    try {
      const changes: Change[] = [{ kind: "ejection", id, value, expected } as Change];
      const shard = found.shards.get(node);
      if (value !== null && shard !== undefined && shard.stamp !== "") {
        // A server of others cannot be emptied: under another stamp it is.
        const fresh = { ...emptied(shard), clearedFor: serial };
        const revision = found.shardRevisions.get(node) ?? 0;
        changes.push({ kind: "shard", id, value: fresh, expected: revision });
      }
      const commit = await state.commit(changes);
      // On a conflict another proxy was faster: its decision is told to us.
      if (commit.ok) log.warn({ shard: id, ...decision }, "shard: routing changed");
    } catch (error) {
      log.warn({ err: error, shard: id }, "ejection could not be written");
    }
  }

  // ---- probing ------------------------------------------------------------------------------

  #tick(): void {
    void this.#publish();
    for (const [shardId, probation] of this.#probations.due(clock.nowMs())) {
      void this.#probe(shardId, probation);
    }
    // What could not be written, or was decided by somebody who died, is looked at again.
    for (const cacheId of this.#unsettled) void this.#judge(cacheId);
  }

  async #probe(shardId: string, probation: Probation): Promise<void> {
    const [cacheId = "", node = ""] = shardId.split("/");
    const shard = this.#cases.get(cacheId)?.shards.get(node);
    // Before it was emptied there is nothing to return to.
    if (shard === undefined || shard.clearedFor !== probation.serial) return;
    const sentAtMs = clock.nowMs();
    probation.isUnderWay = true;
    const durationMs = await this.#parts.probe(shard.address, PROBE_MS_MAX);
    probation.isUnderWay = false;
    if (this.#probations.get(shardId) !== probation) return;
    const known = probation.note(durationMs, { sentAtMs, isStarved: this.#parts.isStarved() });
    if (known === "proven") this.#mine.delete(shardId);
    else this.#mine.set(shardId, known);
    void this.#publish();
  }
}

function put<T>(into: Map<string, T>, key: string, value: T | null): void {
  if (value === null) into.delete(key);
  else into.set(key, value);
}
