/** What is wrong without any comparison. */
import { describe, expect, test } from "vitest";
import type { Ejection, Node, Proxy as ProxyRecord, Shard } from "../../../core/cluster/records.ts";
import type { Cell } from "../../../monitor/detect/matrix.ts";
import {
  downFindings,
  expiryFindings,
  goneFindings,
  memoryFindings,
  slowNodeFindings,
  stateFindings,
} from "../../../monitor/detect/standing.ts";
import type { ClusterFacts } from "../../../monitor/observe/cluster.ts";

const NOW_MS = 1_800_000_000_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

type Given = { [K in keyof ClusterFacts]?: unknown };
const factsOf = (given: Given): ClusterFacts =>
  ({
    caches: new Map(),
    nodes: new Map(),
    nodeSettings: new Map(),
    shards: new Map(),
    ejections: new Map(),
    suspicions: new Map(),
    proxies: new Map<string, ProxyRecord>(),
    monitors: new Map(),
    expiring: new Map(),
    gone: new Map(),
    unreachableSinceMs: null,
    isLoaded: true,
    ...given,
  }) as ClusterFacts;

const shard = (node: string, state = "ready") => ({ cache: "c1", node, state }) as Shard;
const node = (memoryUsed: number | null = null) => ({ memoryUsed }) as Node;
const keysOf = (findings: readonly { kind: string; subject: string }[]): string[] =>
  findings.map(({ kind, subject }) => `${kind}:${subject}`);

describe("somebody is gone", () => {
  test("a proxy and a monitor that went without a word, for an hour", () => {
    const gone = new Map([
      ["proxy:p1", NOW_MS - 1_000],
      ["monitor:m2", NOW_MS - 1_000],
      ["proxy:p9", NOW_MS - 2 * HOUR_MS],
    ]);
    expect(keysOf(goneFindings(factsOf({ gone }), NOW_MS))).toEqual([
      "proxyGone:p1",
      "monitorSilent:m2",
    ]);
  });

  test("a node that has shards and no record, unless it drains or nobody can know", () => {
    const shards = new Map([["c1/n1", shard("n1")]]);
    expect(keysOf(goneFindings(factsOf({ shards }), NOW_MS))).toEqual(["nodeGone:n1"]);
    const draining = { nodeSettings: new Map([["n1", { draining: true }]]) };
    expect(goneFindings(factsOf({ shards, ...draining }), NOW_MS)).toEqual([]);
    const away = { unreachableSinceMs: NOW_MS - 60_000 };
    expect(goneFindings(factsOf({ shards, ...away }), NOW_MS)).toEqual([]);
    const nodes = new Map([["n1", node()]]);
    expect(goneFindings(factsOf({ shards, nodes }), NOW_MS)).toEqual([]);
  });
});

describe("a cache has no live shard", () => {
  const caches = new Map([["c1", { name: "shop", enabled: true }]]);
  const nodes = new Map([
    ["n1", node()],
    ["n2", node()],
  ]);
  const shards = new Map([
    ["c1/n1", shard("n1")],
    ["c1/n2", shard("n2")],
  ]);
  const options = { probeCache: "memward-monitor", hasNodes: true };
  const down = (given: Given, cells: readonly Cell[] = []) =>
    keysOf(downFindings(factsOf({ caches, nodes, shards, ...given }), cells, options));
  const cell = (proxy: string, at: string, deadTicks: number): Cell => ({
    proxy,
    cache: "c1",
    node: at,
    badTicks: deadTicks,
    deadTicks,
    what: "",
  });

  test("when all nodes of it are gone, or all its shards are starting", () => {
    expect(down({})).toEqual([]);
    expect(down({ nodes: new Map([["n2", node()]]) })).toEqual([]);
    expect(down({ nodes: new Map([["n3", node()]]) })).toEqual(["cacheDown:c1"]);
    expect(down({ shards: new Map([["c1/n1", shard("n1", "starting")]]) })).toEqual([
      "cacheDown:c1",
    ]);
  });

  test("when all are ejected and nobody stands in", () => {
    const out = (standIns: string[]) => ({ standIns }) as unknown as Ejection;
    const both = (standIns: string[]) =>
      new Map([
        ["c1/n1", out(standIns)],
        ["c1/n2", out([])],
      ]);
    expect(down({ ejections: both([]) })).toEqual(["cacheDown:c1"]);
    expect(down({ ejections: both(["n2"]) })).toEqual([]);
  });

  test("when no proxy gets an answer from any of them", () => {
    const dead = [cell("p1", "n1", 20), cell("p2", "n1", 18), cell("p1", "n2", 20)];
    expect(down({}, dead)).toEqual(["cacheDown:c1"]);
    expect(down({}, [...dead, cell("p2", "n2", 0)])).toEqual([]);
  });

  test("but not one that is switched off, nor that of our canaries", () => {
    const none = new Map();
    expect(down({ nodes: none, caches: new Map([["c1", { name: "a", enabled: false }]]) })).toEqual(
      [],
    );
    const ours = new Map([["memward-monitor", { name: "memward-monitor", enabled: true }]]);
    expect(down({ nodes: none, caches: ours })).toEqual([]);
  });
});

test("the state is unreachable after five seconds; its disk is nearly full, then full", () => {
  const since = (ms: number) => ({ unreachableSinceMs: NOW_MS - ms });
  expect(stateFindings(since(4_000), null, NOW_MS)).toEqual([]);
  expect(keysOf(stateFindings(since(5_000), null, NOW_MS))).toEqual(["stateUnreachable:state"]);
  const disk = (share: number) => ({ path: "/x", freeSize: share * 1e9, size: 1e9 });
  const well = { unreachableSinceMs: null };
  expect(stateFindings(well, disk(0.5), NOW_MS)).toEqual([]);
  expect(keysOf(stateFindings(well, disk(0.05), NOW_MS))).toEqual(["stateDisk:state"]);
  expect(keysOf(stateFindings(well, disk(0.01), NOW_MS))).toEqual(["stateDiskFull:state"]);
});

test("a node's memory is nearly used up, then used up", () => {
  const nodes = new Map([
    ["n1", node(null)],
    ["n2", node(0.88)],
    ["n3", node(0.92)],
    ["n4", node(0.98)],
  ]);
  expect(keysOf(memoryFindings({ nodes }))).toEqual(["nodeMemory:n3", "nodeMemoryFull:n4"]);
});

describe("something expires", () => {
  const credential = (leftMs: number, lifeMs: number) => ({
    cache: "c1",
    expiresAtMs: NOW_MS + leftMs,
    createdAtMs: NOW_MS + leftMs - lifeMs,
  });
  const expiring = (leftMs: number, lifeMs = 90 * DAY_MS) =>
    keysOf(
      expiryFindings(
        factsOf({ expiring: new Map([["user", credential(leftMs, lifeMs)]]) }),
        [],
        NOW_MS,
      ),
    );

  test("a credential in three days, or yesterday; not one that was made for a day", () => {
    expect(expiring(4 * DAY_MS)).toEqual([]);
    expect(expiring(2 * DAY_MS)).toEqual(["credentialExpiry:user"]);
    expect(expiring(-HOUR_MS)).toEqual(["credentialExpiry:user"]);
    expect(expiring(-2 * DAY_MS)).toEqual([]);
    expect(expiring(HOUR_MS, DAY_MS)).toEqual([]);
  });

  test("a certificate in three weeks; in three days somebody is paged", () => {
    const certificate = (leftMs: number | null) =>
      keysOf(
        expiryFindings(
          factsOf({}),
          [{ path: "/ca.pem", expiresAtMs: leftMs === null ? null : NOW_MS + leftMs }],
          NOW_MS,
        ),
      );
    expect(certificate(30 * DAY_MS)).toEqual([]);
    expect(certificate(10 * DAY_MS)).toEqual(["certificateExpiry:/ca.pem"]);
    expect(certificate(2 * DAY_MS)).toEqual(["certificateExpired:/ca.pem"]);
    expect(certificate(null)).toEqual([]);
  });
});

test("a node that takes 2.5 times as long as the others, as every proxy sees it, is a slow one", () => {
  const usual = (first: number) =>
    new Map([["n1", first], ...[2, 3].map((n) => [`n${n}`, 0.3] as const)]);
  const seen = (...firsts: number[]) =>
    keysOf(slowNodeFindings(new Map(firsts.map((ms, index) => [`p${index}`, usual(ms)]))));
  expect(seen(0.9, 0.8)).toEqual(["slowNode:n1"]);
  expect(seen(0.9, 0.4)).toEqual([]);
  expect(slowNodeFindings(new Map([["p1", new Map([["n1", 5]])]]))).toEqual([]);
});
