/**
 * A Memward on several machines, all of them this one: roles in processes of their own, started as
 * on any machine with `--state etcd://…`, shards on TCP. What an operator would do through the API
 * (a cache, a credential) is written into the state.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { digestOf } from "../../core/cluster/credentials.ts";
import { openEtcdState } from "../../core/cluster/etcd.ts";
import { parseStateUrl } from "../../core/cluster/open.ts";
import { cacheRecord, credentialRecord } from "../../core/cluster/records.ts";
import type { ClusterState } from "../../core/cluster/state.ts";
import { Etcd } from "./etcd.ts";
import { type Login, logInText, spawnMemward } from "./memward.ts";
import { hostOfNode, type Network } from "./network.ts";
import { freePort } from "./ports.ts";
import { favour, type Running, temporaryFolder, waitForListener } from "./processes.ts";
import { connect, type Wire } from "./wire.ts";

const READY_DEADLINE_MS = 30_000;
const RESTART_DELAY_MS = 100;
const CACHE = "c-shop";

export type ClusterOptions = {
  proxies?: number;
  nodes?: number;
  hasControl?: boolean;
  engine?: "embedded" | "memcached";
  /** Of each key of its cache. */
  copies?: 1 | 2;
  /** Between proxies and nodes; without it they reach each other directly. */
  network?: Network;
};

/** One role in a process of its own, which can be killed and started again in its place. */
export class Member {
  readonly name: string;
  readonly address: string;
  readonly ops: string;
  readonly dataDir: string;
  /** What it would start from without the state. */
  readonly snapshot: string;
  readonly #args: readonly string[];
  #running: Running;
  #before = "";
  #isKept = false;

  constructor(
    role: "proxy" | "backend" | "control",
    { name, address, ops, url }: { name: string; address: string; ops: string; url: string },
    section: object,
  ) {
    this.name = name;
    this.address = address;
    this.ops = ops;
    const folder = temporaryFolder(`memward-${name}`);
    const file = join(folder, "memward.json");
    this.dataDir = join(folder, "data");
    const ownName = role === "proxy" ? name : role;
    this.snapshot = join(this.dataDir, `${ownName}.snapshot`);
    writeFileSync(file, JSON.stringify({ dataDir: this.dataDir, ops, [role]: section }));
    this.#args = [role, "--config", file, "--state", url];
    this.#running = spawnMemward(this.#args);
    favour(this.#running.pid);
  }

  get pid(): number {
    return this.#running.pid;
  }

  /** Everything that it logged, in all its lives. */
  output(): string {
    return this.#before + this.#running.stdout + this.#running.stderr;
  }

  async ready(): Promise<void> {
    const deadline = Date.now() + READY_DEADLINE_MS;
    await waitForListener(this.ops, this.#running, READY_DEADLINE_MS);
    while (!(await fetch(`http://${this.ops}/readyz`)).ok) {
      if (Date.now() > deadline) throw new Error(`${this.name} is not ready: ${this.output()}`);
      await sleep(30);
    }
  }

  async metric(name: string): Promise<number> {
    const text = await (await fetch(`http://${this.ops}/metrics`)).text();
    const line = text.split("\n").find((one) => one.startsWith(name) && !one.startsWith("#"));
    return Number(line?.slice(line.lastIndexOf(" ") + 1));
  }

  async restart(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await this.#running.stop(signal);
    this.#before = this.output();
    this.#running = spawnMemward(this.#args);
    favour(this.#running.pid);
    await this.ready();
  }

  /** From now on it is started again when it ends, as a service manager would do. */
  keepAlive(): void {
    this.#isKept = true;
    void this.#running.exited.then(async () => {
      await sleep(RESTART_DELAY_MS);
      if (!this.#isKept) return;
      this.#before = this.output();
      this.#running = spawnMemward(this.#args);
      favour(this.#running.pid);
      this.keepAlive();
    });
  }

  async stop(): Promise<number | null> {
    this.#isKept = false;
    return this.#running.stop();
  }
}

export class Cluster {
  readonly etcd: Etcd;
  readonly state: ClusterState;
  readonly proxies: Member[] = [];
  readonly nodes: Member[] = [];
  /** Listeners without login, one for each proxy. */
  readonly plain: string[] = [];
  /** The admin API. */
  control: Member | undefined;
  /** Id of the cache that it has. */
  readonly cache = CACHE;
  readonly login: Login = { username: "shop", password: "first-password-of-the-shop" };

  private constructor(etcd: Etcd, state: ClusterState) {
    this.etcd = etcd;
    this.state = state;
  }

  static async start({
    proxies = 3,
    nodes = 2,
    hasControl = false,
    engine = "embedded",
    copies = 1,
    network,
  }: ClusterOptions = {}): Promise<Cluster> {
    const etcd = await Etcd.start();
    const url = etcd.url("cluster");
    const place = parseStateUrl(url);
    if (typeof place === "string" || place.engine !== "etcd") throw new Error(url);
    const cluster = new Cluster(etcd, openEtcdState({ ...place, tls: undefined }));
    try {
      await cluster.#seed(copies);
      if (network !== undefined) cluster.#carryOver(network, proxies);
      for (let index = 1; index <= nodes; index++) {
        const host = network === undefined ? "127.0.0.1" : hostOfNode(index);
        await cluster.addNode(engine, host);
      }
      for (let index = 1; index <= proxies; index++) {
        const at = { name: `proxy-${index}`, ...(await ports()), url };
        const address = `127.0.0.1:${await freePort()}`;
        cluster.plain.push(address);
        const section = {
          name: at.name,
          listen: [at.address],
          plain: [{ address, cache: "shop" }],
          nodeHosts: network?.nodeHosts(index, nodes) ?? {},
        };
        cluster.proxies.push(new Member("proxy", at, section));
      }
      if (hasControl) {
        const at = { name: "control", ...(await ports()), url };
        cluster.control = new Member("control", at, { listen: at.address });
        await cluster.control.ready();
      }
      for (const member of [...cluster.nodes, ...cluster.proxies]) await member.ready();
      for (const { address } of cluster.proxies) await cluster.#serves(address);
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  /** One more node, in a process of its own; resolves when that has been started. */
  async addNode(
    engine: "embedded" | "memcached" = "embedded",
    host = "127.0.0.1",
  ): Promise<Member> {
    const name = `node-${this.nodes.length + 1}`;
    const at = { name, ...(await ports()), url: this.etcd.url("cluster") };
    const section = { nodes: [{ name, host, engine, socketDir: temporaryFolder(name) }] };
    const node = new Member("backend", at, section);
    this.nodes.push(node);
    return node;
  }

  /** A session, logged in. */
  async open(proxy: Member, login: Login = this.login): Promise<Wire> {
    return logInText(await connect(proxy.address), login);
  }

  /** A request of the operator; needs the control. */
  async ask(
    method: string,
    path: string,
    body?: object,
  ): Promise<{ status: number; body: unknown }> {
    const { address = "", dataDir = "" } = this.control ?? {};
    const token = readFileSync(join(dataDir, "operator.token"), "utf8").trim();
    const answer = await fetch(`http://${address}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    return { status: answer.status, body: text === "" ? null : JSON.parse(text) };
  }

  async addCredential({ username, password }: Login): Promise<number> {
    const commit = await this.state.commit([
      {
        kind: "credential",
        id: username,
        value: credentialRecord.parse({
          cache: CACHE,
          digest: digestOf(password),
          rights: ["read", "write"],
          createdAtMs: Date.now(),
        }),
      },
    ]);
    if (!commit.ok) throw new Error(JSON.stringify(commit));
    return commit.revision;
  }

  async removeCredential(username: string): Promise<void> {
    const commit = await this.state.commit([{ kind: "credential", id: username, value: null }]);
    if (!commit.ok) throw new Error(JSON.stringify(commit));
  }

  async stop(): Promise<void> {
    await this.control?.stop();
    await Promise.all(this.proxies.map((proxy) => proxy.stop()));
    await Promise.all(this.nodes.map((node) => node.stop()));
    await this.state.close();
    await this.etcd.stop();
  }

  /** Every port where a shard or a stand-in listens, on the links of all proxies. */
  #carryOver(network: Network, proxyCount: number): void {
    this.state.watch(0, {
      changed: (seen) => {
        for (const { kind, value } of seen) {
          if ((kind !== "shard" && kind !== "standIn") || value === null) continue;
          const [host = "", port = ""] = value.address.split(":");
          const node = Number(host.split(".").at(-1));
          for (let proxy = 1; proxy <= proxyCount; proxy++) {
            if (port !== "") void network.carry({ proxy, node }, Number(port));
          }
        }
      },
    });
  }

  async #seed(copies: 1 | 2): Promise<void> {
    const size = { bytes: 32 * 2 ** 20, copies };
    const value = cacheRecord.parse({ name: "shop", ...size, createdAtMs: Date.now() });
    const commit = await this.state.commit([{ kind: "cache", id: CACHE, value }]);
    if (!commit.ok) throw new Error(JSON.stringify(commit));
    await this.addCredential(this.login);
  }

  /** Until every key finds its shard. */
  async #serves(address: string): Promise<void> {
    const deadline = Date.now() + READY_DEADLINE_MS;
    for (;;) {
      const wire = await logInText(await connect(address), this.login);
      const answers = [];
      for (let index = 0; index < 20; index++) answers.push(await wire.line(`mg probe-${index}`));
      wire.close();
      if (answers.every((answer) => answer === "EN")) return;
      if (Date.now() > deadline) throw new Error(`${address} serves not all keys: ${answers}`);
      await sleep(50);
    }
  }
}

async function ports(): Promise<{ address: string; ops: string }> {
  return { address: `127.0.0.1:${await freePort()}`, ops: `127.0.0.1:${await freePort()}` };
}
