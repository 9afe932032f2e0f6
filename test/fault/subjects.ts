/**
 * What the nemesis works on: three proxies over three memcached shards, ours or nutcracker's, every
 * pair of them over a link of its own. Both have somebody who starts a dead memcached again: our
 * agents, or the little supervisor below.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Cluster } from "../harness/cluster.ts";
import { hostOfNode, hostOnLink, Network } from "../harness/network.ts";
import { freePort } from "../harness/ports.ts";
import {
  find,
  type Nutcracker,
  Running,
  startNutcracker,
  waitForListener,
} from "../harness/processes.ts";

export const NODE_COUNT = 3;
export const PROXY_COUNT = 3;
/** As fast as our agents do it. */
const RESTART_DELAY_MS = 100;
/** What is usual in production: the values of nutcracker's own notes, and our deadline. */
const NUTCRACKER_OPTIONS = {
  auto_eject_hosts: true,
  server_retry_timeout: 2000,
  server_failure_limit: 2,
  timeout: 250,
};

export interface Subject {
  /** Text listeners without login, one for each proxy. */
  readonly proxies: readonly string[];
  readonly network: Network;
  /** Processes that hold values. */
  shardPids(): Promise<number[]>;
  /** Processes that look after those; empty if there are none. */
  agentPids(): Promise<number[]>;
  /** Processes that clients talk to. */
  proxyPids(): Promise<number[]>;
  /** What it has to say about a run that went wrong. */
  output(): string;
  stop(): Promise<void>;
}

const SUBJECTS = {
  memward: () => startOurs(1),
  "memward-copies": () => startOurs(2),
  nutcracker: startPeers,
} as const;
export type SubjectName = keyof typeof SUBJECTS;
export const SUBJECT_NAMES = Object.keys(SUBJECTS) as [SubjectName, ...SubjectName[]];

export const startSubject = (name: SubjectName): Promise<Subject> => SUBJECTS[name]();

async function startOurs(copies: 1 | 2): Promise<Subject> {
  const network = new Network();
  const counts = { proxies: PROXY_COUNT, nodes: NODE_COUNT };
  const cluster = await Cluster.start({ ...counts, engine: "memcached", copies, network });
  for (const member of [...cluster.nodes, ...cluster.proxies]) member.keepAlive();
  return {
    proxies: cluster.plain,
    network,
    shardPids: async () =>
      (await cluster.state.list("shard")).entries.flatMap(({ value }) => value.process?.pid ?? []),
    agentPids: async () => cluster.nodes.map(({ pid }) => pid),
    proxyPids: async () => cluster.proxies.map(({ pid }) => pid),
    output: () => cluster.proxies.map((proxy) => `${proxy.name}\n${proxy.output()}`).join("\n"),
    stop: async () => {
      await cluster.stop();
      network.stop();
    },
  };
}

async function startPeers(): Promise<Subject> {
  const network = new Network();
  const nodes = Array.from({ length: NODE_COUNT }, (_, index) => index + 1);
  const shards: Restarted[] = [];
  for (const node of nodes) {
    const shard = new Restarted(hostOfNode(node), await freePort());
    await shard.ready();
    shards.push(shard);
  }
  const peers: Nutcracker[] = [];
  for (let proxy = 1; proxy <= PROXY_COUNT; proxy++) {
    const servers = [];
    for (const [index, { port }] of shards.entries()) {
      const link = { proxy, node: index + 1 };
      await network.carry(link, port);
      servers.push(`${hostOnLink(link)}:${port}:1 node-${link.node}`);
    }
    const pool = { servers, hash: "murmur", options: NUTCRACKER_OPTIONS };
    peers.push(await startNutcracker({ pools: { fault: pool } }));
  }
  return {
    proxies: peers.map(({ addresses }) => addresses["fault"] ?? ""),
    network,
    shardPids: async () => shards.map(({ pid }) => pid),
    agentPids: async () => [],
    proxyPids: async () => peers.map(({ pid }) => pid),
    output: () => "",
    stop: async () => {
      for (const peer of peers) await peer.stop();
      for (const shard of shards) await shard.stop();
      network.stop();
    },
  };
}

/** A memcached that is started again whenever it ends. */
class Restarted {
  readonly port: number;
  readonly #host: string;
  #running: Running;
  #isStopping = false;

  constructor(host: string, port: number) {
    this.#host = host;
    this.port = port;
    this.#running = this.#start();
  }

  get pid(): number {
    return this.#running.pid;
  }

  ready(): Promise<void> {
    return waitForListener(`${this.#host}:${this.port}`, this.#running);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#running.stop("SIGKILL");
  }

  #start(): Running {
    const at = ["-l", this.#host, "-p", String(this.port), "-U", "0"];
    const args = [...at, "-m", "64", "-u", "nobody"];
    const running = new Running("memcached", find("memcached") ?? "memcached", args);
    void running.exited.then(async () => {
      await sleep(RESTART_DELAY_MS);
      if (!this.#isStopping) this.#running = this.#start();
    });
    return running;
  }
}
