/** A proxy that stops, and a proxy whose shards come and go. */
import { afterEach, describe, expect, test } from "vitest";
import { until } from "../../core/io/pair.ts";
import { OPCODE, packet, readPackets, type Wire } from "../../harness/wire.ts";
import { type FakeConnection, FakeShard } from "../fakeShard.ts";
import { TestWorker, type WorkerSetup } from "../worker.ts";

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

describe("a proxy that is told to stop", () => {
  test("does so at once when nobody is there", async () => {
    const worker = await start({ shards: [] });
    await worker.worker.drain();
    await expect(worker.open()).rejects.toThrow(/ECONNREFUSED/);
  });

  test("does not wait for idle clients to close their end", async () => {
    const worker = await start({ shards: [] });
    const wires = await Promise.all([worker.open(), worker.open(), worker.open(worker.login)]);
    await wires[0]?.line("mn");
    await worker.worker.drain();
    expect(worker.sessionCount).toBe(0);
    for (const wire of wires) expect((await wire.readToClose()).ended).not.toBe("deadline");
  });

  test("does not wait for the rest of a half command", async () => {
    const worker = await start({ shards: [] });
    const wires = await Promise.all([worker.open(), worker.open(), worker.open()]);
    await wires[0]?.send("set k 0 0 1000\r\nhalf of");
    await wires[1]?.send("get half");
    await wires[2]?.send(
      packet({ opcode: "set", key: "k", extras: Buffer.alloc(8), bodySize: 100 }),
    );
    await until("they are read", () => worker.worker.services.loop.keptSize > 0);
    await worker.worker.drain();
    expect(worker.sessionCount).toBe(0);
    await worker.untilNothingIsHeld();
  });

  test("answers first what it was asked", async () => {
    const shard = await startShard();
    const worker = await start({ shards: [shard.address] });
    const wire = await worker.open();
    await wire.send("get a\r\nset b 0 0 1\r\nx\r\n");
    const connection = await shard.nextValid();
    await connection.takeText("get a\r\nset b 0 0 1\r\nx\r\n");
    const drained = worker.worker.drain();
    connection.write("VALUE a 0 1\r\na\r\nEND\r\nSTORED\r\n");
    const { bytes } = await wire.readToClose();
    expect(String(bytes)).toBe("VALUE a 0 1\r\na\r\nEND\r\nSTORED\r\n");
    await drained;
    await until("the shard is left", () => connection.socket.destroyed);
  });
});

describe("NOOP and VERSION", () => {
  const alive = async (wire: Wire, opcode: "noop" | "version"): Promise<number> => {
    await wire.send(packet({ opcode, opaque: OPCODE[opcode] }));
    const header = (await wire.read(24)).bytes;
    const body = (await wire.read(header.readUInt32BE(8))).bytes;
    return readPackets(Buffer.concat([header, body])).packets[0]?.status ?? -1;
  };

  async function getBinary(wire: Wire, connection: FakeConnection): Promise<void> {
    await wire.send(packet({ opcode: "get", key: "k", opaque: 1 }));
    await until("it is asked", () => connection.received.length >= 25);
    await connection.take(25);
    connection.write(packet({ magic: 0x81, opcode: "get", opaque: 1, value: "x" }));
    expect(readPackets((await wire.read(25)).bytes).packets[0]?.status).toBe(0);
  }

  test("fail while the cache has no live shard, however long that is", async () => {
    const shard = await startShard();
    const worker = await start({ shards: [shard.address] });
    await shard.stop();
    const wire = await worker.open();
    await wire.ask("set k 0 0 1\r\nx\r\n", "SERVER_ERROR no live shard\r\n");
    for (let round = 0; round < 20; round++) {
      expect(await wire.line("version")).toBe("SERVER_ERROR no live shard");
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const empty = await start({ shards: [] });
    const other = await empty.open();
    expect(await other.line("version")).toBe("SERVER_ERROR no live shard");
  });

  test("find a shard that came back, though nobody asks anything else", async () => {
    const shard = await startShard();
    const worker = await start({ shards: [shard.address] });
    await shard.stop();
    const wire = await worker.open();
    await wire.ask("set k 0 0 1\r\nx\r\n", "SERVER_ERROR no live shard\r\n");
    await shard.listen();
    const accepting = validateAll(shard);
    let answer = "";
    for (let round = 0; round < 400 && !answer.startsWith("VERSION"); round++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      answer = await wire.line("version");
    }
    accepting.stop();
    expect(answer).toBe("VERSION 1.6.18");
  });

  test("work again when the shard does, whichever dialect had found it dead", async () => {
    const shard = await startShard();
    const worker = await start({ shards: [shard.address] });
    const [text, binary] = [await worker.open(), await worker.open()];
    // Both dialects have had a connection to the shard.
    await text.send("get k\r\n");
    const textLink = await shard.nextValid();
    await textLink.takeText("get k\r\n");
    textLink.write("END\r\n");
    await text.readUntil("END\r\n");
    await binary.send(packet({ opcode: "get", key: "k", opaque: 1 }));
    const binaryLink = await shard.nextValid();
    await binaryLink.take(25);
    binaryLink.write(packet({ magic: 0x81, opcode: "get", opaque: 1, value: "x" }));
    await binary.read(25);
    // The shard restarts; from then on there is only binary traffic.
    textLink.reset();
    binaryLink.reset();
    await until(
      "both have failed",
      () => worker.linkEvents.filter(({ to }) => to === "waiting").length === 2,
    );
    const accepting = validateAll(shard);
    await until("binary is served again", () => {
      binary.socket.write(packet({ opcode: "get", key: "k", opaque: 9 }));
      return (
        worker.linkEvents.filter(({ link, to }) => link.dialect === "binary" && to === "ready")
          .length === 2
      );
    });
    const fresh = await worker.open();
    expect(await alive(fresh, "noop")).toBe(0);
    expect(await alive(fresh, "version")).toBe(0);
    accepting.stop();
  });

  test("are the shard's to answer while no connection to one is ready", async () => {
    const shard = await startShard();
    const worker = await start({ shards: [shard.address] });
    const wire = await worker.open();
    const noop = alive(wire, "noop");
    const connection = await shard.nextValid();
    await connection.take(24);
    connection.write(packet({ magic: 0x81, opcode: "noop", opaque: OPCODE.noop }));
    expect(await noop).toBe(0);
    // From then on they are local replies again.
    expect(await alive(wire, "version")).toBe(0);
    await getBinary(wire, connection);
  });
});

/** Every fresh connection to the shard proves itself, and then says nothing. */
function validateAll(shard: FakeShard): { stop(): void } {
  let isOver = false;
  const accept = async (): Promise<void> => {
    while (!isOver) await shard.nextValid();
  };
  accept().catch(() => {});
  return {
    stop: () => {
      isOver = true;
    },
  };
}

describe("a shard that moves", () => {
  test("leaves what is in flight with a failure, and is found at its new address", async () => {
    const [before, after] = [await startShard(), await startShard()];
    const worker = await start({ shards: [before.address] });
    const wire = await worker.open();
    await wire.send("get a\r\nset b 0 0 1\r\nx\r\n");
    const old = await before.nextValid();
    await old.takeText("get a\r\nset b 0 0 1\r\nx\r\n");
    worker.moveShard(0, after.address);
    const lost = "END\r\nSERVER_ERROR shard connection closed\r\n";
    expect(String((await wire.readUntil(lost)).bytes)).toBe(lost);
    await until("the old one is left", () => old.socket.destroyed);
    await wire.send("get c\r\n");
    const fresh = await after.nextValid();
    await fresh.takeText("get c\r\n");
    fresh.write("VALUE c 0 1\r\nc\r\nEND\r\n");
    expect(String((await wire.readUntil("END\r\n")).bytes)).toBe("VALUE c 0 1\r\nc\r\nEND\r\n");
    wire.close();
    await worker.untilNothingIsHeld();
  });

  test("that stays where it is keeps its connections when another comes", async () => {
    const [first, second] = [await startShard(), await startShard()];
    const worker = await start({ shards: [first.address] });
    const wire = await worker.open();
    await wire.send("get a\r\n");
    const connection = await first.nextValid();
    await connection.takeText("get a\r\n");
    worker.moveShard(1, second.address);
    connection.write("VALUE a 0 1\r\na\r\nEND\r\n");
    expect(String((await wire.readUntil("END\r\n")).bytes)).toBe("VALUE a 0 1\r\na\r\nEND\r\n");
    expect(connection.socket.destroyed).toBe(false);
  });
});
