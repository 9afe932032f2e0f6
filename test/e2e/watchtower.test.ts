/**
 * Promise: whatever slows or stops a node or a proxy is named within seconds, as seen by real
 * proxies with real memcached, etcd and a network that can be made slow. How many seconds is
 * measured by `npm run bench -- --only onset`.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { conditionKey } from "../../monitor/condition.ts";
import { concerns, Watched } from "../monitor/watched.ts";
import { describeWith } from "./suite.ts";

describeWith(["memcached", "etcd"], "a watchtower", () => {
  let watched: Watched;
  beforeAll(async () => {
    watched = await Watched.start();
  }, 120_000);
  afterAll(() => watched?.stop(), 60_000);

  test("has canaries through every proxy on every node, and nothing to tell", async () => {
    await watched.calm(2_000);
    const { state } = watched.cluster;
    const shards = (await state.list("shard", { prefix: "memward-monitor/" })).entries;
    expect(shards).toHaveLength(3);
    await watched.calm(1_000);
  }, 90_000);

  test("names a node that takes 20 ms longer", async () => {
    await watched.make(1, "+20 ms");
    try {
      const { condition } = await watched.until(concerns("node-1"));
      expect(condition.severity).toBe("crit");
    } finally {
      await watched.heal(1);
      await watched.calm();
    }
  }, 120_000);

  test("names a shard whose memcached is stopped", async () => {
    // Its agent replaces it once it is out of routing.
    process.kill(await watched.shardPid("node-2"), "SIGSTOP");
    const { condition } = await watched.until(concerns("node-2"));
    expect(condition.summary).toContain("node-2");
    await watched.calm();
  }, 120_000);

  test("names the link when one proxy alone is slow towards one node", async () => {
    await watched.network.make({ proxy: 1, node: 3 }, "+20 ms", 1);
    try {
      await watched.until((condition) => conditionKey(condition) === "link:proxy-1/node-3");
    } finally {
      await watched.network.heal({ proxy: 1, node: 3 });
      await watched.calm();
    }
  }, 120_000);

  test("names a proxy that is stopped", async () => {
    const [, proxy] = watched.cluster.proxies;
    if (proxy === undefined) throw new Error("no second proxy");
    process.kill(proxy.pid, "SIGSTOP");
    try {
      await watched.until(
        ({ kind, subject }) => kind === "proxyUnreachable" && subject === "proxy-2",
      );
    } finally {
      process.kill(proxy.pid, "SIGCONT");
    }
    await watched.calm();
  }, 120_000);
});
