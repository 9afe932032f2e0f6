/** Alerts of caches are told to whom their owners named, and page nobody. */
import { expect, test } from "vitest";
import { createLog } from "../../core/runtime/log.ts";
import type { Condition } from "../../monitor/condition.ts";
import { Owners } from "../../monitor/outbox/owners.ts";
import { badNode } from "./monitors.ts";

const NOW = 1_795_000_000_000;
const alert = (over: Partial<Condition> = {}): Condition =>
  badNode("c1/hits", {
    kind: "alert",
    severity: "warn",
    summary: "shop: hit rate 40 %",
    sinceMs: NOW,
    target: "xmpp:owner@shop.example",
    ...over,
  });

function owners({ isTaken = true } = {}) {
  const sent: { target: string; id: string; body: string }[] = [];
  const log = createLog({ name: "t", level: "silent" });
  const send = async (message: (typeof sent)[number]) => {
    sent.push(message);
    return isTaken;
  };
  return { sent, owners: new Owners({ log, cluster: "eu1", send }) };
}
const turn = () => new Promise((resolve) => setImmediate(resolve));

test("an alert is told when it begins and when it is over, and is no incident", async () => {
  const { sent, owners: it } = owners();
  const node = badNode();
  expect(it.settle([node, alert()], NOW)).toEqual([node]);
  await turn();
  expect(it.settle([alert()], NOW + 1_000)).toEqual([]);
  expect(sent.map(({ body }) => body)).toEqual(["eu1: shop: hit rate 40 %"]);
  expect(it.settle([], NOW + 120_000)).toEqual([]);
  expect(sent[1]?.body).toBe("eu1: over after 2 min: shop: hit rate 40 %");
  expect(sent.every(({ target }) => target === "xmpp:owner@shop.example")).toBe(true);
  it.settle([], NOW + 121_000);
  expect(sent).toHaveLength(2);
});

test("what nobody took is tried again, not for ever, and its end is not told", async () => {
  const { sent, owners: it } = owners({ isTaken: false });
  for (let ms = 0; ms < 600_000; ms += 1_000) {
    it.settle([alert()], NOW + ms);
    await turn();
  }
  expect(sent).toHaveLength(5);
  it.settle([], NOW + 600_000);
  expect(sent).toHaveLength(5);
});

test("a flood of alerts is bounded", () => {
  const { sent, owners: it } = owners();
  it.settle(
    Array.from({ length: 3_000 }, (_, at) => alert({ subject: `c${at}/hits` })),
    NOW,
  );
  expect(sent).toHaveLength(1_000);
});
