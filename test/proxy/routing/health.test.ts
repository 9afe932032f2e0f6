/** What one worker thinks of its shards, from counters that a test sets as traffic would. */
import { beforeEach, describe, expect, test } from "vitest";
import { Loop } from "../../../core/io/loop.ts";
import { seededRandom } from "../../../core/runtime/random.ts";
import { TICK_MS } from "../../../proxy/routing/detector.ts";
import type { LinkFailure } from "../../../proxy/routing/link.ts";
import { Rounds } from "../../../proxy/routing/rounds.ts";
import { Route, type ShardLinks } from "../../../proxy/routing/route.ts";
import { Slots } from "../../../proxy/routing/slots.ts";
import { Sweep } from "../../../proxy/routing/sweep.ts";

let route: Route;
let rounds: Rounds;
let told: string[];
let nowMs: number;

beforeEach(() => {
  const loop = new Loop();
  rounds = new Rounds();
  const options = {
    loop,
    slots: new Slots(),
    random: seededRandom(1),
    sweep: new Sweep(loop),
    rounds,
    events: { transition: () => {} },
  };
  told = [];
  nowMs = 1_000_000;
  route = new Route(options, {
    suspected: (node, reason) => told.push(`${node} ${reason}`),
    trusted: (node) => told.push(`${node} trusted`),
  });
  route.update([1, 2, 3].map((n) => ({ node: `n${n}`, address: `h:${n}` })));
});

const shard = (node: string): ShardLinks => route.shards.find((one) => one.node === node)!;

/** So many ticks in which each shard answers some operations, in these milliseconds. */
function tick(ticks: number, latencies: Record<string, number> = {}): void {
  for (let i = 0; i < ticks; i++) {
    for (const one of route.shards) {
      for (let op = 0; op < 20; op++) one.latency.observe(latencies[one.node] ?? 0.3);
    }
    nowMs += TICK_MS;
    route.health.tick(nowMs);
  }
}

const failed = (node: string, reason: LinkFailure): void =>
  route.health.troubled(shard(node), reason, nowMs);

describe("a shard is suspected", () => {
  test("when it refuses connections: at once", () => {
    failed("n1", "refused");
    expect(told).toEqual(["n1 refused"]);
  });

  test("when it does not say what became of changes, or when a stand-in on its node does not", () => {
    route.health.troubled(shard("n1"), "outcomes_unknown", nowMs);
    route.update(
      [1, 2, 3].map((n) => ({ node: `n${n}`, address: `h:${n}` })),
      new Map([["n3", new Map([["n2", "h:4"]])]]),
    );
    const standIn = route.shards.find(({ standsInFor }) => standsInFor === "n3")!;
    route.health.troubled(standIn, "outcomes_unknown", nowMs);
    route.health.troubled(standIn, "refused", nowMs);
    expect(told).toEqual(["n1 unconfirmed", "n2 unconfirmed"]);
  });

  test("not when a connection was closed, or two at once", () => {
    failed("n1", "closed_by_shard");
    failed("n1", "closed_by_shard");
    tick(5);
    expect(told).toEqual([]);
  });

  test("when connections to it break one after another, not now and then", () => {
    for (let times = 0; times < 5; times++) {
      failed("n1", "closed_by_shard");
      tick(6);
    }
    expect(told).toEqual([]);
    failed("n2", "reset");
    tick(3);
    failed("n2", "closed_by_shard");
    tick(3);
    failed("n2", "broken_reply");
    expect(told).toEqual(["n2 broken"]);
  });

  test("after three timeouts in a row", () => {
    tick(1);
    shard("n2").binary.timeoutsInRow = 2;
    tick(1);
    expect(told).toEqual([]);
    shard("n2").binary.timeoutsInRow = 3;
    tick(1);
    expect(told).toEqual(["n2 timeouts"]);
  });

  test("when it is slow and the others are not", () => {
    tick(50);
    tick(10, { n3: 20 });
    expect(new Set(told)).toEqual(new Set(["n3 slow"]));
  });

  test("when it takes 20 ms more than its siblings, although bursts of 12 ms are usual", () => {
    for (let i = 0; i < 100; i++) {
      for (const { latency } of route.shards) latency.observe(12);
      for (let op = 0; op < 30; op++) for (const one of route.shards) one.latency.observe(0.3);
      tick(1);
    }
    expect(told).toEqual([]);
    tick(20, { n3: 21 });
    expect(new Set(told)).toEqual(new Set(["n3 slow"]));
  });

  test("not when all are slow", () => {
    tick(50);
    tick(50, { n1: 20, n2: 20, n3: 20 });
    expect(told).toEqual([]);
  });
});

describe("a suspected shard", () => {
  test("is trusted again when nothing has fed the suspicion for two seconds", () => {
    failed("n1", "refused");
    tick(15);
    expect(told).toEqual(["n1 refused"]);
    tick(10);
    expect(told).toEqual(["n1 refused", "n1 trusted"]);
  });

  test("is nobody's concern here once it is out of routing", () => {
    failed("n1", "refused");
    const targets = route.shards.map(({ node, address }) => ({ node, address }));
    route.update(targets, new Map([["n1", new Map()]]));
    tick(40);
    expect(told).toEqual(["n1 refused"]);
  });
});

describe("an adaptive deadline", () => {
  const adapt = (isAdaptive: boolean): void =>
    route.follow({ copies: 1, isShared: false, isAdaptive });

  test("is as long as any until it is known what is usual, then short", () => {
    adapt(true);
    expect(route.deadline.ms).toBe(250);
    tick(20, { n1: 0.3, n2: 0.3, n3: 0.3 });
    expect(route.deadline.ms).toBe(25);
  });

  test("follows the middle one of the shards, up to the usual one", () => {
    adapt(true);
    tick(20, { n1: 0.3, n2: 4, n3: 4 });
    expect(route.deadline.ms).toBe(50);
    route.update([1, 2, 3, 4, 5].map((n) => ({ node: `m${n}`, address: `m:${n}` })));
    tick(20, { m1: 90, m2: 90, m3: 90, m4: 90, m5: 90 });
    expect(route.deadline.ms).toBe(250);
  });

  test("is no longer so when the policy is not, nor for a shard without siblings", () => {
    adapt(true);
    tick(20);
    adapt(false);
    tick(1);
    expect(route.deadline.ms).toBe(250);
    adapt(true);
    route.update([{ node: "n1", address: "h:1" }]);
    tick(20);
    expect(route.deadline.ms).toBe(250);
  });
});

describe("a cache in which nothing happens", () => {
  /** Whether the rounds still come by. */
  const isVisited = (): boolean => {
    let count = 0;
    const { tick: visit } = route.health;
    route.health.tick = (atMs) => {
      count++;
      return visit.call(route.health, atMs);
    };
    pass(1);
    route.health.tick = visit;
    return count > 0;
  };
  const pass = (ticks: number): void => {
    for (let i = 0; i < ticks; i++) {
      nowMs += TICK_MS;
      rounds.run(nowMs);
    }
  };
  /** One command to n1, answered after so many milliseconds. */
  const ask = (latencyMs: number): void => {
    shard("n1").stirred();
    shard("n1").latency.observe(latencyMs);
  };

  test("is not looked at, until a command comes", () => {
    pass(3);
    expect(isVisited()).toBe(false);
    ask(0.3);
    expect(isVisited()).toBe(true);
    pass(2);
    expect(isVisited()).toBe(false);
  });

  test("is looked at as long as somebody is suspected in it", () => {
    pass(3);
    failed("n1", "refused");
    pass(15);
    expect(isVisited()).toBe(true);
    pass(10);
    expect(told).toEqual(["n1 refused", "n1 trusted"]);
    expect(isVisited()).toBe(false);
  });

  test("has forgotten what was slow when it is looked at again much later", () => {
    tick(50);
    for (let i = 0; i < 3; i++) {
      ask(20);
      pass(1);
    }
    expect(route.health.seenOf(shard("n1")).slow.slow).toBe(3);
    nowMs += 20_000;
    for (let i = 0; i < 20; i++) ask(0.3);
    pass(1);
    expect(route.health.seenOf(shard("n1")).slow).toEqual({ count: 20, slow: 0 });
  });

  test("is not looked into for a few quick commands, but for a slow one at once", () => {
    pass(3);
    const countOf = (): number => route.health.seenOf(shard("n1")).slow.count;
    for (let i = 0; i < 5; i++) ask(0.3);
    pass(1);
    expect(countOf()).toBe(0);
    ask(20);
    pass(1);
    expect(countOf()).toBe(6);
  });
});
