/** The replies of a session leave in the order of its commands, whatever order they came in. */
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { Command, RESULT_COUNT, Result } from "../../../core/protocol/command.ts";
import { Quiet } from "../../../proxy/routing/slots.ts";
import { PIECE_SIZE_MAX } from "../../../proxy/routing/stash.ts";
import { quiet, until } from "../../core/io/pair.ts";
import { packet } from "../../harness/wire.ts";
import { type Client, Rig } from "../rig.ts";

let rigs: Rig[] = [];
afterEach(() => {
  for (const rig of rigs) rig.close();
  rigs = [];
});

function newRig(slabCount?: number): Rig {
  const rig = new Rig(slabCount === undefined ? {} : { slabCount });
  rigs.push(rig);
  return rig;
}

/** A reply stands somewhere in bytes that are overwritten as soon as it was told. */
function settle(client: Client, slot: number, reply: Buffer): void {
  const bytes = Buffer.concat([Buffer.from("before"), reply, Buffer.from("behind")]);
  client.queue.settle(slot, Result.ok, bytes, 6, reply.length);
  bytes.fill("!");
}

const replyOf = (size: number, index: number): Buffer => Buffer.alloc(size, `<${index}:${size}>`);

/** What a client does, and in which order its replies come. */
type Step = { kind: "open" | "answer" | "settle"; size: number; which: number; whole: boolean };

const size = fc.oneof(
  { weight: 8, arbitrary: fc.nat(60) },
  { weight: 2, arbitrary: fc.nat(5_000) },
  { weight: 1, arbitrary: fc.integer({ min: PIECE_SIZE_MAX - 2, max: PIECE_SIZE_MAX + 2 }) },
  { weight: 1, arbitrary: fc.integer({ min: 40_000, max: 90_000 }) },
);
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.record<Step>({
    kind: fc.constantFrom("open", "open", "open", "answer", "settle", "settle"),
    size,
    which: fc.nat(),
    whole: fc.boolean(),
  }),
  { maxLength: 120 },
);

describe("replies", () => {
  test.each([256, 3, 1])("leave in the order of commands, with %i slabs", async (slabCount) => {
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        const rig = newRig(slabCount);
        const client = await rig.newClient();
        const expected: Buffer[] = [];
        const waiting: { slot: number; reply: Buffer; whole: boolean }[] = [];
        const settleOne = ({ slot, reply, whole }: (typeof waiting)[0]): void => {
          // A large reply may come in a buffer of its own, which is then passed on.
          if (whole) client.queue.settle(slot, Result.ok, Buffer.from(reply), 0, reply.length);
          else settle(client, slot, reply);
        };
        for (const [index, step] of plan.entries()) {
          const reply = replyOf(step.size, index);
          if (step.kind === "open") {
            expected.push(reply);
            waiting.push({ slot: client.queue.open(Command.set, 0), reply, whole: step.whole });
          } else if (step.kind === "answer") {
            expected.push(reply);
            client.queue.answer(Command.version, Result.ok, reply, 0, reply.length);
          } else if (waiting.length > 0) {
            const [one] = waiting.splice(step.which % waiting.length, 1);
            if (one !== undefined) settleOne(one);
          }
        }
        for (const one of waiting.reverse()) settleOne(one);
        const whole = Buffer.concat(expected);
        await until("all has arrived", () => client.pair.farSize() >= whole.length);
        expect(client.pair.farBytes().equals(whole)).toBe(true);
        expect([rig.slots.usedCount, client.queue.inFlightCount]).toEqual([0, 0]);
        expect(client.queue.isEmpty).toBe(true);
        expect(rig.isNothingHeld).toBe(true);
        rig.close();
      }),
      { numRuns: 40 },
    );
  });

  test("of a client that has gone are dropped, each slot freed once", async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.nat(120), async (plan, goneAt) => {
        const rig = newRig();
        const client = await rig.newClient();
        const waiting: number[] = [];
        /** As a link does when nobody waits for its reply. */
        const settleOne = (slot: number, bytes: number): void => {
          if (rig.slots.queue[slot] === null) rig.slots.free(slot);
          else settle(client, slot, replyOf(bytes, slot));
        };
        for (const [index, step] of plan.entries()) {
          if (index === goneAt) client.queue.abandon();
          if (step.kind === "settle" && waiting.length > 0) {
            const [slot] = waiting.splice(step.which % waiting.length, 1);
            settleOne(slot ?? -1, step.size);
          } else if (step.kind === "open" && index < goneAt) {
            waiting.push(client.queue.open(Command.set, 0));
          }
        }
        if (plan.length <= goneAt) client.queue.abandon();
        for (const slot of waiting) settleOne(slot, 10);
        await until("everything is written", () => rig.isNothingHeld);
        expect([rig.slots.usedCount, client.queue.inFlightCount]).toEqual([0, 0]);
        rig.close();
      }),
      { numRuns: 60 },
    );
  });

  test("are not sent before their turn", async () => {
    const rig = newRig();
    const client = await rig.newClient();
    const slots = [0, 1, 2].map(() => client.queue.open(Command.set, 0));
    settle(client, slots[2] ?? -1, Buffer.from("third"));
    settle(client, slots[1] ?? -1, Buffer.from("second "));
    await quiet();
    expect(client.text).toBe("");
    settle(client, slots[0] ?? -1, Buffer.from("first "));
    await until("all has arrived", () => client.text === "first second third");
  });

  test("tell when all commands are answered, at once if they are", async () => {
    const rig = newRig();
    const client = await rig.newClient();
    let emptyCount = 0;
    client.queue.whenEmpty(() => emptyCount++);
    expect(emptyCount).toBe(1);
    const [first, second] = [client.queue.open(Command.set, 0), client.queue.open(Command.set, 0)];
    client.queue.whenEmpty(() => emptyCount++);
    settle(client, second, Buffer.from("b"));
    expect(emptyCount).toBe(1);
    settle(client, first, Buffer.from("a"));
    expect(emptyCount).toBe(2);
  });
});

describe("a quiet command", () => {
  /** What the client reads of one reply. */
  async function heard(
    command: number,
    quietness: number,
    result: number,
    dialect: "text" | "binary" = "text",
  ): Promise<Buffer> {
    const rig = newRig();
    const client = await rig.newClient(dialect);
    const slot = client.queue.open(command, 0);
    rig.slots.quiet[slot] = quietness;
    rig.slots.opcode[slot] = 0x11;
    const reply = packet({ opcode: "set", magic: 0x81, value: "reply" });
    client.queue.settle(slot, result, Buffer.concat([reply]), 0, reply.length);
    client.queue.answer(Command.noop, Result.ok, Buffer.from("end"), 0, 3);
    await until("the end", () => client.text.endsWith("end"));
    expect(client.counters.requests[command * RESULT_COUNT + result]).toBe(1);
    return client.pair.farBytes().subarray(0, -3);
  }

  test("with noreply is never heard of", async () => {
    for (const result of Object.values(Result)) {
      expect(await heard(Command.set, Quiet.all, result)).toHaveLength(0);
    }
  });

  test("in binary is heard of when it failed, under the opcode that was sent", async () => {
    expect(await heard(Command.set, Quiet.binary, Result.ok, "binary")).toHaveLength(0);
    for (const result of [
      Result.notStored,
      Result.exists,
      Result.clientError,
      Result.serverError,
    ]) {
      expect((await heard(Command.set, Quiet.binary, result, "binary"))[1]).toBe(0x11);
    }
    expect((await heard(Command.set, Quiet.no, Result.ok, "binary"))[1]).toBe(0x01);
  });

  test("get in binary is heard of when it hit", async () => {
    for (const command of [Command.get, Command.gat]) {
      expect(await heard(command, Quiet.binary, Result.miss, "binary")).toHaveLength(0);
      expect((await heard(command, Quiet.binary, Result.hit, "binary"))[1]).toBe(0x11);
    }
  });

  test("in meta is heard of unless it did what was asked, mg unless it missed", async () => {
    expect(await heard(Command.mg, Quiet.meta, Result.miss)).toHaveLength(0);
    expect(await heard(Command.mg, Quiet.meta, Result.hit)).not.toHaveLength(0);
    for (const command of [Command.ms, Command.md, Command.ma]) {
      expect(await heard(command, Quiet.meta, Result.ok)).toHaveLength(0);
      expect(await heard(command, Quiet.meta, Result.notFound)).not.toHaveLength(0);
      expect(await heard(command, Quiet.meta, Result.exists)).not.toHaveLength(0);
    }
  });
});

describe("commands in flight", () => {
  /** Opens commands until the queue is full; those must be answered before it takes more. */
  function fill(client: Client): number[] {
    const slots: number[] = [];
    while (!client.queue.isFull && slots.length < 5_000) {
      slots.push(client.queue.open(Command.get, 0));
    }
    return slots;
  }

  test("are few at first, more as small replies come, and never more than 1,024", async () => {
    const rig = newRig();
    const client = await rig.newClient();
    const counts: number[] = [];
    for (let round = 0; round < 12; round++) {
      const slots = fill(client);
      counts.push(slots.length);
      for (const slot of slots) settle(client, slot, Buffer.from("END\r\n"));
    }
    expect(counts[0]).toBeLessThanOrEqual(64);
    expect(counts.at(-1)).toBe(1_024);
    expect(counts).toEqual(counts.toSorted((a, b) => a - b));
  });

  test("of large replies are what keeps 8 MB coming", async () => {
    const rig = newRig();
    const client = await rig.newClient();
    const large = Buffer.alloc(1_000_000);
    for (const slot of fill(client)) settle(client, slot, Buffer.from("END\r\n"));
    for (const slot of fill(client)) settle(client, slot, large);
    expect(fill(client)).toHaveLength(8);
  });

  test("are told to go on once, when half of them are answered", async () => {
    const rig = newRig();
    const client = await rig.newClient();
    const slots = fill(client);
    client.queue.isHeldBack = true;
    let answered = 0;
    for (const slot of slots) {
      settle(client, slot, Buffer.from("END\r\n"));
      answered++;
      if (client.mayProceedCount === 0) continue;
      client.queue.isHeldBack = false;
      break;
    }
    expect(answered).toBeGreaterThan(1);
    expect(answered).toBeLessThan(slots.length);
    for (const slot of slots.slice(answered)) settle(client, slot, Buffer.from("END\r\n"));
    expect(client.mayProceedCount).toBe(1);
  });
});
