/** The memory of many items: the limit, exact eviction, growth in steps, and giving memory back. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Counter } from "../../../backend/embedded/counters.ts";
import { seededRandom } from "../../../core/runtime/random.ts";
import { Driver, START_S } from "./drive.ts";

const MIB = 1 << 20;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Memory of all buffers that are still in use; buffers are swept some time after a collection. */
async function bufferMemory(): Promise<number> {
  for (let round = 0; round < 4; round++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return process.memoryUsage().arrayBuffers;
}

/** Keys that are there, by looking without using. */
const present = (driver: Driver, keys: Iterable<string>): string[] =>
  [...keys].filter((key) => driver.peek(key) !== undefined);

describe("eviction", () => {
  test("takes the item that was used longest ago, whatever its size", () => {
    const driver = new Driver({ bytes: MIB });
    const keys: string[] = [];
    const random = seededRandom(11);
    while ((driver.store.counters[Counter.evictions] ?? 0) === 0) {
      const key = `key-${keys.length}`;
      driver.set(key, "v".repeat(Math.floor(3000 * random.next())));
      keys.push(key);
    }
    const gone = keys.length - present(driver, keys).length;
    expect(present(driver, keys)).toEqual(keys.slice(gone));

    // Reading, touching and storing again are uses; looking is none.
    const order = keys.slice(gone);
    for (const use of ["get", "touch", "set", "count"] as const) {
      const key = order.splice(3, 1)[0] as string;
      if (use === "get") driver.get(key);
      else if (use === "touch") driver.touch(key, 0);
      else if (use === "set") driver.set(key, "again");
      else driver.put("add", key, "exists");
      order.push(key);
    }
    driver.peek(order[0] as string);
    for (let left = order.length; left > 0; left--) {
      const before = present(driver, order);
      driver.set(`new-${left}`, "v".repeat(2000));
      const after = present(driver, order);
      expect(after).toEqual(before.slice(before.length - after.length));
    }
  });

  test("any workload stays within the limit, counted and real", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 300_000, max: 3 * MIB }),
        fc.integer({ min: 1, max: 4 }),
        fc.nat(),
        (bytes, scale, seed) => {
          const driver = new Driver({ bytes });
          const random = seededRandom(seed);
          for (let i = 0; i < 4000; i++) {
            const size = Math.floor(10 ** (random.next() * scale));
            driver.set(`key-${Math.floor(random.next() * 3000)}`, "v".repeat(size));
            expect(driver.store.items.size).toBeLessThanOrEqual(bytes);
          }
          expect(driver.store.items.count).toBeGreaterThan(0);
        },
      ),
      { numRuns: 15 },
    );
  });

  test("an expired item makes room before it counts as an eviction", () => {
    const driver = new Driver({ bytes: MIB });
    for (let i = 0; i < 4; i++) driver.set(`big-${i}`, "v".repeat(230_000), { exptime: 5 });
    driver.store.setTime(START_S + 5);
    driver.set("new", "v".repeat(230_000));
    expect(driver.store.counters[Counter.reclaimed]).toBe(1);
    expect(driver.store.counters[Counter.evictions]).toBe(0);
  });

  test("resident memory is what the limit says", async () => {
    const before = await bufferMemory();
    const driver = new Driver({ bytes: 32 * MIB });
    for (let i = 0; i < 300_000; i++) driver.set(`key-${i}`, "v".repeat(i % 300));
    expect(driver.store.counters[Counter.evictions]).toBeGreaterThan(0);
    const taken = (await bufferMemory()) - before;
    expect(taken).toBeGreaterThan(30 * MIB);
    expect(taken).toBeLessThan(33 * MIB);
    driver.store.flush(0);
    while (driver.store.tick(START_S));
    expect((await bufferMemory()) - before).toBeLessThan(MIB);
  });
});

describe("the index", () => {
  test("finds every key while it grows and while it shrinks", () => {
    const driver = new Driver({ bytes: 64 * MIB });
    const COUNT = 50_000;
    for (let i = 0; i < COUNT; i++) driver.set(`key-${i}`, `${i}`);
    for (let i = 0; i < COUNT; i++) expect(driver.peek(`key-${i}`)?.value).toBe(`${i}`);
    const full = driver.store.items.size;
    for (let i = 0; i < COUNT; i++) if (i % 100 !== 0) driver.delete(`key-${i}`);
    for (let i = 0; i < COUNT; i++) {
      expect(driver.peek(`key-${i}`)?.value).toBe(i % 100 === 0 ? `${i}` : undefined);
    }
    expect(driver.store.items.count).toBe(COUNT / 100);
    expect(driver.store.items.size).toBeLessThan(full / 50);
  });
});

describe("a new limit", () => {
  const fill = (driver: Driver, count: number): string[] => {
    const keys = Array.from({ length: count }, (_, i) => `key-${i}`);
    for (const [i, key] of keys.entries()) driver.set(key, `${key}-`.repeat(1 + (i % 40)));
    return keys;
  };
  const settle = (driver: Driver): void => {
    for (let i = 0; driver.store.tick(START_S); i++) expect(i).toBeLessThan(1000);
  };

  test("that is higher takes effect at once", () => {
    const driver = new Driver({ bytes: MIB });
    fill(driver, 5000);
    const before = driver.store.items.count;
    driver.store.items.limit = 4 * MIB;
    const keys = fill(driver, 5000);
    expect(driver.store.items.count).toBe(5000);
    expect(before).toBeLessThan(4000);
    expect(present(driver, keys).length).toBe(5000);
  });

  test("that is lower evicts the oldest in steps, and gives the memory back", async () => {
    const idle = await bufferMemory();
    const driver = new Driver({ bytes: 24 * MIB });
    const keys = fill(driver, 60_000);
    expect(driver.store.items.count).toBe(60_000);
    const full = (await bufferMemory()) - idle;
    const { items } = driver.store;
    items.limit = 6 * MIB;
    expect(items.size).toBeGreaterThan(15 * MIB);
    driver.store.tick(START_S);
    expect(items.count).toBeGreaterThan(55_000); // Not all in one step.
    settle(driver);
    expect(items.size).toBeLessThanOrEqual(6 * MIB);
    expect(items.size).toBeGreaterThan(5 * MIB);
    const left = present(driver, keys);
    expect(left).toEqual(keys.slice(keys.length - left.length));
    for (const key of left) expect(driver.get(key)?.value.startsWith(key)).toBe(true);
    const small = (await bufferMemory()) - idle;
    expect(small).toBeLessThan(8 * MIB);
    expect(small).toBeLessThan(full / 2);
  });

  test("may be raised again at any moment of getting smaller, and is whole at once", () => {
    for (const turns of [1, 2, 3, 4, 6, 8, 12, 20, 30, 40]) {
      const driver = new Driver({ bytes: 16 * MIB });
      const keys = fill(driver, 30_000);
      driver.store.items.limit = 4 * MIB;
      for (let turn = 0; turn < turns; turn++) driver.store.tick(START_S);
      driver.store.items.limit = 24 * MIB;
      driver.store.tick(START_S);
      settle(driver);
      const kept = present(driver, keys);
      expect(kept).toEqual(keys.slice(keys.length - kept.length));
      const more = Array.from({ length: 30_000 }, (_, i) => `more-${i}`);
      for (const key of more) driver.set(key, `${key}-`.repeat(20));
      expect(present(driver, [...kept, ...more]).length).toBe(kept.length + more.length);
      for (const key of kept) expect(driver.get(key)?.value.startsWith(`${key}-`)).toBe(true);
      expect(driver.store.items.size).toBeLessThanOrEqual(24 * MIB);
    }
  });

  test("takes no turn for longer because items are large", () => {
    const driver = new Driver({ bytes: 40 * MIB });
    for (let i = 0; i < 80; i++) driver.set(`key-${i}`, "v".repeat(450_000));
    driver.store.items.limit = 10 * MIB;
    for (let before = driver.store.items.count; driver.store.tick(START_S); ) {
      const { count } = driver.store.items;
      expect(before - count).toBeLessThanOrEqual(20); // 2,048 steps of 4 KB each.
      before = count;
    }
    expect(driver.store.items.size).toBeLessThanOrEqual(10 * MIB);
  });

  test("is kept while the store is used, all the way down and up again", () => {
    const driver = new Driver({ bytes: 16 * MIB });
    const random = seededRandom(5);
    const values = new Map<string, string>();
    const work = (count: number): void => {
      for (let i = 0; i < count; i++) {
        const key = `key-${Math.floor(random.next() * 20_000)}`;
        const value = `${key}:`.repeat(1 + Math.floor(60 * random.next()));
        expect(driver.set(key, value)).toBe("done");
        values.set(key, value);
        if (random.next() < 0.1) {
          driver.delete(key);
          values.delete(key);
        }
        if (i % 50 === 0) driver.store.tick(START_S);
      }
    };
    work(30_000);
    for (const mib of [3, 12, 2, 16]) {
      driver.store.items.limit = mib * MIB;
      work(20_000);
      settle(driver);
      expect(driver.store.items.size).toBeLessThanOrEqual(mib * MIB);
      let found = 0;
      for (const [key, value] of values) {
        const there = driver.peek(key);
        if (there === undefined) continue;
        found++;
        if (there.value !== value) throw new Error(`${key} holds another value`);
      }
      expect(found).toBe(driver.store.items.count);
    }
  });
});
