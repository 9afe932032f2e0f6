/** What is made of lines: ticks of cells, common slowness, bad operations, sessions. */
import { describe, expect, test } from "vitest";
import {
  type CacheSeen,
  type ProxyView,
  type ShardView,
  VIEW_BOUNDS_MS,
} from "../../../core/cluster/proxyView.ts";
import { Sightings } from "../../../monitor/observe/sightings.ts";

const QUICK = VIEW_BOUNDS_MS.indexOf(0.5);
const LINE_MS = 200;

function shard(node: string, more: Partial<ShardView> = {}): ShardView {
  const latency = VIEW_BOUNDS_MS.map(() => 0).concat(0);
  latency[QUICK] = 20;
  return {
    node,
    standsInFor: "",
    latency,
    fastCount: 100,
    fastSlowCount: 0,
    slowCount: 1_000,
    slowSlowCount: 0,
    waiting: 0,
    oldestMs: 0,
    outlierTicks: 0,
    rule: "",
    failures: 0,
    timeouts: 0,
    isAway: false,
    isOut: false,
    ...more,
  };
}
const cache = (shards: ShardView[], more: Partial<CacheSeen> = {}): CacheSeen => ({
  id: "c1",
  isCommonMode: false,
  hits: 0,
  misses: 0,
  errors: 0,
  sessions: 1,
  shards,
  ...more,
});
const view = (caches: CacheSeen[], proxy = "p1"): ProxyView => ({
  proxy,
  atMs: 1,
  isStarved: false,
  silentWorkers: 0,
  caches,
});

/** So many lines with these shards; returns what is seen then. */
function afterLines(lines: number, shards: ShardView[]): Sightings {
  const sightings = new Sightings();
  for (let line = 1; line <= lines; line++) {
    sightings.add(view([cache(shards)]), line * LINE_MS);
  }
  return sightings;
}
const badTicks = (sightings: Sightings): number | undefined => sightings.cells()[0]?.badTicks;

describe("ticks of a cell", () => {
  test("are bad for an outlier, for one that is out, away or silent", () => {
    expect(badTicks(afterLines(3, [shard("n1", { outlierTicks: 1 })]))).toBe(3);
    expect(badTicks(afterLines(3, [shard("n1", { outlierTicks: 2 })]))).toBe(6);
    expect(badTicks(afterLines(20, [shard("n1", { isOut: true })]))).toBe(20);
    expect(badTicks(afterLines(4, [shard("n1", { isAway: true })]))).toBe(8);
    const nothing = VIEW_BOUNDS_MS.map(() => 0).concat(0);
    expect(badTicks(afterLines(4, [shard("n1", { latency: nothing, oldestMs: 180 })]))).toBe(8);
    expect(badTicks(afterLines(4, [shard("n1", { oldestMs: 180 })]))).toBe(0);
    expect(badTicks(afterLines(4, [shard("n1")]))).toBe(0);
  });

  test("go by with lines that do not mention it, and it is forgotten after ten", () => {
    const sightings = afterLines(10, [shard("n1", { isOut: true })]);
    for (let line = 0; line < 4; line++) sightings.add(view([]), 3_000);
    expect(badTicks(sightings)).toBe(12);
    for (let line = 0; line < 6; line++) sightings.add(view([]), 4_000);
    expect(sightings.cells()).toEqual([]);
  });

  test("mean nothing any more when the proxy was not heard for three seconds", () => {
    const sightings = afterLines(10, [shard("n1", { isOut: true })]);
    sightings.forgetOld(10 * LINE_MS + 3_500);
    expect(sightings.cells()).toEqual([]);
  });

  test("stand-ins have none", () => {
    expect(afterLines(3, [shard("n1", { standsInFor: "n2" })]).cells()).toEqual([]);
  });
});

test("a row is slow as a whole when half of its nodes are, and the middle one is", () => {
  const common = (...slow: number[]): number | undefined =>
    afterLines(
      10,
      slow.map((fastSlowCount, index) => shard(`n${index}`, { fastSlowCount })),
    )
      .commonTicks()
      .get("p1");
  expect(common(10, 10, 10, 0)).toBe(20);
  expect(common(10, 0, 0, 0)).toBe(0);
  expect(common(10, 10, 0, 0)).toBe(0);
  expect(common(50)).toBe(0);
});

test("bad operations are those over 10 ms and those that nobody was asked for", () => {
  const latency = VIEW_BOUNDS_MS.map(() => 0).concat(0);
  latency[QUICK] = 90;
  latency[VIEW_BOUNDS_MS.indexOf(10)] = 5;
  latency[VIEW_BOUNDS_MS.indexOf(25)] = 3;
  latency[VIEW_BOUNDS_MS.indexOf(250)] = 2;
  const sightings = new Sightings();
  const shards = [shard("n1", { latency, timeouts: 2 })];
  sightings.add(view([cache(shards, { errors: 12, hits: 7, misses: 3 })]), 1_000);
  expect(sightings.burns.get("c1")?.sum(1_000, 10_000)).toEqual({
    total: 110,
    bad: 15,
    errors: 12,
    hits: 7,
    misses: 3,
  });
});

test("sessions are those of all proxies, as each told last", () => {
  const sightings = new Sightings();
  sightings.add(view([cache([], { sessions: 5 })]), 1);
  sightings.add(view([cache([], { sessions: 3 })], "p2"), 1);
  sightings.add(view([]), 2);
  expect(sightings.sessionsOf("c1")).toBe(8);
  sightings.forgetProxy("p2");
  expect(sightings.sessionsOf("c1")).toBe(5);
});

test("the usual latency of a node is its middle one, once enough is known", () => {
  expect(
    afterLines(2, [shard("n1")])
      .usualMs()
      .get("p1")?.size,
  ).toBe(0);
  const usual =
    afterLines(20, [shard("n1")])
      .usualMs()
      .get("p1")
      ?.get("n1") ?? 0;
  expect(usual).toBeGreaterThan(0.25);
  expect(usual).toBeLessThanOrEqual(0.5);
});
