/** Slow is noticed and a person is told: a whole instance, a real memcached that stops, a real phone. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Device } from "../harness/device.ts";
import { runMemward } from "../harness/memward.ts";
import { missing } from "../harness/processes.ts";
import { Prosody } from "../harness/prosody.ts";
import { PagingInstance } from "../monitor/onset.ts";

const absent = missing("prosody", "memcached");
describe.skipIf(absent !== undefined)(`an instance that pages (${absent ?? "prosody"})`, () => {
  let prosody: Prosody;
  let instance: PagingInstance;
  let alice: Device;
  beforeAll(async () => {
    prosody = await Prosody.start();
    alice = await Device.start(prosody, "alice");
    instance = await PagingInstance.start(prosody);
  });
  afterAll(async () => {
    await instance.stop();
    await alice.stop();
    await prosody.stop();
  });
  const memward = (...args: string[]) =>
    runMemward([...args, "--data-dir", instance.memward.dataDir]);

  test("a node that stands still is on the phone of who is on call, and taken from a shell", async () => {
    const { node, heal } = await instance.stall(0);
    const page = await alice.message(
      (message) => /CRIT/.test(message.body) && message.body.includes(node),
      30_000,
    );
    expect(page.body).toMatch(/^#\d+ CRIT eu1: /);
    const id = /^#(\d+)/.exec(page.body)?.[1] ?? "";
    const list = await memward("incident", "list");
    expect(list.stdout).toMatch(new RegExp(`^${id} +crit +open`, "m"));
    const ack = await memward("incident", "ack", id);
    expect([ack.code, ack.stdout]).toEqual([0, "ack: done by monitor-1\n"]);
    const shown = await memward("incident", "show", id);
    expect(shown.stdout).toMatch(/^state +acknowledged/m);
    expect(shown.stdout).toContain(alice.jid);
    const status = await memward("status", "--control", instance.memward.control);
    expect(status.stdout).toMatch(/^monitor +monitor-1 +yes .*speaks to people/m);
    expect(status.stdout).toMatch(new RegExp(`^${id} +crit +acknowledged`, "m"));
    heal();
    const metrics = await instance.memward.metrics();
    expect(metrics).toMatch(/memward_monitor_incidents_open\{severity="crit",state="acknowledged"/);
    expect(metrics).toMatch(/memward_monitors\{state="alive",process="proxy-1"\} 1/);
  });

  test("a drill measures the way to a person and back", async () => {
    const answering = alice
      .message((message) => /drill/i.test(message.body), 20_000)
      .then((message) => alice.say(message.from, "ok"));
    const drill = await memward("alert", "test", "alice");
    await answering;
    expect(drill.stdout).toMatch(/^drill +passed$/m);
    expect(drill.code).toBe(0);
    const people = await memward("people");
    expect(people.stdout).toMatch(/^alice .*passed/m);
    expect((await memward("alert", "test", "nobody")).code).toBe(4);
  });
});
