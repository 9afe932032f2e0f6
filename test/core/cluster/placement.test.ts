import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Continuum } from "../../../core/cluster/continuum.ts";
import {
  bytesOf,
  NODE_COUNT_MIN,
  type PlacementNode,
  placeShards,
  SHARE_BYTES_MIN,
} from "../../../core/cluster/placement.ts";

const MIB = 1024 * 1024;

const nodes = fc.uniqueArray(
  fc.record({
    name: fc.stringMatching(/^[a-z0-9-]{1,10}$/),
    weight: fc.integer({ min: 1, max: 9 }),
  }),
  { maxLength: 20, selector: (node) => node.name },
);
const bytes = fc.integer({ min: MIB, max: 2 ** 50 });
const id = "c1";

const numbered = (count: number, over: Partial<PlacementNode> = {}): PlacementNode[] =>
  Array.from({ length: count }, (_, index) => ({ name: `node-${index}`, ...over }));
const namesOf = (cacheId: string, size: number, some: readonly PlacementNode[]): string[] =>
  placeShards({ id: cacheId, bytes: size }, some).map(({ node }) => node);

describe("placement", () => {
  test("a large cache is on all nodes, divided by weight, in the order of their names", () => {
    const some = [{ name: "node-2" }, { name: "node-1", weight: 3 }];
    expect(placeShards({ id, bytes: 100 * MIB }, some)).toEqual([
      { node: "node-1", bytes: 75 * MIB },
      { node: "node-2", bytes: 25 * MIB },
    ]);
  });

  test("without nodes there are no shards", () => {
    expect(placeShards({ id, bytes: MIB }, [])).toEqual([]);
  });

  test("a weight that is not a whole positive number is a bug of the caller", () => {
    expect(() => placeShards({ id, bytes: MIB }, [{ name: "a", weight: 0 }])).toThrow(
      "weight of a",
    );
  });

  test("no byte is lost or invented, whatever the weights", () => {
    fc.assert(
      fc.property(bytes, nodes, (total, some) => {
        const placed = placeShards({ id, bytes: total }, some);
        const sum = placed.reduce((soFar, shard) => soFar + shard.bytes, 0);
        expect(sum).toBe(some.length === 0 ? 0 : total);
        for (const shard of placed) expect(Number.isInteger(shard.bytes)).toBe(true);
      }),
    );
  });

  test("each share is the fair one among the nodes that were chosen, to the byte", () => {
    fc.assert(
      fc.property(bytes, nodes, (total, some) => {
        const weightOf = new Map(some.map((node) => [node.name, node.weight]));
        const placed = placeShards({ id, bytes: total }, some);
        const weightTotal = placed.reduce((sum, { node }) => sum + (weightOf.get(node) ?? 0), 0);
        for (const shard of placed) {
          const fair = (total / weightTotal) * (weightOf.get(shard.node) ?? 0);
          expect(Math.abs(shard.bytes - fair)).toBeLessThan(2);
        }
      }),
    );
  });

  test("every process comes to the same answer, in whatever order it knows the nodes", () => {
    fc.assert(
      fc.property(bytes, nodes, (total, some) => {
        const cache = { id, bytes: total };
        expect(placeShards(cache, some.toReversed())).toEqual(placeShards(cache, some));
      }),
    );
  });

  test("a small cache sits on few nodes, a larger one on more, the largest on all", () => {
    const ten = numbered(10);
    expect(namesOf(id, MIB, ten)).toHaveLength(NODE_COUNT_MIN);
    expect(namesOf(id, 5 * SHARE_BYTES_MIN, ten)).toHaveLength(5);
    expect(namesOf(id, 5 * SHARE_BYTES_MIN + 1, ten)).toHaveLength(6);
    expect(namesOf(id, 1000 * SHARE_BYTES_MIN, ten)).toHaveLength(10);
    expect(namesOf(id, MIB, numbered(1))).toEqual(["node-0"]);
  });

  test("a cache that grows keeps the nodes it has", () => {
    const ten = numbered(10);
    let before: string[] = [];
    for (let count = NODE_COUNT_MIN; count <= 10; count++) {
      const now = namesOf(id, count * SHARE_BYTES_MIN, ten);
      expect(now).toEqual(expect.arrayContaining(before));
      before = now;
    }
  });

  test("small caches are spread over the nodes by weight", () => {
    const some = [...numbered(16), { name: "large", weight: 4 }];
    const counts = new Map<string, number>();
    for (let cache = 0; cache < 4000; cache++) {
      for (const node of namesOf(`c${cache}`, MIB, some)) {
        counts.set(node, (counts.get(node) ?? 0) + 1);
      }
    }
    const small = numbered(16).map(({ name }) => counts.get(name) ?? 0);
    expect(Math.max(...small) / Math.min(...small)).toBeLessThan(1.4);
    expect((counts.get("large") ?? 0) / (small[0] ?? 1)).toBeGreaterThan(2);
  });

  test("zones come first: no two nodes of one zone while another zone is free", () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z]{1,8}$/),
        fc.integer({ min: 1, max: 6 }),
        (name, count) => {
          const some = ["a", "b", "c"].flatMap((zone) =>
            numbered(3).map((node) => ({ name: `${zone}-${node.name}`, zone })),
          );
          const zones = namesOf(name, count * SHARE_BYTES_MIN, some).map((node) => node[0]);
          const seats = ["a", "b", "c"].map((zone) => zones.filter((one) => one === zone).length);
          expect(Math.max(...seats) - Math.min(...seats)).toBeLessThanOrEqual(1);
        },
      ),
    );
  });

  test("a draining node gets nothing, unless all of them drain", () => {
    const [first, ...rest] = numbered(3);
    const some = [{ ...(first as PlacementNode), isDraining: true }, ...rest];
    expect(namesOf(id, 1000 * SHARE_BYTES_MIN, some)).toEqual(["node-1", "node-2"]);
    expect(namesOf(id, MIB, numbered(3, { isDraining: true }))).toHaveLength(3);
  });

  test("a node that joins or leaves changes the owner of few keys: its share and a tenth", () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 12 }), (first, count) => {
        const many = numbered(count + 1);
        const fewer = many.slice(0, count);
        const moves = PLAN_MEGABYTES.flatMap((megabytes, plan) =>
          Array.from({ length: CACHES_PER_PLAN }, (_, cache) => {
            const cacheId = `c${first}-${plan}-${cache}`;
            const size = megabytes * MIB;
            return movedShare(namesOf(cacheId, size, fewer), namesOf(cacheId, size, many));
          }),
        );
        const moved = moves.reduce((sum, share) => sum + share, 0) / moves.length;
        expect(moved).toBeLessThanOrEqual(1 / (count + 1) + 0.1);
      }),
      { numRuns: 20 },
    );
  });
});

/** The sizes of the plans, and as many caches of each. */
const PLAN_MEGABYTES = [25, 100, 250, 500, 1024, 2560, 5120, 7680, 10_240, 20_480];
const CACHES_PER_PLAN = 4;

/** The part of the circle that has another owner afterwards. */
function movedShare(before: readonly string[], after: readonly string[]): number {
  const circles = [before, after].map((names) => new Continuum(names.map((name) => ({ name }))));
  const [first, second] = circles as [Continuum, Continuum];
  const probes = 1_000;
  let moved = 0;
  for (let probe = 0; probe < probes; probe++) {
    const hash = Math.floor((probe / probes) * 2 ** 32);
    if (first.labels[first.owner(hash)] !== second.labels[second.owner(hash)]) moved++;
  }
  return moved / probes;
}

test("two copies of each key take twice the bytes of a cache", () => {
  expect(bytesOf({ bytes: 100 * MIB, copies: 1 })).toBe(100 * MIB);
  expect(bytesOf({ bytes: 100 * MIB, copies: 2 })).toBe(200 * MIB);
});
