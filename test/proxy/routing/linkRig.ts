/** What the tests of links share: a rig, a shard to command, and what both show. */
import { afterEach, beforeEach, expect } from "vitest";
import { LINK_FAILURES, type Link, type LinkFailure } from "../../../proxy/routing/link.ts";
import { until } from "../../core/io/pair.ts";
import { type FakeConnection, FakeShard } from "../fakeShard.ts";
import { type Client, Rig } from "../rig.ts";

export type LinkRig = { rig: Rig; shard: FakeShard };

/** A fresh rig and shard for every test of the file; read when the test runs. */
export function useLinkRig(): LinkRig {
  const current = {} as LinkRig;
  beforeEach(async () => {
    current.rig = new Rig();
    current.shard = await FakeShard.start();
  });
  afterEach(async () => {
    current.rig.close();
    await current.shard.stop();
  });
  return current;
}

export const failures = (link: Link): LinkFailure[] =>
  LINK_FAILURES.filter((_, index) => (link.failureCounts[index] ?? 0) > 0);

export const heard = (client: Client, text: string): Promise<void> =>
  until(`${JSON.stringify(text)} is heard`, () => client.text.length >= text.length);

/** Nothing waits any more, and nothing is held. */
export function expectNothingLeft(rig: Rig, link: Link): void {
  expect([rig.slots.usedCount, link.depth]).toEqual([0, 0]);
  expect(rig.isNothingHeld).toBe(true);
}

export type InFlight = { link: Link; client: Client; connection: FakeConnection };

/** A get and a set that nobody has answered, on a link that is ready. */
export async function twoInFlight({ rig, shard }: LinkRig): Promise<InFlight> {
  const link = rig.newLink(shard.address, "text");
  const client = await rig.newClient();
  client.send(link, "get", "get a\r\n");
  client.send(link, "set", "set b 0 0 1\r\nx\r\n");
  const connection = await shard.nextValid();
  await connection.takeText("get a\r\nset b 0 0 1\r\nx\r\n");
  return { link, client, connection };
}
