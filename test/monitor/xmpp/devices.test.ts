/** What becomes of pages to people with several devices, dead ones, none, and to strangers. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { XmppClient } from "../../../monitor/xmpp/client.ts";
import { childOf } from "../../../monitor/xmpp/xml.ts";
import { Device, type DeviceMessage, type DeviceOptions } from "../../harness/device.ts";
import { missing } from "../../harness/processes.ts";
import { Prosody } from "../../harness/prosody.ts";
import { Observed } from "./observed.ts";

const absent = missing("prosody", "openssl");
const PEOPLE = ["ann", "ben", "cem", "dan", "eva", "fay", "gil", "hal", "ida", "jon", "kai"];

describe.skipIf(absent !== undefined)(`devices ${absent ?? ""}`, () => {
  let prosody: Prosody;
  let link: XmppClient;
  let told: Observed;
  const devices: Device[] = [];

  beforeAll(async () => {
    prosody = await Prosody.start({ people: ["monitor", ...PEOPLE], hibernationS: 2 });
    prosody.addAccount("mallory"); // In nobody's roster.
    prosody.addAccount("newcomer"); // Likewise, but somebody we know.
    const contacts = [prosody.jid("newcomer")];
    link = new XmppClient({ ...prosody.account("monitor"), contacts });
    told = new Observed();
    link.start(told);
    await told.until(/^up/);
  });
  afterAll(async () => {
    await link?.close();
    await prosody?.stop();
  });
  afterEach(async () => {
    await Promise.all(devices.splice(0).map((device) => device.kill()));
  });

  /** Logs a device in and waits until the link knows of it. */
  async function device(person: string, resource: string, options: DeviceOptions = {}) {
    const from = told.lines.length;
    const started = await Device.start(prosody, person, { resource, ...options });
    devices.push(started);
    await told.until(new RegExp(`^presence ${person}@alert.test/${resource} -?\\d`), { from });
    return started;
  }
  const page = (to: string, id: string) =>
    link.send({ id, to, body: `page ${id}`, wantsReceipt: true, isRoom: false });
  /** A later page that somebody else has got: the one before has had all the time it needed. */
  const receipts = (id: string) => told.lines.filter((line) => line.endsWith(` ${id}`));

  test("the device with the higher priority gets the page, alone", async () => {
    await device("ann", "phone", { priority: 5 });
    const laptop = await device("ann", "laptop", { priority: 0 });
    await page(prosody.jid("ann"), "1.1.ann");
    await told.until(/^received ann@alert\.test\/phone 1\.1\.ann$/);
    await page(laptop.jid, "1.2.ann");
    await laptop.message("page 1.2.ann");
    expect(laptop.messages.map(({ body }) => body)).toEqual(["page 1.2.ann"]);
    await told.until(/^received ann@alert\.test\/laptop 1\.2\.ann$/);
    expect(receipts("1.1.ann")).toHaveLength(2); // Accepted, and one receipt.
  });

  test("a device that sees a copy gives no receipt for it", async () => {
    const phone = await device("ben", "phone", { priority: 5 });
    const laptop = await device("ben", "laptop", { wantsCarbons: true });
    await page(prosody.jid("ben"), "1.1.ben");
    await phone.message("page 1.1.ben");
    expect(await laptop.message("page 1.1.ben")).toMatchObject({ isCarbon: true });
    await page(laptop.jid, "1.2.ben");
    await told.until(/^received ben@alert\.test\/laptop 1\.2\.ben$/);
    expect(receipts("1.1.ben").toSorted()).toEqual([
      "accepted 1.1.ben",
      "received ben@alert.test/phone 1.1.ben",
    ]);
  });

  test("devices of one priority both get it, and there are two receipts", async () => {
    await device("cem", "phone");
    await device("cem", "laptop");
    await page(prosody.jid("cem"), "1.1.cem");
    await told.until(/^received cem@alert\.test\/\w+ 1\.1\.cem$/, { count: 2 });
  });

  test("a device below zero gets nothing; the page waits for one that takes it", async () => {
    const tablet = await device("dan", "tablet", { priority: -1 });
    await page(prosody.jid("dan"), "1.1.dan");
    await told.until(/^accepted 1\.1\.dan$/);
    const phone = await device("dan", "phone");
    expect(await phone.message("page 1.1.dan")).toMatchObject({ isDelayed: true });
    await told.until(/^received dan@alert\.test\/phone 1\.1\.dan$/);
    expect(tablet.messages).toEqual([]);
  });

  test("a page to a device that has gone reaches the person's other one", async () => {
    await device("eva", "phone");
    await page(`${prosody.jid("eva")}/laptop`, "1.1.eva");
    await told.until(/^received eva@alert\.test\/phone 1\.1\.eva$/);
  });

  test("nobody of that name, and a server we cannot reach, are told at once", async () => {
    await page(prosody.jid("nobody"), "1.1.nobody");
    await page("alice@elsewhere.test", "1.2.nobody");
    await told.until(/^bounced nobody@alert\.test 1\.1\.nobody service-unavailable$/);
    await told.until(/^bounced alice@elsewhere\.test 1\.2\.nobody [a-z-]+$/);
  });

  test("a page to somebody without a device waits at the server", async () => {
    await page(prosody.jid("fay"), "1.1.fay");
    await told.until(/^accepted 1\.1\.fay$/);
    const phone = await device("fay", "phone");
    expect(await phone.message("page 1.1.fay")).toMatchObject({ isDelayed: true });
    await told.until(/^received fay@alert\.test\/phone 1\.1\.fay$/);
  });

  test("a dead phone swallows the page; the same phone gets it when it is back", async () => {
    const phone = await device("gil", "phone");
    await phone.kill();
    await page(prosody.jid("gil"), "1.1.gil");
    await told.until(/^accepted 1\.1\.gil$/);
    const again = await Device.start(prosody, "gil", { resource: "phone" });
    devices.push(again);
    expect(await again.message("page 1.1.gil")).toMatchObject({ id: "1.1.gil" });
    await told.until(/^received gil@alert\.test\/phone 1\.1\.gil$/);
  });

  test("a dead phone swallows the page; another device does not get it, and we hear of it late", async () => {
    const phone = await device("hal", "phone", { priority: 5 });
    const laptop = await device("hal", "laptop");
    await phone.kill();
    await page(prosody.jid("hal"), "1.1.hal");
    await page(laptop.jid, "1.2.hal");
    await told.until(/^received hal@alert\.test\/laptop 1\.2\.hal$/);
    await told.until(/^bounced hal@alert\.test\S* 1\.1\.hal recipient-unavailable$/);
    await told.until(/^presence hal@alert\.test\/phone null$/);
    expect(laptop.messages.map(({ body }) => body)).toEqual(["page 1.2.hal"]);
  });

  test("a frozen phone is silent, its person's laptop answers; thawed it gives its receipt", async () => {
    const phone = await device("ida", "phone", { priority: 5 });
    const laptop = await device("ida", "laptop");
    phone.freeze();
    await page(prosody.jid("ida"), "1.1.ida");
    await page(laptop.jid, "1.2.ida");
    await told.until(/^received ida@alert\.test\/laptop 1\.2\.ida$/);
    expect(await link.ping(laptop.jid, 10_000)).toBeGreaterThan(0);
    expect(await link.ping(phone.jid, 200)).toBeNull();
    expect(await link.ping(`${prosody.jid("ida")}/gone`, 10_000)).toBeNull();
    expect(receipts("1.1.ida")).toEqual(["accepted 1.1.ida"]);
    phone.thaw();
    await told.until(/^received ida@alert\.test\/phone 1\.1\.ida$/);
  });

  test("priorities that change and devices that log out are told", async () => {
    const phone = await device("jon", "phone", { priority: 3 });
    phone.setPriority(-1);
    await told.until(/^presence jon@alert\.test\/phone -1$/);
    await phone.stop();
    await told.until(/^presence jon@alert\.test\/phone null$/);
  });

  test("a stranger is heard, with the address that the server stamped", async () => {
    const mallory = await Device.start(prosody, "mallory");
    devices.push(mallory);
    mallory.raw(
      `<message to="${prosody.jid("monitor")}" from="${prosody.jid("ann")}"><body>ack 17</body></message>`,
    );
    mallory.say(prosody.jid("monitor"), "ack 18");
    await told.until(/^text mallory@alert\.test\/phone false fresh ack 18$/);
    expect(told.count(/^text ann@alert\.test/)).toBe(0);
  });

  test("a person we know may see us when asking for it, a stranger may not", async () => {
    const monitor = prosody.jid("monitor");
    const ask = `<presence type="subscribe" to="${monitor}"/>`;
    const request = '<request xmlns="urn:xmpp:receipts"/>';
    const command = (id: string) =>
      `<message to="${monitor}" id="${id}" type="chat"><body>who</body>${request}</message>`;
    const [newcomer, mallory] = await Promise.all(
      ["newcomer", "mallory"].map((person) => Device.start(prosody, person)),
    );
    if (newcomer === undefined || mallory === undefined) throw new Error("two devices");
    devices.push(newcomer, mallory);
    mallory.raw(ask);
    mallory.raw(command("m1"));
    await told.until(/^text mallory\S+ false fresh who$/);
    expect(told.lines).toContain("ignored subscription");

    newcomer.raw(ask);
    newcomer.raw(`<presence type="subscribed" to="${monitor}"/>`);
    await told.until(/^presence newcomer@alert\.test\/phone 0$/);
    newcomer.raw(command("n1"));
    const isReceipt = ({ stanza }: DeviceMessage, id: string) =>
      childOf(stanza, "received", "urn:xmpp:receipts")?.attributes["id"] === id;
    await newcomer.message((message) => isReceipt(message, "n1"));
    expect(mallory.messages).toEqual([]);
  });

  test("what a stranger sends too large or too deep is skipped, and the link stays up", async () => {
    const mallory = await Device.start(prosody, "mallory");
    devices.push(mallory);
    const from = told.lines.length;
    const to = prosody.jid("monitor");
    mallory.say(to, "x".repeat(150_000));
    mallory.raw(`<message to="${to}">${"<x>".repeat(5_000)}${"</x>".repeat(5_000)}</message>`);
    mallory.raw(`<iq type="set" id="q" to="${link.jid}"><query xmlns="jabber:iq:roster"/></iq>`);
    mallory.say(to, "still there?");
    await told.until(/^text mallory\S+ false fresh still there\?$/);
    expect(told.lines.slice(from).filter((line) => /^(ignored|down)/.test(line))).toEqual([
      "ignored too_large",
      "ignored too_large",
      "ignored request_refused",
    ]);
  });

  test("in a room our own words and what was said before are ignored, people are heard", async () => {
    const room = `war@${prosody.rooms}`;
    const kai = await device("kai", "phone");
    const said = (body: string) =>
      kai.raw(`<message type="groupchat" to="${room}"><body>${body}</body></message>`);
    kai.raw(`<presence to="${room}/kai"><x xmlns="http://jabber.org/protocol/muc"/></presence>`);
    kai.raw(
      `<iq type="set" id="o" to="${room}"><query xmlns="http://jabber.org/protocol/muc#owner">` +
        `<x xmlns="jabber:x:data" type="submit"/></query></iq>`,
    );
    said("ack 1");
    await kai.message("ack 1");
    await link.join(room, "Memward");
    await link.send({ id: "r1", to: room, body: "#17 CRIT", wantsReceipt: false, isRoom: true });
    await kai.message("#17 CRIT");
    said("who is on it?");
    await told.until(/^text war@\S+\/kai true fresh who is on it\?$/);
    expect(told.count(/^text war@\S+ true .*ack 1$/)).toBe(0);
    expect(told.lines).toContain("ignored echo");
  });

  test("a room of our own is open to others; one that refuses is told", async () => {
    const room = `own@${prosody.rooms}`;
    await link.join(room, "Memward");
    const kai = await device("kai", "phone");
    kai.raw(`<presence to="${room}/kai"><x xmlns="http://jabber.org/protocol/muc"/></presence>`);
    kai.raw(`<message type="groupchat" to="${room}"><body>I am in</body></message>`);
    await told.until(/^text own@\S+\/kai true fresh I am in$/);
    kai.raw(
      `<presence to="taken@${prosody.rooms}/Memward"><x xmlns="http://jabber.org/protocol/muc"/></presence>`,
    );
    await kai.message(({ from }) => from.startsWith("taken@"));
    await expect(link.join(`taken@${prosody.rooms}`, "Memward")).rejects.toThrow(/refused/);
  });
});
