import { describe, expect, test } from "vitest";
import { Loop } from "../../../core/io/loop.ts";
import { seededRandom } from "../../../core/runtime/random.ts";
import { Route, type ShardTarget } from "../../../proxy/routing/route.ts";
import { Slots } from "../../../proxy/routing/slots.ts";
import { Sweep } from "../../../proxy/routing/sweep.ts";

const KEY_COUNT = 4000;

/** How many of the keys each shard owns, by node. */
function ownedBy(targets: readonly ShardTarget[]): Map<string, number> {
  const loop = new Loop();
  const route = new Route({
    loop,
    slots: new Slots(),
    random: seededRandom(1),
    sweep: new Sweep(loop),
    events: { transition: () => {} },
  });
  route.update(targets);
  const counts = new Map<string, number>();
  for (let i = 0; i < KEY_COUNT; i++) {
    const key = Buffer.from(`key-${i}`);
    const { node } = route.shards[route.ownerOfKey(key, 0, key.length)]!;
    counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  return counts;
}

describe("a route", () => {
  test("gives a shard of weight 3 three times the keys", () => {
    const counts = ownedBy([
      { node: "small", address: "127.0.0.1:1" },
      { node: "large", address: "127.0.0.1:2", weight: 3 },
    ]);
    expect(counts.get("large")! / counts.get("small")!).toBeGreaterThan(2.2);
    expect(counts.get("large")! / counts.get("small")!).toBeLessThan(4);
  });

  test("knows shards by node: an address that changes moves no key", () => {
    const at = (port: number) =>
      [1, 2, 3].map((n) => ({ node: `n${n}`, address: `h:${port + n}` }));
    expect(ownedBy(at(100))).toEqual(ownedBy(at(200)));
  });
});
