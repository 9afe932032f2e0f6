/** What expires is told when its moment comes, however often that moment was changed. */
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { Expiries, type Expiring } from "../../../proxy/tenant/expiries.ts";
import { until } from "../../core/io/pair.ts";
import { ManualClock } from "../../harness/clock.ts";

const NEVER = Number.POSITIVE_INFINITY;
type Item = Expiring & { name: string };
const item = (name: string): Item => ({ name, expiresAtMs: NEVER });

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const one of opened.splice(0)) one.close();
});

function start(clock = new ManualClock(0)) {
  const told: string[] = [];
  const expiries = new Expiries<Item>(clock, ({ name }) => told.push(name));
  opened.push(expiries);
  return { clock, told, expiries };
}

describe("expiries", () => {
  test("are told in their order, each once", () => {
    const { clock, told, expiries } = start();
    const [a, b, c] = [item("a"), item("b"), item("c")];
    expiries.set(b, 200);
    expiries.set(c, 300);
    expiries.set(a, 100);
    clock.advance(99);
    expiries.check();
    expect(told).toEqual([]);
    clock.advance(101);
    expiries.check();
    expect(told).toEqual(["a", "b"]);
    clock.advance(1_000);
    expiries.check();
    expect(told).toEqual(["a", "b", "c"]);
  });

  test("may come earlier, later or never", () => {
    const { clock, told, expiries } = start();
    const [earlier, later, never] = [item("earlier"), item("later"), item("never")];
    for (const one of [earlier, later, never]) expiries.set(one, 500);
    expiries.set(earlier, 100);
    expiries.set(later, 900);
    expiries.set(never, NEVER);
    clock.advance(500);
    expiries.check();
    expect(told).toEqual(["earlier"]);
    clock.advance(400);
    expiries.check();
    expect(told).toEqual(["earlier", "later"]);
  });

  test("come by themselves", async () => {
    const { clock, told, expiries } = start(new ManualClock(0));
    expiries.set(item("now"), 10);
    clock.advance(10);
    await until("it is told", () => told.length === 1);
  });

  test("hold no more than twice what exists, however often they change", () => {
    const { expiries } = start();
    const items = Array.from({ length: 100 }, (_, i) => item(String(i)));
    for (let round = 0; round < 100; round++) {
      for (const one of items) expiries.set(one, 1_000_000 + round);
      expect(expiries.size).toBeLessThanOrEqual(2 * items.length + 66);
    }
  });

  test("are told exactly to those whose last word is over, in any order of changes", () => {
    const change = fc.record({
      index: fc.integer({ min: 0, max: 9 }),
      atMs: fc.option(fc.integer({ min: 1, max: 1_000 }), { nil: NEVER }),
    });
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 300 }),
        fc.integer({ min: 0, max: 1_000 }),
        (changes, nowMs) => {
          const { clock, told, expiries } = start();
          const items = Array.from({ length: 10 }, (_, i) => item(String(i)));
          for (const { index, atMs } of changes) expiries.set(items[index]!, atMs);
          clock.advance(nowMs);
          expiries.check();
          const over = items.filter(({ expiresAtMs }) => expiresAtMs <= nowMs);
          expect(new Set(told)).toEqual(new Set(over.map(({ name }) => name)));
          expiries.close();
        },
      ),
    );
  });
});
