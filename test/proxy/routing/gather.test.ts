/**
 * A multi-get over several shards is answered as one memcached would have: VALUE blocks in the
 * order of its keys, whatever came when, was missing, was asked twice or was never answered.
 */
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { Command, RESULT_COUNT, Result } from "../../../core/protocol/command.ts";
import { GATHER_KEY_COUNT_MAX, KeyGather } from "../../../proxy/routing/gather.ts";
import { until } from "../../core/io/pair.ts";
import { type Client, Rig } from "../rig.ts";

let rigs: Rig[] = [];
afterEach(() => {
  for (const rig of rigs) rig.close();
  rigs = [];
});

async function newClient(slabCount = 256): Promise<{ rig: Rig; client: Client }> {
  const rig = new Rig({ slabCount });
  rigs.push(rig);
  return { rig, client: await rig.newClient() };
}

const END = "END\r\n";
type Item = { value: Buffer; flags: number; cas: number | null };
type Share = { shard: number; keys: string[] };

/** A block as memcached writes it (protocol.txt, "Retrieval command"). */
function block(key: string, { value, flags, cas }: Item): Buffer {
  const unique = cas === null ? "" : ` ${cas}`;
  const head = `VALUE ${key} ${flags} ${value.length}${unique}\r\n`;
  return Buffer.concat([Buffer.from(head, "latin1"), value, Buffer.from("\r\n")]);
}

/** What one memcached that has `items` says to `keys`, without its END. */
function blocks(keys: readonly string[], items: ReadonlyMap<string, Item>): Buffer {
  return Buffer.concat(
    keys.flatMap((key) => {
      const item = items.get(key);
      return item === undefined ? [] : [block(key, item)];
    }),
  );
}

/** A gathered command as retrieval.ts makes it; parts by shard, in the order of first use. */
function openGather(
  { rig, client }: { rig: Rig; client: Client },
  keys: readonly string[],
  shardOf: (key: string) => number,
): { shares: Map<number, Share>; slotOf: Map<number, number>; gather: KeyGather } {
  const line = Buffer.from(`get ${keys.join(" ")}\r\n`, "latin1");
  const { slots } = rig;
  const gather = KeyGather.open(client.queue, client.queue.open(Command.get, 0), 0);
  const shares = new Map<number, Share>();
  const slotOf = new Map<number, number>();
  let at = 4;
  for (const key of keys) {
    const shard = shardOf(key);
    let slot = slotOf.get(shard);
    if (slot === undefined) {
      slot = slots.open(null, Command.get, 0);
      slots.keyCount[slot] = 0;
      slotOf.set(shard, slot);
      shares.set(shard, { shard, keys: [] });
      gather.addPart(slot);
    }
    gather.addKey(at, key.length, slot);
    slots.keyCount[slot] = (slots.keyCount[slot] ?? 0) + 1;
    shares.get(shard)?.keys.push(key);
    at += key.length + 1;
  }
  gather.begin(line, 4, at - 1);
  line.fill("!");
  return { shares, slotOf, gather };
}

/** The reply of a shard, told as a link tells it: in bytes that are overwritten at once. */
function answer(
  rig: Rig,
  gather: KeyGather,
  slot: number,
  reply: Buffer,
  valueCount: number,
): void {
  const bytes = Buffer.concat([Buffer.from("xx"), reply, Buffer.from("VALUE z 0 1\r\n")]);
  gather.take(slot, valueCount, bytes, 2, reply.length);
  rig.slots.free(slot);
  bytes.fill("!");
}

function fail(rig: Rig, gather: KeyGather, slot: number): void {
  gather.fail(slot, "timedOut");
  rig.slots.free(slot);
}

const value = fc.oneof(
  { weight: 6, arbitrary: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)) },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom("", "END\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n", "\r\n")
      .map((text) => Buffer.from(text)),
  },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 10_000, max: 60_000 }).map((size) => Buffer.alloc(size, "v")),
  },
);
/** Keys that begin like each other, and some of all sorts. */
const key = fc.constantFrom(
  "a",
  "aa",
  "aaa",
  "ab",
  "b",
  "VALUE",
  "END",
  "\xff\x01",
  "k".repeat(250),
  "k".repeat(249),
);
const item = fc.record<Item>({
  value,
  flags: fc.constantFrom(0, 7, 4_294_967_295),
  cas: fc.constantFrom(null, 1, 2 ** 53 - 1),
});
const scenario = fc.record({
  keys: fc.array(key, { minLength: 1, maxLength: GATHER_KEY_COUNT_MAX }),
  items: fc.dictionary(fc.string({ maxLength: 1 }), item),
  present: fc.array(fc.tuple(key, item), { maxLength: 10 }),
  shardSeed: fc.nat(1_000),
  shardCount: fc.integer({ min: 1, max: 5 }),
  order: fc.array(fc.nat(), { minLength: 5, maxLength: 5 }),
  failing: fc.array(fc.nat(5), { maxLength: 2 }),
  /** Commands of the same session before and behind, and when the first is answered. */
  isBehindOther: fc.boolean(),
  otherAnsweredAfter: fc.nat(5),
  slabCount: fc.constantFrom(1, 2, 256),
});

describe("a gathered get", () => {
  test("says what one memcached would have said", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (plan) => {
        const both = await newClient(plan.slabCount);
        const { rig, client } = both;
        const items = new Map(plan.present);
        const shardOf = (name: string): number =>
          (name.length * 7 + name.charCodeAt(0) * plan.shardSeed) % plan.shardCount;
        const failing = new Set(plan.failing);
        const other = plan.isBehindOther ? client.queue.open(Command.set, 0) : -1;
        const { shares, slotOf, gather } = openGather(both, plan.keys, shardOf);
        client.queue.answer(Command.version, Result.ok, Buffer.from(END), 0, END.length);

        const settleOther = (): void =>
          client.queue.settle(other, Result.ok, Buffer.from("STORED\r\n"), 0, 8);
        const order = [...shares.values()].sort(
          (a, b) => (plan.order[a.shard] ?? 0) - (plan.order[b.shard] ?? 0),
        );
        for (const [index, share] of order.entries()) {
          if (other >= 0 && index === plan.otherAnsweredAfter) settleOther();
          const slot = slotOf.get(share.shard) ?? -1;
          if (failing.has(share.shard)) fail(rig, gather, slot);
          else {
            const found = blocks(share.keys, items);
            const count = share.keys.filter((name) => items.has(name)).length;
            answer(rig, gather, slot, Buffer.concat([found, Buffer.from(END)]), count);
          }
        }
        if (other >= 0 && plan.otherAnsweredAfter >= order.length) settleOther();

        const answered = plan.keys.filter((name) => !failing.has(shardOf(name)));
        const expected = Buffer.concat([
          Buffer.from(other >= 0 ? "STORED\r\n" : ""),
          blocks(answered, items),
          Buffer.from(END),
        ]);
        await until("all has arrived", () => client.pair.farSize() >= expected.length);
        expect(client.pair.farBytes().equals(expected)).toBe(true);
        expect([rig.slots.usedCount, client.queue.inFlightCount]).toEqual([0, 0]);
        expect(rig.isNothingHeld).toBe(true);
        const counted = (result: number): number =>
          client.counters.requests[Command.get * RESULT_COUNT + result] ?? 0;
        const hits = answered.filter((name) => items.has(name)).length;
        expect([counted(Result.hit), counted(Result.miss), counted(Result.failed)]).toEqual([
          hits,
          answered.length - hits,
          plan.keys.length - answered.length,
        ]);
        rig.close();
      }),
      { numRuns: 150 },
    );
  });

  test("of a client that has gone is dropped, at whatever point", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, fc.nat(6), async (plan, goneAfter) => {
        const both = await newClient(plan.slabCount);
        const { rig, client } = both;
        const shardOf = (name: string): number => name.length % plan.shardCount;
        const other = plan.isBehindOther ? client.queue.open(Command.set, 0) : -1;
        const { shares, slotOf, gather } = openGather(both, plan.keys, shardOf);
        const leave = (): void => {
          client.queue.abandon();
          if (other >= 0) rig.slots.free(other);
        };
        const isLast = (index: number): boolean => index === shares.size - 1 && other < 0;
        let hasLeft = false;
        for (const [index, share] of [...shares.values()].entries()) {
          if (index === goneAfter && !hasLeft) {
            hasLeft = true;
            leave();
          }
          if (isLast(index) && !hasLeft) break;
          answer(rig, gather, slotOf.get(share.shard) ?? -1, Buffer.from(END), 0);
        }
        if (!hasLeft) {
          leave();
          const last = [...shares.keys()].at(-1) ?? -1;
          if (other < 0) answer(rig, gather, slotOf.get(last) ?? -1, Buffer.from(END), 0);
        }
        expect([rig.slots.usedCount, client.queue.inFlightCount]).toEqual([0, 0]);
        expect(rig.isNothingHeld).toBe(true);
        rig.close();
      }),
      { numRuns: 100 },
    );
  });

  test("takes the error of one shard for misses of its keys", async () => {
    const both = await newClient();
    const shardOf = (name: string): number => (name < "c" ? 0 : 1);
    const { slotOf, gather } = openGather(both, ["a", "c", "b", "d"], shardOf);
    const error = Buffer.from("SERVER_ERROR out of memory writing get response\r\n");
    answer(both.rig, gather, slotOf.get(0) ?? -1, error, 0);
    const found = block("c", { value: Buffer.from("1"), flags: 0, cas: null });
    answer(both.rig, gather, slotOf.get(1) ?? -1, Buffer.concat([found, Buffer.from(END)]), 1);
    both.client.queue.tell(Buffer.from(END), 0, END.length);
    const expected = "VALUE c 0 1\r\n1\r\nEND\r\n";
    await until("it has arrived", () => both.client.text.length >= expected.length);
    expect(both.client.text).toBe(expected);
    expect(both.rig.slots.usedCount).toBe(0);
  });
});
