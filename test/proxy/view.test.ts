/** What a worker tells monitors, from real traffic to shards that do as the test says. */
import { afterEach, describe, expect, test } from "vitest";
import { proxyView, type ShardView, VIEW_BOUNDS_MS } from "../../core/cluster/proxyView.ts";
import { clock } from "../../core/runtime/clock.ts";
import { LATENCY_BOUNDS_SECONDS } from "../../proxy/routing/counters.ts";
import { joinViews, ViewCollector } from "../../proxy/view.ts";
import { until } from "../core/io/pair.ts";
import { FakeShard } from "./fakeShard.ts";
import { CACHE, TestWorker } from "./worker.ts";

const running: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const one of running.splice(0).reverse()) await one.stop();
});

async function start(): Promise<{ worker: TestWorker; shard: FakeShard; views: ViewCollector }> {
  const shard = await FakeShard.start();
  const worker = await new TestWorker({ shards: [shard.address] }).start();
  running.push(shard, worker);
  return { worker, shard, views: new ViewCollector(worker.worker.services.directory) };
}
const look = (views: ViewCollector, isAnew = false) =>
  views.collect({ isAnew, nowMs: clock.nowMs() });
const sum = (counts: readonly number[]): number => counts.reduce((total, one) => total + one, 0);

test("the bounds of the view are those of the latency metric", () => {
  expect(VIEW_BOUNDS_MS).toEqual(LATENCY_BOUNDS_SECONDS.map((seconds) => seconds * 1000));
});

describe("a worker tells of a cache", () => {
  test("nothing while nothing happens; its sessions to whoever comes anew", async () => {
    const { worker, views } = await start();
    expect(look(views, true)).toEqual([]);
    await worker.openAs("all", "text");
    expect(look(views)).toMatchObject([{ id: CACHE, sessions: 1, shards: [] }]);
    expect(look(views)).toEqual([]);
    expect(look(views, true)).toMatchObject([{ sessions: 1 }]);
  });

  test("hits, misses and latencies since the last look", async () => {
    const { worker, shard, views } = await start();
    look(views);
    const wire = await worker.open();
    await wire.send("get a\r\nget b\r\n");
    const connection = await shard.nextValid();
    await connection.takeText("get a\r\nget b\r\n");
    connection.write("VALUE a 0 1\r\nx\r\nEND\r\nEND\r\n");
    await wire.ask("", "END\r\nEND\r\n");
    const [cache] = look(views);
    expect(cache).toMatchObject({ id: CACHE, hits: 1, misses: 1, errors: 0 });
    expect(sum(cache!.shards[0]!.latency)).toBe(2);
    expect(look(views)).toEqual([]);
  });

  test("operations that wait, how long, and what timed out", async () => {
    const { worker, shard, views } = await start();
    look(views);
    const wire = await worker.open();
    await wire.send("get a\r\n");
    await shard.nextValid();
    const { loop } = worker.worker.services;
    await until("it waits", () => {
      loop.turn();
      return (look(views)[0]?.shards[0]?.oldestMs ?? 0) > 20;
    });
    expect(look(views)[0]?.shards[0]?.waiting).toBe(1);
    await wire.ask("", "END\r\n");
    expect(look(views)).toMatchObject([{ errors: 1, shards: [{ timeouts: 1, waiting: 0 }] }]);
  });

  test("a shard that cannot be reached is away", async () => {
    const { worker, shard, views } = await start();
    look(views);
    await shard.stop();
    const wire = await worker.open();
    await wire.ask("set a 0 0 1\r\nx\r\n", "\r\n");
    await until("it is away", () => look(views)[0]?.shards[0]?.isAway === true);
  });
});

const shardSeen = (fields: Partial<ShardView>): ShardView => ({
  node: "node-1",
  standsInFor: "",
  latency: VIEW_BOUNDS_MS.map(() => 1).concat(0),
  fastCount: 10,
  fastSlowCount: 1,
  slowCount: 100,
  slowSlowCount: 10,
  waiting: 1,
  oldestMs: 5,
  outlierTicks: 0,
  rule: "",
  failures: 0,
  timeouts: 0,
  isAway: true,
  isOut: false,
  ...fields,
});

test("workers are joined: counts add up, the worst of the rest counts, away are all or nobody", () => {
  const cache = { id: CACHE, isCommonMode: false, hits: 1, misses: 2, errors: 0, sessions: 3 };
  const joined = joinViews([
    [{ ...cache, shards: [shardSeen({})] }],
    [
      {
        ...cache,
        isCommonMode: true,
        shards: [
          shardSeen({ outlierTicks: 2, rule: "fast", oldestMs: 90, isAway: false }),
          shardSeen({ node: "node-2" }),
        ],
      },
    ],
    [],
  ]);
  const view = proxyView.parse({ proxy: "p", atMs: 1, silentWorkers: 0, caches: joined });
  expect(view.caches).toMatchObject([{ isCommonMode: true, hits: 2, misses: 4, sessions: 6 }]);
  expect(view.caches[0]?.shards).toMatchObject([
    { node: "node-1", fastCount: 20, waiting: 2, oldestMs: 90, outlierTicks: 2, rule: "fast" },
    { node: "node-2", fastCount: 10 },
  ]);
  expect(view.caches[0]?.shards.map(({ isAway }) => isAway)).toEqual([false, true]);
});
