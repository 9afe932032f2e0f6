/** Several monitors: all watch, one speaks; another goes on where it stopped, with or without quorum. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Device } from "../harness/device.ts";
import { Etcd } from "../harness/etcd.ts";
import { missing, temporaryFolder } from "../harness/processes.ts";
import { Prosody } from "../harness/prosody.ts";
import { badNode, type MonitorProcess, sectionFor, Ward } from "./monitors.ts";

const absent = missing("prosody", "etcd");
describe.skipIf(absent !== undefined)(`two monitors (${absent ?? "prosody"})`, () => {
  let prosody: Prosody;
  let etcd: Etcd;
  let ward: Ward;
  let alice: Device;
  let prefixCount = 0;
  beforeAll(async () => {
    [prosody, etcd] = await Promise.all([Prosody.start(), Etcd.start()]);
  });
  afterAll(async () => {
    await Promise.all([prosody.stop(), etcd.stop()]);
  });
  beforeEach(async () => {
    alice = await Device.start(prosody, "alice");
  });
  afterEach(async () => {
    await ward.close();
    await alice.stop();
  });

  const accountOf = { m1: "monitor", m2: "monitor2" } as const;
  /** Each monitor has an account of its own: two of one would throw each other out. */
  const start = (name: keyof typeof accountOf, conditions = [badNode()]): Promise<MonitorProcess> =>
    ward.start({ name, conditions, section: section(name), dataDir: temporaryFolder("monitor") });
  const section = (name: keyof typeof accountOf): object =>
    sectionFor(prosody, {
      people: { alice: { jid: prosody.jid("alice") } },
      policies: { default: { levels: [{ to: ["person:alice"] }] } },
      xmpp: prosody.account(accountOf[name]),
    });
  const from = (name: keyof typeof accountOf) => `${accountOf[name]}@${prosody.domain}`;

  /** That the other monitor is silent is an incident as well. */
  const ofNodes = async () => (await ward.incidents()).filter(({ kind }) => kind === "node");

  describe.each([
    ["SQLite", () => "sqlite"],
    ["etcd", () => etcd.url(`ward-${++prefixCount}`)],
  ])("on %s", (_, url) => {
    test("the other one takes over when the speaker is killed, with the same ids", async () => {
      ward = await Ward.open(section("m1"), url());
      const one = await start("m1");
      await ward.speaker("m1");
      await start("m2");
      await alice.message("#1 CRIT");
      await one.kill();
      await ward.speaker("m2");
      // It makes sure by itself that she knows: unconfirmed or not, the incident goes on.
      const taken = await ward.incident(({ log }) =>
        log.some(({ event }) => event === "taken over"),
      );
      expect(taken.number).toBe(1);
      alice.say(from("m2"), "ack 1");
      await ward.incident(({ state }) => state === "acknowledged");
      expect(await ofNodes()).toHaveLength(1);
    });
  });

  test("a speaker that stood still does not speak any more when it wakes", async () => {
    ward = await Ward.open(section("m1"), etcd.url(`ward-${++prefixCount}`));
    const one = await start("m1", []);
    await ward.speaker("m1");
    const two = await start("m2", []);
    one.freeze();
    await ward.speaker("m2");
    one.sees([badNode()]);
    one.thaw();
    two.sees([badNode()]);
    await alice.message((message) => message.from.startsWith(from("m2")));
    await ward.incident(({ number }) => number === 1);
    expect(await one.metrics()).toMatch(/memward_monitor_speaking{stance="listening"} 1/);
    expect(alice.messages.filter((message) => message.from.startsWith(from("m1")))).toEqual([]);
    expect(await ofNodes()).toHaveLength(1);
    // She answers where she was used to: it is passed on to the one that speaks.
    const { number } = (await ofNodes())[0] ?? {};
    alice.say(from("m1"), `ack ${number}`);
    await alice.message("passed on to monitor m2");
    await ward.incident(({ kind, ack }) => kind === "node" && ack?.by === "alice");
  });

  test("without the state a monitor speaks alone, says so, and tells the state later", async () => {
    ward = await Ward.open(section("m1"), etcd.url(`ward-${++prefixCount}`));
    const monitor = await start("m1", []);
    await ward.speaker("m1");
    etcd.signal("SIGSTOP");
    monitor.sees([badNode()]);
    const page = await alice.message("(no quorum) #1@m1 CRIT", 40_000);
    expect(page.id).toMatch(/^1@m1\.1\.alice/);
    alice.say(page.from, "ack 1@m1");
    await alice.message("#1@m1 is yours");
    etcd.signal("SIGCONT");
    const told = await ward.incident(({ origin }) => origin === "m1");
    expect(told.state).toBe("acknowledged");
    expect(await ofNodes()).toHaveLength(1);
    await ward.speaker("m1");
  }, 90_000);
});
