import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { placeShards } from "../../../core/cluster/placement.ts";

const MIB = 1024 * 1024;

const nodes = fc.uniqueArray(
  fc.record({
    name: fc.stringMatching(/^[a-z0-9-]{1,10}$/),
    weight: fc.integer({ min: 1, max: 9 }),
  }),
  { maxLength: 20, selector: (node) => node.name },
);
const bytes = fc.integer({ min: MIB, max: 2 ** 50 });

describe("placement", () => {
  test("a cache is on all nodes, divided by weight, in the order of their names", () => {
    const some = [{ name: "node-2" }, { name: "node-1", weight: 3 }];
    expect(placeShards({ bytes: 100 * MIB }, some)).toEqual([
      { node: "node-1", bytes: 75 * MIB },
      { node: "node-2", bytes: 25 * MIB },
    ]);
  });

  test("without nodes there are no shards", () => {
    expect(placeShards({ bytes: MIB }, [])).toEqual([]);
  });

  test("a weight that is not a whole positive number is a bug of the caller", () => {
    expect(() => placeShards({ bytes: MIB }, [{ name: "a", weight: 0 }])).toThrow("weight of a");
  });

  test("no byte is lost or invented, whatever the weights", () => {
    fc.assert(
      fc.property(bytes, nodes, (total, some) => {
        const placed = placeShards({ bytes: total }, some);
        const sum = placed.reduce((soFar, shard) => soFar + shard.bytes, 0);
        expect(sum).toBe(some.length === 0 ? 0 : total);
        for (const shard of placed) expect(Number.isInteger(shard.bytes)).toBe(true);
      }),
    );
  });

  test("each share is the fair one, to the byte", () => {
    fc.assert(
      fc.property(bytes, nodes, (total, some) => {
        const weightTotal = some.reduce((sum, node) => sum + node.weight, 0);
        const weightOf = new Map(some.map((node) => [node.name, node.weight]));
        for (const shard of placeShards({ bytes: total }, some)) {
          const fair = (total / weightTotal) * (weightOf.get(shard.node) ?? 0);
          expect(Math.abs(shard.bytes - fair)).toBeLessThan(2);
        }
      }),
    );
  });

  test("every process comes to the same answer, in whatever order it knows the nodes", () => {
    fc.assert(
      fc.property(bytes, nodes, (total, some) => {
        const cache = { bytes: total };
        expect(placeShards(cache, some.toReversed())).toEqual(placeShards(cache, some));
      }),
    );
  });
});
