/** How fast an error budget burns: 100 operations a second, some of them bad. */
import { describe, expect, test } from "vitest";
import { Burn } from "../../../monitor/detect/burn.ts";

const LINE_MS = 200;
const PER_SECOND = 500;

/** Seconds of traffic with a share of bad operations each; returns the burn and its clock. */
function traffic(...parts: [seconds: number, badShare: number][]): { burn: Burn; nowMs: number } {
  const burn = new Burn();
  let nowMs = 1_000_000;
  for (const [seconds, badShare] of parts) {
    for (let ms = 0; ms < seconds * 1000; ms += LINE_MS) {
      nowMs += LINE_MS;
      const total = (PER_SECOND * LINE_MS) / 1000;
      burn.add({ nowMs, total, bad: total * badShare, errors: 0, hits: 0, misses: 0 });
    }
  }
  return { burn, nowMs };
}
const verdictAfter = (...parts: [number, number][]) => {
  const { burn, nowMs } = traffic(...parts);
  return burn.verdict(nowMs)?.burn;
};

describe("the fast pair", () => {
  test("is reached by a second of nothing but bad operations, and by five with a fifth", () => {
    expect(verdictAfter([30, 0.001], [1.2, 1])).toBe("fast");
    expect(verdictAfter([30, 0.001], [5.2, 0.2])).toBe("fast");
  });

  test("is not reached by half a second, nor by a twentieth for long", () => {
    expect(verdictAfter([30, 0.001], [0.4, 1])).not.toBe("fast");
    expect(verdictAfter([30, 0.001], [60, 0.05])).not.toBe("fast");
  });

  test("is over two seconds after the last bad operation", () => {
    expect(verdictAfter([30, 0], [5, 1], [3, 0])).not.toBe("fast");
  });
});

test("two per cent for two minutes are told slowly; a day's usual errors are not", () => {
  expect(verdictAfter([130, 0.03])).toBe("slow");
  expect(verdictAfter([3_700, 0.001])).toBeUndefined();
});

test("few operations are an accident", () => {
  const burn = new Burn();
  burn.add({ nowMs: 1_000, total: 10, bad: 10, errors: 10, hits: 0, misses: 0 });
  expect(burn.verdict(1_000)).toBeUndefined();
});

test("what is older than the window is forgotten, also after a pause", () => {
  const { burn, nowMs } = traffic([5, 1]);
  expect(burn.sum(nowMs, 10_000).bad).toBeGreaterThan(0);
  expect(burn.sum(nowMs + 11_000, 10_000)).toEqual({
    total: 0,
    bad: 0,
    errors: 0,
    hits: 0,
    misses: 0,
  });
});
