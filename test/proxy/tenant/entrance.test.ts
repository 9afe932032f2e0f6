/** New sessions per second: in the order they came, for a second, then no more. */
import { describe, expect, test } from "vitest";
import { ENTRANTS_WAITING_MAX, Entrance, type Entrant } from "../../../proxy/tenant/entrance.ts";

class FakeEntrant implements Entrant {
  isGone = false;
  turn: "granted" | "late" | null = null;
  waitsSinceMs = 0;
  proceedCount = 0;
  proceed(): void {
    this.proceedCount++;
  }
}
const some = (count: number): FakeEntrant[] =>
  Array.from({ length: count }, () => new FakeEntrant());

describe("logins of a cache", () => {
  test("up to the limit enter at once, more wait in order, late ones are refused", () => {
    const entrance = new Entrance(10, 0, () => {});
    const all = some(40);
    const answers = all.map((one) => entrance.ask(one, 0));
    expect(answers.filter((answer) => answer === "enter")).toHaveLength(10);
    expect(answers.filter((answer) => answer === "wait")).toHaveLength(30);
    let isWaiting = true;
    for (let nowMs = 10; isWaiting; nowMs += 10) isWaiting = entrance.wake(nowMs);
    const turns = all.slice(10).map(({ turn }) => turn);
    const granted = turns.filter((turn) => turn === "granted").length;
    expect(granted).toBeGreaterThanOrEqual(9);
    expect(granted).toBeLessThanOrEqual(11);
    expect(turns).toEqual(turns.map((_, i) => (i < granted ? "granted" : "late")));
    expect(entrance.ask(all[10]!, 2_000)).toBe("enter");
    expect(entrance.ask(all[39]!, 2_000)).toBe("refused");
    expect(all.every(({ proceedCount }, i) => proceedCount === (i < 10 ? 0 : 1))).toBe(true);
  });

  test("of sessions that are gone use nothing up", () => {
    const entrance = new Entrance(1, 0, () => {});
    const all = some(3);
    for (const one of all) entrance.ask(one, 0);
    const [, gone, next] = all;
    gone!.isGone = true;
    entrance.wake(1_000);
    expect([gone!.proceedCount, next!.turn]).toEqual([0, "granted"]);
  });

  test("wait in a queue that has an end", () => {
    const entrance = new Entrance(1, 0, () => {});
    const answers = some(ENTRANTS_WAITING_MAX + 2).map((one) => entrance.ask(one, 0));
    expect(answers.at(-2)).toBe("wait");
    expect(answers.at(-1)).toBe("refused");
  });

  test("all enter when the limit is gone", () => {
    const entrance = new Entrance(1, 0, () => {});
    const all = some(5);
    for (const one of all) entrance.ask(one, 0);
    entrance.open();
    expect(all.slice(1).every(({ turn }) => turn === "granted")).toBe(true);
    expect(entrance.wake(1)).toBe(false);
  });
});
