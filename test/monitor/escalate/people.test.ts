import { describe, expect, test } from "vitest";
import { drillId } from "../../../core/cluster/incidents.ts";
import { messageId, parseMessageId } from "../../../monitor/escalate/messageId.ts";
import { condition, manual, World } from "../incident/world.ts";

const HOUR = 3_600_000;
const at = (text: string) => Date.parse(text);
const ALICE = "alice@alert.test/phone";
const BOB = "bob@alert.test/phone";

/** Alice and bob in turn, from Monday 09:00 on; alice has the week of 2026-06-08. */
const schedules = {
  primary: {
    timezone: "Europe/Zurich",
    rotation: { start: "2026-05-25T09:00", every: "P7D", people: ["alice", "bob"] },
    overrides: [{ from: "2026-06-10T09:00", to: "2026-06-11T09:00", person: "carol" }],
  },
};
const levels = [{ to: ["schedule:primary"] }, { to: ["person:bob"] }];
const onCall = () => manual({ schedules, policies: { default: { levels } } });

/** Alice is on call. */
function week(devices: string[] = [ALICE, BOB]): World {
  const world = new World(onCall(), at("2026-06-09T12:00:00Z"));
  world.linkUp(...devices);
  world.pass(5);
  return world;
}

const pings = (world: World) =>
  world.happened.filter((one) => one.kind === "ping").map(({ jids }) => jids);
const answer = (world: World, jid: string, roundTripMs: number | null) =>
  world.say({ kind: "pinged", jid, roundTripMs });

describe("whether people can be reached", () => {
  test("is asked of the devices of who is on call, once a minute", () => {
    const world = week();
    world.clear();
    world.pass(180);
    expect(pings(world)).toEqual([[ALICE], [ALICE], [ALICE]]);
  });

  test("is yes when a device is there, no without one or after two pings without an answer", () => {
    const world = week();
    const { people } = world.state;
    expect([people["alice"]?.reachability, people["carol"]?.reachability]).toEqual([
      "reachable",
      "unreachable",
    ]);
    answer(world, ALICE, null);
    expect(world.state.people["alice"]?.reachability).toBe("reachable");
    answer(world, ALICE, null);
    expect(world.state.people["alice"]?.reachability).toBe("unreachable");
    answer(world, ALICE, 2.4);
    expect(world.state.people["alice"]).toMatchObject({
      reachability: "reachable",
      onCall: ["primary"],
      devices: [{ jid: ALICE, roundTripMs: 2.4, misses: 0 }],
    });
  });

  test("is unknown while the link is down", () => {
    const world = week();
    world.linkDown();
    world.pass(2);
    expect(world.state.people["alice"]?.reachability).toBe("unknown");
  });

  test("after 5 min of silence is told to the next level and by the other channels", () => {
    const world = week();
    answer(world, ALICE, null);
    answer(world, ALICE, null);
    world.clear();
    world.pass(298);
    expect(world.sends()).toEqual([]);
    world.pass(4);
    expect(world.sends().map(({ person }) => person)).toEqual(["bob"]);
    expect(world.sends("bob")[0]?.message.body).toContain(
      "#1 WARN eu1: alice is on call (primary) and cannot be reached since 14:00:05",
    );
    const fallbacks = world.happened.filter(({ kind }) => kind === "fallback");
    expect(fallbacks).toMatchObject([{ person: "alice", channels: [{ webhook: "hook" }] }]);
    world.pass(600);
    expect(world.sends().filter(({ person }) => person === "alice")).toEqual([]);
    answer(world, ALICE, 2);
    world.pass(160);
    expect(world.incident().state).toBe("resolved");
    expect(world.sends("bob").at(-1)?.message.body).toContain("#1 resolved");
  });

  test("is yes again with a receipt, which is better than a ping", () => {
    const world = week();
    answer(world, ALICE, null);
    answer(world, ALICE, null);
    world.pass(2);
    world.observe(condition());
    world.receives("alice");
    expect(world.state.people["alice"]?.reachability).toBe("reachable");
  });

  test("is not written down for each ping that is as quick as the last", () => {
    const world = week();
    answer(world, ALICE, 2.4);
    world.pass(2);
    const before = world.state.people;
    answer(world, ALICE, 2.5);
    expect(world.state.people).toBe(before);
  });
});

describe("a drill", () => {
  const drillOf = (world: World, person = "alice") =>
    Object.values(world.state.drills).find((drill) => drill.person === person);

  test("measures the time to the receipt and to the answer", () => {
    const world = week();
    const startMs = world.nowMs;
    expect(world.says("alice", "drill me")).toBe("a drill is on its way");
    expect(world.sends("alice").at(-1)?.message).toMatchObject({
      id: `d${startMs}.1.alice`,
      to: "alice@alert.test",
      body: "this is a drill, nothing is wrong. Reply: ok",
      wantsReceipt: true,
    });
    world.pass(1.2);
    world.receives("alice");
    world.pass(13);
    expect(world.says("alice", "ok")).toBe("thank you: receipt after 1.2 s, answer after 14.2 s");
    expect(drillOf(world)).toMatchObject({ state: "passed", purpose: "drill", by: "alice" });
    expect(world.state.people["alice"]?.lastDrill).toEqual({
      atMs: startMs,
      state: "passed",
      receiptMs: 1_200,
      answerMs: 14_200,
    });
  });

  test("is asked for by the API, and answered with ack as well", () => {
    const world = week();
    const order = {
      verb: "drill",
      target: "",
      person: "bob",
      text: "",
      durationMs: null,
      by: "token:ops",
      createdAtMs: world.nowMs,
    } as const;
    world.say({ kind: "order", id: "o1", order });
    world.receives("bob");
    expect(world.says("bob", "ack")).toContain("thank you");
    expect(drillOf(world, "bob")).toMatchObject({ state: "passed", by: "token:ops" });
  });

  test("without a receipt goes to each device after 5 s, and is not passed after 10 min", () => {
    const world = week();
    world.says("alice", "drill me");
    world.pass(6);
    const sent = world.sends("alice").slice(-2);
    expect(sent.map(({ message }) => message.to)).toEqual(["alice@alert.test", ALICE]);
    world.pass(600);
    expect(drillOf(world)?.state).toBe("unreached");
  });

  test("with a receipt and no answer is not passed, and with an answer alone neither", () => {
    const world = week();
    world.says("alice", "drill me");
    world.receives("alice");
    world.pass(601);
    expect(drillOf(world)?.state).toBe("unanswered");
    world.says("bob", "drill me");
    expect(world.says("bob", "ok")).toContain("sent no receipt");
    expect(drillOf(world, "bob")?.state).toBe("unreached");
  });

  test("is one at a time, survives a restart, and leaves a bounded history", () => {
    const world = week();
    world.says("alice", "drill me");
    expect(world.says("alice", "drill me")).toBe("a drill is under way already");
    const { id } = world.sends("alice")[0]?.message ?? { id: "" };
    world.restart();
    world.linkUp(ALICE, BOB);
    expect(world.sends("alice").at(-1)?.message.id).toBe(id);
    world.receives("alice");
    for (let round = 0; round < 60; round += 1) {
      world.says("alice", "ok");
      world.pass(1);
      world.says("alice", "drill me");
      world.receives("alice");
    }
    const own = Object.keys(world.state.drills).filter((key) => key.startsWith("alice/"));
    expect(own).toHaveLength(30);
    expect(own).toEqual([...own].sort());
  });

  test("waits for the link", () => {
    const world = week();
    world.linkDown();
    world.clear();
    world.says("alice", "drill me");
    expect(world.sends()).toEqual([]);
    world.pass(20);
    world.linkUp(ALICE);
    expect(world.sends("alice")).toHaveLength(1);
  });
});

describe("a handover", () => {
  const HANDOVER = at("2026-06-15T07:00:00Z"); // Monday, nine o'clock in Zurich.

  function hourBefore(): World {
    const world = new World(onCall(), HANDOVER - HOUR);
    world.linkUp(ALICE, BOB);
    world.pass(3_599);
    world.clear();
    return world;
  }

  test("is told to both sides to the second, with what is open", () => {
    const world = hourBefore();
    world.observe(condition({ severity: "warn", summary: "disk of b3 is nearly full" }));
    world.clear();
    world.pass(2);
    expect(world.sends().map(({ person, atMs }) => [person, atMs])).toEqual([
      ["bob", HANDOVER],
      ["alice", HANDOVER],
    ]);
    expect(world.sends("bob")[0]?.message.body).toBe(
      "you are on call for primary until 2026-06-22 09:00, after alice\n" +
        "#1 warn: disk of b3 is nearly full",
    );
    expect(world.sends("alice")[0]?.message.body).toContain("bob has taken over primary from you");
    expect(world.sends("bob")[0]?.message.wantsReceipt).toBe(true);
  });

  test("that nobody got is told to the next level, as if the person could not be reached", () => {
    const world = hourBefore();
    world.pass(2);
    world.pass(310);
    const incident = world.incident();
    expect(incident).toMatchObject({ kind: "unreachable", subject: "bob", severity: "warn" });
  });

  test("with a receipt is over", () => {
    const world = hourBefore();
    world.pass(2);
    world.receives("bob");
    world.receives("alice");
    world.pass(400);
    expect(Object.values(world.state.drills).map(({ state }) => state)).toEqual([
      "passed",
      "passed",
    ]);
    expect(world.state.incidents).toEqual({});
  });

  test("that came while nobody spoke is told by whoever speaks next", () => {
    const world = hourBefore();
    world.nowMs = HANDOVER + 30_000;
    world.restart();
    world.linkUp(ALICE, BOB);
    world.pass(1);
    expect(world.sends().map(({ person }) => person)).toEqual(["bob", "alice"]);
  });

  test("into an override and back", () => {
    const world = new World(onCall(), at("2026-06-10T06:59:00Z"));
    world.linkUp(ALICE, BOB);
    world.pass(120);
    expect(world.sends("carol")[0]?.message.body).toContain("until 2026-06-11 09:00, after alice");
    world.nowMs = at("2026-06-11T06:59:59Z");
    world.restart();
    world.linkUp(ALICE, BOB);
    world.pass(2);
    expect(world.sends("alice").at(-1)?.message.body).toContain("after carol");
  });

  test("that changes who is told of an incident that is open already", () => {
    const world = hourBefore();
    world.observe(condition());
    world.receives("alice");
    world.says("alice", "ack");
    world.clear();
    world.pass(901);
    // The acknowledgement expired: by now it is bob's.
    const pages = world.sends().filter(({ message }) => message.payload?.["purpose"] === "page");
    expect(pages[0]?.person).toBe("bob");
  });

  test("is not told at the first start of all", () => {
    expect(week().sends()).toEqual([]);
  });
});

test("ids of messages lead back to what they are about", () => {
  for (const id of [
    { subject: "17", seq: 3, person: "alice", sending: 1 },
    { subject: "17@m2", seq: 1, person: "bob-2", sending: 12 },
    { subject: "d1780315200000", seq: 1, person: "room", sending: 2 },
  ]) {
    expect(parseMessageId(messageId(id))).toEqual(id);
  }
  for (const text of [
    "",
    "17.alice",
    "17.3.alice.r",
    "x.1.a",
    "17.3.Alice",
    "17.3.a/b",
    "1.1.a.r2.r3",
  ]) {
    expect(parseMessageId(text)).toBeUndefined();
  }
  expect(drillId({ person: "alice", createdAtMs: 1_780_315_200_000 })).toBe("alice/1780315200000");
});
