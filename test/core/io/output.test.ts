/**
 * What goes out over a real socket: in order, in one write per turn, held in slabs of the arena
 * that all come back, whatever becomes of the connection.
 */
import { afterEach, expect, test } from "vitest";
import { SLAB_SIZE } from "../../../core/io/arena.ts";
import { HIGH_WATER_SIZE } from "../../../core/io/connection.ts";
import { Loop } from "../../../core/io/loop.ts";
import { seededRandom } from "../../../core/runtime/random.ts";
import { Collector, describeWays, openPair, type Pair, quiet, until, type Way } from "./pair.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

let open: Pair[] = [];
afterEach(() => {
  for (const pair of open) pair.close();
  open = [];
});

type Writer = { loop: Loop; events: string[]; pair: Pair };

async function start(way: Way, loop = new Loop({ io: way.io })): Promise<Writer> {
  const collector = new Collector();
  const pair = await openPair(loop, collector, way.kind);
  open.push(pair);
  return { loop, events: collector.events, pair };
}

/** Bytes that show where they belong. */
function pattern(size: number, seed = 1): Buffer {
  const words = new Uint32Array((size >> 2) + 1);
  for (let at = 0; at < words.length; at++) words[at] = at * 16 + seed;
  return Buffer.from(words.buffer, 0, size);
}

const append = ({ near }: Pair, bytes: Buffer): void => near.append(bytes, 0, bytes.length);
const arrived = (pair: Pair, size: number): Promise<void> =>
  until(`${size} bytes have arrived`, () => pair.farSize() >= size);

/** Nothing is left of anything that was to be sent. */
function expectNothingHeld({ loop, pair }: Writer): void {
  expect(loop.arena.usedCount).toBe(0);
  expect(loop.unsentSize).toBe(0);
  expect(pair.near.unsentSize).toBe(0);
}

/** More than the kernel takes while nobody reads: the far end stops reading first. */
async function jam(writer: Writer, size = 16 * MIB): Promise<Buffer> {
  writer.pair.far.pause();
  const bytes = pattern(size);
  append(writer.pair, bytes);
  await quiet();
  expect(writer.loop.unsentSize).toBeGreaterThan(0);
  return bytes;
}

describeWays("output of a connection that was %s", (way) => {
  test.each([
    ["one byte", [1]],
    ["a slab to the byte", [SLAB_SIZE]],
    ["a byte more than a slab", [SLAB_SIZE + 1]],
    ["small ones across the end of a slab", Array.from({ length: 700 }, (_, index) => index % 200)],
    ["one of many slabs", [10 * SLAB_SIZE + 5]],
    ["small and large mixed", [10, 100_000, 1, 40_000, 7]],
  ])("arrives in order: %s", async (_, sizes) => {
    const writer = await start(way);
    const parts = sizes.map((size, index) => pattern(size, index));
    for (const part of parts) append(writer.pair, part);
    const whole = Buffer.concat(parts);
    await arrived(writer.pair, whole.length);
    expect(writer.pair.farBytes().equals(whole)).toBe(true);
    expect(writer.pair.near.writtenSize).toBe(whole.length);
    expectNothingHeld(writer);
  });

  test("is copied from the middle of what it is given", async () => {
    const writer = await start(way);
    writer.pair.near.append(Buffer.from("0123456789"), 3, 4);
    writer.pair.near.append(writer.loop.arena.bytes, 0, 0);
    await arrived(writer.pair, 4);
    expect(writer.pair.farBytes().toString()).toBe("3456");
  });

  test("may come from the arena itself", async () => {
    const writer = await start(way);
    const bytes = pattern(50_000);
    bytes.copy(writer.loop.arena.bytes, 100);
    writer.pair.near.append(writer.loop.arena.bytes, 100, bytes.length);
    writer.loop.arena.bytes.fill(0, 100, 100 + bytes.length);
    await arrived(writer.pair, bytes.length);
    expect(writer.pair.farBytes().equals(bytes)).toBe(true);
  });

  test("of a turn is one write", async () => {
    const writer = await start(way);
    const before = writer.loop.writeCount;
    for (let count = 0; count < 100; count++) append(writer.pair, Buffer.from("a reply\r\n"));
    expect(writer.loop.writeCount).toBe(before);
    await arrived(writer.pair, 900);
    expect(writer.loop.writeCount).toBe(before + 1);
  });

  test("keeps its place between copied and adopted bytes", async () => {
    const writer = await start(way);
    const parts = [10, 70_000, 20, 30, 50_000, 1].map((size, index) => pattern(size, index));
    for (const part of parts) {
      if (part.length > 40_000) writer.pair.near.adopt(part);
      else append(writer.pair, part);
    }
    const whole = Buffer.concat(parts);
    await arrived(writer.pair, whole.length);
    expect(writer.pair.farBytes().equals(whole)).toBe(true);
    expectNothingHeld(writer);
  });

  test("waits while corked, and goes on where it stopped", async () => {
    const writer = await start(way);
    writer.pair.near.corked = true;
    append(writer.pair, Buffer.from("one "));
    await quiet();
    append(writer.pair, Buffer.from("two "));
    await quiet();
    expect(writer.pair.farSize()).toBe(0);
    expect(writer.pair.near.unsentSize).toBe(8);
    writer.pair.near.uncork();
    append(writer.pair, Buffer.from("three"));
    await arrived(writer.pair, 13);
    expect(writer.pair.farBytes().toString()).toBe("one two three");
    expectNothingHeld(writer);
  });

  test("that was corked and not wanted any more is given back", async () => {
    const writer = await start(way);
    writer.pair.near.corked = true;
    append(writer.pair, pattern(5 * SLAB_SIZE));
    expect(writer.loop.arena.usedCount).toBeGreaterThan(0);
    writer.pair.near.destroy();
    writer.pair.near.uncork();
    await quiet();
    expect(writer.loop.arena.usedCount).toBe(0);
  });
});

describeWays("back-pressure of a connection that was %s", (way) => {
  test("is full above the high-water mark, and tells once that it drained", async () => {
    const writer = await start(way);
    append(writer.pair, pattern(HIGH_WATER_SIZE));
    expect(writer.pair.near.isFull).toBe(false);
    append(writer.pair, pattern(1));
    expect(writer.pair.near.isFull).toBe(true);
    await arrived(writer.pair, HIGH_WATER_SIZE + 1);
    await until("it drained", () => writer.events.length > 0);
    await quiet();
    expect(writer.events).toEqual(["drained"]);
    expect(writer.pair.near.isFull).toBe(false);
    expectNothingHeld(writer);
  });

  test("tells nobody who did not find it full", async () => {
    const writer = await start(way);
    const size = 4 * HIGH_WATER_SIZE;
    append(writer.pair, pattern(size));
    await arrived(writer.pair, size);
    await quiet();
    expect(writer.events).toEqual([]);
  });

  test("lasts until the other side reads, and nothing is lost", async () => {
    const writer = await start(way);
    const first = await jam(writer);
    expect(writer.pair.near.isFull).toBe(true);
    const second = pattern(300_000, 9);
    append(writer.pair, second);
    await quiet();
    expect(writer.events).toEqual([]);
    expect(writer.pair.near.unsentSize).toBeGreaterThan(HIGH_WATER_SIZE);
    expect(writer.loop.unsentSize).toBe(writer.pair.near.unsentSize);
    writer.pair.far.resume();
    await arrived(writer.pair, first.length + second.length);
    await until("it drained", () => writer.events.length > 0);
    expect(writer.events).toEqual(["drained"]);
    expect(writer.pair.farBytes().equals(Buffer.concat([first, second]))).toBe(true);
    expectNothingHeld(writer);
  });

  test("does not touch what is on its way while slabs are used again", async () => {
    const loop = new Loop({ slabCount: 1_024, io: way.io });
    const slow = await start(way, loop);
    const quick = await start(way, loop);
    const expected = await jam(slow);
    for (let round = 0; round < 50; round++) {
      const size = quick.pair.farSize();
      append(quick.pair, Buffer.alloc(100_000, round));
      await arrived(quick.pair, size + 100_000);
    }
    slow.pair.far.resume();
    await arrived(slow.pair, expected.length);
    expect(slow.pair.farBytes().equals(expected)).toBe(true);
    expectNothingHeld(slow);
  });
});

describeWays("slabs of a connection that was %s come back", (way) => {
  test("when the other side resets it in the middle of a write", async () => {
    const writer = await start(way);
    await jam(writer);
    append(writer.pair, pattern(100_000));
    expect(writer.loop.arena.usedCount).toBeGreaterThan(0);
    writer.pair.far.resetAndDestroy();
    await until("it is closed", () => writer.events.some((event) => event.startsWith("closed")));
    await until("the slabs are back", () => writer.loop.arena.usedCount === 0);
    expect(writer.loop.unsentSize).toBe(0);
    expect(writer.events.filter((event) => event.startsWith("closed"))).toHaveLength(1);
  });

  test("when we destroy it in the middle of a write", async () => {
    const writer = await start(way);
    await jam(writer);
    append(writer.pair, pattern(100_000));
    writer.pair.near.destroy();
    expect(writer.events).toContain("closed destroyed");
    await until("the slabs are back", () => writer.loop.arena.usedCount === 0);
    expect(writer.loop.unsentSize).toBe(0);
  });

  test("when it is destroyed before anything was written", async () => {
    const writer = await start(way);
    append(writer.pair, pattern(200_000));
    writer.pair.near.destroy();
    await quiet();
    expect(writer.loop.arena.usedCount).toBe(0);
    expect(writer.events).toEqual(["closed destroyed"]);
  });

  test("when the other side is gone and we write all the same", async () => {
    const writer = await start(way);
    writer.pair.far.resetAndDestroy();
    for (let count = 0; count < 20 && writer.pair.near.isOpen; count++) {
      append(writer.pair, pattern(100_000));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until("it is closed", () => !writer.pair.near.isOpen);
    await until("the slabs are back", () => writer.loop.arena.usedCount === 0);
    expect(writer.loop.unsentSize).toBe(0);
  });

  test("after a hundred connections of every fate", async () => {
    const loop = new Loop({ io: way.io });
    const random = seededRandom(7);
    for (let round = 0; round < 100; round++) {
      const writer = await start(way, loop);
      const fate = Math.floor(random.next() * 5);
      if (fate < 3) writer.pair.far.pause();
      append(writer.pair, pattern(Math.floor(random.next() * 3 * MIB)));
      if (fate === 0) writer.pair.near.destroy();
      await new Promise((resolve) => setImmediate(resolve));
      if (fate === 1) writer.pair.far.resetAndDestroy();
      if (fate === 2) writer.pair.near.destroy();
      if (fate === 3) writer.pair.near.end();
      await new Promise((resolve) => setImmediate(resolve));
      writer.pair.close();
    }
    await until("all slabs are back", () => loop.arena.usedCount === 0);
    expect([loop.unsentSize, loop.keptSize]).toEqual([0, 0]);
  });
});

describeWays("an end of a connection that was %s", (way) => {
  test("comes behind everything that was appended", async () => {
    const writer = await start(way);
    let isEnded = false;
    writer.pair.far.on("end", () => {
      isEnded = true;
    });
    const bytes = pattern(5 * MIB);
    append(writer.pair, bytes);
    writer.pair.near.end();
    await until("the other side saw the end", () => isEnded);
    expect(writer.pair.farBytes().equals(bytes)).toBe(true);
    writer.pair.far.end();
    await until("it is closed", () => writer.events.some((event) => event.startsWith("closed")));
    expectNothingHeld(writer);
  });

  test("of an idle connection comes too", async () => {
    const writer = await start(way);
    let isEnded = false;
    writer.pair.far.on("end", () => {
      isEnded = true;
    });
    writer.pair.near.end();
    writer.pair.near.end();
    await until("the other side saw the end", () => isEnded);
  });

  test("does not wait for ever for the other side to close too", async () => {
    const writer = await start(way);
    append(writer.pair, Buffer.from("bye"));
    writer.pair.near.end();
    await until("it is closed", () => writer.events.length > 0);
    expect(writer.pair.farBytes().toString()).toBe("bye");
    expectNothingHeld(writer);
  });

  test("does not wait for ever for the other side to read", async () => {
    const writer = await start(way);
    await jam(writer);
    writer.pair.near.end();
    await until("it is closed", () => writer.events.some((event) => event.startsWith("closed")));
    await until("the slabs are back", () => writer.loop.arena.usedCount === 0);
    expect(writer.loop.unsentSize).toBe(0);
  });
});

describeWays("a full arena of a connection that was %s", (way) => {
  test("sends from the heap instead, and everything arrives", async () => {
    const loop = new Loop({ slabCount: 2, io: way.io });
    const writers = [await start(way, loop), await start(way, loop)];
    const parts = [50_000, 10, 200_000, 1, 1, 90_000].map((size, index) => pattern(size, index));
    for (const part of parts) for (const { pair } of writers) append(pair, part);
    expect(loop.arena.usedCount).toBe(2);
    const whole = Buffer.concat(parts);
    for (const { pair } of writers) {
      await arrived(pair, whole.length);
      expect(pair.farBytes().equals(whole)).toBe(true);
    }
    expect([loop.arena.usedCount, loop.unsentSize]).toEqual([0, 0]);
  });

  test("counts what the heap holds as unsent", async () => {
    const loop = new Loop({ slabCount: 1, io: way.io });
    const writer = await start(way, loop);
    const bytes = await jam(writer, 12 * MIB);
    expect(writer.pair.near.isFull).toBe(true);
    writer.pair.far.resume();
    await arrived(writer.pair, bytes.length);
    expect(writer.pair.farBytes().equals(bytes)).toBe(true);
    await until("it drained", () => writer.events.includes("drained"));
    expectNothingHeld(writer);
  });
});

test("a turn has one time, and the next a later one", async () => {
  const loop = new Loop();
  loop.turn();
  const first = loop.nowMs;
  const busyUntil = performance.now() + 3;
  while (performance.now() < busyUntil);
  loop.turn();
  expect(loop.nowMs).toBe(first);
  await new Promise((resolve) => setImmediate(resolve));
  loop.turn();
  expect(loop.nowMs).toBeGreaterThan(first);
});
