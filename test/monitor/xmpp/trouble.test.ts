/** Links that are cut or swallowed, servers that stop, die, freeze, refuse, and come back. */
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { XmppClient, type XmppClientOptions } from "../../../monitor/xmpp/client.ts";
import { makeCertificates } from "../../harness/certificates.ts";
import { Device } from "../../harness/device.ts";
import { Gate } from "../../harness/gate.ts";
import { missing, temporaryFolder } from "../../harness/processes.ts";
import { Prosody } from "../../harness/prosody.ts";
import { Observed } from "./observed.ts";

const absent = missing("prosody", "openssl");
/** As short as a busy machine allows. */
const IMPATIENT = { stepMsMax: 2_000, silenceMsMax: 700, askIntervalMs: 300 };

describe.skipIf(absent !== undefined)(`trouble ${absent ?? ""}`, () => {
  let prosody: Prosody;
  let gate: Gate;
  const links: XmppClient[] = [];
  const devices: Device[] = [];

  beforeAll(async () => {
    prosody = await Prosody.start({ hibernationS: 60 });
    gate = await Gate.open(`127.0.0.1:${prosody.port}`);
  });
  afterEach(async () => {
    await Promise.all(links.splice(0).map((link) => link.close()));
    await Promise.all(devices.splice(0).map((device) => device.kill()));
  });
  afterAll(async () => {
    await gate?.shut();
    await prosody?.stop();
  });

  function open(options: Partial<XmppClientOptions> = {}): { link: XmppClient; told: Observed } {
    const link = new XmppClient({ ...prosody.account("monitor"), ...options });
    links.push(link);
    const told = new Observed();
    link.start(told);
    return { link, told };
  }
  const throughGate = () => ({ port: Number(gate.address.split(":")[1]) });
  let deviceCount = 0;
  /** Of a name of its own: the server still believes in those that earlier tests killed. */
  async function device(person: string): Promise<Device> {
    deviceCount += 1;
    const resource = `phone-${deviceCount}`;
    const started = await Device.start(prosody, person, { resource });
    devices.push(started);
    return started;
  }
  const page = (link: XmppClient, person: string, id: string) => {
    const to = prosody.jid(person);
    return link.send({ id, to, body: `page ${id}`, wantsReceipt: true, isRoom: false });
  };

  test("a link that was cut is resumed: what was on its way arrives once, and nobody left", async () => {
    const { link, told } = open({ ...throughGate(), timings: { askDelayMs: 60_000 } });
    await told.until(/^up/);
    const alice = await device("alice");
    await told.until(new RegExp(`^presence ${alice.jid} 0`));
    await page(link, "alice", "1.1.alice"); // Not acknowledged: nobody asks for it.
    await alice.message("page 1.1.alice");
    await gate.shut();
    const from = await told.until(/^down closed/);
    await expect(page(link, "alice", "1.2.alice")).rejects.toThrow("down");
    await gate.openAgain();
    await told.until(/^up/, { from });
    await told.until(/^accepted 1\.1\.alice$/, { from });
    await page(link, "alice", "1.3.alice");
    await alice.message("page 1.3.alice");
    expect(alice.messages.map(({ id }) => id)).toEqual(["1.1.alice", "1.3.alice"]);
    expect(told.count(new RegExp(`^(unsure|presence ${alice.jid} null)`))).toBe(0);
  });

  test("a link that is swallowed is noticed; what it swallowed arrives once, with its time", async () => {
    const { link, told } = open({ ...throughGate(), timings: IMPATIENT });
    await told.until(/^up/);
    const alice = await device("alice");
    gate.stick();
    await page(link, "alice", "2.1.alice");
    const from = await told.until(/^down silent/);
    gate.unstick();
    await told.until(/^up/, { from });
    await told.until(/^received alice\S+ 2\.1\.alice$/, { from });
    await page(link, "alice", "2.2.alice");
    await alice.message("page 2.2.alice");
    const [first, ...rest] = alice.messages;
    expect(first).toMatchObject({ id: "2.1.alice", isDelayed: true });
    expect(rest.map(({ id }) => id)).toEqual(["2.2.alice"]);
    expect(told.count(/^unsure/)).toBe(0);
  });

  test("a server that was killed right after it delivered: unsure, and sent again with the same id", async () => {
    const { link, told } = open({ timings: { askDelayMs: 60_000, askIntervalMs: 60_000 } });
    await told.until(/^up/);
    const alice = await device("alice");
    await page(link, "alice", "3.1.alice");
    await alice.message("page 3.1.alice");
    await prosody.kill();
    const from = await told.until(/^down closed/);
    await told.until(/^down unreachable/, { from });
    await prosody.startAgain();
    await told.until(/^unsure 3\.1\.alice$/, { from });
    await told.until(/^up/, { from });
    await page(link, "alice", "3.1.alice.r2");
    await told.until(/^received alice\S+ 3\.1\.alice\.r2$/, { from });
    expect(told.count(/^down unreachable/)).toBe(1);
    expect(told.count(/^unsure/)).toBe(1);
  });

  test("those who went while the server was away are told", async () => {
    const { told } = open();
    await told.until(/^up/);
    const alice = await device("alice");
    await told.until(new RegExp(`^presence ${alice.jid} 0`));
    await prosody.kill();
    const from = await told.until(/^down closed/);
    await alice.kill();
    await prosody.startAgain();
    const after = await told.until(new RegExp(`^presence ${alice.jid} null$`), { from });
    await told.until(/^up/, { from: after });
  });

  test("a page to somebody who is offline survives the server's death", async () => {
    const { link, told } = open();
    await told.until(/^up/);
    await page(link, "bob", "4.1.bob");
    await told.until(/^accepted 4\.1\.bob$/);
    await prosody.kill();
    await prosody.startAgain();
    const bob = await device("bob");
    expect(await bob.message("page 4.1.bob")).toMatchObject({ isDelayed: true });
  });

  test("a server that stands still is noticed, then knocked at until it answers", async () => {
    const { told } = open({ timings: IMPATIENT });
    await told.until(/^up/);
    prosody.signal("SIGSTOP");
    let from = await told.until(/^down silent/);
    from = await told.until(/^down timed_out/, { from });
    prosody.signal("SIGCONT");
    await told.until(/^up/, { from });
  });

  test("a wrong password is told once, clearly, tried again, and used when it is right", async () => {
    prosody.addAccount("monitor", "something else");
    const { told } = open();
    await told.until(/^down not_authorized not-authorized/);
    const failures = () => prosody.log.match(/Client connected/g)?.length ?? 0;
    const before = failures();
    await expect.poll(failures, { timeout: 10_000 }).toBeGreaterThan(before + 2);
    expect(told.lines).toHaveLength(1);
    prosody.addAccount("monitor");
    await told.until(/^up/);
    expect(told.lines.join("\n") + prosody.log).not.toContain(prosody.password("monitor"));
  });

  test("a password file that is missing, empty or open to others is told, and read again", async () => {
    const file = join(temporaryFolder("xmpp"), "password");
    const { told } = open({ passwordFile: file });
    let from = await told.until(/^down password_file \S+ cannot be read \(ENOENT\)$/);
    writeFileSync(file, "pw-monitor\n", { mode: 0o644 });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(told.lines).toHaveLength(1); // The same reason is not told again.
    chmodSync(file, 0o600);
    from = await told.until(/^up/, { from });
    expect(told.lines.join("\n")).not.toContain("pw-monitor");

    const open644 = join(temporaryFolder("xmpp"), "password");
    writeFileSync(open644, "pw-monitor\n", { mode: 0o644 });
    const other = open({ passwordFile: open644 });
    await other.told.until(/^down password_file \S+ can be read .*mode 644.*chmod 600/);
  });

  test("a certificate of another authority is refused, and so is a file that is none", async () => {
    const stranger = open({ caFile: makeCertificates().ca });
    await stranger.told.until(/^down certificate /);
    const publicOnly = new XmppClient({ ...prosody.account("monitor"), caFile: undefined });
    links.push(publicOnly);
    const told = new Observed();
    publicOnly.start(told);
    await told.until(/^down certificate /);
    const nonsense = open({ caFile: prosody.passwordFile("alice") });
    await nonsense.told.until(/^down certificate \S+ holds no certificate$/);
  });

  test("two of one resource: who is thrown out comes back under another name", async () => {
    const first = open({ resource: "memward-m1" });
    await first.told.until(/^up/);
    const second = open({ resource: "memward-m1" });
    await second.told.until(/^up/);
    const from = await first.told.until(/^down conflict/);
    await first.told.until(/^up/, { from });
    expect(second.told.count(/^down/)).toBe(0);
    expect(first.link.jid).not.toBe(second.link.jid);
  });

  test("who closes is known to be gone, and what was said last has been taken", async () => {
    const { link, told } = open({ timings: { askDelayMs: 60_000 } });
    await told.until(/^up/);
    await page(link, "alice", "5.1.alice");
    await link.close();
    expect(told.lines.slice(-2)).toEqual(["accepted 5.1.alice", "down stopped"]);
    await expect(page(link, "alice", "5.2.alice")).rejects.toThrow("down");
    expect(await link.ping(prosody.domain, 1_000)).toBeNull();
  });
});

describe.skipIf(absent !== undefined)("servers that are not as they should be", () => {
  test.each([
    [
      "a certificate for another name",
      { certificateNames: ["DNS:other.test", "IP:127.0.0.1"] },
      "certificate",
    ],
    ["no stream management", { hasStreamManagement: false }, "no_stream_management"],
  ] as const)("%s", async (_, options, reason) => {
    const prosody = await Prosody.start(options);
    const link = new XmppClient(prosody.account("monitor"));
    const told = new Observed();
    link.start(told);
    await told.until(new RegExp(`^down ${reason} `));
    await link.close();
    await prosody.stop();
  });
});
