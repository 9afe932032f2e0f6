/** Canaries find every shard. */
import { expect, test } from "vitest";
import { Continuum } from "../../../core/cluster/continuum.ts";
import { PROBE_CACHE } from "../../../core/cluster/internal.ts";
import { placeShards } from "../../../core/cluster/placement.ts";
import { keyOfEach } from "../../../monitor/probe/keys.ts";

const nodes = Array.from({ length: 64 }, (_, i) => ({
  name: `node-${i + 1}`,
  weight: 1 + (i % 5),
}));

test("each of 64 nodes has a key of its own that the continuum gives to it", () => {
  const continuum = new Continuum(nodes);
  const keys = keyOfEach(continuum, "canary:m1");
  expect([...keys.keys()].sort()).toEqual(nodes.map(({ name }) => name).sort());
  for (const [node, key] of keys) {
    const bytes = Buffer.from(key);
    expect(continuum.labels[continuum.ownerOfKey(bytes, 0, bytes.length)]).toBe(node);
  }
});

test("two monitors never use the same key", () => {
  const continuum = new Continuum(nodes);
  const one = new Set(keyOfEach(continuum, "canary:m1").values());
  expect([...keyOfEach(continuum, "canary:m2").values()].filter((key) => one.has(key))).toEqual([]);
});

test("the cache of the canaries sits on every node, however small it is", () => {
  const placed = placeShards({ id: PROBE_CACHE, bytes: 16 << 20 }, nodes);
  expect(placed).toHaveLength(nodes.length);
});
