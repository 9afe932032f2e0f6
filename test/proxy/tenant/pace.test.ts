/** Operations per second: nobody runs ahead, nobody is forgotten, sessions share alike. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Pace, type Paced } from "../../../proxy/tenant/pace.ts";

/** A session with commands to run, each of so many keys. */
class FakeSession implements Paced {
  operationsGranted = 0;
  isPaced = false;
  doneCount = 0;
  readonly #pace: Pace;
  readonly #time: { nowMs: number };
  readonly #commands: number[];

  constructor(pace: Pace, time: { nowMs: number }, commands: readonly number[]) {
    this.#pace = pace;
    this.#time = time;
    this.#commands = [...commands];
  }

  get isDone(): boolean {
    return this.#commands.length === 0;
  }

  proceed(): void {
    while (this.#commands.length > 0 && this.#pace.mayGo(this, this.#time.nowMs)) {
      const count = this.#commands.shift()!;
      this.#pace.charge(this, count);
      this.doneCount += count;
    }
  }
}

const singles = (count: number): number[] => Array.from({ length: count }, () => 1);

describe("operations of a cache", () => {
  test("within the limit wait for nothing", () => {
    const pace = new Pace(100, 0, () => expect.unreachable());
    const session = new FakeSession(pace, { nowMs: 0 }, singles(100));
    session.proceed();
    expect(session.isDone).toBe(true);
    expect(pace.delayedCount).toBe(0);
  });

  test("over it are shared alike by a session that pipelines and those that ask once", () => {
    const time = { nowMs: 0 };
    const pace = new Pace(100, 0, () => {});
    const greedy = new FakeSession(pace, time, singles(10_000));
    greedy.proceed();
    expect(greedy.doneCount).toBe(100);
    const modest = Array.from({ length: 4 }, () => new FakeSession(pace, time, singles(1_000)));
    for (const session of modest) session.proceed();
    for (; time.nowMs < 10_000; time.nowMs += 10) pace.wake(time.nowMs);
    const counts = modest.map(({ doneCount }) => doneCount);
    expect(greedy.doneCount - 100).toBeLessThanOrEqual(Math.min(...counts) + 10);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(10);
    expect(greedy.doneCount + counts.reduce((a, b) => a + b)).toBeGreaterThan(1_050);
  });

  test("all go on when the limit is gone", () => {
    const pace = new Pace(1, 0, () => {});
    const session = new FakeSession(pace, { nowMs: 0 }, [1, 1]);
    session.proceed();
    expect(session.isPaced).toBe(true);
    pace.charge(session, -1_000);
    pace.open();
    expect(session.isPaced).toBe(false);
  });

  test("asks to be looked after once, until nobody waits", () => {
    let asked = 0;
    const time = { nowMs: 0 };
    const pace = new Pace(10, 0, () => asked++);
    const sessions = [1, 2, 3].map(() => new FakeSession(pace, time, singles(10)));
    for (const session of sessions) session.proceed();
    expect(asked).toBe(1);
    let isWaiting = true;
    while (isWaiting) {
      time.nowMs += 10;
      isWaiting = pace.wake(time.nowMs);
    }
    expect(sessions.every(({ isDone }) => isDone)).toBe(true);
    expect(time.nowMs).toBeGreaterThanOrEqual(2_000);
  });

  test("of any sessions all get done, at the rate and not faster", () => {
    const loads = fc.array(fc.array(fc.integer({ min: 1, max: 64 }), { maxLength: 50 }), {
      minLength: 1,
      maxLength: 20,
    });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5_000 }), loads, (rate, all) => {
        const time = { nowMs: 0 };
        const pace = new Pace(rate, 0, () => {});
        const sessions = all.map((commands) => new FakeSession(pace, time, commands));
        for (const session of sessions) session.proceed();
        const total = all.flat().reduce((a, b) => a + b, 0);
        const patienceMs = 2_000 + ((total + 64) / rate) * 2_000;
        while (sessions.some(({ isDone }) => !isDone)) {
          time.nowMs += 10;
          expect(time.nowMs).toBeLessThan(patienceMs);
          pace.wake(time.nowMs);
          const done = sessions.reduce((sum, { doneCount }) => sum + doneCount, 0);
          // The last command may leave a debt of its keys.
          expect(done).toBeLessThanOrEqual((rate * time.nowMs) / 1000 + Math.max(1, rate) + 64);
        }
      }),
    );
  });
});
