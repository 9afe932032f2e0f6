import { describe, expect, test } from "vitest";
import { LOG_COUNT_MAX } from "../../../core/cluster/incidents.ts";
import { conditionKey } from "../../../monitor/condition.ts";
import { OPEN_COUNT_MAX } from "../../../monitor/incident/conditions.ts";
import { LEGAL } from "../../../monitor/incident/machine.ts";
import { condition, manual, START, World } from "./world.ts";

const ALL = ["alice", "bob", "carol"].map((name) => `${name}@alert.test/phone`);

function quiet(paging = manual()): World {
  const world = new World(paging, START - 60_000);
  world.linkUp(...ALL);
  world.pass(60);
  world.clear();
  return world;
}

function trouble(paging = manual()): World {
  const world = quiet(paging);
  world.observe(condition());
  return world;
}

describe("an incident", () => {
  test("opens with its first sign and says how long that took", () => {
    const world = trouble();
    expect(world.incident()).toMatchObject({
      number: 1,
      state: "open",
      severity: "crit",
      level: 0,
    });
    const opened = world.happened.find(
      (one) => one.kind === "measured" && one.measure.name === "opened",
    );
    expect(opened).toMatchObject({ measure: { severity: "crit", detectionSeconds: 2 } });
  });

  test("is recovering after 30 s of calm, resolved after 120 s more, and everybody hears it", () => {
    const world = trouble();
    world.pass(40);
    world.receives("bob");
    world.says("bob", "ack");
    world.clear();
    world.observe();
    world.pass(29);
    expect(world.incident().state).toBe("acknowledged");
    world.pass(1);
    expect(world.incident().state).toBe("recovering");
    world.pass(119);
    expect(world.incident().state).toBe("recovering");
    world.pass(1);
    expect(world.incident().state).toBe("resolved");
    const told = world.sends().map(({ person, atMs }) => [person, (atMs - START) / 1_000]);
    expect(told).toEqual([
      ["alice", 190],
      ["bob", 190],
    ]);
    expect(world.sends()[0]?.message.body).toBe(
      "#1 resolved eu1: backend b3 slow (30% of ops > 5 ms, was 0.2%) for 2 s\n" +
        "it was calm for 150 s; it was open for 3 min, bob had it",
    );
  });

  test("that is calm for less than 30 s stays open, and is not written for each look", () => {
    const world = trouble();
    world.pass(1);
    const before = world.incident();
    for (let round = 0; round < 20; round += 1) {
      world.observe();
      world.nowMs += 200;
      world.observe(condition());
      world.nowMs += 200;
    }
    expect(world.incident().state).toBe("open");
    expect(world.incident().log.length).toBeLessThanOrEqual(before.log.length + 1);
  });

  test("that relapses while recovering goes on: those who know are told again", () => {
    const world = trouble();
    world.pass(10);
    world.observe();
    world.pass(40);
    expect(world.incident().state).toBe("recovering");
    world.clear();
    world.pass(20);
    expect(world.pages()).toEqual([]);
    world.observe(condition());
    expect(world.incident()).toMatchObject({ number: 1, state: "open", relapses: 1 });
    world.pass(31);
    expect(world.pages(START + 70_000)).toEqual([
      "alice@0",
      "bob@0", // Was told at 30 s: calm begins to count at 40 s.
      "alice@5",
      "bob@5",
    ]);
  });

  test("that relapses while recovering stays with whoever took it", () => {
    const world = trouble();
    world.says("alice", "ack");
    world.observe();
    world.pass(40);
    world.observe(condition());
    expect(world.incident().state).toBe("acknowledged");
    world.pass(60);
    expect(world.pages()).toEqual(["alice@0"]);
  });

  test("that comes back within 10 min of its end is the same, later a new one", () => {
    const world = trouble();
    world.observe();
    world.pass(151);
    expect(world.incident().state).toBe("resolved");
    world.pass(590);
    world.clear();
    world.observe(condition());
    expect(world.incident()).toMatchObject({ state: "open", relapses: 1, ack: null });
    expect(world.pages(world.nowMs)).toEqual(["alice@0"]);
    world.observe();
    world.pass(151 + 601);
    world.observe(condition());
    expect(world.incident(2)).toMatchObject({ number: 2, state: "open" });
  });

  test("gets no number again, neither after it was forgotten nor after a restart", () => {
    const world = trouble();
    for (let number = 1; number <= 5; number += 1) {
      expect(world.incident(number).state).toBe("open");
      world.observe();
      world.pass(151 + 590);
      world.restart();
      world.linkUp(...ALL);
      world.pass(15);
      world.observe(condition());
    }
  });

  test("whose monitor was blind does not recover by what it saw before", () => {
    const world = trouble();
    world.observe();
    world.pass(20);
    world.isObserving = false;
    world.pass(600);
    world.isObserving = true;
    world.pass(25);
    expect(world.incident().state).toBe("open");
    world.pass(6);
    expect(world.incident().state).toBe("recovering");
  });

  test("follows what is said about it, at most every 10 s", () => {
    const world = trouble();
    world.pass(1);
    world.observe(condition({ summary: "backend b3 stalled" }));
    expect(world.incident().summary).toContain("slow");
    world.pass(10);
    expect(world.incident().summary).toBe("backend b3 stalled");
  });

  test("that gets worse is told anew, whoever had it", () => {
    const world = quiet();
    world.observe(condition({ severity: "warn" }));
    world.says("alice", "ack");
    world.pass(60);
    world.clear();
    world.observe(condition({ severity: "crit" }));
    expect(world.incident()).toMatchObject({ severity: "crit", state: "open", ack: null });
    expect(world.pages()).toEqual(["alice@60"]);
    world.observe(condition({ severity: "warn" }));
    expect(world.incident().severity).toBe("crit");
  });

  test("was opened without the others: its number says so, and so do its messages", () => {
    const world = quiet();
    world.say({ kind: "quorum", isThere: false, monitor: "m2" });
    world.observe(condition());
    expect(Object.keys(world.state.incidents)).toEqual(["0000000001@m2"]);
    expect(world.sends("alice")[0]?.message).toMatchObject({
      id: "1@m2.1.alice",
      body: expect.stringContaining("(no quorum) #1@m2 CRIT"),
    });
    expect(world.says("alice", "ack #1@m2")).toContain("#1@m2 is yours");
  });

  test("keeps the first and the newest lines of a long log", () => {
    const world = trouble();
    for (let round = 0; round < 300; round += 1) world.says("alice", `note 1 line ${round}`);
    const { log, logDropped } = world.incident();
    expect(log.length).toBe(LOG_COUNT_MAX);
    expect(log[0]?.event).toBe("opened");
    expect(log.at(-1)?.text).toBe("line 299");
    expect(logDropped).toBeGreaterThan(100);
  });

  test("keeps who was told when rounds are many", () => {
    const world = trouble();
    world.checkEvery = 50;
    world.pass(3 * 86_400, 60_000);
    const { notifications } = world.incident();
    const people = new Set(notifications.map(({ person, room }) => room ?? person));
    expect([...people].sort()).toEqual(["alice", "bob", "carol", "war@rooms.alert.test"]);
    expect(Math.max(...notifications.map(({ round }) => round))).toBeGreaterThan(2_000);
  });
});

test("states lead only where they may", () => {
  expect(LEGAL).toEqual({
    open: ["acknowledged", "recovering", "resolved"],
    acknowledged: ["open", "recovering", "resolved"],
    recovering: ["open", "acknowledged", "resolved"],
    resolved: ["open"],
  });
});

describe("what explains something else", () => {
  const network = (over = {}) =>
    condition({
      kind: "network",
      subject: "all",
      summary: "jitter on all links",
      explains: [conditionKey(condition())],
      ...over,
    });

  test("is paged, and the other is listed under it", () => {
    const world = quiet();
    world.observe(network(), condition());
    expect(world.sends("alice").map(({ message }) => message.id)).toEqual(["1.1.alice"]);
    expect(world.incident(2).explainedBy).toBe("0000000001");
    world.pass(31);
    expect(world.sends("bob")[0]?.message.body).toContain("also: backend b3 slow");
  });

  test("comes later: the paging of the other ends; it goes on when that is over", () => {
    const world = trouble();
    world.pass(10);
    world.clear();
    world.observe(condition(), network());
    world.pass(60);
    expect(new Set(world.sends().map(({ message }) => message.id.split(".")[0]))).toEqual(
      new Set(["2"]),
    );
    world.clear();
    world.observe(condition());
    expect(world.incident(1).explainedBy).toBeNull();
    expect(world.sends("alice")[0]?.message.id).toMatch(/^1\./);
  });

  test("is less severe: then it explains nothing away", () => {
    const world = quiet();
    world.observe(network({ severity: "warn" }), condition());
    expect(world.incident(2).explainedBy).toBeNull();
  });

  test("in a circle: one of them is paged all the same", () => {
    const world = quiet();
    const key = conditionKey(network());
    world.observe(network(), condition({ explains: [key] }), condition({ subject: "b4" }));
    const explained = [1, 2, 3].map((number) => world.incident(number).explainedBy);
    expect(explained).toEqual([null, "0000000001", null]);
    world.pass(300);
  });

  test("through another: all are listed under the first", () => {
    const world = quiet();
    const [a, b, c] = ["a", "b", "c"].map((subject) => condition({ subject }));
    if (a === undefined || b === undefined || c === undefined) return;
    world.observe({ ...b, explains: ["node:c"] }, c, { ...a, explains: ["node:b"] });
    const roots = [1, 2, 3].map((number) => world.incident(number).explainedBy);
    expect(roots).toEqual(["0000000003", "0000000003", null]);
  });
});

describe("a silence", () => {
  test("is a flag with an end: nobody is told until then", () => {
    const world = trouble();
    world.pass(1);
    expect(world.says("alice", "silence 1 30m deploy")).toMatch(/^#1 is silenced until/);
    expect(world.incident()).toMatchObject({ state: "open", silence: { by: "alice" } });
    world.clear();
    world.pass(1_799);
    expect(world.pages()).toEqual([]);
    world.pass(1.1);
    expect(world.pages()).toEqual(["alice@1801"]);
  });

  test("ends with unsilence", () => {
    const world = trouble();
    world.says("alice", "silence 1 30m");
    world.clear();
    world.pass(60);
    world.says("alice", "unsilence 1");
    expect(world.pages()).toEqual(["alice@60"]);
    expect(Object.keys(world.state.silences)).toEqual([]);
  });

  test("does not hide what gets worse", () => {
    const world = quiet();
    world.observe(condition({ severity: "warn" }));
    world.says("alice", "silence 1 24h");
    world.pass(60);
    world.clear();
    world.observe(condition({ severity: "crit" }));
    expect(world.pages()).toEqual(["alice@60"]);
  });

  test("lasts at most 24 h", () => {
    const world = trouble();
    expect(world.says("alice", "silence 1 25h")).toBe("a silence lasts at most 24h");
    expect(world.says("alice", "silence 1 soon")).toContain("for how long?");
    expect(world.incident().silence).toBeNull();
  });

  test("of a key holds for what comes later, and survives a restart", () => {
    const world = quiet();
    expect(world.says("bob", "silence node:b* 2h new disks")).toContain("node:b* is silenced");
    world.restart();
    world.linkUp(...ALL);
    world.observe(condition(), condition({ subject: "c1" }));
    expect(world.incident(1).silence).toMatchObject({ by: "bob" });
    expect(world.pages()).toEqual(["alice@0"]);
    expect(world.sends("alice")[0]?.message.id).toBe("2.1.alice");
    world.says("bob", "unsilence node:b*");
    expect(world.sends("alice").at(-1)?.message.id).toMatch(/^1\./);
  });

  test("that was announced covers what it matches while it lasts", () => {
    const world = quiet(
      manual({
        silences: [
          {
            match: { subject: "b*" },
            from: "2026-06-01T12:00",
            to: "2026-06-01T13:00",
            reason: "new disks",
          },
        ],
      }),
    );
    world.observe(condition());
    world.pass(3_599);
    expect(world.pages()).toEqual([]);
    world.pass(2);
    expect(world.pages()).toEqual(["alice@3600"]);
  });
});

test("more than can be listed is counted in one incident", () => {
  const world = quiet();
  const many = Array.from({ length: 500 }, (_, index) => {
    return condition({ kind: "credential", subject: `c${index}`, severity: "warn" });
  });
  world.observe(...many, condition());
  expect(Object.keys(world.state.incidents)).toHaveLength(OPEN_COUNT_MAX);
  const overflow = Object.values(world.state.incidents).find(({ kind }) => kind === "overflow");
  expect(overflow).toMatchObject({
    severity: "warn",
    summary: "302 more things are wrong than can be listed",
  });
  // What is critical is listed first.
  expect(Object.values(world.state.incidents).some(({ key }) => key === "node:b3")).toBe(true);
  world.pass(20, 5_000);
  expect(Object.keys(world.state.incidents)).toHaveLength(OPEN_COUNT_MAX);
  world.observe();
  world.pass(160);
  const states = new Set(Object.values(world.state.incidents).map(({ state }) => state));
  expect(states).toEqual(new Set(["resolved"]));
});

test("conditions with anything in them become records that fit", () => {
  const world = quiet();
  world.observe(
    condition({
      summary: `\u0000\n${"ü".repeat(2_000)}\ud800`,
      details: Array.from({ length: 50 }, () => "x\r\ny".repeat(500)),
      sinceMs: -5.5,
    }),
    condition({ subject: "b4", sinceMs: START + 99_999 }),
    condition(),
  );
  expect(world.incident().summary).not.toMatch(/\p{Cc}/u);
  expect(world.incident(2).sinceMs).toBe(START);
});
