/** The link against a real prosody, with people's devices in processes of their own. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { XmppClient } from "../../../monitor/xmpp/client.ts";
import type { OutgoingMessage } from "../../../monitor/xmpp/link.ts";
import { childOf } from "../../../monitor/xmpp/xml.ts";
import { Device } from "../../harness/device.ts";
import { missing } from "../../harness/processes.ts";
import { Prosody } from "../../harness/prosody.ts";
import { Observed } from "./observed.ts";

const absent = missing("prosody", "openssl");

describe.skipIf(absent !== undefined)(`over prosody ${absent ?? ""}`, () => {
  let prosody: Prosody;
  let alice: Device;
  let link: XmppClient;
  let told: Observed;

  const message = (id: string, more: Partial<OutgoingMessage> = {}): OutgoingMessage => {
    const body = `#17 CRIT ${id}`;
    const to = prosody.jid("alice");
    return { id, to, body, wantsReceipt: true, isRoom: false, ...more };
  };

  beforeAll(async () => {
    prosody = await Prosody.start();
    link = new XmppClient(prosody.account("monitor"));
    told = new Observed();
    link.start(told);
    await told.until(/^up/);
    alice = await Device.start(prosody, "alice", { resource: "phone", priority: 5 });
  });
  afterAll(async () => {
    await link?.close();
    await alice?.stop();
    await prosody?.stop();
  });

  test("a page is accepted, delivered, displayed, and answered", async () => {
    await link.send(message("17.1.alice"));
    await told.until(/^accepted 17\.1\.alice$/);
    await told.until(/^received alice@alert\.test\/phone 17\.1\.alice$/);
    const page = await alice.message("17.1.alice");
    alice.displayed(page);
    alice.say(page.from, "ack 17");
    await told.until(/^displayed alice@alert\.test\/phone 17\.1\.alice$/);
    await told.until(/^text alice@alert\.test\/phone false fresh ack 17$/);
  });

  test("a page asks for receipt and marker, is kept by archives, and can be read by machines", async () => {
    await link.send(message("17.2.alice", { payload: { incident: "17", severity: "crit" } }));
    const { stanza } = await alice.message("17.2.alice");
    expect(stanza.attributes["type"]).toBe("chat");
    expect(childOf(stanza, "request", "urn:xmpp:receipts")).toBeDefined();
    expect(childOf(stanza, "markable", "urn:xmpp:chat-markers:0")).toBeDefined();
    expect(childOf(stanza, "store", "urn:xmpp:hints")).toBeDefined();
    const origin = childOf(stanza, "origin-id", "urn:xmpp:sid:0");
    expect(origin?.attributes["id"]).toBe("17.2.alice");
    const incident = childOf(stanza, "incident", "urn:memward:incident:1");
    expect(incident?.attributes).toMatchObject({ incident: "17", severity: "crit" });
  });

  test("whatever a body holds arrives, but for what XML cannot carry", async () => {
    const body = `<b>&amp; "über" 😀 ]]> 'x'\ttab\nline \u0000\u0007\ud800`;
    await link.send(message("17.3.alice", { body }));
    const page = await alice.message(({ id }) => id === "17.3.alice");
    expect(page.body).toBe(`<b>&amp; "über" 😀 ]]> 'x'\ttab\nline \ufffd\ufffd\ufffd`);
  });
});
