/** From a condition to a person's device and back, over a real XMPP server and a real state. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Device } from "../harness/device.ts";
import { missing } from "../harness/processes.ts";
import { Prosody } from "../harness/prosody.ts";
import { badNode, sectionFor, Ward } from "./monitors.ts";

const absent = missing("prosody");
describe.skipIf(absent !== undefined)(`paging (${absent ?? "prosody"})`, () => {
  let prosody: Prosody;
  let ward: Ward;
  const devices: Device[] = [];
  beforeAll(async () => {
    prosody = await Prosody.start();
  });
  afterAll(() => prosody.stop());
  beforeEach(async () => {
    ward = await Ward.open(sectionFor(prosody));
  });
  afterEach(async () => {
    await ward.close();
    await Promise.all(devices.splice(0).map((device) => device.stop()));
  });
  const device = async (person: string, options = {}): Promise<Device> => {
    const one = await Device.start(prosody, person, options);
    devices.push(one);
    return one;
  };

  test("a page arrives, its receipt is known, the answer is obeyed and answered", async () => {
    const alice = await device("alice");
    const monitor = await ward.start();
    await ward.speaker("m1");
    monitor.sees([badNode()]);
    const page = await alice.message("#1 CRIT eu1: node-1 slow");
    expect(page.body).toContain("Reply: ack 1");
    expect(page.id).toBe("1.1.alice");
    const delivered = await ward.incident((one) => one.notifications[0]?.deliveredAtMs !== null);
    expect(delivered.notifications[0]?.devices.map(({ jid }) => jid)).toContain(alice.jid);
    alice.say(page.from, "ack 1");
    await alice.message("#1 is yours");
    const acked = await ward.incident(({ state }) => state === "acknowledged");
    expect(acked.ack?.by).toBe("alice");
    const text = await monitor.metrics();
    expect(text).toMatch(/memward_monitor_xmpp_up 1/);
    expect(text).toMatch(/memward_monitor_notify_seconds_count{stage="delivered"} 1/);
    expect(text).toMatch(/memward_monitor_speaking{stance="speaking"} 1/);
    monitor.sees([]);
    expect(await monitor.end()).toBe(0);
  });

  test("a frozen phone gives no receipt: the next person is told, and takes it", async () => {
    const levels = [{ to: ["person:alice"] }, { to: ["person:bob"] }];
    const policies = { default: { resend_after: "300ms", receipt_timeout: "1500ms", levels } };
    await ward.close();
    ward = await Ward.open(sectionFor(prosody, { policies }));
    const alice = await device("alice");
    const bob = await device("bob");
    const monitor = await ward.start();
    await ward.speaker("m1");
    alice.freeze();
    monitor.sees([badNode()]);
    const page = await bob.message("#1 CRIT");
    expect(page.body).toContain("you are level 2 (bob)");
    const told = await ward.incident(({ log }) => log.some(({ event }) => event === "delivered"));
    const [first, second] = told.notifications;
    expect(first?.deliveredAtMs).toBeNull();
    expect(first?.devices.length).toBeGreaterThan(1); // The bare address, then the device itself.
    expect((second?.queuedAtMs ?? 0) - (first?.queuedAtMs ?? 0)).toBeGreaterThanOrEqual(1_500);
    bob.say(page.from, "ack");
    await bob.message("#1 is yours");
    alice.thaw();
    await alice.message("#1"); // Late, and perhaps twice: with an id that says what it is.
    expect(await ward.incidents()).toHaveLength(1);
  });

  test("strangers, echoes and orders from before an incident change nothing", async () => {
    await ward.close();
    const { alice: person } = { alice: { jid: prosody.jid("alice") } };
    ward = await Ward.open(
      sectionFor(prosody, {
        people: { alice: person },
        policies: { default: { levels: [{ to: ["person:alice"] }] } },
      }),
    );
    const alice = await device("alice");
    const carol = await device("carol");
    const monitor = await ward.start();
    await ward.speaker("m1");
    monitor.sees([badNode()]);
    const page = await alice.message("#1 CRIT");
    carol.say(page.from, "ack 1");
    await carol.message(() => true); // One polite line.
    alice.raw(
      `<message type="error" to="${page.from}" id="${page.id}"><body>ack 1</body></message>`,
    );
    const stamp = "2001-01-01T00:00:00Z";
    alice.raw(
      `<message type="chat" to="${page.from}" id="old"><body>ack 1</body>` +
        `<delay xmlns="urn:xmpp:delay" stamp="${stamp}"/></message>`,
    );
    alice.say(page.from, "status 1", "asked");
    await alice.message((message) => message.id !== page.id && /#1/.test(message.body));
    expect((await ward.incidents()).map(({ state }) => state)).toEqual(["open"]);
  });

  test("an order of the API is obeyed and deleted in one step", async () => {
    const alice = await device("alice");
    const monitor = await ward.start();
    await ward.speaker("m1");
    monitor.sees([badNode()]);
    await alice.message("#1 CRIT");
    const value = {
      verb: "ack" as const,
      target: "0000000001",
      by: "token:tester",
      createdAtMs: Date.now(),
    };
    await ward.state.commit([{ kind: "order", id: "o1", value }]);
    const acked = await ward.incident(({ state }) => state === "acknowledged");
    expect(acked.ack?.by).toContain("tester");
    expect((await ward.state.list("order")).entries).toEqual([]);
  });
});
