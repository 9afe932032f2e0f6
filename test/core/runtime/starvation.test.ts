import { describe, expect, test } from "vitest";
import { Starvation } from "../../../core/runtime/starvation.ts";

/** Ticks every 100 ms, each so much too late, with so many microseconds stalled in each. */
function isStarvedAfter(ticks: { lateMs?: number; stalledUs?: number | undefined }[]): boolean {
  let nowMs = 0;
  let stalledUs = 0;
  let isKnown = true;
  const starvation = new Starvation({
    readStalledUs: () => (isKnown ? stalledUs : undefined),
    nowMs,
  });
  for (const tick of ticks) {
    nowMs += 100 + (tick.lateMs ?? 0);
    isKnown = !("stalledUs" in tick) || tick.stalledUs !== undefined;
    stalledUs += tick.stalledUs ?? 0;
    starvation.tick(nowMs, 100);
  }
  return starvation.isStarved;
}

const times = <T>(count: number, tick: T): T[] => Array.from({ length: count }, () => tick);

describe("a machine is starved", () => {
  test("while we are called late, and for two seconds after", () => {
    expect(isStarvedAfter([{ lateMs: 60 }])).toBe(true);
    expect(isStarvedAfter([{ lateMs: 60 }, ...times(15, {})])).toBe(true);
    expect(isStarvedAfter([{ lateMs: 60 }, ...times(20, {})])).toBe(false);
  });

  test("while processes wait for a CPU nearly always", () => {
    expect(isStarvedAfter(times(11, { stalledUs: 90_000 }))).toBe(true);
    expect(isStarvedAfter(times(11, { stalledUs: 50_000 }))).toBe(false);
  });

  test("not because the kernel says nothing, nor because of a little lateness", () => {
    expect(isStarvedAfter(times(30, { lateMs: 20, stalledUs: undefined }))).toBe(false);
  });
});
