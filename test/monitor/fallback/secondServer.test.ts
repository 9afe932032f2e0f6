/** Two real XMPP servers: the first one dies, the page arrives over the second. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { XmppFallback } from "../../../monitor/fallback/xmppFallback.ts";
import { openXmppLink } from "../../../monitor/xmpp/open.ts";
import { Device } from "../../harness/device.ts";
import { missing } from "../../harness/processes.ts";
import { Prosody } from "../../harness/prosody.ts";
import { Observed } from "../xmpp/observed.ts";

const absent = missing("prosody", "openssl");

describe.skipIf(absent !== undefined)(`a second server ${absent ?? ""}`, () => {
  let first: Prosody;
  let second: Prosody;
  beforeAll(async () => {
    first = await Prosody.start();
    second = await Prosody.start({ domain: "other.test" });
  });
  afterAll(async () => {
    await first?.stop();
    await second?.stop();
  });

  test("when the first is dead, people are reached and answer over the other", async () => {
    const link = await openXmppLink({ ...first.account("monitor"), resource: "memward-m1" });
    const toldFirst = new Observed();
    link.start(toldFirst);
    const fallback = new XmppFallback("other", await openXmppLink(second.account("monitor")));
    const toldSecond = new Observed();
    fallback.start(toldSecond);
    await toldFirst.until(/^up/);
    await toldSecond.until(/^up/);
    await first.kill();
    await toldFirst.until(/^down unreachable/);

    const phone = await Device.start(second, "alice");
    const notice = { id: "17.1.alice", to: second.jid("alice"), body: "#17 CRIT" };
    expect(await fallback.send(notice)).toMatchObject({ ok: true });
    await toldSecond.until(/^received alice@other\.test\/phone 17\.1\.alice$/);
    phone.say((await phone.message("#17")).from, "ack 17");
    await toldSecond.until(/^text alice@other\.test\/phone false fresh ack 17$/);
    await Promise.all([link.close(), fallback.close(), phone.kill()]);
  });
});
