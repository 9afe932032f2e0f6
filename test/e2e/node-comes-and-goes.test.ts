/**
 * Promise: a node that joins takes its share of the keys, and one that is drained gives its keys to
 * the others before its shards close; whoever has a key afterwards never answers with a value from
 * before it came.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test, vi } from "vitest";
import { Cluster, type Member } from "../harness/cluster.ts";
import type { Wire } from "../harness/wire.ts";
import { describeWith } from "./suite.ts";

vi.setConfig({ testTimeout: 60_000 });
const WAIT = { timeout: 20_000, interval: 50 };
/** Longer than a proxy takes to undo a write whose outcome it does not know. */
const SETTLED_MS = 1_500;
const KEYS = Array.from({ length: 100 }, (_, index) => `k${index}`);

describeWith(["etcd", "memcached"], "a node that comes and goes", () => {
  let cluster: Cluster | undefined;
  afterEach(async () => {
    await cluster?.stop();
  });

  for (const engine of ["embedded", "memcached"] as const) {
    test(`leaves no old values behind on ${engine} nodes`, async () => {
      cluster = await Cluster.start({ proxies: 2, nodes: 0 });
      await cluster.addNode(engine);
      await served(cluster);
      const [first, second] = await Promise.all(cluster.proxies.map((one) => cluster?.open(one)));
      await storeAll(first as Wire, "old");

      await cluster.addNode(engine);
      await membersAre(cluster, ["node-1", "node-2"]);
      await served(cluster);
      const moved = KEYS.length - (await read(second as Wire)).size;
      expect(moved, "about half of the keys are node-2's now").toBeGreaterThan(KEYS.length / 5);
      expect(moved).toBeLessThan((KEYS.length * 4) / 5);
      await storeAll(second as Wire, "new");

      await drain(cluster, "node-2", true);
      await membersAre(cluster, ["node-1"]);
      await served(cluster);
      const found = await read(first as Wire);
      expect([...new Set(found.values())]).toEqual(["new"]);
      expect(found.size).toBe(KEYS.length - moved);
      await expect.poll(() => shardOf(cluster, "node-2"), WAIT).toBeUndefined();

      await drain(cluster, "node-2", false);
      await membersAre(cluster, ["node-1", "node-2"]);
      await served(cluster);
      expect((await read(second as Wire)).size, "it comes back empty").toBe(KEYS.length - moved);
    });
  }

  test("can be drained when it is dead: its keys go to the others for good", async () => {
    cluster = await Cluster.start({ proxies: 1, nodes: 2 });
    await membersAre(cluster, ["node-1", "node-2"]);
    const dead = cluster.nodes[1] as Member;
    await dead.stop();
    await drain(cluster, "node-2", true);
    await membersAre(cluster, ["node-1"]);
    await served(cluster);
    const wire = await cluster.open(cluster.proxies[0] as Member);
    await storeAll(wire, "new");
    expect((await read(wire)).size).toBe(KEYS.length);
  });
});

const shardOf = async (cluster: Cluster | undefined, node: string): Promise<unknown> =>
  (await cluster?.state.get("shard", `${cluster.cache}/${node}`))?.value;

async function membersAre(cluster: Cluster, nodes: readonly string[]): Promise<void> {
  const members = async () =>
    (await cluster.state.get("layout", cluster.cache))?.value.members.map(({ node }) => node);
  await expect.poll(members, WAIT).toEqual(nodes);
}

async function drain(cluster: Cluster, node: string, draining: boolean): Promise<void> {
  await cluster.state.commit([{ kind: "nodeSetting", id: node, value: { draining } }]);
}

/** Until no key is on its way. */
async function served(cluster: Cluster): Promise<void> {
  for (const proxy of cluster.proxies) {
    const wire = await cluster.open(proxy);
    const all = KEYS.map((key) => `touch-${key}`);
    await expect
      .poll(async () => {
        for (const key of all) {
          if (!(await wire.line(`ms ${key} 1\r\nx`)).startsWith("HD")) return key;
        }
        return "all";
      }, WAIT)
      .toBe("all");
    wire.close();
  }
}

/** A machine that is busy lets a write time out: then all are stored anew, when that is settled. */
async function storeAll(wire: Wire, value: string): Promise<void> {
  const giveUpAtMs = Date.now() + WAIT.timeout;
  for (;;) {
    const answers = [];
    for (const key of KEYS) answers.push(await wire.line(`set ${key} 0 0 3\r\n${value}`));
    const wrong = answers.find((answer) => answer !== "STORED");
    if (wrong === undefined) return;
    if (Date.now() > giveUpAtMs) throw new Error(wrong);
    await sleep(SETTLED_MS);
  }
}

async function read(wire: Wire): Promise<Map<string, string>> {
  const reply = String(await wire.ask(`get ${KEYS.join(" ")}\r\n`, "END\r\n"));
  const rows = [...reply.matchAll(/^VALUE (\S+) 0 3\r\n(...)\r$/gm)];
  return new Map(rows.map(([, key = "", value = ""]) => [key, value]));
}
