import { describe, expect, test } from "vitest";
import type { PolicySnapshot } from "../../../core/cluster/incidents.ts";
import { condition, manual, START, World } from "../incident/world.ts";

const ALICE = "alice@alert.test/phone";
const BOB = "bob@alert.test/phone";
const ALL = [ALICE, BOB, "carol@alert.test/phone"];

/** A pager whose link has been up for long, so that presence is known. */
function quiet(devices: string[] = ALL, paging = manual()): World {
  const world = new World(paging, START - 60_000);
  world.linkUp(...devices);
  world.pass(60);
  world.clear();
  return world;
}

/** An incident opens at START. */
function trouble(devices: string[] = ALL, paging = manual()): World {
  const world = quiet(devices, paging);
  world.observe(condition());
  return world;
}

describe("nobody answers", () => {
  test("and no device either: resent after 5 s, bob at 30 s, everybody and the room at 300 s", () => {
    const world = trouble();
    world.pass(299.9);
    expect(world.pages()).toEqual(["alice@0", "alice@5", "bob@30", "bob@35"]);
    world.clear();
    world.pass(0.2);
    expect(world.pages()).toEqual(["alice@300", "bob@300", "carol@300", "room@300"]);
    world.clear();
    world.pass(250);
    const resends = ["alice@305", "bob@305", "carol@305"];
    const first = ["alice@420", "bob@420", "carol@420", "room@420"];
    const second = ["alice@425", "bob@425", "carol@425"];
    const third = ["alice@540", "bob@540", "carol@540", "room@540"];
    const last = ["alice@545", "bob@545", "carol@545"];
    expect(world.pages()).toEqual([...resends, ...first, ...second, ...third, ...last]);
    expect(world.sends("alice").at(-1)?.message.body).toContain(
      "nobody has acknowledged it for 9 min",
    );
  });

  test("the first message goes to the person, the next to each device, which are pinged as well", () => {
    const world = trouble(["alice@alert.test/phone", "alice@alert.test/laptop", BOB]);
    world.pass(6);
    expect(world.sends("alice").map(({ message }) => [message.to, message.id])).toEqual([
      ["alice@alert.test", "1.1.alice"],
      ["alice@alert.test/phone", "1.1.alice.r2"],
      ["alice@alert.test/laptop", "1.1.alice.r3"],
    ]);
    const ids = world.sends("alice").map(({ message }) => message.payload?.["id"]);
    expect(ids).toEqual(["1.1.alice", "1.1.alice", "1.1.alice"]);
    expect(world.happened.find(({ kind }) => kind === "ping")).toMatchObject({
      jids: ["alice@alert.test/phone", "alice@alert.test/laptop"],
      timeoutMs: 2_000,
    });
  });

  test("a receipt, but no answer: the next person at 120 s after it", () => {
    const world = trouble();
    world.pass(3);
    world.receives("alice");
    world.pass(119.9);
    expect(world.pages()).toEqual(["alice@0"]);
    world.pass(0.2);
    expect(world.pages()).toEqual(["alice@0", "bob@123"]);
    expect(world.sends("bob")[0]?.message.body).toContain(
      "you are level 2 (bob); alice did not answer",
    );
  });

  test("the receipt of a resend counts for the person, and of two only the first", () => {
    const world = trouble();
    world.pass(6);
    world.receives("alice");
    world.pass(10);
    world.receives("alice", "laptop");
    world.pass(109.9);
    expect(world.pages().filter((page) => page.startsWith("bob"))).toEqual([]);
    world.pass(0.2);
    expect(world.pages().at(-1)).toBe("bob@126");
  });

  test("no device is there: the next person at 10 s; the message is out all the same", () => {
    const world = trouble([BOB]);
    world.pass(11);
    expect(world.pages()).toEqual(["alice@0", "bob@10"]);
  });

  test("only a device that does not want messages is there: the same", () => {
    const world = quiet([BOB]);
    world.say({ kind: "presence", from: ALICE, priority: -1, show: "" });
    world.observe(condition());
    world.pass(11);
    expect(world.pages()).toEqual(["alice@0", "alice@5", "bob@10"]);
  });

  test("at the moment when the link came up nobody's presence is known: 30 s", () => {
    const world = new World();
    world.linkUp();
    world.observe(condition());
    world.pass(29.9);
    expect(world.pages()).toEqual(["alice@0"]);
    world.pass(0.2);
    expect(world.pages()).toEqual(["alice@0", "bob@30"]);
  });
});

describe("an acknowledgement", () => {
  test("ends the paging, tells the others, and expires after 15 min: then it begins anew", () => {
    const world = trouble();
    world.pass(40);
    const ackedMs = world.nowMs;
    expect(world.says("bob", "ack 1")).toMatch(/^#1 is yours until \d\d:\d\d:\d\d/);
    expect(world.sends("alice").at(-1)?.message.body).toContain("#1: bob acknowledged it");
    world.clear();
    world.pass(899.9);
    expect(world.pages()).toEqual([]);
    world.pass(0.2);
    expect(world.pages(ackedMs)).toEqual(["alice@900"]);
    expect(world.incident().state).toBe("open");
  });

  test("is renewed by any command about the incident", () => {
    const world = trouble();
    world.says("alice", "ack 1");
    world.clear();
    world.pass(600);
    world.says("bob", "note 1 looking at the disks");
    world.pass(899);
    expect(world.pages()).toEqual([]);
    expect(world.incident().state).toBe("acknowledged");
    world.pass(2);
    expect(world.pages()).toHaveLength(1);
  });

  test("before the message was sent cancels it", () => {
    const world = new World();
    world.observe(condition());
    world.says("alice", "ack 1");
    world.linkUp(...ALL);
    world.pass(60);
    expect(world.pages()).toEqual([]);
    expect(world.incident().notifications[0]?.state).toBe("cancelled");
  });

  test("given back: whoever is on call is told at once", () => {
    const world = trouble();
    world.pass(40);
    world.says("bob", "ack 1");
    world.clear();
    world.pass(10);
    world.says("bob", "unack 1");
    expect(world.pages()).toEqual(["alice@50"]);
  });

  test("without a receipt is an acknowledgement, and what comes late changes nothing", () => {
    const world = trouble();
    world.pass(2);
    world.says("alice", "ack");
    const [page] = world.incident().notifications;
    expect(page?.state).toBe("acknowledged");
    world.say({ kind: "delivered", messageId: "1.1.alice", from: ALICE });
    world.say({
      kind: "bounced",
      messageId: "1.1.alice",
      from: "alert.test",
      condition: "recipient-unavailable",
    });
    world.pass(60);
    expect(world.incident().notifications[0]).toMatchObject({
      state: "acknowledged",
      deliveredAtMs: START + 2_000,
    });
    expect(world.pages()).toEqual(["alice@0"]);
  });
});

describe("a message comes back", () => {
  const bounce = (world: World, messageId: string, from: string) =>
    world.say({ kind: "bounced", messageId, from, condition: "recipient-unavailable" });

  test("from the server: to the devices now; a second time: the next person now", () => {
    const world = trouble();
    world.pass(1);
    bounce(world, "1.1.alice", "alice@alert.test");
    expect(world.pages()).toEqual(["alice@0", "alice@1"]);
    world.pass(1);
    bounce(world, "1.1.alice.r2", ALICE);
    expect(world.pages()).toEqual(["alice@0", "alice@1", "bob@2"]);
  });

  test("and no device is there: the next person now", () => {
    const world = trouble([BOB]);
    world.pass(1);
    bounce(world, "1.1.alice", "alice@alert.test");
    expect(world.pages()).toEqual(["alice@0", "bob@1"]);
  });

  test("after a receipt: another device has it, nothing follows", () => {
    const world = trouble();
    world.pass(1);
    world.receives("alice");
    bounce(world, "1.1.alice", "alice@alert.test");
    world.pass(60);
    expect(world.pages()).toEqual(["alice@0"]);
  });

  test("a receipt from somebody else's device is a line in the log, nothing more", () => {
    const world = trouble();
    world.say({ kind: "delivered", messageId: "1.1.alice", from: BOB });
    world.say({ kind: "delivered", messageId: "1.1.alice", from: "mallory@evil.test/x" });
    world.pass(31);
    expect(world.pages()).toEqual(["alice@0", "alice@5", "bob@30"]);
    expect(world.incident().log.filter(({ event }) => event === "ignored")).toHaveLength(2);
  });
});

describe("the link", () => {
  test("breaks off after the message: the same again under the same id, and the clock stands", () => {
    const world = trouble();
    world.pass(2);
    world.linkDown();
    world.say({ kind: "unsure", messageId: "1.1.alice" });
    world.pass(6);
    world.linkUp(...ALL);
    expect(world.sends("alice").at(-1)).toMatchObject({
      atMs: START + 8_000,
      message: { id: "1.1.alice.r2", to: "alice@alert.test", payload: { id: "1.1.alice" } },
    });
    world.pass(27.9);
    expect(world.pages().filter((page) => page.startsWith("bob"))).toEqual([]);
    world.pass(0.2);
    expect(world.pages()).toContain("bob@36"); // 30 s, and the 6 s without a link.
  });

  test("takes nothing though it is up: tried once at once, then each second, and not for ever", () => {
    const world = trouble();
    const refuse = () => {
      for (const { message } of world.sends().slice(-1)) {
        world.say({ kind: "unsure", messageId: message.id });
      }
    };
    for (let second = 0; second < 25; second += 1) {
      refuse();
      refuse();
      world.pass(1);
    }
    const count = world.sends("alice").length;
    expect(count).toBeGreaterThan(20);
    expect(count).toBeLessThan(32);
  });

  test("is down for 10 s with something queued: by the other channels at once", () => {
    const world = quiet();
    world.linkDown();
    world.pass(3);
    world.observe(condition());
    world.pass(6.9);
    expect(world.happened.filter(({ kind }) => kind === "fallback")).toEqual([]);
    world.pass(0.2);
    const [fallback] = world.happened.filter(({ kind }) => kind === "fallback");
    expect(fallback).toMatchObject({
      atMs: START + 10_000,
      person: "alice",
      channels: [{ webhook: "hook" }],
      messageId: "1.1.alice",
      payload: { id: "1.1.alice", severity: "crit" },
    });
    world.say({ kind: "fellBack", messageId: "1.1.alice", isTaken: true, detail: "hook: 200" });
    expect(world.incident().notifications[0]?.fallbackTakenAtMs).toBe(world.nowMs);
  });

  test("is down for good: escalation goes on, as what fell back may not have arrived", () => {
    const paging = manual({
      people: {
        alice: { jid: "alice@alert.test", fallback: [{ webhook: "hook" }] },
        bob: { jid: "bob@alert.test", fallback: [{ xmpp: "bob@other.test" }] },
        carol: { jid: "carol@alert.test" },
      },
    });
    const world = quiet(ALL, paging);
    world.linkDown();
    world.observe(condition());
    world.pass(700);
    const fallbacks = world.happened
      .filter((one) => one.kind === "fallback")
      .map(({ person, atMs }) => `${person}@${(atMs - START) / 1_000}`);
    expect(fallbacks.slice(0, 6)).toEqual([
      "alice@10", // The link was down for 10 s.
      "bob@130", // alice did not answer for 120 s.
      "alice@300", // Everybody.
      "bob@300",
      "alice@420",
      "bob@420",
    ]);
    expect(world.pages()).toEqual([]);
  });

  test("comes back: who fell back is told over it as well, unless it was acknowledged", () => {
    const world = quiet();
    world.linkDown();
    world.observe(condition());
    world.pass(20);
    world.linkUp(...ALL);
    expect(world.pages()).toEqual(["alice@20"]);
    world.says("alice", "ack");
    world.linkDown();
    world.pass(20);
    world.linkUp(...ALL);
    expect(world.pages()).toEqual(["alice@20"]);
  });
});

describe("a restart", () => {
  test("sends again what nobody confirmed, and goes on from the same deadlines", () => {
    const world = trouble();
    world.pass(20);
    world.restart();
    world.linkUp(...ALL);
    expect(world.sends("alice").at(-1)?.message).toMatchObject({
      id: "1.1.alice.r3",
      to: "alice@alert.test",
      payload: { id: "1.1.alice" },
    });
    world.pass(9.9);
    expect(world.pages().filter((page) => page.startsWith("bob"))).toEqual([]);
    world.pass(0.2);
    expect(world.pages()).toContain("bob@30");
  });

  test("long after all deadlines: one level at a time, not all in a burst", () => {
    const world = trouble();
    world.pass(1);
    world.nowMs += 3_600_000;
    world.restart();
    world.clear();
    const backMs = world.nowMs;
    world.linkUp(...ALL);
    world.pass(61);
    expect(world.pages(backMs)).toEqual([
      "alice@0", // Nobody confirmed it.
      "bob@0", // Was due an hour ago.
      "alice@5",
      "bob@5",
      "alice@30", // As was everybody.
      "bob@30",
      "carol@30",
      "room@30",
      "alice@35",
      "bob@35",
      "carol@35",
    ]);
  });

  test("does not repeat what has a receipt, nor page after an acknowledgement", () => {
    const world = trouble();
    world.pass(1);
    world.receives("alice");
    world.restart();
    world.linkUp(...ALL);
    expect(world.pages()).toEqual(["alice@0"]);
    world.says("alice", "ack");
    world.restart();
    world.linkUp(...ALL);
    world.pass(300);
    expect(world.pages()).toEqual(["alice@0"]);
  });

  test("gives a command that comes again the same answer, once obeyed", () => {
    const world = trouble();
    const answer = world.says("alice", "resolve 1 it was me", { id: "s1" });
    expect(world.says("alice", "resolve 1 it was me", { id: "s1" })).toBe(answer);
    world.restart();
    world.linkUp(...ALL);
    expect(world.says("alice", "resolve 1 it was me", { id: "s1" })).toBe(answer);
    expect(world.incident().log.filter(({ event }) => event === "resolved")).toHaveLength(1);
  });
});

describe("levels", () => {
  const levels = (...all: unknown[]) => manual({ policies: { default: { levels: all } } });

  test("with nobody there fall to the next at once", () => {
    const paging = levels({ to: ["person:bob"] });
    const policy = paging.policies["default"] as PolicySnapshot;
    const gap = { to: ["schedule:empty"], room: null, afterMs: null };
    const world = trouble(ALL, {
      ...paging,
      schedules: { empty: { timezone: "UTC", rotation: null, overrides: [] } },
      policies: { default: { ...policy, levels: [gap, ...policy.levels] } },
    });
    expect(world.pages()).toEqual(["bob@0"]);
  });

  test("that name only who knows already are passed over", () => {
    const world = trouble(
      ALL,
      levels({ to: ["person:alice"] }, { to: ["person:alice"] }, { to: ["person:bob"] }),
    );
    world.pass(31);
    expect(world.pages()).toEqual(["alice@0", "alice@5", "bob@30"]);
  });

  test("end, and then it is repeated every 120 s to all that were told", () => {
    const world = trouble(ALL, levels({ to: ["person:alice"] }, { to: ["person:bob"] }));
    world.pass(275);
    const firsts = world.pages().filter((page) => !page.endsWith("5"));
    expect(firsts).toEqual(["alice@0", "bob@30", "alice@150", "bob@150", "alice@270", "bob@270"]);
  });

  test("of several people: one receipt is enough to wait for an answer", () => {
    const world = trouble(
      ALL,
      levels({ to: ["person:alice", "person:carol"] }, { to: ["person:bob"] }),
    );
    world.pass(6);
    world.receives("carol");
    world.pass(119);
    expect(world.pages().filter((page) => page.startsWith("bob"))).toEqual([]);
    world.pass(2);
    expect(world.pages()).toContain("bob@126");
  });

  test("are asked for by hand: the next at once, or one person by name", () => {
    const world = trouble();
    world.pass(1);
    expect(world.says("alice", "escalate 1")).toBe("#1: bob will be told");
    expect(world.pages()).toEqual(["alice@0", "bob@1"]);
    expect(world.says("alice", "escalate 1 carol")).toBe("#1: carol will be told");
    expect(world.pages()).toEqual(["alice@0", "bob@1", "carol@1"]);
    expect(world.says("bob", "escalate 1")).toBe("#1: alice, bob, carol will be told");
  });

  test("are asked for by whoever has it: it is open again, the next person is told", () => {
    const world = trouble();
    world.says("alice", "ack");
    world.pass(60);
    world.says("alice", "escalate 1");
    expect(world.pages()).toEqual(["alice@0", "bob@60"]);
    world.pass(30.1);
    expect(world.pages().slice(2)).toEqual(["bob@65"]);
  });
});

test("a warning is told once, and when it is over", () => {
  const world = quiet();
  world.observe(condition({ severity: "warn" }));
  world.pass(600);
  expect(world.pages()).toEqual(["alice@0", "alice@5"]);
  world.clear();
  world.observe();
  world.pass(151);
  expect(world.sends().map(({ person, atMs }) => [person, atMs - START])).toEqual([
    ["alice", 750_000],
  ]);
});

test("a page has all that is needed, the first line by itself", () => {
  const world = trouble();
  expect(world.sends("alice")[0]?.message.body).toBe(
    "#1 CRIT eu1: backend b3 slow (30% of ops > 5 ms, was 0.2%) for 2 s\n" +
      "seen by 3/3 proxies\n" +
      "you are level 1 (alice). Reply: ack 1 | escalate 1 | silence 1 1h | status",
  );
  expect(world.sends("alice")[0]?.message).toMatchObject({
    wantsReceipt: true,
    isRoom: false,
    payload: { incident: "1", seq: "1", severity: "crit", state: "open" },
  });
});

test("with nobody configured incidents open and are over, and nobody is told", () => {
  const world = quiet([], manual({ people: {}, policies: {} }));
  world.observe(condition());
  world.pass(600);
  world.observe();
  world.pass(200);
  expect(world.incident().state).toBe("resolved");
  expect(world.sends()).toEqual([]);
});
