import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { clock, every, paced, sleep } from "../../../core/runtime/clock.ts";
import { ManualClock } from "../../harness/clock.ts";

describe("clock", () => {
  test("monotonic time never steps back", () => {
    let last = clock.nowMs();
    for (let round = 0; round < 10_000; round++) {
      const now = clock.nowMs();
      expect(now).toBeGreaterThanOrEqual(last);
      last = now;
    }
  });

  test("unix time is whole milliseconds of the machine's clock", () => {
    const before = Date.now();
    const unixMs = clock.unixMs();
    expect(Number.isInteger(unixMs)).toBe(true);
    expect(unixMs).toBeGreaterThanOrEqual(before);
    expect(unixMs).toBeLessThanOrEqual(Date.now());
  });

  test("a repeated timer runs until stopped", async () => {
    let count = 0;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = every(1, () => {
      count++;
      if (count === 3) {
        timer.stop();
        resolve();
      }
    });
    // The timer itself holds nothing alive, so the waiting must.
    const alive = setInterval(() => {}, 1000);
    await promise;
    await wait(20);
    clearInterval(alive);
    expect(count).toBe(3);
  });

  test("sleep lets time pass", async () => {
    const before = clock.nowMs();
    await sleep(20);
    // Node's timers count whole milliseconds and may fire a fraction early.
    expect(clock.nowMs() - before).toBeGreaterThanOrEqual(19);
  });

  test("paced work is done at once, and once more for all that was asked meanwhile", async () => {
    let count = 0;
    const ask = paced(50, () => count++);
    ask();
    expect(count).toBe(1);
    ask();
    ask();
    expect(count).toBe(1);
    await wait(80);
    expect(count).toBe(2);
    await wait(120);
    expect(count, "nobody asked again").toBe(2);
    ask();
    expect(count).toBe(3);
    ask(true);
    expect(count, "urgent").toBe(4);
    ask();
    await wait(30);
    expect(count, "rests from then on").toBe(4);
    await wait(50);
    expect(count).toBe(5);
  });

  test("a manual clock moves only by hand", () => {
    const manual = new ManualClock(5_000);
    expect([manual.nowMs(), manual.unixMs()]).toEqual([0, 5_000]);
    manual.advance(250);
    expect([manual.nowMs(), manual.unixMs()]).toEqual([250, 5_250]);
    manual.step(-1_000);
    expect([manual.nowMs(), manual.unixMs()]).toEqual([250, 4_250]);
  });
});
