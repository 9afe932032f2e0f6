/**
 * One event loop of a proxy: everything a request touches, wired together. They run in threads of
 * their own (thread.ts). The one of the main thread, beside what follows the cluster state, serves
 * clients only if `sharesMainThread`.
 */
import type { SuspicionReason } from "../core/cluster/records.ts";
import { Loop } from "../core/io/loop.ts";
import type { Listening } from "../core/io/wire.ts";
import { collectGarbage } from "../core/runtime/memory.ts";
import { random } from "../core/runtime/random.ts";
import { Roster } from "../core/runtime/roster.ts";
import { Starvation } from "../core/runtime/starvation.ts";
import { Admission } from "./client/admission.ts";
import { listen } from "./client/listener.ts";
import { type Services, SessionCounters } from "./client/services.ts";
import type { Session } from "./client/session.ts";
import { Turns } from "./client/turns.ts";
import type { ProxyOptions } from "./options.ts";
import { TICK_MS } from "./routing/detector.ts";
import type { Link, LinkState } from "./routing/link.ts";
import { Rounds } from "./routing/rounds.ts";
import { Route } from "./routing/route.ts";
import { Slots } from "./routing/slots.ts";
import { Stash } from "./routing/stash.ts";
import { Sweep } from "./routing/sweep.ts";
import { Directory, type DirectoryOptions } from "./tenant/directory.ts";
import type { Waiting } from "./tenant/limits.ts";
import { Passwords } from "./tenant/passwords.ts";

/** Unsent output and kept input of all sessions; above it the largest hoarder is closed. */
const HELD_SIZE_MAX = 256 * 1024 * 1024;
const UPKEEP_INTERVAL_MS = TICK_MS;
/** So many sessions since the last time are a storm. */
const STORM_SESSION_COUNT = 1000;
/** So long without a new session, and hardly a write (a monitor's canaries are some), is calm. */
const CALM_MS = 1000;
const CALM_TICK_WRITES = 3;
const IDLE_LOOK_MS = 5_000;
const RETRY_DELAY_MS = 10;
const DRAIN_INTERVAL_MS = 5;
/** On a starved machine shards get so many times longer before they are fenced. */
const STARVED_PATIENCE = 5;
/** How often those whom a limit makes wait are looked after. */
const WAKE_INTERVAL_MS = 10;

type FollowedState = DirectoryOptions["state"];
export type LinkName = Pick<Link, "address" | "dialect">;

export interface WorkerEvents {
  linkChanged(link: LinkName, from: LinkState, to: LinkState, reason: string): void;
  /** The cluster state up to this revision is in force. */
  applied(revision: number): void;
  /** The shard of this id would better not be used; and: it may be used again. */
  suspected(shardId: string, reason: SuspicionReason): void;
  trusted(shardId: string): void;
  /** A cache on servers of others is to be emptied; true when that is so through all proxies. */
  flushWanted(cacheId: string): Promise<boolean>;
}

export class Worker {
  readonly services: Services;
  readonly starvation: Starvation;
  readonly #sweep: Sweep;
  readonly #rounds: Rounds = new Rounds();
  readonly #options: ProxyOptions;
  readonly #listeners: Listening[] = [];
  #upkeep: NodeJS.Timeout | null = null;
  /** Limits that make somebody wait, and the timer that lives while there are any. */
  readonly #limiting: Set<Waiting> = new Set();
  #waking: NodeJS.Timeout | null = null;
  #waiting: Session[] = [];
  #acceptedBefore = 0;
  #writtenBefore = 0;
  #acceptedWhenTidied = 0;
  #calmSinceMs = 0;
  #lookedAtLinksMs = 0;

  constructor(options: ProxyOptions, state: FollowedState, events: WorkerEvents) {
    this.#options = options;
    const loop = new Loop({ io: options.io, hosts: options.nodeHosts });
    const slots = new Slots();
    const sweep = new Sweep(loop);
    this.starvation = new Starvation({ nowMs: loop.nowMs });
    this.#sweep = sweep;
    const transition = events.linkChanged;
    const routeOptions = {
      // Where nobody connects nobody is routed: the main thread has threads for that.
      isDormant: options.listen.length + options.plain.length === 0,
      loop,
      slots,
      sweep,
      random,
      rounds: this.#rounds,
      events: { transition },
    };
    this.services = {
      loop,
      slots,
      stash: new Stash(loop.arena),
      directory: new Directory({
        state,
        newRoute: (cacheId) =>
          new Route(routeOptions, {
            suspected: (node, reason) => events.suspected(`${cacheId}/${node}`, reason),
            trusted: (node) => events.trusted(`${cacheId}/${node}`),
          }),
        applied: events.applied,
        workerCount: options.workers,
        waits: (waiting) => this.#lookAfter(waiting),
      }),
      passwords: new Passwords(),
      admission: new Admission(),
      turns: new Turns(loop),
      anonymous: new Roster(),
      serving: new Roster(),
      loginsChanged: new Set(),
      counters: new SessionCounters(),
      flush: (cacheId) => events.flushWanted(cacheId),
      retryLater: (session) => this.#retryLater(session),
    };
  }

  /** Follows the state, then listens; returns the bound addresses, logins first. */
  async start(): Promise<{ listen: string[]; plain: string[] }> {
    const { services } = this;
    const { workers, sessionsMax } = this.#options;
    await services.directory.start();
    const common = { reusePort: workers > 1, sessionsMax };
    const bound: { listen: string[]; plain: string[] } = { listen: [], plain: [] };
    try {
      for (const address of this.#options.listen) {
        bound.listen.push(await this.#listen({ ...parseAddress(address), ...common }));
      }
      for (const { address, cache } of this.#options.plain) {
        bound.plain.push(await this.#listen({ ...parseAddress(address), ...common, cache }));
      }
    } catch (error) {
      for (const listener of this.#listeners) listener.close();
      services.directory.close();
      throw error;
    }
    this.#upkeep = setInterval(() => this.#keepUp(), UPKEEP_INTERVAL_MS);
    this.#upkeep.unref();
    return bound;
  }

  async #listen(options: Parameters<typeof listen>[1]): Promise<string> {
    const listener = await listen(this.services, options);
    this.#listeners.push(listener);
    return listener.address;
  }

  /** Stops accepting, answers what was read, closes; resolves when no session is left. */
  async drain(): Promise<void> {
    const { services } = this;
    for (const listener of this.#listeners) listener.close();
    for (const sessions of [services.anonymous, services.serving]) {
      for (const session of sessions) session.drain("drained");
    }
    while (services.anonymous.size + services.serving.size > 0) {
      await new Promise((resolve) => setTimeout(resolve, DRAIN_INTERVAL_MS));
    }
    if (this.#upkeep !== null) clearInterval(this.#upkeep);
    services.directory.close();
  }

  #retryLater(session: Session): void {
    if (this.#waiting.length === 0) setTimeout(() => this.#retry(), RETRY_DELAY_MS);
    this.#waiting.push(session);
  }

  #retry(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.services.loop.turn();
    for (const session of waiting) session.proceed();
  }

  #lookAfter(waiting: Waiting): void {
    this.#limiting.add(waiting);
    this.#waking ??= setInterval(() => this.#wake(), WAKE_INTERVAL_MS);
  }

  #wake(): void {
    const { loop } = this.services;
    loop.turn();
    for (const waiting of this.#limiting) {
      if (!waiting.wake(loop.nowMs)) this.#limiting.delete(waiting);
    }
    if (this.#limiting.size > 0 || this.#waking === null) return;
    clearInterval(this.#waking);
    this.#waking = null;
  }

  #keepUp(): void {
    const { loop, anonymous } = this.services;
    loop.turn();
    this.starvation.tick(loop.nowMs, UPKEEP_INTERVAL_MS);
    this.#sweep.patience = this.starvation.isStarved ? STARVED_PATIENCE : 1;
    this.#rounds.run(loop.nowMs);
    this.#closeIdleLinks();
    const openedBeforeMs = loop.nowMs - this.#options.loginTimeoutSeconds * 1000;
    for (const session of anonymous) {
      if (session.openedAtMs <= openedBeforeMs) session.drain("login_timeout");
    }
    if (loop.unsentSize + loop.keptSize > HELD_SIZE_MAX) this.#closeHoarder();
    this.#tidyAfterStorm();
  }

  /** Connections to shards that nobody uses: now and then those of all caches are looked at. */
  #closeIdleLinks(): void {
    const { loop, directory } = this.services;
    if (loop.nowMs < this.#lookedAtLinksMs + IDLE_LOOK_MS) return;
    this.#lookedAtLinksMs = loop.nowMs;
    for (const { route } of directory.tenants.values()) {
      for (const shard of route.shards) shard.closeIfIdle(loop.nowMs);
    }
  }

  /** A storm of new sessions leaves tens of MB of garbage; the calm after it is the time to go. */
  #tidyAfterStorm(): void {
    const { counters, loop } = this.services;
    const isBusy = loop.writeCount - this.#writtenBefore > CALM_TICK_WRITES;
    if (isBusy || counters.accepted !== this.#acceptedBefore) this.#calmSinceMs = loop.nowMs;
    this.#acceptedBefore = counters.accepted;
    this.#writtenBefore = loop.writeCount;
    if (counters.accepted - this.#acceptedWhenTidied < STORM_SESSION_COUNT) return;
    if (loop.nowMs - this.#calmSinceMs < CALM_MS) return;
    this.#acceptedWhenTidied = counters.accepted;
    collectGarbage();
  }

  /** Memory is bounded by what one client may not do to the others: the largest one goes. */
  #closeHoarder(): void {
    let largest: Session | null = null;
    let largestSize = 0;
    for (const sessions of [this.services.serving, this.services.anonymous]) {
      for (const session of sessions) {
        const size = session.connection.unsentSize + session.connection.keptSize;
        if (size <= largestSize) continue;
        largest = session;
        largestSize = size;
      }
    }
    largest?.destroy("output_hoarded");
  }
}

/** `host:port`; IPv6 hosts stand in brackets. */
function parseAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
  return { host, port: Number(address.slice(colon + 1)) };
}
