/** What people write to a monitor that does not speak. */
import { expect, test } from "vitest";
import { orderRecord } from "../../../core/cluster/incidents.ts";
import type { PagingConfig } from "../../../monitor/config/paging.ts";
import { relayed } from "../../../monitor/outbox/relay.ts";

const NOW = 1_795_000_000_000;
const paging = {
  people: { alice: { jid: "Alice@alert.test", fallback: [] } },
} as unknown as PagingConfig;
const said = (body: string, over = {}) =>
  relayed(
    { id: "1", from: "alice@alert.test/phone", body, delayedAtMs: null, isRoom: false, ...over },
    { paging, speaker: "m2", nowMs: NOW },
  );

test.each([
  ["ack 17", { verb: "ack", target: "0000000017" }],
  ["#17 ACK", { verb: "ack", target: "0000000017" }],
  ["ack 17@m3", { verb: "ack", target: "0000000017@m3" }],
  ["resolve 17 was the switch", { verb: "resolve", text: "was the switch" }],
  ["escalate 17 bob", { verb: "escalate", person: "bob", text: "" }],
])("%s is passed on as an order", (body, wanted) => {
  const { order, answer } = said(body) ?? {};
  expect(order).toMatchObject({ ...wanted, by: "alice" });
  expect(orderRecord.parse(order)).toMatchObject(wanted);
  expect(answer).toContain("m2");
});

test.each(["ack", "status", "who", "hello", "silence 17 1h"])("%s is answered: ask m2", (body) => {
  expect(said(body)).toMatchObject({ order: undefined });
  expect(said(body)?.answer).toContain("monitor m2 speaks now");
});

test("strangers, rooms and what was kept for long get nothing", () => {
  expect(said("ack 17", { from: "mallory@alert.test/x" })).toBeUndefined();
  expect(said("ack 17", { isRoom: true })).toBeUndefined();
  expect(said("ack 17", { delayedAtMs: NOW - 3_600_000 })).toBeUndefined();
  expect(said("ack 17", { delayedAtMs: NOW - 1_000 })?.order).toBeDefined();
});
