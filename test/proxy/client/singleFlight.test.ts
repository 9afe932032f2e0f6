/** Gets of one key that come at the same time share one read of its shard. */
import { afterEach, describe, expect, test } from "vitest";
import { CLIENT_COUNT_MAX } from "../../../proxy/routing/trackedRead.ts";
import { until } from "../../core/io/pair.ts";
import { packet, readPackets, type Wire } from "../../harness/wire.ts";
import { type FakeConnection, FakeShard } from "../fakeShard.ts";
import { TestWorker } from "../worker.ts";

let started: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const part of started.reverse()) await part.stop();
  started = [];
});

async function start(singleFlight: "failover" | "always" = "always", setup = {}) {
  const shard = await FakeShard.start();
  const worker = await new TestWorker({ shards: [shard.address], ...setup }).start();
  started.push(shard, worker);
  worker.changeCache({ policies: { singleFlight } });
  return { shard, worker };
}

/** So many sessions ask the same; all of it has been read when this returns. */
async function askAll(worker: TestWorker, wires: readonly Wire[], bytes: string | Buffer) {
  for (const wire of wires) await wire.send(bytes);
  await until("all have asked", () => {
    const { serving } = worker.worker.services;
    return [...serving].filter(({ queue }) => queue.inFlightCount > 0).length >= wires.length;
  });
}

const opened = (worker: TestWorker, count: number): Promise<Wire[]> =>
  Promise.all(Array.from({ length: count }, () => worker.open()));

const VALUE = "VALUE k 0 1\r\nv\r\nEND\r\n";

async function expectAsked(connection: FakeConnection, text: string): Promise<void> {
  await connection.takeText(text);
  expect(String(connection.received)).toBe("");
}

describe("with single-flight always", () => {
  test("gets of one key at the same time ask the shard once", async () => {
    const { shard, worker } = await start();
    const wires = await opened(worker, 5);
    await askAll(worker, wires, "get k\r\n");
    const connection = await shard.nextValid();
    await expectAsked(connection, "get k\r\n");
    connection.write(VALUE);
    for (const wire of wires) expect(String((await wire.read(VALUE.length)).bytes)).toBe(VALUE);
    await worker.untilNothingIsHeld();
  });

  test("a get that comes when the answer was there asks again; gets and other keys ask for themselves", async () => {
    const { shard, worker } = await start();
    const [one, two, three] = (await opened(worker, 3)) as [Wire, Wire, Wire];
    await one.send("get k\r\n");
    const connection = await shard.nextValid();
    await connection.takeText("get k\r\n");
    connection.write("END\r\n");
    expect(String((await one.read(5)).bytes)).toBe("END\r\n");
    await one.send("get k\r\n");
    await connection.takeText("get k\r\n");
    await two.send("gets k\r\n");
    await connection.takeText("gets k\r\n");
    await three.send("get other\r\n");
    await connection.takeText("get other\r\n");
    connection.write("END\r\n".repeat(3));
    for (const wire of [one, two, three]) await wire.readUntil("END\r\n");
    await worker.untilNothingIsHeld();
  });

  test("binary gets have their own opaques and opcodes; quiet ones hear no miss", async () => {
    const { shard, worker } = await start();
    const wires = await opened(worker, 3);
    const opcodes = ["get", "getq", "get"] as const;
    for (const [i, wire] of wires.entries()) {
      await wire.send(packet({ opcode: opcodes[i]!, key: "k", opaque: 7 + i }));
    }
    await until("all have asked", () => worker.worker.services.slots.usedCount === 4);
    const connection = await shard.nextValid();
    await connection.take(25);
    expect(connection.received.length).toBe(0);
    const reply = packet({ opcode: "get", extras: Buffer.alloc(4), value: "v" });
    reply[0] = 0x81;
    connection.write(reply);
    for (const [i, wire] of wires.entries()) {
      const { packets } = readPackets((await wire.read(reply.length)).bytes);
      expect(packets[0]).toMatchObject({ opaque: 7 + i, status: 0, value: Buffer.from("v") });
      expect(packets[0]!.opcode).toBe(opcodes[i] === "getq" ? 9 : 0);
    }
    await worker.untilNothingIsHeld();
  });

  test("of meta gets that are asked to recache one is: the others ask for themselves", async () => {
    const { shard, worker } = await start();
    const wires = await opened(worker, 2);
    await askAll(worker, wires, "mg k v\r\n");
    const connection = await shard.nextValid();
    await expectAsked(connection, "mg k v\r\n");
    connection.write("VA 1 W\r\na\r\n");
    await connection.takeText("mg k v\r\n");
    connection.write("VA 1 Z\r\na\r\n");
    const size = "VA 1 W\r\na\r\n".length;
    const told = await Promise.all(
      wires.map(async (wire) => String((await wire.read(size)).bytes)),
    );
    expect(told.sort()).toEqual(["VA 1 W\r\na\r\n", "VA 1 Z\r\na\r\n"]);
    await worker.untilNothingIsHeld();
  });

  test("sessions with and without a key prefix meet at the stored key", async () => {
    const { shard, worker } = await start("always", {
      logins: { all: ["read"], some: ["read"] },
      prefixes: { some: "p:" },
    });
    const plain = await worker.openAs("all", "text");
    const prefixed = await worker.openAs("some", "text");
    await plain.send("get p:k\r\n");
    await prefixed.send("get k\r\n");
    const { slots } = worker.worker.services;
    // For each of them the key and the END behind it, and one for the shard.
    await until("both have asked", () => slots.usedCount === 5);
    const connection = await shard.nextValid();
    await expectAsked(connection, "get p:k\r\n");
    connection.write("VALUE p:k 0 1\r\nv\r\nEND\r\n");
    expect(String((await plain.readUntil("END\r\n")).bytes)).toContain("VALUE p:k 0 1");
    expect(String((await prefixed.readUntil("END\r\n")).bytes)).toBe(VALUE);
  });

  test.each([
    ["set k 0 0 1\r\nw\r\n", "STORED\r\n"],
    ["delete k\r\n", "DELETED\r\n"],
    ["incr k 1\r\n", "2\r\n"],
    ["ms k 1\r\nw\r\n", "HD\r\n"],
    ["flush_all\r\n", "OK\r\n"],
  ])("who asks after %j was acknowledged does not get what was read before", async (line, answer) => {
    const { shard, worker } = await start();
    const [before, writer, between, after] = (await opened(worker, 4)) as [Wire, Wire, Wire, Wire];
    await before.send("get k\r\n");
    const connection = await shard.nextValid();
    await connection.takeText("get k\r\n");
    await writer.send(line);
    await connection.takeText(line);
    await between.send("get k\r\n");
    await connection.takeText("get k\r\n");
    // All of it is on one connection: its shard answers in order.
    connection.write(VALUE + answer);
    expect(String((await writer.read(answer.length)).bytes)).toBe(answer);
    await after.send("get k\r\n");
    await connection.takeText("get k\r\n");
    connection.write("VALUE k 0 1\r\nw\r\nEND\r\n".repeat(2));
    expect(String((await before.readUntil("END\r\n")).bytes)).toBe(VALUE);
    for (const wire of [between, after]) {
      expect(String((await wire.readUntil("END\r\n")).bytes)).toContain("\r\nw\r\n");
    }
    await worker.untilNothingIsHeld();
  });

  test("a shard that fails fails all who wait; clients that go leave nothing", async () => {
    const { shard, worker } = await start();
    worker.changeCache({ policies: { singleFlight: "always", unansweredRead: "error" } });
    const wires = await opened(worker, 3);
    await askAll(worker, wires, "get k\r\n");
    const connection = await shard.nextValid();
    await connection.takeText("get k\r\n");
    wires[0]!.reset();
    await until("it has gone", () => worker.sessionCount === 2);
    connection.reset();
    for (const wire of wires.slice(1)) {
      const { bytes } = await wire.readUntil("\r\n");
      expect(String(bytes)).toBe("SERVER_ERROR shard connection closed\r\n");
    }
    await worker.untilNothingIsHeld();
  });

  test("so many may wait for one read; more make another", async () => {
    const { shard, worker } = await start();
    const many = "mg k v\r\n".repeat(32);
    const wires = await opened(worker, CLIENT_COUNT_MAX / 32 + 1);
    await askAll(worker, wires, many);
    const connection = await shard.nextValid();
    await connection.takeText("mg k v\r\n");
    await connection.takeText("mg k v\r\n");
    for (let i = 0; i < 40; i++) connection.write("EN\r\n");
    for (const wire of wires) await wire.read(32 * 4);
    await worker.untilNothingIsHeld();
  });
});

test("by default every get asks its shard, while all shards are in", async () => {
  const { shard, worker } = await start("failover");
  const wires = await opened(worker, 2);
  await askAll(worker, wires, "get k\r\n");
  const connection = await shard.nextValid();
  await connection.takeText("get k\r\nget k\r\n");
  connection.write(VALUE.repeat(2));
  for (const wire of wires) expect(String((await wire.readUntil("END\r\n")).bytes)).toBe(VALUE);
});
