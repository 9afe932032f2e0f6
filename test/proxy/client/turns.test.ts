/** Work of a turn: a cache alone is not held back, two caches do not feel each other. */
import { describe, expect, test } from "vitest";
import type { Loop } from "../../../core/io/loop.ts";
import { Admission, type Applicant, LOGINS_PER_TURN_MAX } from "../../../proxy/client/admission.ts";
import { Turns, type TurnTaker, UNBOUNDED } from "../../../proxy/client/turns.ts";
import type { Tenant } from "../../../proxy/tenant/tenant.ts";

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class FakeLoop {
  nowMs = 1_000;
  readsMax = 0;
  limitReads(readsMax: number): void {
    this.readsMax = readsMax;
  }
  turn(): void {
    this.nowMs += 0.1;
  }
}
const tenant = (): Tenant => ({ work: { turnAtMs: 0, left: 0 } }) as Tenant;

/** A session with so many commands, read as the real one does. */
class FakeSession implements TurnTaker {
  isBehind = false;
  doneCount = 0;
  readonly #turns: Turns;
  readonly #tenant: Tenant;
  left: number;

  constructor(turns: Turns, of: Tenant, commandCount: number) {
    this.#turns = turns;
    this.#tenant = of;
    this.left = commandCount;
  }

  proceed(): void {
    const granted = this.#turns.grant(this, this.#tenant);
    const count = Math.min(Math.max(granted, 0), this.left);
    this.left -= count;
    this.doneCount += count;
    if (granted !== UNBOUNDED) this.#turns.spend(this.#tenant, count);
    if (this.left > 0) this.#turns.wait(this, this.#tenant);
  }
}

function start() {
  const loop = new FakeLoop();
  return { loop, turns: new Turns(loop as unknown as Loop) };
}

describe("commands of a turn", () => {
  test("of a cache that is alone are not counted", () => {
    const { loop, turns } = start();
    const only = tenant();
    turns.grant(new FakeSession(turns, only, 0), only);
    loop.nowMs += 1_000;
    const session = new FakeSession(turns, only, 1_000_000);
    session.proceed();
    expect(session.left).toBe(0);
  });

  test("come from few sessions of each cache while another is active, or strangers are", () => {
    const { loop, turns } = start();
    const [one, other] = [tenant(), tenant()];
    const read = (of: Tenant): void => new FakeSession(turns, of, 0).proceed();
    read(one);
    loop.nowMs += 1_000;
    read(one);
    expect(loop.readsMax).toBe(0);
    read(other);
    expect(loop.readsMax).toBeGreaterThan(0);
    loop.nowMs += 1_000;
    read(other);
    expect(loop.readsMax).toBe(0);
    turns.strangerCame();
    expect(loop.readsMax).toBeGreaterThan(0);
  });

  test("of a storm are few while another cache is active, and all get done", async () => {
    const { loop, turns } = start();
    const [quiet, storm] = [tenant(), tenant()];
    new FakeSession(turns, quiet, 1).proceed();
    const sessions = Array.from({ length: 50 }, () => new FakeSession(turns, storm, 1_000));
    for (const session of sessions) session.proceed();
    const done = (): number => sessions.reduce((sum, { doneCount }) => sum + doneCount, 0);
    expect(done()).toBeLessThanOrEqual(256);
    for (let turn = 0, before = done(); turn < 20; turn++, before = done()) {
      loop.turn();
      const asked = new FakeSession(turns, quiet, 1);
      asked.proceed();
      expect(asked.left).toBe(0);
      await nextTurn();
      expect(done() - before).toBeLessThanOrEqual(256);
    }
    while (done() < 50_000) await nextTurn();
    expect(sessions.every(({ isBehind }) => !isBehind)).toBe(true);
  });

  test("are shared by the sessions of a storm and by the caches that storm", async () => {
    const { turns } = start();
    const storms = Array.from({ length: 4 }, tenant);
    const sessions = storms.flatMap((storm) =>
      Array.from({ length: 5 }, () => new FakeSession(turns, storm, 10_000)),
    );
    for (const session of sessions) session.proceed();
    for (let turn = 0; turn < 100; turn++) await nextTurn();
    const counts = sessions.map(({ doneCount }) => doneCount);
    expect(Math.min(...counts)).toBeGreaterThan(0);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(2 * 256);
  });
});

class FakeApplicant implements Applicant {
  isGone = false;
  hasTurn = false;
  readonly #handled: FakeApplicant[];
  constructor(handled: FakeApplicant[]) {
    this.#handled = handled;
  }
  proceed(): void {
    this.#handled.push(this);
  }
}

describe("logins of a turn", () => {
  test("are few, and a cache with one login does not wait behind one with thousands", async () => {
    const admission = new Admission();
    const handled: FakeApplicant[] = [];
    const [storm, quiet] = [tenant(), tenant()];
    const all = Array.from({ length: 2_000 }, () => new FakeApplicant(handled));
    const atOnce = all.filter((one) => admission.takeTurn(one, storm));
    expect(atOnce).toHaveLength(LOGINS_PER_TURN_MAX);
    const single = new FakeApplicant(handled);
    const stranger = new FakeApplicant(handled);
    expect([admission.takeTurn(single, quiet), admission.takeTurn(stranger, null)]).toEqual([
      false,
      false,
    ]);
    await nextTurn();
    expect(handled).toHaveLength(LOGINS_PER_TURN_MAX);
    expect(handled.slice(0, 3)).toContain(single);
    expect(handled.slice(0, 3)).toContain(stranger);
    while (handled.length < 2_000 - LOGINS_PER_TURN_MAX + 2) await nextTurn();
    expect(new Set(handled).size).toBe(handled.length);
  });

  test("of sessions that are gone take nobody's turn", async () => {
    const admission = new Admission();
    const handled: FakeApplicant[] = [];
    const all = Array.from({ length: 1_000 }, () => new FakeApplicant(handled));
    for (const one of all) admission.takeTurn(one, null);
    for (const one of all.slice(0, -1)) one.isGone = true;
    await nextTurn();
    expect(handled).toEqual([all.at(-1)]);
  });
});
