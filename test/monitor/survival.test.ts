/**
 * Nothing is lost and nothing is told twice as something new: the monitor is killed around each of
 * its writes, the XMPP server at each step, and both together. What comes twice carries the same id.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Device } from "../harness/device.ts";
import { missing } from "../harness/processes.ts";
import { Prosody } from "../harness/prosody.ts";
import { badNode, type MonitorProcess, sectionFor, Ward } from "./monitors.ts";

const absent = missing("prosody");
/** The writes of an incident: it was opened and is being told, accepted, delivered, taken. */
const STEPS_OF_MONITOR = [
  { write: 1, when: "before" },
  { write: 1, when: "after" },
  { write: 2, when: "before" },
  { write: 2, when: "after" },
  { write: 3, when: "after" },
] as const;

describe.skipIf(absent !== undefined)(`after a crash (${absent ?? "prosody"})`, () => {
  let prosody: Prosody;
  let ward: Ward;
  let alice: Device;
  beforeAll(async () => {
    prosody = await Prosody.start();
  });
  afterAll(() => prosody.stop());
  beforeEach(async () => {
    ward = await Ward.open(sectionFor(prosody, ONLY_ALICE(prosody)));
    alice = await Device.start(prosody, "alice");
  });
  afterEach(async () => {
    await ward.close();
    await alice.stop();
  });

  /** The page is there, under one id, and can be answered. */
  async function canBeAnswered(): Promise<void> {
    const page = await alice.message("#1 CRIT");
    // Her phone may be logging in again: people try until they are answered.
    const saying = setInterval(() => alice.isUp && alice.say(page.from, "ack 1"), 300);
    await ward
      .incident(({ state }) => state === "acknowledged")
      .finally(() => {
        clearInterval(saying);
      });
    const pages = alice.messages.filter(({ body }) => body.includes("CRIT"));
    for (const { id } of pages) expect(id).toMatch(/^1\.1\.alice(\.r\d+)?$/);
    expect(await ward.incidents()).toHaveLength(1);
    const again = await ward.incident(({ notifications }) => notifications.length > 0);
    expect(again.notifications.filter(({ purpose }) => purpose === "page")).toHaveLength(1);
  }

  test.each(STEPS_OF_MONITOR)("the monitor is killed $when write $write", async (killAt) => {
    const first = await ward.start({ killAt, conditions: [badNode()] });
    // Where it does not come to so many writes by itself, an answer makes the last one.
    const answering = alice.message("#1 CRIT").then(
      ({ from }) => alice.say(from, "ack 1"),
      () => {},
    );
    await Promise.race([first.died(), answering.then(() => first.died())]);
    await ward.start({ conditions: [badNode()] });
    await canBeAnswered();
  });

  const killed = async (): Promise<void> => {
    await prosody.kill();
    await prosody.startAgain();
  };
  const STEPS: readonly [string, (monitor: MonitorProcess) => Promise<void>][] = [
    ["before there is anything to say", async () => killed()],
    [
      "when a page is on its way",
      async (monitor) => {
        monitor.sees([badNode()]);
        await ward.incident(({ notifications }) => notifications[0]?.sentAtMs !== null);
        await killed();
      },
    ],
    [
      "when it was delivered",
      async (monitor) => {
        monitor.sees([badNode()]);
        await ward.incident(({ notifications }) => notifications[0]?.deliveredAtMs !== null);
        await killed();
      },
    ],
  ];

  test.each(STEPS)("the server is killed and started again %s", async (_, kill) => {
    const monitor = await ward.start();
    await ward.speaker("m1");
    await kill(monitor);
    monitor.sees([badNode()]);
    await canBeAnswered();
  });

  test.each(STEPS.slice(1))("monitor and server are both killed %s", async (_, kill) => {
    const monitor = await ward.start();
    await ward.speaker("m1");
    await Promise.all([kill(monitor)]);
    await monitor.kill();
    await killed();
    await ward.start({ conditions: [badNode()] });
    await canBeAnswered();
  });
});

function ONLY_ALICE(prosody: Prosody): Record<string, unknown> {
  return {
    people: { alice: { jid: prosody.jid("alice") } },
    policies: { default: { levels: [{ to: ["person:alice"] }] } },
  };
}
