/** Counting what each side has of the other. */
import { expect, test } from "vitest";
import { StreamManagement } from "../../../monitor/xmpp/streamManagement.ts";

const stanza = (messageId: string) => ({
  xml: `<message id="${messageId}"><body>$&amp; x</body></message>`,
  messageId,
  sentAtMs: 1_700_000_000_000,
});
const ids = (stanzas: { messageId: string | null }[] | undefined) =>
  stanzas?.map(({ messageId }) => messageId);

function begun(): StreamManagement {
  const management = new StreamManagement();
  management.begin("session");
  for (const id of ["1", "2", "3"]) management.sent(stanza(id));
  return management;
}

test("a count acknowledges all up to it, once", () => {
  const management = begun();
  expect(ids(management.acknowledge(2))).toEqual(["1", "2"]);
  expect(ids(management.acknowledge(2))).toEqual([]);
  expect(ids(management.abandon())).toEqual(["3"]);
  expect(management.id).toBe("");
});

test.each([4, -1, 1.5, Number.NaN, 4_294_967_295])("%s of three is impossible", (h) => {
  expect(begun().acknowledge(h)).toBeUndefined();
});

test("a count that goes back is impossible", () => {
  const management = begun();
  management.acknowledge(2);
  expect(management.acknowledge(1)).toBeUndefined();
});

test("what is said again carries the time when it was said first, and its body as it was", () => {
  const management = begun();
  management.acknowledge(2);
  expect(management.resent("monitor@alert.test/1")).toEqual([
    '<message id="3"><body>$&amp; x</body><delay xmlns="urn:xmpp:delay" ' +
      'from="monitor@alert.test/1" stamp="2023-11-14T22:13:20.000Z"/></message>',
  ]);
});

test("a thousand without an acknowledgement are enough", () => {
  const management = new StreamManagement();
  management.begin("session");
  for (let count = 0; count < 1_000; count += 1) management.sent(stanza(`${count}`));
  expect(management.isFull).toBe(true);
});
