/** The driver between events, what is written, and what is said. */
import { afterEach, expect, test } from "vitest";
import { createLog } from "../../../core/runtime/log.ts";
import { pagingOf } from "../../../monitor/config/pagingOf.ts";
import { monitorSection } from "../../../monitor/config/schema.ts";
import type { Effect, PagerChange } from "../../../monitor/incident/types.ts";
import { Driver, type DriverParts } from "../../../monitor/speaker/driver.ts";
import { until } from "../../core/cluster/contract-place.ts";
import { badNode } from "../monitors.ts";

const drivers: Driver[] = [];
afterEach(() => {
  for (const driver of drivers.splice(0)) driver.close();
});

function start(
  { speaker = "", write = async () => true } = {} as {
    speaker?: string;
    write?: (changes: readonly PagerChange[]) => Promise<boolean>;
  },
) {
  const did: string[] = [];
  const relayed: string[] = [];
  const it = { conditions: [badNode()], stance: "speaking", speaker, did, relayed, throws: false };
  const paging = pagingOf(monitorSection.parse({ people: { alice: { jid: "alice@alert.test" } } }));
  const parts = {
    election: it,
    documents: {
      orders: new Map(),
      catchUp: async () => 1,
      forPager: () => ({ incidents: {}, silences: {}, drills: {}, people: {} }),
    },
    ledger: {
      hasJournal: false,
      merge: async () => {},
      recall: () => {},
      write: async (changes: readonly PagerChange[]) => {
        const isSafe = await write(changes);
        if (changes.some(({ kind }) => kind === "incident"))
          did.push(isSafe ? "written" : "fenced");
        return isSafe;
      },
    },
    paging,
    clock: { nowMs: () => performance.now(), unixMs: () => Date.now() },
    log: createLog({ name: "t", level: "silent" }),
    name: "m1",
    conditions: () => {
      if (it.throws) throw new Error("a fault of ours");
      return it.conditions;
    },
    facts: () => [{ kind: "link", isUp: true } as const],
    carryOut: (effects: readonly Effect[]) => {
      for (const effect of effects)
        if (effect.kind === "send") did.push(`said ${effect.message.id}`);
    },
    relay: ({ body }: { body: string }) => relayed.push(body),
  };
  const driver = new Driver(parts as unknown as DriverParts);
  drivers.push(driver);
  return { driver, it };
}

test("what is said was written before", async () => {
  const { driver, it } = start();
  driver.stanceChanged("speaking");
  await until(() => it.did.includes("said 1.1.alice"));
  expect(it.did[0]).toBe("written");
});

test("what could not be written is not said", async () => {
  const { driver, it } = start({ write: async () => false });
  driver.stanceChanged("speaking");
  await until(() => it.did.length > 2);
  expect(new Set(it.did)).toEqual(new Set(["fenced"]));
});

test("nothing is decided while another monitor speaks; what people write is passed on", () => {
  const { driver, it } = start({ speaker: "m2" });
  it.stance = "listening";
  const message = { id: "1", from: "alice@alert.test/x", body: "ack 1", delayedAtMs: null };
  driver.tell({ kind: "text", message: { ...message, isRoom: false } });
  driver.tell({ kind: "link", isUp: true });
  expect(driver.state).toBeUndefined();
  expect(it.relayed).toEqual(["ack 1"]);
  expect(driver.droppedCount).toBe(0);
});

test("a fault while looking does not end the paging", async () => {
  const { driver, it } = start();
  it.throws = true;
  driver.stanceChanged("speaking");
  await until(() => driver.droppedCount > 0);
  it.throws = false;
  await until(() => it.did.includes("said 1.1.alice"));
});
