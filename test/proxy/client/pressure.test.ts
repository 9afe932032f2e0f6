/**
 * Clients that do not read, shards that do not read or answer, tables that are full: whoever makes
 * too much waits, nobody else does, nothing is lost and nothing is left.
 */
import { afterEach, describe, expect, test } from "vitest";
import { Command } from "../../../core/protocol/command.ts";
import { SLOT_COUNT_MAX } from "../../../proxy/routing/slots.ts";
import { quiet, until } from "../../core/io/pair.ts";
import { describeWith } from "../../e2e/suite.ts";
import { startMemcached } from "../../harness/processes.ts";
import { packet, readPackets, type Wire } from "../../harness/wire.ts";
import { type FakeConnection, FakeShard } from "../fakeShard.ts";
import { TestWorker, type WorkerSetup } from "../worker.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

let started: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const part of started.reverse()) await part.stop();
  started = [];
});

async function start(setup: WorkerSetup): Promise<TestWorker> {
  const worker = await new TestWorker(setup).start();
  started.push(worker);
  return worker;
}

async function startShard(): Promise<FakeShard> {
  const shard = await FakeShard.start();
  started.push(shard);
  return shard;
}

/** Sends without waiting until the other side has taken it. */
const pour = (wire: Wire, bytes: Buffer | string): void => {
  wire.socket.write(bytes);
};

describeWith(["memcached"], "a client that does not read", () => {
  const VALUE = "v".repeat(100 * KIB);
  const HIT = `VALUE large 0 ${VALUE.length}\r\n${VALUE}\r\nEND\r\n`;

  async function withLargeValue(): Promise<TestWorker> {
    const memcached = await startMemcached();
    started.push(memcached);
    const worker = await start({ shards: [memcached.address] });
    const wire = await worker.open();
    await wire.ask(`set large 0 0 ${VALUE.length}\r\n${VALUE}\r\n`, "STORED\r\n");
    return worker;
  }

  test("makes the proxy hold a little, costs others nothing, and gets all when it reads", async () => {
    const worker = await withLargeValue();
    const { loop, slots } = worker.worker.services;
    const lazy = await worker.open();
    lazy.socket.pause();
    const count = 2_000;
    pour(lazy, "get large\r\n".repeat(count));
    await until("the proxy holds something", () => loop.unsentSize > 0);
    const other = await worker.open();
    for (let round = 0; round < 20; round++) {
      await other.ask(`set small 0 0 5\r\n${`${round}`.padStart(5)}\r\n`, "STORED\r\n");
      expect(String(await other.ask("get small\r\n", "END\r\n"))).toContain(`${round}`.padStart(5));
    }
    // What 2,000 replies would be is 200 MB; in flight are at most 8 MB by the size of a reply.
    expect(loop.unsentSize).toBeLessThan(12 * MIB);
    expect(loop.keptSize).toBeLessThan(256 * KIB);
    expect(slots.usedCount).toBeLessThan(200);
    lazy.socket.resume();
    const { bytes } = await lazy.read(HIT.length * count, 20_000);
    expect(bytes.length).toBe(HIT.length * count);
    expect(bytes.equals(Buffer.from(HIT.repeat(count)))).toBe(true);
    lazy.close();
    await worker.untilNothingIsHeld();
  });

  test("and goes away leaves nothing behind", async () => {
    const worker = await withLargeValue();
    const { loop } = worker.worker.services;
    for (const how of ["close", "reset"] as const) {
      const lazy = await worker.open();
      lazy.socket.pause();
      pour(lazy, "get large\r\n".repeat(1_000));
      await until("the proxy holds something", () => loop.unsentSize > 0);
      lazy[how]();
      await worker.untilNothingIsHeld();
    }
  });

  test("does not keep the proxy from stopping", async () => {
    const worker = await withLargeValue();
    const { loop } = worker.worker.services;
    const lazy = await worker.open();
    lazy.socket.pause();
    pour(lazy, "get large\r\n".repeat(1_000));
    await until("the proxy holds something", () => loop.unsentSize > 0);
    const isDrained = worker.worker.drain().then(() => "stopped");
    const tooLong = new Promise((resolve) => setTimeout(() => resolve("hangs"), 15_000));
    const fate = await Promise.race([isDrained, tooLong]);
    lazy.reset();
    expect(fate).toBe("stopped");
    expect(worker.sessionCount).toBe(0);
  });

  test("of a thousand has no effect on one that does", async () => {
    const worker = await withLargeValue();
    const { loop } = worker.worker.services;
    const lazy = await Promise.all(Array.from({ length: 40 }, () => worker.open()));
    for (const wire of lazy) {
      wire.socket.pause();
      pour(wire, "get large\r\n".repeat(500));
    }
    await until("the proxy holds something", () => loop.unsentSize > 0);
    const other = await worker.open();
    expect(String(await other.ask("get large\r\n", "END\r\n"))).toBe(HIT);
    for (const wire of lazy) wire.reset();
    await worker.untilNothingIsHeld();
  });
});

describe("a shard that does not read", () => {
  const VALUE = "x".repeat(500 * KIB);
  const SET = `set k 0 0 ${VALUE.length}\r\n${VALUE}\r\n`;

  test("stops those who send to it, by and by fails them, and then serves again", async () => {
    const shard = await startShard();
    const worker = await start({ shards: [shard.address] });
    const { loop } = worker.worker.services;
    const wire = await worker.open();
    await wire.send("get a\r\n");
    const connection = await shard.nextValid();
    await connection.takeText("get a\r\n");
    connection.write("END\r\n");
    await wire.readUntil("END\r\n");
    connection.socket.pause();
    const count = 40;
    pour(wire, SET.repeat(count));
    await until("the shard is full", () => loop.unsentSize > 0);
    expect(loop.unsentSize + loop.keptSize).toBeLessThan(10 * MIB);
    // Every set is answered, none of them with STORED: nobody knows what became of it.
    const serving = serveEveryConnection(shard);
    const answers: string[] = [];
    while (answers.length < count) {
      const { bytes } = await wire.readUntil("\r\n", 15_000);
      expect(bytes.length).toBeGreaterThan(0);
      answers.push(...bytes.toString("latin1").split("\r\n").slice(0, -1));
    }
    expect(answers).toHaveLength(count);
    for (const answer of answers) expect(answer).toMatch(/^(STORED|SERVER_ERROR [a-z ]+)$/);
    expect(answers[0]).toMatch(/^SERVER_ERROR /);
    serving.stop();
    wire.close();
    await worker.untilNothingIsHeld();
  });
});

/** From now on fresh connections answer END to a get and STORED to a set, as they come. */
function serveEveryConnection(shard: FakeShard): { stop(): void } {
  let isOver = false;
  const serve = async (connection: FakeConnection): Promise<void> => {
    await connection.validate();
    while (!isOver) {
      await until("something comes", () => isOver || connection.received.length > 0);
      const received = connection.received.toString("latin1");
      const set = /^set \S+ 0 0 (\d+)\r\n/.exec(received);
      const size = set === null ? received.indexOf("\n") + 1 : set[0].length + Number(set[1]) + 2;
      if (size === 0 || received.length < size) {
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      await connection.take(size);
      connection.write(set === null ? "END\r\n" : "STORED\r\n");
    }
  };
  const accept = async (): Promise<void> => {
    while (!isOver) {
      const connection = await shard.next();
      serve(connection).catch(() => connection.socket.destroy());
    }
  };
  accept().catch(() => {});
  return {
    stop: () => {
      isOver = true;
    },
  };
}

describe("a shard that does not answer", () => {
  test("costs a read a miss and a write an error, and the session goes on", async () => {
    const shard = await startShard();
    const worker = await start({ shards: [shard.address] });
    const wire = await worker.open();
    await wire.send("get a\r\nset b 0 0 1\r\nx\r\nset c 0 0 1 noreply\r\nx\r\nmg d v\r\nmn\r\n");
    const connection = await shard.nextValid();
    const { bytes } = await wire.readUntil("MN\r\n");
    expect(String(bytes)).toBe("END\r\nSERVER_ERROR shard timed out\r\nEN\r\nMN\r\n");
    // What it says late is for nobody.
    connection.write("VALUE a 0 1\r\nx\r\nEND\r\nSTORED\r\nSTORED\r\nEN\r\n");
    // Nor that what came too late is deleted again.
    await until("it is deleted", () => connection.received.includes("delete b\r\ndelete c\r\n"));
    connection.write("DELETED\r\nDELETED\r\n");
    await wire.send("get e\r\n");
    await until("e is asked for", () => connection.received.includes("get e"));
    connection.write("VALUE e 0 1\r\ne\r\nEND\r\n");
    expect(String((await wire.readUntil("END\r\n")).bytes)).toBe("VALUE e 0 1\r\ne\r\nEND\r\n");
    wire.close();
    await worker.untilNothingIsHeld();
  });

  test("costs a multi-get its own keys and not the others'", async () => {
    const shards = await Promise.all([startShard(), startShard(), startShard()]);
    const worker = await start({ shards: shards.map(({ address }) => address) });
    const wire = await worker.open();
    const keys = Array.from({ length: 40 }, (_, index) => `key-${index}`);
    await wire.send(`get ${keys.join(" ")}\r\n`);
    const connections = await Promise.all(shards.map((shard) => shard.nextValid()));
    const asked: string[][] = [];
    for (const [index, connection] of connections.entries()) {
      await until("it is asked", () => connection.received.includes("\r\n"));
      asked[index] = connection.received.toString("latin1").trim().split(" ").slice(1);
      if (index > 0) connection.write(`${valuesOf(asked[index] ?? [])}END\r\n`);
    }
    expect(asked.flat().sort()).toEqual([...keys].sort());
    expect(asked[0]?.length).toBeGreaterThan(0);
    const answered = keys.filter((key) => !asked[0]?.includes(key));
    const { bytes } = await wire.readUntil("END\r\n");
    expect(String(bytes)).toBe(`${valuesOf(answered)}END\r\n`);
    wire.close();
    connections[0]?.write(`${valuesOf(asked[0] ?? [])}END\r\n`);
    await worker.untilNothingIsHeld();
  });

  const valuesOf = (keys: readonly string[]): string =>
    keys.map((key) => `VALUE ${key} 0 ${key.length}\r\n${key}\r\n`).join("");
});

describe("a slot table that is full", () => {
  test("makes clients wait until there is room again", async () => {
    const shard = await startShard();
    const worker = await start({ shards: [shard.address] });
    const { slots } = worker.worker.services;
    const taken: number[] = [];
    while (slots.hasRoom(1)) taken.push(slots.open(null, Command.get, 0));
    expect(slots.usedCount).toBe(SLOT_COUNT_MAX);
    const wires = await Promise.all([worker.open(), worker.open()]);
    for (const wire of wires) await wire.send("mn\r\nget a b c\r\nset k 0 0 1\r\nx\r\nmn\r\n");
    const binary = await worker.open();
    await binary.send(packet({ opcode: "get", key: "k", opaque: 3 }));
    await quiet();
    expect(wires.map((wire) => wire.unreadSize)).toEqual([0, 0]);
    expect(slots.usedCount).toBe(SLOT_COUNT_MAX);
    for (const slot of taken) slots.free(slot);
    const text = await shard.nextValid();
    const second = await shard.nextValid();
    const [textLink, binaryLink] = (await isText(text)) ? [text, second] : [second, text];
    textLink.write("END\r\nSTORED\r\nEND\r\nSTORED\r\n");
    binaryLink.write(packet({ magic: 0x81, opcode: "get", opaque: 3, value: "x" }));
    for (const wire of wires) {
      const { bytes } = await wire.readUntil("STORED\r\nMN\r\n");
      expect(String(bytes)).toBe("MN\r\nEND\r\nSTORED\r\nMN\r\n");
    }
    expect(readPackets((await binary.read(25)).bytes).packets[0]?.opaque).toBe(3);
    for (const wire of [...wires, binary]) wire.close();
    await worker.untilNothingIsHeld();
  });

  const isText = async (connection: FakeConnection): Promise<boolean> => {
    await until("it is asked something", () => connection.received.length > 0);
    return connection.received[0] !== 0x80;
  };
});

describe("a session that has asked for more than may be in flight", () => {
  /** A shard that says END to every get at once. */
  async function start64(): Promise<TestWorker> {
    const shard = await startShard();
    const serving = serveEveryConnection(shard);
    started.push({ stop: async () => serving.stop() });
    return start({ shards: [shard.address] });
  }

  test("is answered to the last when it half-closes at once", async () => {
    const worker = await start64();
    const wire = await worker.open();
    await wire.send("get k\r\n".repeat(5_000));
    wire.finish();
    const { bytes, ended } = await wire.readToClose(15_000);
    expect([bytes.length, ended]).toEqual(["END\r\n".length * 5_000, "closed"]);
    await worker.untilNothingIsHeld();
  });

  test("is answered what it was read when the proxy stops", async () => {
    const worker = await start64();
    const wire = await worker.open();
    await wire.send("get k\r\n".repeat(3_000));
    const first = await wire.read(5);
    const isDrained = worker.worker.drain();
    const { bytes } = await wire.readToClose(15_000);
    await isDrained;
    const all = Buffer.concat([first.bytes, bytes]);
    expect(all.length % "END\r\n".length).toBe(0);
    expect(all.length).toBeGreaterThan(0);
  });

  test("in one line of 5,000 keys gets one END, also when it half-closes at once", async () => {
    const worker = await start64();
    const wire = await worker.open();
    const keys = Array.from({ length: 5_000 }, (_, index) => `key-${index}`);
    await wire.send(`get ${keys.join(" ")}\r\nmn\r\n`);
    wire.finish();
    const { bytes } = await wire.readToClose(15_000);
    expect(String(bytes)).toBe("END\r\nMN\r\n");
    await worker.untilNothingIsHeld();
  });

  test("and resets leaves nothing, wherever it was", async () => {
    const worker = await start64();
    for (let round = 0; round < 30; round++) {
      const wire = await worker.open();
      pour(wire, `get ${"key ".repeat(200)}\r\nset k 0 0 10\r\n0123456789\r\nstats\r\n`.repeat(20));
      pour(wire, "set k 0 0 100000\r\nhalf of it");
      for (let turn = 0; turn < round; turn++)
        await new Promise((resolve) => setImmediate(resolve));
      wire.reset();
    }
    await worker.untilNothingIsHeld();
    await until("no session is left", () => worker.sessionCount === 0);
  });
});
