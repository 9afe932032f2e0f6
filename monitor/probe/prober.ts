/**
 * Canaries from the outside: once a second, through every proxy, on every shard of a cache of our
 * own, a key is set, read and deleted, with memjs, as an application would. Proxies see this
 * traffic like any other, so that a shard that nobody uses is not one that nobody watches.
 *
 * One session for each proxy, one command at a time: the cost is bounded by CELLS_PER_ROUND_MAX.
 */
import { Continuum } from "../../core/cluster/continuum.ts";
import { PROBE_CACHE } from "../../core/cluster/internal.ts";
import type { ClusterState } from "../../core/cluster/state.ts";
import { clock, every, type Timer } from "../../core/runtime/clock.ts";
import type { Logger } from "../../core/runtime/log.ts";
import type { Finding } from "../detect/kinds.ts";
import type { ClusterFacts } from "../observe/cluster.ts";
import { keyOfEach } from "./keys.ts";
import { ProbeLogin } from "./login.ts";
import { ProbeSession } from "./session.ts";

export { PROBE_CACHE };

const ROUND_INTERVAL_MS = 1_000;
/** Proxies times shards that one round looks at; the next round goes on with the rest. */
const CELLS_PER_ROUND_MAX = 400;
/** A canary that takes so long, and so many times what is usual, is a bad sign. */
const SLOW_MS_MIN = 10;
const SLOW_FACTOR = 4;
/** What is older says nothing of now. */
const FRESH_MS_MAX = 5_000;
const UNREACHABLE_ROUNDS_MIN = 2;

/** What became of the last canary of one proxy on one shard. */
export interface ProbeCell {
  readonly proxy: string;
  readonly node: string;
  /** The slowest of set, get and delete; null when one of them failed. */
  readonly durationMs: number | null;
  readonly failure: string | null;
  readonly failureCount: number;
  readonly atMs: number;
}

type Reach = { session: ProbeSession; failedRounds: number; lastProblem: string; isBusy: boolean };

export interface ProberParts {
  state: ClusterState;
  log: Logger;
  name: string;
  facts: ClusterFacts;
}

export class Prober {
  readonly #parts: ProberParts;
  readonly #login: ProbeLogin;
  readonly #cells = new Map<string, ProbeCell>();
  readonly #reaches = new Map<string, Reach>();
  #keys: { nodes: string; of: ReadonlyMap<string, string> } = { nodes: "", of: new Map() };
  #timer: Timer | null = null;
  #offset = 0;
  #round = 0;

  constructor(parts: ProberParts) {
    this.#parts = parts;
    this.#login = new ProbeLogin(parts);
  }

  start(): void {
    this.#timer = every(ROUND_INTERVAL_MS, () => void this.#tick());
  }

  async close(): Promise<void> {
    this.#timer?.stop();
    for (const { session } of this.#reaches.values()) session.close();
    this.#reaches.clear();
  }

  cells(): Iterable<ProbeCell> {
    return this.#cells.values();
  }

  /** `<proxy>/<node>` where the last canary failed or was slow. */
  badCells(nowMs: number): Set<string> {
    const fresh = [...this.#cells.values()].filter(({ atMs }) => nowMs - atMs < FRESH_MS_MAX);
    const known = fresh.flatMap(({ durationMs }) => durationMs ?? []).sort((a, b) => a - b);
    const usualMs = known[(known.length - 1) >> 1] ?? 0;
    const slowMs = Math.max(SLOW_MS_MIN, SLOW_FACTOR * usualMs);
    const bad = fresh.filter(({ durationMs }) => durationMs === null || durationMs >= slowMs);
    return new Set(bad.map(({ proxy, node }) => `${proxy}/${node}`));
  }

  /** Proxies that let nobody in, or answer nothing at all. */
  findings(): Finding[] {
    return [...this.#reaches].flatMap(([subject, { failedRounds, lastProblem }]): Finding[] => {
      if (failedRounds < UNREACHABLE_ROUNDS_MIN) return [];
      return [
        {
          kind: "proxyUnreachable",
          subject,
          summary: `clients get no answer from ${subject}: ${lastProblem}`,
          explains: [`proxySilent:${subject}`],
        },
      ];
    });
  }

  async #tick(): Promise<void> {
    const { facts } = this.#parts;
    if (!facts.isLoaded) return;
    const { login } = this.#login;
    this.#forgetGone();
    if (!facts.caches.has(PROBE_CACHE) || login === null) return this.#login.ensure();
    const keys = this.#keysOfNodes();
    if (keys.size === 0) return;
    this.#round++;
    const proxies = [...facts.proxies].filter(
      // Where our credential is not known yet we would be strangers.
      ([, { ready, appliedRevision }]) => ready && appliedRevision >= login.revision,
    );
    const nodesPerProxy = Math.max(
      1,
      Math.floor(CELLS_PER_ROUND_MAX / Math.max(1, proxies.length)),
    );
    const nodes = this.#share([...keys], nodesPerProxy);
    for (const [proxy, { addresses }] of proxies.slice(0, CELLS_PER_ROUND_MAX)) {
      const address = addresses[0];
      if (address !== undefined) void this.#probe(proxy, address, nodes);
    }
  }

  #forgetGone(): void {
    const { facts } = this.#parts;
    for (const [proxy, { session }] of this.#reaches) {
      if (facts.proxies.get(proxy)?.addresses[0] === session.address) continue;
      session.close();
      this.#reaches.delete(proxy);
    }
    for (const [id, { proxy, node }] of this.#cells) {
      const isKnown = facts.proxies.has(proxy) && facts.shards.has(`${PROBE_CACHE}/${node}`);
      if (!isKnown) this.#cells.delete(id);
    }
  }

  /** A window that goes round, if there are more than a round may have. */
  #share<T>(all: readonly T[], count: number): T[] {
    if (all.length <= count) return [...all];
    const from = this.#offset % all.length;
    this.#offset = from + count;
    return [...all, ...all].slice(from, from + count);
  }

  #keysOfNodes(): ReadonlyMap<string, string> {
    const shards = [...this.#parts.facts.shards.values()].filter(
      ({ cache }) => cache === PROBE_CACHE,
    );
    const weighted = shards
      .map(({ node, weight }) => ({ name: node, weight }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    const nodes = JSON.stringify(weighted);
    if (this.#keys.nodes !== nodes) {
      const prefix = `canary:${this.#parts.name}`;
      this.#keys = { nodes, of: keyOfEach(new Continuum(weighted), prefix) };
    }
    return this.#keys.of;
  }

  async #probe(
    proxy: string,
    address: string,
    keys: readonly (readonly [node: string, key: string])[],
  ): Promise<void> {
    const reach = this.#reachOf(proxy, address);
    if (reach === undefined || reach.isBusy) return;
    reach.isBusy = true;
    let answerCount = 0;
    for (const [node, key] of keys) {
      const outcome = await reach.session.canary(key, `${this.#round}`);
      if (outcome.isAnswer) answerCount++;
      else reach.lastProblem = outcome.failure ?? "";
      const id = `${proxy}/${node}`;
      const failureCount =
        (this.#cells.get(id)?.failureCount ?? 0) + (outcome.failure === null ? 0 : 1);
      const { durationMs, failure } = outcome;
      this.#cells.set(id, { proxy, node, durationMs, failure, failureCount, atMs: clock.nowMs() });
      // It lets nobody in: asking for the other shards would only take time.
      if (!outcome.isAnswer && answerCount === 0) break;
    }
    reach.failedRounds = answerCount === 0 ? reach.failedRounds + 1 : 0;
    if (reach.failedRounds === UNREACHABLE_ROUNDS_MIN) {
      this.#parts.log.warn({ proxy, address, problem: reach.lastProblem }, "canaries fail");
      // Perhaps it is our login that is not good any more.
      void this.#login.renew();
    }
    reach.isBusy = false;
  }

  #reachOf(proxy: string, address: string): Reach | undefined {
    const known = this.#reaches.get(proxy);
    const { login } = this.#login;
    if (login === null) return undefined;
    if (known !== undefined && known.session.login === login) return known;
    if (known?.isBusy) return undefined;
    known?.session.close();
    const reach: Reach = {
      session: new ProbeSession(address, login),
      failedRounds: known?.failedRounds ?? 0,
      lastProblem: "",
      isBusy: false,
    };
    this.#reaches.set(proxy, reach);
    return reach;
  }
}
