/**
 * Promise: without the cluster state everything that is known goes on being served. Clients log in
 * and work while etcd stands still or is stopped, also on a proxy that was restarted meanwhile, and
 * see no error; only changes wait. The outages are longer than a lease here;
 * MEMWARD_TEST_OUTAGE_SECONDS=60 makes them a minute, or whatever you want to know.
 */
import { existsSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Cluster, type Member } from "../harness/cluster.ts";
import { favour } from "../harness/processes.ts";
import { Starvation } from "../harness/starvation.ts";
import { describeWith } from "./suite.ts";

const OUTAGE_MS = Number(process.env["MEMWARD_TEST_OUTAGE_SECONDS"] ?? 7) * 1000;
const TIMEOUT_MS = OUTAGE_MS * 2 + 60_000;

/** Sessions that store and read all the time, and new logins. */
class Clients {
  readonly errors: string[] = [];
  readonly #starvation: Starvation;
  answered = 0;
  logins = 0;
  #stopped = false;
  readonly #running: Promise<void>[] = [];
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    const { nodes, proxies } = cluster;
    this.#starvation = new Starvation(() => [...nodes, ...proxies].map(({ pid }) => pid));
  }

  workOn(proxy: Member): void {
    const failed = (error: unknown): void => void this.errors.push(`${proxy.name}: ${error}`);
    this.#running.push(this.#work(proxy).catch(failed), this.#logInAgain(proxy));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
    this.#starvation.stop();
  }

  /** A shard that got no CPU for so long may well time out. */
  #isExcused(answers: readonly string[]): boolean {
    const timedOut = answers.some((answer) => answer === "EN" || answer.includes("timed out"));
    return timedOut && this.#starvation.wasSeen();
  }

  async #work(proxy: Member): Promise<void> {
    const wire = await this.#cluster.open(proxy);
    for (let count = 0; !this.#stopped; count++) {
      const key = `${proxy.name}-${count % 500}`;
      const stored = await wire.line(`ms ${key} 5\r\nvalue`);
      const read = await wire.line(`mg ${key} s`);
      const isRight = stored === "HD" && read === "HD s5";
      if (!isRight && !this.#isExcused([stored, read])) {
        this.errors.push(`${proxy.name}: ${stored}, ${read}`);
      }
      this.answered++;
      await sleep(10);
    }
    wire.close();
  }

  async #logInAgain(proxy: Member): Promise<void> {
    while (!this.#stopped) {
      try {
        (await this.#cluster.open(proxy)).close();
        this.logins++;
      } catch (error) {
        this.errors.push(`${proxy.name}: ${error}`);
      }
      await sleep(20);
    }
  }
}

describeWith(["etcd"], "without etcd", () => {
  let cluster: Cluster;
  let credentialCount = 0;

  beforeAll(async () => {
    cluster = await Cluster.start({ hasControl: true });
    favour(process.pid);
    for (const { snapshot } of [...cluster.proxies, ...cluster.nodes]) {
      await until(() => existsSync(snapshot));
    }
  }, 60_000);
  afterAll(() => cluster?.stop());

  test("a snapshot is its owner's alone", () => {
    for (const { snapshot } of [...cluster.proxies, ...cluster.nodes]) {
      expect(statSync(snapshot).mode & 0o777).toBe(0o600);
    }
  });

  const outages = [
    {
      name: "that stands still",
      begin: () => cluster.etcd.signal("SIGSTOP"),
      end: () => cluster.etcd.signal("SIGCONT"),
    },
    {
      name: "that is stopped and started again",
      begin: () => cluster.etcd.halt(),
      end: () => cluster.etcd.startAgain(),
    },
  ];

  test.each(outages)(
    "with an etcd $name clients see no error, and changes flow again afterwards",
    async ({ begin, end }) => {
      const clients = new Clients(cluster);
      const [first, second, third] = cluster.proxies as [Member, Member, Member];
      await changesFlow();
      clients.workOn(first);
      clients.workOn(second);
      const endAt = Date.now() + OUTAGE_MS;
      await begin();

      const [refused] = await Promise.all([orderCache("late"), third.restart()]);
      expect(refused).toMatchObject({ status: 503, body: { status: 503 } });
      expect(JSON.stringify(refused.body)).toContain("cluster state");
      expect((await cluster.ask("GET", "/v1/proxies")).status).toBe(200);
      expect(third.output()).toContain("serving from the snapshot");
      expect(await third.metric('memward_state_source{source="snapshot"')).toBe(1);
      expect(await third.metric("memward_state_reachable")).toBe(0);
      expect(await third.metric("memward_state_snapshot_age_seconds")).toBeGreaterThan(0);
      clients.workOn(third);
      await sleep(Math.max(1_000, endAt - Date.now()));

      await end();
      await changesFlow();
      await until(async () => (await orderCache("in-time")).status === 201);
      expect((await cluster.ask("DELETE", "/v1/caches/in-time")).status).toBeLessThan(300);
      await until(async () => (await third.metric("memward_state_reachable")) === 1);
      await clients.stop();
      expect(clients.errors).toEqual([]);
      expect(clients.logins).toBeGreaterThan(50);
      expect(clients.answered).toBeGreaterThan(200);
      await everybodyIsRegistered();
    },
    TIMEOUT_MS,
  );

  test("a node that was restarted meanwhile serves its shards where they were", async () => {
    await cluster.etcd.halt();
    const [node] = cluster.nodes as [Member];
    await node.restart();
    const wire = await cluster.open(cluster.proxies[0] as Member);
    await until(async () => {
      const answers = [];
      for (let index = 0; index < 40; index++) answers.push(await wire.line(`ms k${index} 1\r\n1`));
      return answers.every((answer) => answer === "HD");
    });
    wire.close();
    await cluster.etcd.startAgain();
    await changesFlow();
    await everybodyIsRegistered();
  }, 60_000);

  const orderCache = (name: string) => cluster.ask("POST", "/v1/caches", { name, plan: "100mb" });

  /** A new credential is good on every proxy, and no longer when it is deleted. */
  async function changesFlow(): Promise<void> {
    const login = { username: `new-${++credentialCount}`, password: "password-of-a-new-one" };
    await until(() =>
      cluster.addCredential(login).then(
        () => true,
        () => false,
      ),
    );
    const isGood = (proxy: Member): Promise<boolean> =>
      cluster.open(proxy, login).then(
        (wire) => {
          wire.close();
          return true;
        },
        () => false,
      );
    for (const proxy of cluster.proxies) await until(() => isGood(proxy));
    await cluster.removeCredential(login.username);
    for (const proxy of cluster.proxies) await until(async () => !(await isGood(proxy)));
  }

  async function everybodyIsRegistered(): Promise<void> {
    const names = async (kind: "proxy" | "node"): Promise<string[]> =>
      (await cluster.state.list(kind)).entries.map(({ id }) => id);
    await until(async () => (await names("proxy")).length === cluster.proxies.length);
    await until(async () => (await names("node")).length === cluster.nodes.length);
  }
});

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`never came true: ${isSo}`);
    await sleep(20);
  }
}
