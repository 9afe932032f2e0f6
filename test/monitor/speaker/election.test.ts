/** One monitor speaks: elections on a real state, with time made short. */
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openSqliteState } from "../../../core/cluster/sqlite.ts";
import { type Change, type ClusterState, StateUnavailable } from "../../../core/cluster/state.ts";
import { type Clock, clock } from "../../../core/runtime/clock.ts";
import { createLog } from "../../../core/runtime/log.ts";
import { Election, SPEAKER_ID } from "../../../monitor/speaker/election.ts";
import { until } from "../../core/cluster/contract-place.ts";
import { temporaryFolder } from "../../harness/processes.ts";

/** Leases live for 300 ms here. */
const SCALE = 0.06;

let path: string;
const opened: { close(): Promise<void> }[] = [];
beforeEach(() => {
  path = join(temporaryFolder("memward-election"), "state.db");
});
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close();
});

interface Candidate {
  election: Election;
  state: ClusterState;
  steps: string[];
  /** The state does not answer this one. */
  away: boolean;
  /** The state takes no changes of this one. */
  isReadOnly: boolean;
  /** The next change is written, but this one does not hear of it. */
  losesAnswer: boolean;
}

let termCount = 0;
function candidate(name: string, { monitors = [name], on = clock as Clock } = {}): Candidate {
  const real = openSqliteState({ path, pollMs: 5 });
  const election = undefined as unknown as Election;
  const flags = { away: false, isReadOnly: false, losesAnswer: false };
  const it: Candidate = { state: real, steps: [], election, ...flags };
  const guard = <A extends unknown[], R>(call: (...args: A) => Promise<R>) => {
    return async (...args: A): Promise<R> => {
      if (it.away) throw new StateUnavailable("away");
      return call(...args);
    };
  };
  const state: ClusterState = {
    get: guard(real.get.bind(real)) as ClusterState["get"],
    list: guard(real.list.bind(real)) as ClusterState["list"],
    commit: guard(async (changes) => {
      if (it.isReadOnly) throw new StateUnavailable("read-only");
      const commit = await real.commit(changes);
      if (!it.losesAnswer) return commit;
      it.losesAnswer = false;
      throw new StateUnavailable("no answer");
    }),
    watch: (from, watcher) => real.watch(from, watcher),
    lease: guard(async (options) => {
      const lease = await real.lease(options);
      return {
        id: lease.id,
        lost: lease.lost,
        revoke: () => lease.revoke(),
        get livesUntilMs() {
          return it.away ? 0 : lease.livesUntilMs;
        },
      };
    }),
    close: () => real.close(),
  };
  it.election = new Election({
    state,
    name,
    clock: on,
    log: createLog({ name, level: "silent" }),
    newTerm: () => `term-${++termCount}`,
    monitors: () => monitors,
    changed: (_, to) => it.steps.push(to),
    timeScale: SCALE,
  });
  opened.push(real, it.election);
  it.election.start();
  return it;
}

const speaks = ({ election }: Candidate) => until(() => election.stance === "speaking");
const note = (id: string): Change => {
  return { kind: "cacheName", id, value: { cache: "c" } };
};

describe("with a state that answers", () => {
  test("the first speaks, the second listens and takes over when the first ends", async () => {
    const one = candidate("m1");
    await speaks(one);
    const two = candidate("m2");
    await until(() => two.election.speaker === "m1");
    expect(two.election.stance).toBe("listening");
    await one.election.close();
    await speaks(two);
    expect(two.election.speaker).toBe("m2");
  });

  test("a change of the speaker is written with the fence, one after the other", async () => {
    const one = candidate("m1");
    await speaks(one);
    for (let n = 1; n <= 5; n++) expect(await one.election.commit([note(`n${n}`)])).toBe("written");
    const record = await one.state.get("speaker", SPEAKER_ID);
    expect(record?.value.writes).toBe(5);
    expect((await one.state.list("cacheName")).entries).toHaveLength(5);
  });

  test("changes that are given at once are written one after the other", async () => {
    const one = candidate("m1");
    await speaks(one);
    const all = Array.from({ length: 10 }, (_, n) => one.election.commit([note(`n${n}`)]));
    expect(new Set(await Promise.all(all))).toEqual(new Set(["written"]));
    expect((await one.state.get("speaker", SPEAKER_ID))?.value.writes).toBe(10);
  });

  test("who lost the office while standing still writes nothing and stops speaking", async () => {
    const one = candidate("m1");
    await speaks(one);
    const record = await one.state.get("speaker", SPEAKER_ID);
    const usurper = { monitor: "m9", term: "stolen", sinceMs: 0, writes: 0 };
    // As if its lease had ended and another had been elected, before it hears of it.
    const stolen = one.state.commit([
      { kind: "speaker", id: SPEAKER_ID, value: usurper, expected: record?.revision ?? 0 },
    ]);
    const written = one.election.commit([note("late")]);
    expect((await stolen).ok).toBe(true);
    expect(await written).toBe("fenced");
    expect(one.election.stance).not.toBe("speaking");
    expect(one.election.fencedCount).toBe(1);
    expect((await one.state.list("cacheName")).entries).toEqual([]);
  });

  test("an answer that was lost is no reason to write twice, or to stop", async () => {
    const one = candidate("m1");
    await speaks(one);
    one.losesAnswer = true;
    await expect(one.election.commit([note("once")])).rejects.toThrow(StateUnavailable);
    expect(await one.election.commit([note("once")])).toBe("written");
    expect(await one.election.commit([note("twice")])).toBe("written");
    expect(one.election.stance).toBe("speaking");
  });

  test("a monitor that was killed and started again does not wait for its own lease", async () => {
    const dead = openSqliteState({ path });
    const lease = await dead.lease({ ttlMs: 60_000 });
    const value = { monitor: "m1", term: "before", sinceMs: 0, writes: 3 };
    await dead.commit([{ kind: "speaker", id: SPEAKER_ID, value, lease }]);
    await dead.close();
    await speaks(candidate("m1"));
    const other = candidate("m2");
    await until(() => other.election.speaker === "m1");
    expect(other.election.stance).toBe("listening");
  });

  test("two monitors of one name do not take the office from each other", async () => {
    const one = candidate("m1");
    await speaks(one);
    const two = candidate("m1");
    await speaks(two);
    await until(() => one.election.stance === "listening");
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(two.steps).toEqual(["campaigning", "speaking"]);
  });
});

describe("with a state that does not answer", () => {
  test("the speaker falls silent a second before its lease could end, by its own clock", async () => {
    let aheadMs = 0;
    const own: Clock = { nowMs: () => clock.nowMs() + aheadMs, unixMs: clock.unixMs };
    const one = candidate("m1", { on: own });
    await speaks(one);
    expect(one.election.maySpeak).toBe(true);
    aheadMs = 4_100 * SCALE;
    expect(one.election.maySpeak).toBe(false);
  });

  test("it speaks alone after a while, and listens when the state is back", async () => {
    const one = candidate("m1");
    await speaks(one);
    one.away = true;
    await until(() => one.election.stance === "alone");
    expect(one.election.maySpeak).toBe(true);
    expect(await one.election.commit([note("x")])).toBe("fenced");
    one.away = false;
    await until(() => one.steps.includes("alone") && one.election.stance === "speaking");
  });

  test("it speaks alone while the state is there but takes no changes", async () => {
    const one = candidate("m1");
    await speaks(one);
    one.isReadOnly = true;
    const writing = setInterval(() => void one.election.commit([note("x")]).catch(() => {}), 20);
    await until(() => one.election.stance === "alone");
    clearInterval(writing);
    one.isReadOnly = false;
    await speaks(one);
    expect(one.steps.slice(-2)).toEqual(["alone", "speaking"]);
  });

  test("who spoke last is the first to speak alone, the others wait their turn", async () => {
    const monitors = ["m1", "m2", "m3"];
    const three = candidate("m3", { monitors });
    await speaks(three);
    const one = candidate("m1", { monitors });
    await until(() => one.election.speaker === "m3");
    one.away = true;
    three.away = true;
    await until(() => three.election.stance === "alone");
    expect(one.election.stance).toBe("listening");
    await until(() => one.election.stance === "alone");
  });
});
