/** The second server, with a scripted link. */
import { expect, test } from "vitest";
import { XmppFallback } from "../../../monitor/fallback/xmppFallback.ts";
import { FakeLink } from "../fakeLink.ts";
import { Observed } from "../xmpp/observed.ts";

const JID = "alice@other.test";
const NOTICE = { id: "17.1.alice", to: JID, body: "#17 CRIT" };

function start({ isUp = true, takenMsMax = 10_000 } = {}) {
  const link = new FakeLink({ isUp });
  const fallback = new XmppFallback("other", link, takenMsMax);
  const told = new Observed();
  fallback.start(told);
  link.advance(0);
  return { link, fallback, told };
}

test("a message is taken when that server acknowledged it; the receipt is told as any other", async () => {
  const { link, fallback, told } = start();
  const sending = fallback.send(NOTICE);
  link.advance(10);
  expect(await sending).toMatchObject({ ok: true });
  expect(told.lines).toContain(`received ${JID}/phone 17.1.alice`);
});

test("what was asked for while the second link was down goes out when it is up", async () => {
  const { link, fallback } = start({ isUp: false });
  const sending = fallback.send(NOTICE);
  link.comeUp();
  link.advance(10);
  expect(await sending).toMatchObject({ ok: true });
});

test("a message of a lost session is sent once more, with the same id", async () => {
  const { link, fallback } = start();
  link.behave(JID, "unsure");
  const sending = fallback.send(NOTICE);
  link.behave(JID, "receipt");
  link.advance(20);
  expect(await sending).toMatchObject({ ok: true });
  expect(link.sent.map(({ id }) => id)).toEqual(["17.1.alice", "17.1.alice"]);
});

test("an error stanza is a refusal", async () => {
  const { link, fallback } = start();
  const sending = fallback.send(NOTICE);
  link.tell((events) => events.bounced(JID, "17.1.alice", "service-unavailable"));
  expect(await sending).toMatchObject({ failure: "refused", detail: "service-unavailable" });
});

test("a link that never comes up is given up, and so is one that is closed", async () => {
  const dead = start({ isUp: false, takenMsMax: 20 });
  expect(await dead.fallback.send(NOTICE)).toMatchObject({ ok: false, failure: "unreachable" });
  const { fallback } = start();
  const sending = fallback.send(NOTICE);
  expect(await fallback.send(NOTICE)).toMatchObject({ ok: false, failure: "busy" });
  await fallback.close();
  expect(await sending).toMatchObject({ ok: false, failure: "stopped" });
});
