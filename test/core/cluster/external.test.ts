/**
 * What is written for a cache on servers of others; and a model of proxies that hear of it late, over
 * servers from which nobody can ever take anything out.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { continuumOf } from "../../../core/cluster/continuum.ts";
import {
  type ExternalView,
  externalChanges,
  flushChanges,
  STAMP_SIZE,
} from "../../../core/cluster/external.ts";
import { cacheRecord, type Layout, type Shard } from "../../../core/cluster/records.ts";
import type { Change } from "../../../core/cluster/state.ts";

type Servers = ExternalView["pool"]["servers"];
const servers = (...names: string[]): Servers =>
  names.map((name) => ({ name, address: `${name}.example:11211`, weight: 1 }));
const cache = cacheRecord.parse({ name: "shop", bytes: 3 << 20, pool: "fleet", createdAtMs: 1 });

/** The records of one cache, as the state would keep them. */
class Records {
  revision = 0;
  cache = { id: "c1", value: cache, revision: 0 };
  layout: { value: Layout; revision: number } | undefined;
  readonly shards = new Map<string, { value: Shard; revision: number }>();

  commit(changes: readonly Change[]): void {
    if (changes.length === 0) return;
    this.revision++;
    const { revision } = this;
    for (const { kind, id, value } of changes) {
      const node = id.slice(id.indexOf("/") + 1);
      if (kind === "layout") this.layout = { value: value as Layout, revision };
      else if (kind === "cache") this.cache = { id, value: value as typeof cache, revision };
      else if (kind !== "shard") throw new Error(kind);
      else if (value === null) this.shards.delete(node);
      else this.shards.set(node, { value: value as Shard, revision });
    }
  }

  follow(of: Servers, isKnownToAll = true): boolean {
    const changes = externalChanges({
      cacheId: "c1",
      cache: this.cache.value,
      pool: { servers: of },
      layout: this.layout,
      shards: [...this.shards.values()],
      ejections: [],
      isKnownToAll,
    });
    this.commit(changes ?? []);
    return changes !== undefined;
  }

  flush(): void {
    this.commit(flushChanges(this.cache, [...this.shards.values()]));
  }

  get stamps(): Record<string, string> {
    return Object.fromEntries([...this.shards].map(([node, { value }]) => [node, value.stamp]));
  }
}

describe("a cache on an external pool", () => {
  test("has a shard on each server, under a stamp of its own, and a share of the size", () => {
    const records = new Records();
    records.follow(servers("a", "b", "c"));
    const { a, b, c } = records.stamps;
    expect(new Set([a, b, c]).size).toBe(3);
    for (const stamp of [a, b, c]) expect(Buffer.byteLength(stamp ?? "")).toBe(STAMP_SIZE);
    expect([...records.shards.values()].map(({ value }) => value.bytes)).toEqual(
      Array(3).fill(1 << 20),
    );
    records.follow(servers("a", "b", "c"));
    expect(records.revision, "nothing to change").toBe(1);
  });

  test("is flushed by other stamps", () => {
    const records = new Records();
    records.follow(servers("a", "b"));
    const before = records.stamps;
    records.flush();
    expect(records.cache.value.epoch).toBe(1);
    for (const node of ["a", "b"]) expect(records.stamps[node]).not.toBe(before[node]);
  });

  test("a server that moves begins empty; the others keep their stamps", () => {
    const records = new Records();
    records.follow(servers("a", "b"));
    const before = records.stamps;
    const [a, b] = servers("a", "b");
    records.follow([a!, { ...b!, address: "elsewhere:11211" }]);
    expect(records.stamps["a"]).toBe(before["a"]);
    expect(records.stamps["b"]).not.toBe(before["b"]);
  });

  test("servers may leave for nothing, until one has come: then the others begin empty", () => {
    const records = new Records();
    records.follow(servers("a", "b", "c"));
    const first = records.stamps;
    records.follow(servers("a", "b"));
    expect(records.stamps).toEqual({ a: first["a"], b: first["b"] });
    records.follow(servers("a", "b", "d"));
    const second = records.stamps;
    expect(second).toMatchObject({ a: first["a"], b: first["b"] });
    records.follow(servers("a", "d"));
    expect(records.stamps["a"]).not.toBe(second["a"]);
    expect(records.stamps["d"], "it has never lost a key").toBe(second["d"]);
  });

  test("waits for proxies that do not know the change before", () => {
    const records = new Records();
    records.follow(servers("a"));
    expect(records.follow(servers("a", "b"), false)).toBe(false);
  });
});

const NAMES = ["a", "b", "c"] as const;
const KEYS = Array.from({ length: 5 }, (_, index) => Buffer.from(`key-${index}`));
const PROXY_COUNT = 2;
const proxy = fc.nat(PROXY_COUNT - 1);
const names = fc.subarray([...NAMES], { minLength: 1 });
const key = fc.nat(KEYS.length - 1);
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant("pool" as const), names }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("flush" as const) }) },
    { weight: 8, arbitrary: fc.record({ do: fc.constant("apply" as const), proxy }) },
    {
      weight: 16,
      arbitrary: fc.record({ do: fc.constantFrom("set" as const, "get" as const), proxy, key }),
    },
  ),
  { minLength: 100, maxLength: 300 },
);

/** A proxy's picture: the records as of some revision. */
type Picture = Pick<Records, "layout"> & { revision: number; shards: Map<string, Shard & At> };
type At = { stampedAt: number };

class Model {
  readonly records = new Records();
  readonly stored = new Map<string, number>();
  readonly latest = new Map<number, number>();
  pictures: Picture[] = [];
  readonly #stampedAt = new Map<string, number>();
  version = 0;

  constructor() {
    this.records.follow(servers("a"));
    this.pictures = Array.from({ length: PROXY_COUNT }, () => this.picture());
  }

  picture(): Picture {
    const { layout, revision } = this.records;
    const shards = new Map(
      [...this.records.shards].map(([node, { value }]) => {
        if (!this.#stampedAt.has(value.stamp)) this.#stampedAt.set(value.stamp, revision);
        return [node, { ...value, stampedAt: this.#stampedAt.get(value.stamp)! }];
      }),
    );
    return { layout, revision, shards };
  }

  get appliedByAll(): number {
    return Math.min(...this.pictures.map(({ revision }) => revision));
  }

  /** Where a proxy has the key; undefined while nobody serves it. */
  placeOf(proxy: number, key: number): string | undefined {
    const { layout, shards } = this.pictures[proxy]!;
    const { value, revision } = layout!;
    const owner = ownerOf(value.members, key);
    const isNew = revision > this.appliedByAll && value.before.length > 0;
    if (isNew && ownerOf(value.before, key) !== owner) return undefined;
    const { stamp, stampedAt } = shards.get(owner)!;
    return stampedAt > this.appliedByAll ? undefined : `${owner} ${stamp} ${key}`;
  }
}

function ownerOf(members: Layout["members"], key: number): string {
  const circle = continuumOf(members.map(({ node, weight }) => ({ name: node, weight })));
  const bytes = KEYS[key]!;
  return circle.labels[circle.ownerOfKey(bytes, 0, bytes.length)]!;
}

test("whatever servers come and go, a get gives what was stored last since a flush, or nothing", () => {
  fc.assert(
    fc.property(steps, (all) => {
      const model = new Model();
      for (const step of all) {
        if (step.do === "pool") {
          const { layout } = model.records;
          const isKnownToAll = (layout?.revision ?? 0) <= model.appliedByAll;
          model.records.follow(servers(...step.names), isKnownToAll);
          model.picture();
        } else if (step.do === "flush") {
          model.records.flush();
          model.picture();
        } else if (step.do === "apply") model.pictures[step.proxy] = model.picture();
        else {
          const place = model.placeOf(step.proxy, step.key);
          if (place === undefined) continue;
          if (step.do === "set") {
            model.stored.set(place, ++model.version);
            model.latest.set(step.key, model.version);
          } else if (model.stored.has(place)) {
            expect(model.stored.get(place)).toBe(model.latest.get(step.key));
          }
        }
      }
    }),
    { numRuns: 300 },
  );
});
