/**
 * What a shard does to items: conditions, time, cas uniques, flush, marks. Expectations are those
 * of protocol.txt; sizes and the edges of time were measured with memcached 1.6.18.
 */
import { describe, expect, test } from "vitest";
import { Counter } from "../../../backend/embedded/counters.ts";
import { Mark } from "../../../backend/embedded/item.ts";
import { Driver, START_S } from "./drive.ts";

const count = (driver: Driver, name: keyof typeof Counter): number =>
  driver.store.counters[Counter[name]] ?? Number.NaN;

describe("storing", () => {
  test("set, get and the fields of an item", () => {
    const driver = new Driver();
    expect(driver.set("a", "value", { flags: 0xffff_ffff, exptime: 10 })).toBe("done");
    expect(driver.get("a")).toEqual({
      value: "value",
      flags: 0xffff_ffff,
      cas: 1,
      expiresAt: START_S + 10,
    });
    expect(driver.get("b")).toBeUndefined();
  });

  test.each([
    ["add", "notStored", "done"],
    ["replace", "done", "notStored"],
    ["append", "done", "notStored"],
    ["prepend", "done", "notStored"],
    ["cas", "exists", "notFound"],
  ] as const)("%s on a hit is %s, on a miss %s", (mode, onHit, onMiss) => {
    const driver = new Driver();
    driver.set("there", "old");
    expect(driver.put(mode, "there", "new", { cas: mode === "cas" ? 99 : 0 })).toBe(onHit);
    expect(driver.put(mode, "not", "new", { cas: mode === "cas" ? 99 : 0 })).toBe(onMiss);
  });

  test("append and prepend leave flags and time to live alone", () => {
    const driver = new Driver();
    driver.set("a", "b", { flags: 7, exptime: 50 });
    driver.put("append", "a", "c", { flags: 9, exptime: 1 });
    driver.put("prepend", "a", "a", { flags: 9, exptime: 1 });
    expect(driver.get("a")).toMatchObject({ value: "abc", flags: 7, expiresAt: START_S + 50 });
  });

  test("every length of key and value comes back as it was", () => {
    const driver = new Driver({ bytes: 4 << 20 });
    for (const keySize of [1, 23, 24, 25, 88, 89, 250]) {
      for (const size of [0, 1, 23, 24, 63, 64, 65, 127, 128, 129, 4096, 300_000]) {
        const value = String.fromCharCode(33 + (size % 90)).repeat(size);
        const key = "k".repeat(keySize);
        expect(driver.set(key, value)).toBe("done");
        expect(driver.get(key)?.value === value, `${keySize} ${size}`).toBe(true);
        driver.put("append", key, "end");
        expect(driver.get(key)?.value === `${value}end`, `${keySize} ${size}`).toBe(true);
      }
    }
  });

  test("cas uniques grow with each change and are compared", () => {
    const driver = new Driver({ casStart: 2 ** 50 });
    driver.set("a", "1");
    driver.set("b", "1");
    const a = driver.get("a")?.cas ?? 0;
    expect(a).toBe(2 ** 50 + 1);
    expect(driver.get("b")?.cas).toBe(a + 1);
    expect(driver.put("cas", "a", "2", { cas: a })).toBe("done");
    expect(driver.put("cas", "a", "3", { cas: a })).toBe("exists");
    expect(driver.get("a")).toMatchObject({ value: "2", cas: a + 2 });
    driver.count("a", 1n);
    expect(driver.get("a")?.cas).toBe(a + 3);
    expect(driver.put("append", "a", "x", { cas: a + 2 })).toBe("exists");
    expect(driver.put("append", "a", "x", { cas: a + 3 })).toBe("done");
    expect(driver.delete("a", 1)).toBe("exists");
    expect(driver.delete("a", a + 4)).toBe("done");
  });

  test("an older cas stores a stale value, if that is allowed, under the old time to live", () => {
    const driver = new Driver();
    driver.set("a", "1");
    driver.set("a", "2", { exptime: 30 });
    expect(driver.put("cas", "a", "old", { cas: 1, allowStale: true, exptime: 99 })).toBe("done");
    expect(driver.get("a")).toMatchObject({ value: "old", expiresAt: START_S + 30 });
    const { items } = driver.store;
    expect(items.marks(driver.store.lastItem) & Mark.stale).toBe(Mark.stale);
    expect(driver.put("cas", "a", "new", { cas: 1000, allowStale: true })).toBe("exists");
    expect(driver.put("cas", "a", "new", { cas: 0, allowStale: true })).toBe("exists");
  });

  test("the largest item is memcached's, to the byte", () => {
    const driver = new Driver({ bytes: 8 << 20 });
    for (const [keySize, flags, largest] of [
      [1, 0, 1_048_516],
      [1, 5, 1_048_512],
      [250, 0, 1_048_267],
      [250, 7, 1_048_263],
    ] as const) {
      const key = "k".repeat(keySize);
      expect(driver.set(key, "v".repeat(largest), { flags })).toBe("done");
      expect(driver.get(key)?.value.length).toBe(largest);
      expect(driver.set(key, "v".repeat(largest + 1), { flags, dropsOld: true })).toBe("tooLarge");
      expect(driver.get(key)).toBeUndefined();
    }
    expect(count(driver, "store_too_large")).toBe(4);
  });

  test("a value that cannot be kept takes the old one with it only where that is wanted", () => {
    const driver = new Driver({ bytes: 100_000 });
    driver.set("a", "old");
    expect(driver.put("add", "a", "v".repeat(200_000))).toBe("noMemory");
    expect(driver.get("a")?.value).toBe("old");
    expect(driver.set("a", "v".repeat(200_000), { dropsOld: true })).toBe("noMemory");
    expect(driver.get("a")).toBeUndefined();
    expect(count(driver, "store_no_memory")).toBe(2);
  });

  test("what append would make too large is not stored, and the old value stays", () => {
    const driver = new Driver({ bytes: 8 << 20 });
    driver.set("a", "v".repeat(1_000_000));
    expect(driver.put("append", "a", "v".repeat(100_000))).toBe("notStored");
    expect(driver.get("a")?.value.length).toBe(1_000_000);
  });
});

describe("counting", () => {
  test("a result that fits keeps the length, padded with blanks", () => {
    const driver = new Driver();
    driver.set("n", "10", { flags: 3, exptime: 60 });
    expect(driver.count("n", 1n, true)).toBe("9");
    expect(driver.get("n")).toMatchObject({ value: "9 ", flags: 3, expiresAt: START_S + 60 });
    expect(driver.count("n", 991n)).toBe("1000");
    expect(driver.get("n")).toMatchObject({ value: "1000", flags: 3, expiresAt: START_S + 60 });
  });

  test("a long value that begins with a number is one", () => {
    const driver = new Driver();
    driver.set("n", `  41${" ".repeat(500)}`);
    expect(driver.count("n", 1n)).toBe("42");
    expect(driver.get("n")?.value).toBe(`42${" ".repeat(502)}`);
  });

  test.each([["abc"], [""], ["18446744073709551616"], ["-1"]])("%j is no number", (value) => {
    const driver = new Driver();
    driver.set("n", value);
    expect(driver.count("n", 1n)).toBe("nonNumeric");
    expect(driver.get("n")?.value).toBe(value);
  });

  test("misses and hits are counted apart", () => {
    const driver = new Driver();
    expect(driver.count("n", 1n)).toBe("notFound");
    expect(driver.count("n", 1n, true)).toBe("notFound");
    driver.set("n", "1");
    driver.count("n", 1n);
    driver.count("n", 1n, true);
    const names = ["incr_misses", "decr_misses", "incr_hits", "decr_hits"] as const;
    expect(names.map((name) => count(driver, name))).toEqual([1, 1, 1, 1]);
  });
});

describe("time", () => {
  test.each([
    ["relative", 5, 5],
    ["relative, 30 days", 2_592_000, 2_592_000],
    ["absolute", START_S + 7, 7],
  ])("%s: there until the second comes", (_, exptime, seconds) => {
    const driver = new Driver();
    driver.set("a", "v", { exptime });
    driver.store.setTime(START_S + seconds - 1);
    expect(driver.get("a")?.value).toBe("v");
    driver.store.setTime(START_S + seconds);
    expect(driver.get("a")).toBeUndefined();
    expect(count(driver, "get_expired")).toBe(1);
  });

  test.each([
    ["negative", -1],
    ["30 days and a second is the year 1970", 2_592_001],
    ["absolute and now", START_S],
  ])("%s: stored and expired at once", (_, exptime) => {
    const driver = new Driver();
    expect(driver.set("a", "v", { exptime })).toBe("done");
    expect(driver.get("a")).toBeUndefined();
    expect(driver.put("add", "a", "new")).toBe("done");
  });

  test.each([0, 0xffff_ffff])("exptime %i never comes", (exptime) => {
    const driver = new Driver();
    driver.set("a", "v", { exptime });
    driver.store.setTime(START_S + 50 * 365 * 86_400);
    expect(driver.get("a")?.value).toBe("v");
  });

  test("touch gives a new time to live, also none", () => {
    const driver = new Driver();
    driver.set("a", "v", { exptime: 5 });
    expect(driver.touch("a", 100)?.value).toBe("v");
    driver.store.setTime(START_S + 99);
    expect(driver.touch("a", 0)?.value).toBe("v");
    driver.store.setTime(START_S + 10_000);
    expect(driver.get("a")?.value).toBe("v");
    expect(driver.touch("b", 0)).toBeUndefined();
    expect([count(driver, "touch_hits"), count(driver, "touch_misses")]).toEqual([2, 1]);
  });

  test("time that steps back brings nothing back", () => {
    const driver = new Driver();
    driver.set("a", "v", { exptime: 5 });
    driver.store.setTime(START_S + 5);
    driver.store.setTime(START_S);
    expect(driver.get("a")).toBeUndefined();
  });

  test("what expired is swept without being asked for, and its memory is free", () => {
    const driver = new Driver({ bytes: 8 << 20 });
    const empty = driver.store.items.size;
    for (let i = 0; i < 3000; i++) driver.set(`k${i}`, "v".repeat(100), { exptime: 10 });
    for (let i = 0; i < 500; i++) driver.set(`stays${i}`, "v");
    const { items } = driver.store;
    driver.store.setTime(START_S + 10);
    expect(items.count).toBe(3500);
    let ticks = 0;
    while (items.count > 500 && ticks < 100) {
      driver.store.tick(START_S + 10);
      ticks++;
    }
    expect(items.count).toBe(500);
    expect(ticks).toBeGreaterThan(1); // In bounded pieces.
    expect(count(driver, "crawler_reclaimed")).toBe(3000);
    expect(items.size - empty).toBeLessThan(500 * 80 + 16 * 1024);
    for (let i = 0; i < 500; i++) expect(driver.peek(`stays${i}`)?.value).toBe("v");
  });
});

describe("flush", () => {
  test("takes everything at once, and its memory", () => {
    const driver = new Driver({ bytes: 8 << 20 });
    const empty = driver.store.items.size;
    for (let i = 0; i < 5000; i++) driver.set(`k${i}`, "v".repeat(200));
    driver.store.flush(0);
    expect(driver.store.items.count).toBe(0);
    expect(driver.store.items.size).toBe(empty);
    expect(driver.get("k1")).toBeUndefined();
    const cas = driver.store.lastCas;
    driver.set("k1", "new");
    expect(driver.get("k1")).toMatchObject({ value: "new", cas: cas + 1 });
  });

  test("a delay counts in begun seconds", () => {
    const driver = new Driver();
    driver.set("a", "v");
    driver.store.flush(3);
    driver.store.setTime(START_S + 1);
    driver.set("b", "later");
    expect(driver.get("a")?.value).toBe("v");
    driver.store.setTime(START_S + 2);
    expect(driver.get("a")).toBeUndefined();
    expect(driver.get("b")).toBeUndefined();
    driver.set("a", "new");
    driver.store.setTime(START_S + 5);
    expect(driver.get("a")?.value).toBe("new");
  });

  test("a delay of one second is none, an absolute one is a moment", () => {
    const driver = new Driver();
    driver.set("a", "v");
    driver.store.flush(1);
    expect(driver.get("a")).toBeUndefined();
    driver.set("a", "v");
    driver.store.flush(START_S + 11);
    driver.store.setTime(START_S + 9);
    expect(driver.get("a")?.value).toBe("v");
    driver.store.setTime(START_S + 10);
    expect(driver.get("a")).toBeUndefined();
  });

  test("a later flush replaces one that is to come", () => {
    const driver = new Driver();
    driver.store.flush(10);
    driver.store.flush(0);
    driver.set("a", "v");
    driver.store.setTime(START_S + 20);
    expect(driver.get("a")?.value).toBe("v");
  });
});
