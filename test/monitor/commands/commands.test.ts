import { describe, expect, test } from "vitest";
import type { Order } from "../../../core/cluster/incidents.ts";
import { firstWord, parseCommand } from "../../../monitor/commands/parse.ts";
import { condition, manual, START, World } from "../incident/world.ts";

const ALL = ["alice", "bob", "carol"].map((name) => `${name}@alert.test/phone`);

function trouble(): World {
  const world = new World(manual(), START - 60_000);
  world.linkUp(...ALL);
  world.pass(60);
  world.observe(condition());
  world.clear();
  return world;
}

describe("words become commands", () => {
  const target = { number: 17, origin: "" };
  test.each([
    ["ack 17", { verb: "ack", target, rest: "" }],
    ["  ACK  #17 ", { verb: "ack", target, rest: "" }],
    ["#ack 17", { verb: "ack", target, rest: "" }],
    ["#17 ack", { verb: "ack", target, rest: "" }],
    ["17: ack!", { verb: "ack", target, rest: "" }],
    ["Ack.", { verb: "ack", target: null, rest: "" }],
    ["ack 17@M2", { verb: "ack", target: { number: 17, origin: "m2" }, rest: "" }],
    ["silence 17 1h a  b", { verb: "silence", target, rest: "1h a  b" }],
    ["silence node:b3 30m", { verb: "silence", target: null, rest: "node:b3 30m" }],
    ["note 17 two\nlines", { verb: "note", target, rest: "two lines" }],
    ["drill me", { verb: "drill", target: null, rest: "me" }],
    ["acknowledge 17", undefined],
    ["", undefined],
    ["#", undefined],
    ["17", undefined],
    ["constructor 17", undefined],
    ["ack 99999999999999999999", { verb: "ack", target: null, rest: "99999999999999999999" }],
  ])("%j", (body, command) => expect(parseCommand(body)).toEqual(command));

  test("however long and strange they are", () => {
    for (const body of ["ack ".repeat(10_000), "\u0000\u202e", "💥".repeat(5_000), "\ud800 ack"]) {
      expect(() => parseCommand(body)).not.toThrow();
    }
    expect(firstWord("")).toEqual(["", ""]);
  });
});

describe("ack", () => {
  test("alone means the only incident that is open to that person", () => {
    const world = trouble();
    expect(world.says("bob", "ack")).toBe("nothing is open to you: status shows all");
    expect(world.says("alice", "ack")).toContain("#1 is yours until");
    expect(world.says("alice", "ack")).toBe("nothing is open to you: status shows all");
  });

  test("alone with several open asks which one", () => {
    const world = trouble();
    world.observe(condition(), condition({ subject: "b4" }));
    expect(world.says("alice", "ack")).toBe("2 are open to you: ack 1, ack 2");
    expect(world.says("alice", "ack 2")).toContain("#2 is yours");
    expect(world.says("alice", "ack")).toContain("#1 is yours");
  });

  test("is possible for whoever is listed, told or not, and may change hands", () => {
    const world = trouble();
    world.says("alice", "ack 1");
    expect(world.says("carol", "ack 1")).toContain("#1 is yours");
    expect(world.incident().ack?.by).toBe("carol");
    expect(world.sends("alice").at(-1)?.message.body).toContain("carol acknowledged it from alice");
  });

  test("that was written before the incident opened is not obeyed", () => {
    const world = trouble();
    const answer = world.says("alice", "ack 1", { delayedAtMs: START - 1 });
    expect(answer).toBe("#1 began after you wrote that: please say it again");
    expect(world.says("alice", "ack", { delayedAtMs: START - 1 })).toContain("nothing is open");
    expect(world.incident().state).toBe("open");
    expect(world.says("alice", "ack 1", { delayedAtMs: START + 1 })).toContain("is yours");
  });

  test("that comes twice is obeyed once, and answered the same twice", () => {
    const world = trouble();
    const first = world.says("alice", "ack 1", { id: "s1" });
    world.says("alice", "unack 1", { id: "s2" });
    expect(world.says("alice", "ack 1", { id: "s1" })).toBe(first);
    expect(world.incident().state).toBe("open");
    expect(world.says("bob", "ack 1", { id: "s1" })).toContain("is yours"); // His own s1.
  });
});

describe("everybody else hears", () => {
  test.each([
    ["ack 1", "#1: alice acknowledged it"],
    ["note 1 it is the disk", "#1: alice: it is the disk"],
    ["silence 1 1h", "#1: silenced by alice until"],
    ["resolve 1 unplugged", "by alice: unplugged"],
  ])("of %j", (command, heard) => {
    const world = trouble();
    world.pass(40); // Alice and bob were told.
    world.clear();
    world.says("alice", command);
    expect(world.sends().map(({ person }) => person)).toEqual(["bob"]);
    expect(world.sends("bob")[0]?.message.body).toContain(heard);
  });
});

describe("resolve", () => {
  test("of what is still bad warns, and it opens again in 5 min", () => {
    const world = trouble();
    expect(world.says("alice", "resolve 1")).toBe(
      "#1 is resolved, though it is still bad: it opens again in 5 min unless it is over",
    );
    world.clear();
    world.pass(299);
    expect(world.incident().state).toBe("resolved");
    world.pass(2);
    expect(world.incident()).toMatchObject({ state: "open", relapses: 1 });
    expect(world.pages()).toEqual(["alice@300"]);
  });

  test("of what is over by then stays resolved", () => {
    const world = trouble();
    world.says("alice", "resolve 1");
    world.pass(100);
    world.observe();
    world.pass(400);
    expect(world.incident().state).toBe("resolved");
  });

  test("of what is good is the end", () => {
    const world = trouble();
    world.observe();
    world.pass(5);
    expect(world.says("alice", "resolve 1 fixed")).toBe("#1 is resolved");
    expect(world.says("alice", "resolve 1")).toBe("#1 is resolved already");
  });
});

describe("answers", () => {
  test.each([
    ["what?", "I did not understand that: help says what I do"],
    ["unack", "which one? unack 17; status shows all"],
    ["unack 1", "#1 is acknowledged by nobody"],
    ["ack 99", "there is no incident #99 that is open"],
    ["ack 17@m2", "there is no incident #17@m2 that is open"],
    ["escalate 1 dave", "there is nobody named dave"],
    ["escalate 1 constructor", "there is nobody named constructor"],
    ["note 1", "what should be noted? note 1 TEXT"],
    ["silence everything 1h", "silence what? silence 17 30m, or silence KIND:SUBJECT 30m"],
    ["unsilence node:b9", "node:b9 is not silenced"],
    ["drill bob", "drill me sends a drill to you"],
    ["ok", "no drill waits for you"],
    ["who", "there are no schedules: all people are told"],
  ])("%j: %j", (body, answer) => expect(trouble().says("alice", body)).toBe(answer));

  test("status lists what is open, and of one incident who was told", () => {
    const world = trouble();
    world.pass(40);
    expect(world.says("bob", "status")).toBe(
      "#1 CRIT open, 40 s: backend b3 slow (30% of ops > 5 ms, was 0.2%) for 2 s",
    );
    world.says("bob", "ack 1");
    const lines = world.says("bob", "status 1").split("\n");
    expect(lines.slice(0, 3)).toEqual([
      "#1 CRIT acknowledged by bob",
      "backend b3 slow (30% of ops > 5 ms, was 0.2%) for 2 s",
      "told: alice: sent, bob: acknowledged",
    ]);
    expect(lines.at(-1)).toBe("12:00:40 acknowledged: by bob");
  });

  test("help names every command", () => {
    const help = trouble().says("alice", "HELP");
    for (const verb of ["ack", "unack", "resolve", "silence", "unsilence", "escalate", "note"]) {
      expect(help).toContain(verb);
    }
    expect(help.length).toBeLessThan(1_000);
  });

  test("who says who is on call, until when, and whether they can be reached", () => {
    const rotation = { start: "2026-01-05T09:00", every: "P7D", people: ["alice", "bob"] };
    const schedules = { primary: { timezone: "Europe/Zurich", rotation } };
    const world = new World(manual({ schedules }), START);
    world.linkUp(ALL[1] ?? "");
    world.pass(5);
    expect(world.says("carol", "who")).toBe("primary: bob until 2026-06-08 09:00, reachable");
  });
});

describe("a stranger", () => {
  const message = (from: string) =>
    ({ id: "x", from, body: "ack 1", delayedAtMs: null, isRoom: false }) as const;

  test("gets one polite line an hour, and nothing is obeyed", () => {
    const world = trouble();
    const ask = (from: string) =>
      world.say({ kind: "text", message: message(from) }).filter(({ kind }) => kind === "reply");
    expect(ask("mallory@alert.test/a")).toHaveLength(1);
    expect(ask("mallory@alert.test/b")).toHaveLength(0);
    expect(ask("MALLORY@alert.test/b")).toHaveLength(0);
    expect(ask("alice@evil.test/phone")).toHaveLength(1);
    world.pass(3_601, 60_000);
    expect(ask("mallory@alert.test/a")).toHaveLength(1);
    expect(world.incident().state).not.toBe("acknowledged");
    for (let index = 0; index < 300; index += 1) ask(`m${index}@alert.test`);
    expect(Object.keys(world.state.memory.strangers).length).toBeLessThanOrEqual(100);
  });

  test("in a room is not answered at all, nor is anybody else there", () => {
    const world = trouble();
    const from = "war@rooms.alert.test/alice";
    const told = world.say({ kind: "text", message: { ...message(from), isRoom: true } });
    expect(told).toMatchObject([{ measure: { name: "ignored", reason: "room" } }]);
  });
});

describe("an order of the API", () => {
  const order = (over: Partial<Order>): Order => ({
    verb: "ack",
    target: "0000000001",
    person: "",
    text: "",
    durationMs: null,
    by: "token:ops",
    createdAtMs: START,
    ...over,
  });

  test.each([
    ["ack", {}, { state: "acknowledged" }],
    ["resolve", { text: "fixed" }, { state: "resolved" }],
    ["silence", { durationMs: 60_000 }, { silence: { by: "token:ops" } }],
    ["escalate", {}, { level: 1 }],
    ["note", { text: "hm" }, { state: "open" }],
  ] as const)("%s is obeyed and told", (verb, over, becomes) => {
    const world = trouble();
    world.pass(1);
    world.say({ kind: "order", id: "o1", order: order({ verb, ...over }) });
    expect(world.incident()).toMatchObject(becomes);
    expect(world.sends().length).toBeGreaterThan(0);
  });

  test("that comes twice is obeyed once", () => {
    const world = trouble();
    const note = order({ verb: "note", text: "once" });
    world.say({ kind: "order", id: "o1", order: note });
    world.restart();
    world.say({ kind: "order", id: "o1", order: note });
    expect(world.incident().log.filter(({ event }) => event === "note")).toHaveLength(1);
  });

  test.each([
    order({ target: "0000000099" }),
    order({ verb: "drill", person: "nobody" }),
    order({ verb: "escalate", person: "nobody" }),
    order({ verb: "unsilence", target: "node:b9" }),
    order({ verb: "silence", target: "node:b9", durationMs: 1_000 }),
    order({ verb: "silence", target: "", durationMs: null }),
  ])("for what is not there does no harm: %j", (one) => {
    const world = trouble();
    expect(() => world.say({ kind: "order", id: "o1", order: one })).not.toThrow();
  });
});
