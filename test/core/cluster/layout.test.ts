/**
 * Layouts: the decision by itself, and a model of proxies that apply it late, shards that drop what
 * they no longer own, and keys that clients change meanwhile.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { continuumOf } from "../../../core/cluster/continuum.ts";
import { decideLayout, type LayoutView, losesKeys } from "../../../core/cluster/layout.ts";
import type { Ejection, Layout, Member } from "../../../core/cluster/records.ts";

const members = (...nodes: string[]): Member[] =>
  nodes.map((node) => ({ node, weight: 1, zone: "" }));
const layout = (serial: number, ...nodes: string[]): Layout => ({
  serial,
  members: members(...nodes),
  before: [],
});
type Shards = LayoutView["shards"];
const shards = (...rows: [node: string, layout: number][]): Shards =>
  new Map(
    rows.map(([node, serial]) => [node, { state: "ready", layout: serial, weight: 1, zone: "" }]),
  );
const decide = (view: Partial<LayoutView>): Layout | undefined =>
  decideLayout({
    layout: undefined,
    isKnownToAll: true,
    wanted: [],
    shards: new Map(),
    ejections: new Map(),
    living: new Set(["a", "b", "c"]),
    ...view,
  });

describe("the next layout of a cache", () => {
  test("is at first of the nodes that are there", () => {
    expect(decide({ wanted: members("a", "z") })).toEqual(layout(1, "a"));
    expect(decide({ wanted: members("z") })).toBeUndefined();
  });

  test("takes in a node whose shard is ready, and says who owned the keys before", () => {
    const view = { layout: layout(4, "a"), wanted: members("a", "b") };
    expect(decide({ ...view, shards: shards(["a", 0]) })).toBeUndefined();
    expect(decide({ ...view, shards: shards(["a", 0], ["b", 4]) })).toEqual({
      ...layout(5, "a", "b"),
      before: members("a"),
    });
  });

  test("waits for proxies that do not know the one before", () => {
    const view = { layout: layout(1, "a"), wanted: members("a", "b"), shards: shards(["b", 1]) };
    expect(decide({ ...view, isKnownToAll: false })).toBeUndefined();
    expect(decide(view)).toBeDefined();
  });

  test("does not give keys to a shard that may still have them from before", () => {
    const view = { layout: layout(2, "a", "b"), wanted: members("a") };
    expect(decide({ ...view, shards: shards(["a", 1], ["b", 2]) })).toBeUndefined();
    expect(decide({ ...view, shards: shards(["a", 2], ["b", 2]) })).toMatchObject({
      serial: 3,
      members: members("a"),
    });
  });

  test("does not wait for a shard that is ejected: it returns empty", () => {
    const view = { layout: layout(2, "a", "b", "c"), wanted: members("a", "b") };
    const some = shards(["a", 2], ["b", 0], ["c", 2]);
    expect(decide({ ...view, shards: some })).toBeUndefined();
    const ejections = new Map([["b", {} as Ejection]]);
    expect(decide({ ...view, shards: some, ejections })).toBeDefined();
  });

  test("more weight counts as keys gained, less weight as keys that all others gain", () => {
    const now = { ...layout(2, "a", "b"), before: [] };
    const heavy = [
      { node: "a", weight: 1, zone: "" },
      { node: "b", weight: 3, zone: "" },
    ];
    const view = { layout: now, wanted: heavy };
    expect(decide({ ...view, shards: shards(["a", 0], ["b", 1]) })).toBeUndefined();
    expect(decide({ ...view, shards: shards(["a", 0], ["b", 2]) })).toBeDefined();
    const back = { layout: { ...now, members: heavy }, wanted: members("a", "b") };
    expect(decide({ ...back, shards: shards(["a", 1], ["b", 2]) })).toBeUndefined();
    expect(decide({ ...back, shards: shards(["a", 2], ["b", 2]) })).toBeDefined();
  });

  test("without a change there is none", () => {
    expect(decide({ layout: layout(1, "a", "b"), wanted: members("b", "a") })).toBeUndefined();
  });

  test("a node that leaves takes keys from nobody, one that comes takes some from all", () => {
    const left = { ...layout(2, "a", "b"), before: members("a", "b", "c") };
    expect(["a", "b", "c"].filter((node) => losesKeys(node, left))).toEqual(["c"]);
    const come = { ...layout(2, "a", "b", "c"), before: members("a", "b") };
    expect(["a", "b", "c"].filter((node) => losesKeys(node, come))).toEqual(["a", "b"]);
  });
});

const NODES = ["a", "b", "c", "d"] as const;
const KEYS = Array.from({ length: 5 }, (_, index) => Buffer.from(`key-${index}`));
const PROXY_COUNT = 2;

const steps = fc.array(
  fc.oneof(
    fc.record({
      do: fc.constant("wish" as const),
      nodes: fc.subarray([...NODES], { minLength: 1 }),
    }),
    fc.record({ do: fc.constant("decide" as const) }),
    fc.record({ do: fc.constant("apply" as const), proxy: fc.nat(PROXY_COUNT - 1) }),
    fc.record({ do: fc.constant("settle" as const), node: fc.constantFrom(...NODES) }),
    fc.record({
      do: fc.constantFrom("set" as const, "get" as const),
      proxy: fc.nat(PROXY_COUNT - 1),
      key: fc.nat(KEYS.length - 1),
    }),
  ),
  { minLength: 100, maxLength: 300 },
);

/** Everything that DESIGN says of joining and leaving, in a few lines and without time. */
class Model {
  wanted: Member[] = members("a");
  layouts: Layout[] = [layout(1, "a")];
  /** How many layouts each proxy has applied. */
  readonly applied: number[] = Array(PROXY_COUNT).fill(1);
  readonly stores = new Map(NODES.map((node) => [node as string, new Map<number, number>()]));
  readonly inLine = new Map(NODES.map((node) => [node as string, 1]));
  readonly latest = new Map<number, number>();
  version = 0;

  get newest(): Layout {
    return this.layouts.at(-1)!;
  }

  get isKnownToAll(): boolean {
    return Math.min(...this.applied) === this.layouts.length;
  }

  decide(): void {
    const next = decideLayout({
      layout: this.newest,
      isKnownToAll: this.isKnownToAll,
      wanted: this.wanted,
      shards: shards(...this.inLine),
      ejections: new Map(),
      living: new Set(NODES),
    });
    if (next !== undefined) this.layouts.push(next);
  }

  settle(node: string): void {
    const { serial } = this.newest;
    if (this.inLine.get(node)! >= serial) return;
    if (this.inLine.get(node) !== serial - 1 || losesKeys(node, this.newest)) {
      if (!this.isKnownToAll) return;
      const store = this.stores.get(node)!;
      for (const key of store.keys()) {
        if (ownerOf(this.newest.members, key) !== node) store.delete(key);
      }
    }
    this.inLine.set(node, serial);
  }

  /** Where a proxy finds the key; undefined while it is on its way. */
  storeOf(proxy: number, key: number): Map<number, number> | undefined {
    const seen = this.layouts[this.applied[proxy]! - 1]!;
    const owner = ownerOf(seen.members, key);
    const isMoving = Math.min(...this.applied) < this.applied[proxy]! && seen.before.length > 0;
    if (isMoving && ownerOf(seen.before, key) !== owner) return undefined;
    return this.stores.get(owner);
  }
}

function ownerOf(some: readonly Member[], key: number): string {
  const circle = continuumOf(some.map(({ node, weight }) => ({ name: node, weight })));
  const bytes = KEYS[key]!;
  return circle.labels[circle.ownerOfKey(bytes, 0, bytes.length)]!;
}

test("whatever nodes come and go, a get gives what was stored last, or nothing", () => {
  fc.assert(
    fc.property(steps, (all) => {
      const model = new Model();
      for (const step of all) {
        if (step.do === "wish") model.wanted = members(...step.nodes);
        else if (step.do === "decide") model.decide();
        else if (step.do === "apply") {
          const applied = model.applied[step.proxy]!;
          model.applied[step.proxy] = Math.min(applied + 1, model.layouts.length);
        } else if (step.do === "settle") model.settle(step.node);
        else if (step.do === "set") {
          const store = model.storeOf(step.proxy, step.key);
          if (store === undefined) continue;
          store.set(step.key, ++model.version);
          model.latest.set(step.key, model.version);
        } else {
          const found = model.storeOf(step.proxy, step.key)?.get(step.key);
          if (found !== undefined) expect(found).toBe(model.latest.get(step.key));
        }
      }
    }),
    { numRuns: 2000 },
  );
});
