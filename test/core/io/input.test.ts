/**
 * What comes in over a real socket: half messages are kept and offered again when enough has come,
 * nothing is lost or told twice, and what is kept is bounded by what really came.
 */
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { HEADROOM_SIZE, READ_SIZE } from "../../../core/io/arena.ts";
import { Loop } from "../../../core/io/loop.ts";
import { Collector, describeWays, openPair, type Pair, quiet, until, type Way } from "./pair.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

let open: Pair[] = [];
afterEach(() => {
  for (const pair of open) pair.close();
  open = [];
});

type Reader = { loop: Loop; reader: Collector; pair: Pair };

async function start(way: Way, loop = new Loop({ io: way.io })): Promise<Reader> {
  const reader = new Collector();
  const pair = await openPair(loop, reader, way.kind);
  reader.connection = pair.near;
  open.push(pair);
  return { loop, reader, pair };
}

/** Messages are a size of four bytes and a body; `looks` notes how much each look was given. */
function readMessages(reader: Collector): { messages: Buffer[]; looks: number[] } {
  const messages: Buffer[] = [];
  const looks: number[] = [];
  reader.take = (bytes, from, to) => {
    looks.push(to - from);
    let at = from;
    while (to - at >= 4) {
      const size = 4 + bytes.readUInt32BE(at);
      if (to - at < size) {
        if (reader.connection !== null) reader.connection.sizeNeeded = size;
        break;
      }
      messages.push(Buffer.from(bytes.subarray(at + 4, at + size)));
      at += size;
    }
    return at;
  };
  return { messages, looks };
}

function message(body: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  return Buffer.concat([head, body]);
}

/** Bodies that differ from each other everywhere. */
const bodyOf = (size: number, seed: number): Buffer =>
  Buffer.from(Array.from({ length: size }, (_, index) => (index * 7 + seed * 31) & 0xff));

async function sendIn(pair: Pair, bytes: Buffer, cuts: readonly number[]): Promise<void> {
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    const piece = bytes.subarray(from, cut);
    from = cut;
    await new Promise<void>((resolve) => pair.far.write(piece, () => resolve()));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describeWays("a connection that was %s", (way) => {
  test.each([
    ["one byte at a time", [5, 0, 30, 1], "bytes"],
    ["small ones in one piece", [3, 0, 100, 7, 2_000], []],
    ["one larger than the headroom", [HEADROOM_SIZE + 1], [10, 4_000]],
    ["one of a size just within the headroom", [HEADROOM_SIZE - 4, 5], [HEADROOM_SIZE - 1]],
    ["one of 1 MB between small ones", [10, MIB, 10], [2, 9, 20, 300_000, 700_000]],
    ["one larger than the read region", [READ_SIZE * 2 + 77, 1], [READ_SIZE, READ_SIZE + 1]],
    ["growing ones", [1, 10, 100, 1_000, 10_000, 100_000], [1, 3, 20, 130, 1_200, 12_000]],
  ] as const)("puts messages together again: %s", async (_, sizes, cuts) => {
    const { loop, reader, pair } = await start(way);
    const { messages } = readMessages(reader);
    const bodies = sizes.map(bodyOf);
    const stream = Buffer.concat(bodies.map(message));
    await sendIn(pair, stream, cuts === "bytes" ? [...stream.keys()].slice(1) : cuts);
    await until("all messages have come", () => messages.length === bodies.length);
    expect(
      messages.map((body, index) => body.equals(bodies[index] ?? Buffer.alloc(0))),
    ).not.toContain(false);
    expect(pair.near.keptSize).toBe(0);
    expect(loop.keptSize).toBe(0);
    expect(pair.near.readSize).toBe(stream.length);
  });

  test("puts messages of any sizes together, cut anywhere", async () => {
    const sizes = fc.array(fc.oneof(fc.nat(20), fc.nat(3_000), fc.nat(150_000)), {
      minLength: 1,
      maxLength: 8,
    });
    const cuts = fc.array(fc.nat(300_000), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(sizes, cuts, async (messageSizes, wantedCuts) => {
        const { loop, reader, pair } = await start(way);
        const { messages } = readMessages(reader);
        const bodies = messageSizes.map(bodyOf);
        const stream = Buffer.concat(bodies.map(message));
        const within = wantedCuts.filter((cut) => cut > 0 && cut < stream.length);
        await sendIn(
          pair,
          stream,
          within.sort((a, b) => a - b),
        );
        await until("all messages have come", () => messages.length === bodies.length);
        expect(Buffer.concat(messages).equals(Buffer.concat(bodies))).toBe(true);
        expect([pair.near.keptSize, loop.keptSize]).toEqual([0, 0]);
        pair.close();
      }),
      { numRuns: 25 },
    );
  });

  test("is not looked at before as much is there as was needed", async () => {
    const { reader, pair } = await start(way);
    const { messages, looks } = readMessages(reader);
    const stream = message(bodyOf(50_000, 1));
    await sendIn(pair, stream, [4, 10, 100, 1_000, 10_000, 20_000, 49_000]);
    await until("the message has come", () => messages.length === 1);
    // The first look tells the size; none of the chunks between is worth another one.
    expect(looks.slice(1)).toEqual(looks.length > 1 ? [stream.length] : []);
  });

  test("keeps what came and nothing of what was announced", async () => {
    const { loop, reader, pair } = await start(way);
    readMessages(reader);
    const before = process.memoryUsage().arrayBuffers;
    const announced = Buffer.alloc(4);
    announced.writeUInt32BE(1_000 * MIB);
    await sendIn(pair, Buffer.concat([announced, bodyOf(1_000, 1)]), [4]);
    await until("it has come", () => pair.near.keptSize === 1_004);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(MIB);
    expect(loop.keptSize).toBe(1_004);
    pair.close();
    expect(loop.keptSize).toBe(0);
  });

  test("leaves a large message that was taken whole to who took it", async () => {
    const { reader, pair } = await start(way);
    const kept: Buffer[] = [];
    const arena = pair.near.loop.arena.bytes;
    reader.take = (bytes, from, to) => {
      const size = 4 + (to - from >= 4 ? bytes.readUInt32BE(from) : 0);
      pair.near.sizeNeeded = size;
      if (to - from < size) return from;
      if (bytes !== arena && to - from === size) kept.push(bytes.subarray(from, to));
      return from + size;
    };
    const bodies = [bodyOf(200_000, 1), bodyOf(200_000, 2), bodyOf(200_000, 3)];
    for (const body of bodies) {
      await sendIn(pair, message(body), [100_000]);
      await until("it was taken", () => pair.near.keptSize === 0);
    }
    expect(kept.length).toBeGreaterThan(0);
    for (const bytes of kept) {
      expect(bodies.some((body) => body.equals(bytes.subarray(4)))).toBe(true);
    }
  });
});

describeWays("a paused connection that was %s", (way) => {
  /** Takes lines, and pauses behind each that says so. */
  function readLines(reader: Collector): string[] {
    const lines: string[] = [];
    reader.take = (bytes, from, to) => {
      let at = from;
      for (;;) {
        const end = bytes.subarray(at, to).indexOf(0x0a);
        if (end < 0) return at;
        const line = bytes.toString("latin1", at, at + end);
        lines.push(line);
        at += end + 1;
        if (line.startsWith("pause")) {
          reader.connection?.pause();
          return at;
        }
      }
    };
    return lines;
  }

  test("tells nothing until it is resumed, then everything in order", async () => {
    const { loop, reader, pair } = await start(way);
    const lines = readLines(reader);
    await sendIn(pair, Buffer.from("a\npause 1\nb\nc\npause 2\nd\nhalf"), []);
    await until("the first pause", () => pair.near.paused);
    await sendIn(pair, Buffer.from(" a line\ne\n"), []);
    await quiet();
    expect(lines).toEqual(["a", "pause 1"]);
    pair.near.resume();
    expect(lines).toEqual(["a", "pause 1", "b", "c", "pause 2"]);
    expect(pair.near.paused).toBe(true);
    pair.near.resume();
    await until("the last line", () => lines.at(-1) === "e");
    expect(lines.slice(5)).toEqual(["d", "half a line", "e"]);
    expect([pair.near.keptSize, loop.keptSize]).toEqual([0, 0]);
  });

  test("loses nothing however often it is paused", async () => {
    const { loop, reader, pair } = await start(way);
    const lines = readLines(reader);
    const sent = Array.from({ length: 3_000 }, (_, index) =>
      index % 3 === 0 ? `pause ${index}` : `${index} ${"x".repeat(index % 90)}`,
    );
    const isSent = sendIn(pair, Buffer.from(`${sent.join("\n")}\n`), [1, 17, 5_000, 5_001, 60_000]);
    await until("the last line", () => {
      if (pair.near.paused) pair.near.resume();
      return lines.length === sent.length;
    });
    await isSent;
    expect(lines).toEqual(sent);
    expect([pair.near.keptSize, loop.keptSize]).toEqual([0, 0]);
  });

  test("takes no more from the other side than a little", async () => {
    const { loop, reader, pair } = await start(way);
    const lines = readLines(reader);
    await sendIn(pair, Buffer.from("pause\n"), []);
    await until("the pause", () => pair.near.paused);
    const line = Buffer.from(`${"y".repeat(999)}\n`);
    let unsent = 0;
    const flood = Buffer.concat(Array.from({ length: 1_000 }, () => line));
    for (let count = 0; count < 30; count++) {
      unsent += flood.length;
      pair.far.write(flood, () => {
        unsent -= flood.length;
      });
    }
    await quiet();
    expect(loop.keptSize).toBeLessThan(2 * READ_SIZE);
    expect(pair.far.writableLength).toBeGreaterThan(10 * MIB);
    pair.near.resume();
    await until("all of it has come", () => lines.length === 30_001);
    expect(unsent).toBe(0);
    expect(loop.keptSize).toBe(0);
  });

  test("is told the end of input only behind what waits", async () => {
    const { reader, pair } = await start(way);
    const lines = readLines(reader);
    const order = (): string[] => [...lines, ...reader.events];
    pair.far.end("a\npause\nb\npause\nc\n");
    await until("the pause", () => pair.near.paused);
    await quiet();
    expect(order()).toEqual(["a", "pause"]);
    pair.near.resume();
    await quiet();
    expect(order()).toEqual(["a", "pause", "b", "pause"]);
    pair.near.resume();
    await until("the end", () => reader.events.length > 0);
    expect(order().slice(0, 6)).toEqual(["a", "pause", "b", "pause", "c", "ended"]);
    expect(reader.events.filter((event) => event === "ended")).toHaveLength(1);
  });

  test("that is reset tells it once and keeps nothing", async () => {
    const { loop, reader, pair } = await start(way);
    readLines(reader);
    await sendIn(pair, Buffer.from("pause\nsome more\n"), []);
    await until("the pause", () => pair.near.paused);
    pair.far.resetAndDestroy();
    await quiet();
    pair.near.resume();
    await until("the end", () => reader.events.some((event) => event.startsWith("closed")));
    await quiet();
    expect(reader.events.filter((event) => event.startsWith("closed"))).toHaveLength(1);
    expect(loop.keptSize).toBe(0);
  });
});

describeWays("a connection that was %s ends", (way) => {
  test("with what the other side has sent before it closed", async () => {
    const { reader, pair } = await start(way);
    pair.far.end("last words");
    await until("the end", () => reader.events.length > 0);
    expect(reader.bytes.toString()).toBe("last words");
    expect(reader.events[0]).toBe("ended");
  });

  test("once, with the reason, when the other side resets it", async () => {
    const { reader, pair } = await start(way);
    await sendIn(pair, Buffer.from("x"), []);
    await until("it has come", () => reader.taken.length > 0);
    pair.far.resetAndDestroy();
    await until("the end", () => reader.events.length > 0);
    await quiet();
    expect(reader.events).toEqual(["closed ECONNRESET"]);
    expect(pair.near.isOpen).toBe(false);
  });

  test("in the middle of a look, and is not looked at again", async () => {
    const { loop, reader, pair } = await start(way);
    let lookCount = 0;
    reader.take = (_bytes, from) => {
      lookCount++;
      pair.near.destroy();
      return from;
    };
    pair.far.write(Buffer.alloc(3 * READ_SIZE));
    await until("the end", () => reader.events.length > 0);
    await quiet();
    expect(lookCount).toBe(1);
    expect(reader.events).toEqual(["closed destroyed"]);
    expect(loop.keptSize).toBe(0);
  });
});
