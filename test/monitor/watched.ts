/**
 * Proxies, memcached nodes and a watchtower that looks at them, with traffic of some sessions, over
 * a network whose links can be made slow. All real but the watchtower's incidents: here it ends
 * with conditions.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createLog } from "../../core/runtime/log.ts";
import { type Condition, conditionKey } from "../../monitor/condition.ts";
import { Watchtower } from "../../monitor/watchtower.ts";
import { Cluster } from "../harness/cluster.ts";
import { type LinkFault, Network } from "../harness/network.ts";
import { connect, type Wire } from "../harness/wire.ts";

const LOOK_INTERVAL_MS = 50;
const SESSIONS_PER_PROXY = 6;
const PAUSE_MS = 15;
const KEY_COUNT = 500;

export type WatchedOptions = { proxies?: number; nodes?: number };

export class Watched {
  readonly network: Network;
  readonly cluster: Cluster;
  readonly tower: Watchtower;
  readonly proxyCount: number;
  #isStopped = false;
  readonly #sessions: Promise<void>[] = [];

  private constructor(network: Network, cluster: Cluster, proxyCount: number) {
    this.network = network;
    this.cluster = cluster;
    this.proxyCount = proxyCount;
    this.tower = new Watchtower({
      state: cluster.state,
      log: createLog({ name: "watchtower", level: "silent" }),
      name: "m1",
      stateDir: null,
      certificateFiles: [],
      isProbing: true,
    });
  }

  static async start({ proxies = 2, nodes = 3 }: WatchedOptions = {}): Promise<Watched> {
    const network = new Network();
    const cluster = await Cluster.start({ proxies, nodes, engine: "memcached", network });
    const watched = new Watched(network, cluster, proxies);
    for (const member of [...cluster.nodes, ...cluster.proxies]) member.keepAlive();
    for (const address of cluster.plain) {
      for (let session = 0; session < SESSIONS_PER_PROXY; session++) {
        watched.#sessions.push(watched.#use(address, session));
      }
    }
    watched.tower.start();
    return watched;
  }

  /** Reads and writes until the end, a command at a time. */
  async #use(address: string, session: number): Promise<void> {
    let wire: Wire | null = null;
    for (let round = session; !this.#isStopped; round++) {
      await sleep(PAUSE_MS);
      const key = `key-${(round * 7) % KEY_COUNT}`;
      try {
        wire ??= await connect(address);
        await wire.line(round % 10 === 0 ? `ms ${key} 2\r\nok` : `mg ${key} v`);
      } catch {
        wire?.close(); // Faults end sessions; whoever uses a cache comes again.
        wire = null;
      }
    }
    wire?.close();
  }

  conditions(): readonly Condition[] {
    return this.tower.conditions(Date.now());
  }

  /** Resolves with the first condition that is right, and when it was there. */
  async until(
    isRight: (condition: Condition) => boolean,
    limitMs = 20_000,
  ): Promise<{ condition: Condition; atMs: number }> {
    const deadlineMs = performance.now() + limitMs;
    for (;;) {
      const condition = this.conditions().find(isRight);
      if (condition !== undefined) return { condition, atMs: performance.now() };
      if (performance.now() > deadlineMs) {
        throw new Error(`not found; there is ${this.conditions().map(conditionKey).join(", ")}`);
      }
      await sleep(LOOK_INTERVAL_MS);
    }
  }

  /** Nothing that pages is wrong for `calmMs`. */
  async calm(calmMs = 1_000, limitMs = 90_000): Promise<void> {
    const deadlineMs = performance.now() + limitMs;
    let calmSinceMs = performance.now();
    for (;;) {
      const paging = this.conditions().filter(({ severity }) => severity === "crit");
      const wrong = paging.map(conditionKey);
      const now = performance.now();
      if (wrong.length > 0) calmSinceMs = now;
      if (now - calmSinceMs >= calmMs) return;
      if (now > deadlineMs) throw new Error(`not calm: ${wrong.join(", ")}`);
      await sleep(LOOK_INTERVAL_MS);
    }
  }

  /** On the links of all proxies to that node; nodes count from 1. */
  async make(node: number, fault: LinkFault): Promise<void> {
    const proxies = Array.from({ length: this.proxyCount }, (_, index) => index + 1);
    await Promise.all(proxies.map((proxy) => this.network.make({ proxy, node }, fault, proxy)));
  }

  async heal(node: number): Promise<void> {
    const proxies = Array.from({ length: this.proxyCount }, (_, index) => index + 1);
    await Promise.all(proxies.map((proxy) => this.network.heal({ proxy, node })));
  }

  /** The memcached process of the shard of the cluster's cache on a node. */
  async shardPid(node: string): Promise<number> {
    const shard = await this.cluster.state.get("shard", `${this.cluster.cache}/${node}`);
    const pid = shard?.value.process?.pid;
    if (pid === undefined || pid === null) throw new Error(`${node} has no process`);
    return pid;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#sessions);
    await this.tower.close();
    await this.cluster.stop();
    this.network.stop();
  }
}

/** Whether it is about that node, or about the shard of a cache on it. */
export const concerns =
  (node: string) =>
  ({ kind, subject }: Condition): boolean =>
    (kind === "node" && subject === node) || (kind === "shard" && subject.endsWith(`/${node}`));
