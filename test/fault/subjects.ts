/**
 * What the nemesis works on: three proxies over three memcached shards, ours or nutcracker's. Both
 * have somebody who starts a dead memcached again: our agents, or the little supervisor below.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { startMemward } from "../harness/memward.ts";
import { freePort } from "../harness/ports.ts";
import { find, Running, startNutcracker, waitForListener } from "../harness/processes.ts";

const NODE_COUNT = 3;
const PROXY_COUNT = 3;
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
  /** Processes that hold values. */
  shardPids(): Promise<number[]>;
  /** Processes that look after those; empty if there are none. */
  agentPids(): Promise<number[]>;
  stop(): Promise<void>;
}

const SUBJECTS = { memward: startOurs, nutcracker: startPeers } as const;
export type SubjectName = keyof typeof SUBJECTS;
export const SUBJECT_NAMES = Object.keys(SUBJECTS) as [SubjectName, ...SubjectName[]];

export const startSubject = (name: SubjectName): Promise<Subject> => SUBJECTS[name]();

async function startOurs(): Promise<Subject> {
  const proxies = await ports(PROXY_COUNT);
  const memward = await startMemward({
    proxies: PROXY_COUNT,
    plain: false,
    args: [
      ...["--engine", "memcached", "--nodes", String(NODE_COUNT)],
      ...proxies.flatMap((address) => ["--plain", address]),
    ],
  });
  const backends = async () =>
    (await memward.status()).roles.filter(({ role }) => role === "backend");
  return {
    proxies,
    shardPids: async () =>
      (await backends()).flatMap(({ shards = [] }) => shards.map(({ pid }) => pid)).filter(Boolean),
    agentPids: async () => (await backends()).map(({ pid }) => pid),
    stop: async () => void (await memward.stop()),
  };
}

async function startPeers(): Promise<Subject> {
  const addresses = await ports(NODE_COUNT);
  const shards = addresses.map((address) => new Restarted(address));
  for (const shard of shards) await shard.ready();
  const servers = addresses.map((address, index) => `${address}:1 node-${index + 1}`);
  const pool = { servers, hash: "murmur", options: NUTCRACKER_OPTIONS };
  const peers = await Promise.all(
    Array.from({ length: PROXY_COUNT }, () => startNutcracker({ pools: { fault: pool } })),
  );
  return {
    proxies: peers.map(({ addresses: bound }) => bound["fault"] ?? ""),
    shardPids: async () => shards.map(({ pid }) => pid),
    agentPids: async () => [],
    stop: async () => {
      for (const peer of peers) await peer.stop();
      for (const shard of shards) await shard.stop();
    },
  };
}

/** A memcached that is started again whenever it ends. */
class Restarted {
  readonly #address: string;
  #running: Running;
  #isStopping = false;

  constructor(address: string) {
    this.#address = address;
    this.#running = this.#start();
  }

  get pid(): number {
    return this.#running.pid;
  }

  ready(): Promise<void> {
    return waitForListener(this.#address, this.#running);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#running.stop("SIGKILL");
  }

  #start(): Running {
    const [, port = ""] = this.#address.split(":");
    const args = ["-l", "127.0.0.1", "-p", port, "-U", "0", "-m", "64", "-u", "nobody"];
    const running = new Running("memcached", find("memcached") ?? "memcached", args);
    void running.exited.then(async () => {
      await sleep(RESTART_DELAY_MS);
      if (!this.#isStopping) this.#running = this.#start();
    });
    return running;
  }
}

const ports = (count: number): Promise<string[]> =>
  Promise.all(Array.from({ length: count }, async () => `127.0.0.1:${await freePort()}`));
