import { describe, expect, test } from "vitest";
import { Loop } from "../../../core/io/loop.ts";
import { seededRandom } from "../../../core/runtime/random.ts";
import { Rounds } from "../../../proxy/routing/rounds.ts";
import { Route, type ShardLinks, type ShardTarget } from "../../../proxy/routing/route.ts";
import { Slots } from "../../../proxy/routing/slots.ts";
import { Sweep } from "../../../proxy/routing/sweep.ts";

const KEY_COUNT = 4000;

function newRoute(): Route {
  const loop = new Loop();
  const options = {
    loop,
    slots: new Slots(),
    random: seededRandom(1),
    sweep: new Sweep(loop),
    rounds: new Rounds(),
    events: { transition: () => {} },
  };
  return new Route(options, { suspected: () => {}, trusted: () => {} });
}

const ownerOf = (route: Route, key: string): ShardLinks => {
  const bytes = Buffer.from(key);
  return route.shards[route.ownerOfKey(bytes, 0, bytes.length)]!;
};
const owners = (route: Route): string[] =>
  Array.from({ length: KEY_COUNT }, (_, i) => ownerOf(route, `key-${i}`).label);

/** How many of the keys each shard owns, by node. */
function ownedBy(targets: readonly ShardTarget[]): Map<string, number> {
  const route = newRoute();
  route.update(targets);
  const counts = new Map<string, number>();
  for (const node of owners(route)) counts.set(node, (counts.get(node) ?? 0) + 1);
  return counts;
}

const three = (port = 0): ShardTarget[] =>
  [1, 2, 3].map((n) => ({ node: `n${n}`, address: `h:${port + n}` }));

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
    expect(ownedBy(three(100))).toEqual(ownedBy(three(200)));
  });
});

describe("a route around a shard that is out", () => {
  const detour = new Map([
    ["n1", "s:1"],
    ["n3", "s:3"],
  ]);

  test("gives its keys to stand-ins, as if it were not on the circle, and moves no other key", () => {
    const route = newRoute();
    route.update(three());
    const before = owners(route);
    route.update(three(), new Map([["n2", detour]]));
    const without = newRoute();
    without.update(three().filter(({ node }) => node !== "n2"));
    const expected = owners(without).map((node, key) =>
      before[key] === "n2" ? `${node} for n2` : before[key],
    );
    expect(owners(route)).toEqual(expected);
    expect(new Set(owners(route))).toEqual(new Set(["n1", "n3", "n1 for n2", "n3 for n2"]));
  });

  test("refuses its keys while nobody stands in, and those of a stand-in that is not open", () => {
    const route = newRoute();
    route.update(three(), new Map([["n2", new Map()]]));
    const refused = (shard: ShardLinks) => [shard.text.refusal(), shard.binary.refusal()];
    const lost = Array.from({ length: KEY_COUNT }, (_, i) => ownerOf(route, `key-${i}`));
    const out = lost.filter(({ node }) => node === "n2");
    expect(out.length).toBeGreaterThan(0);
    expect(refused(out[0]!)).toEqual(["noShard", "noShard"]);
    route.update(
      three(),
      new Map([
        [
          "n2",
          new Map([
            ["n1", "s:1"],
            ["n3", null],
          ]),
        ],
      ]),
    );
    expect(new Set(owners(route))).toEqual(new Set(["n1", "n2", "n3", "n1 for n2"]));
  });

  test("is the old one again when the shard is back, which may be used again", () => {
    const route = newRoute();
    route.update(three());
    const before = owners(route);
    const [, second] = route.shards;
    route.update(three(), new Map([["n2", detour]]));
    const standIn = route.shards.find(({ standsInFor }) => standsInFor === "n2")!;
    route.update(three());
    expect(owners(route)).toEqual(before);
    expect(route.shards[1]).toBe(second);
    expect(second!.text.state).toBe("idle");
    expect(standIn.text.state).toBe("closed");
  });
});
