/** Who is asked for a key that has two copies, while its shards are well, late, dead or out. */
import { afterEach, describe, expect, test } from "vitest";
import type { Seen } from "../../../core/cluster/state.ts";
import { until } from "../../core/io/pair.ts";
import { packet, readPackets } from "../../harness/wire.ts";
import { type FakeConnection, FakeShard } from "../fakeShard.ts";
import { CACHE, TestWorker } from "../worker.ts";

let started: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const part of started.reverse()) await part.stop();
  started = [];
});

const VALUE = "VALUE k 0 1\r\nv\r\nEND\r\n";
const TOKEN = "ms k 0 ME F4294967294 T2\r\n\r\nmg k c\r\n";
const FOLLOW = "ms k 1 C77 F0 T0\r\nv\r\n";
const SET = "set k 0 0 1\r\nv\r\n";

type Two = {
  worker: TestWorker;
  first: FakeShard;
  second: FakeShard;
  firstNode: string;
  secondNode: string;
};

/** A cache in two shards; the first is the one that owns the key `k`. */
async function start(): Promise<Two> {
  const shards = [await FakeShard.start(), await FakeShard.start()] as const;
  const worker = await new TestWorker({ shards: shards.map(({ address }) => address) }).start();
  started.push(...shards, worker);
  worker.changeCache({ copies: 2 });
  const { route } = [...worker.worker.services.directory.tenants.values()][0]!;
  const key = Buffer.from("k");
  const place = { ...route.locate(key, 0, key.length) };
  const firstIndex = shards.findIndex(({ address }) => address === place.first!.address);
  return {
    worker,
    first: shards[firstIndex]!,
    second: shards[1 - firstIndex]!,
    firstNode: place.first!.node,
    secondNode: place.second!.node,
  };
}

const seen = (change: object): Omit<Seen, "revision"> => change as Omit<Seen, "revision">;

function eject(worker: TestWorker, node: string, standIns: string[]): void {
  const value = {
    cache: CACHE,
    node,
    serial: "s",
    standIns,
    reason: "refused",
    seenBy: [],
    atMs: 0,
  };
  worker.change(seen({ kind: "ejection", id: `${CACHE}/${node}`, value }));
}

/** A proxy that has applied this revision, besides the one under test. */
function otherProxy(worker: TestWorker, appliedRevision: number): void {
  const value = { pid: 1, addresses: [], ready: true, appliedRevision, startedAtMs: 1 };
  worker.change(seen({ kind: "proxy", id: "other", value }));
}

async function answerToken(connection: FakeConnection, isThere = true): Promise<void> {
  await connection.takeText(TOKEN);
  connection.write(`${isThere ? "NS" : "HD"}\r\nHD c77\r\n`);
}

describe("a get", () => {
  test("goes to the first shard alone", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send("get k\r\n");
    const connection = await first.nextValid();
    await connection.takeText("get k\r\n");
    connection.write("END\r\n");
    expect(String((await wire.readUntil("END\r\n")).bytes)).toBe("END\r\n");
    expect(second.connections).toHaveLength(0);
    await worker.untilNothingIsHeld();
  });

  test.each([
    ["text", "get k\r\n", VALUE],
    ["meta", "mg k v\r\n", "VA 1\r\nv\r\n"],
    ["several keys", "get k\r\n", VALUE],
  ])("that is late goes to the second as well: whoever answers first (%s)", async (_, line, value) => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send(line);
    const late = await first.nextValid();
    await late.takeText(line);
    const quick = await second.nextValid();
    await quick.takeText(line);
    quick.write(value);
    expect(String((await wire.read(value.length)).bytes)).toBe(value);
    late.write(value);
    await worker.untilNothingIsHeld();
    expect(wire.unreadSize).toBe(0);
  });

  test("of the binary dialect has its opaque, whoever answers", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send(packet({ opcode: "getk", key: "k", opaque: 9 }));
    await (await first.nextValid()).take(25);
    const quick = await second.nextValid();
    await quick.take(25);
    const reply = packet({
      opcode: "getk",
      magic: 0x81,
      extras: Buffer.alloc(4),
      key: "k",
      value: "v",
    });
    quick.write(reply);
    const { packets } = readPackets((await wire.read(reply.length)).bytes);
    expect(packets[0]).toMatchObject({ opaque: 9, value: Buffer.from("v") });
  });

  test("takes a miss of the second for nothing while the first may still answer", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send("get k\r\n");
    const late = await first.nextValid();
    await late.takeText("get k\r\n");
    const quick = await second.nextValid();
    await quick.takeText("get k\r\n");
    quick.write("END\r\n");
    await until("it was heard", () => worker.worker.services.slots.usedCount === 3);
    late.write(VALUE);
    expect(String((await wire.readUntil("END\r\n")).bytes)).toBe(VALUE);
  });

  test("takes a placeholder of the second for a miss", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send("get k\r\n");
    const dying = await first.nextValid();
    await dying.takeText("get k\r\n");
    dying.reset();
    const other = await second.nextValid();
    await other.takeText("get k\r\n");
    other.write("VALUE k 4294967294 0\r\n\r\nEND\r\n");
    expect(String((await wire.readUntil("END\r\n")).bytes)).toBe("END\r\n");
    await worker.untilNothingIsHeld();
  });

  test("that the first shard loses is answered by the second at once", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send("get k k2\r\nget k\r\n");
    const dying = await first.next();
    dying.reset();
    const other = await second.nextValid();
    await until("all is asked", () => other.received.length >= "get k\r\nget k\r\n".length);
    expect(String(other.received)).toContain("get k\r\n");
    other.write(VALUE.repeat(other.received.toString().split("\r\n").length - 1));
    expect(String((await wire.readUntil(VALUE)).bytes)).toContain("VALUE k 0 1");
  });

  test.each([
    [2, 1, true],
    [1, 2, false],
    [0, 0, false],
  ])("that the first misses goes to the second if that is the older one (%i, %i)", async (mine, other, isAsked) => {
    const { worker, first, second, firstNode, secondNode } = await start();
    worker.changeShard(firstNode, { emptySinceMs: mine });
    worker.changeShard(secondNode, { emptySinceMs: other });
    const wire = await worker.open();
    await wire.send("get k\r\n");
    const young = await first.nextValid();
    await young.takeText("get k\r\n");
    young.write("END\r\n");
    if (isAsked) {
      const old = await second.nextValid();
      await old.takeText("get k\r\n");
      old.write(VALUE);
    }
    expect(String((await wire.readUntil("END\r\n")).bytes)).toBe(isAsked ? VALUE : "END\r\n");
    await worker.untilNothingIsHeld();
  });

  test("is asked twice for being late so often and no more", async () => {
    const { worker, first, second } = await start();
    const wires = await Promise.all(Array.from({ length: 8 }, () => worker.open()));
    for (const wire of wires) await wire.send("mg k v\r\n".repeat(32));
    const late = await first.nextValid();
    await late.take(8 * 32 * "mg k v\r\n".length);
    const quick = await second.nextValid();
    await until("some are asked", () => quick.received.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 60));
    const count = quick.received.length / "mg k v\r\n".length;
    // A burst of 100 after the calm, and 5 in a hundred of these 256.
    expect(count).toBeGreaterThanOrEqual(100);
    expect(count).toBeLessThanOrEqual(112);
  });
});

describe("a change", () => {
  test("is acknowledged when it has followed in the second shard", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send(SET);
    const other = await second.nextValid();
    await answerToken(other);
    const owner = await first.nextValid();
    await owner.takeText(SET);
    owner.write("STORED\r\n");
    await other.takeText(FOLLOW);
    expect(wire.unreadSize).toBe(0);
    other.write("HD\r\n");
    expect(String((await wire.readUntil("\r\n")).bytes)).toBe("STORED\r\n");
    await worker.untilNothingIsHeld();
  });

  test.each([
    "EX",
    "NF",
    "NS",
  ])("whose token is gone (%s) is erased in the second shard first", async (answer) => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send(SET);
    const other = await second.nextValid();
    await answerToken(other);
    const owner = await first.nextValid();
    await owner.takeText(SET);
    owner.write("STORED\r\n");
    await other.takeText(FOLLOW);
    other.write(`${answer}\r\n`);
    await other.takeText("md k\r\n");
    expect(wire.unreadSize).toBe(0);
    other.write("HD\r\n");
    expect(String((await wire.readUntil("\r\n")).bytes)).toBe("STORED\r\n");
  });

  test("that the first shard refuses never reaches the second, and its placeholder goes", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send("add k 0 0 1\r\nv\r\n");
    const other = await second.nextValid();
    await answerToken(other, false);
    const owner = await first.nextValid();
    await owner.takeText("add k 0 0 1\r\nv\r\n");
    owner.write("NOT_STORED\r\n");
    expect(String((await wire.readUntil("\r\n")).bytes)).toBe("NOT_STORED\r\n");
    await other.takeText("md k C77\r\n");
    other.write("HD\r\n");
    await worker.untilNothingIsHeld();
  });

  test("that the second shard cannot be asked about is not made", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send(SET);
    (await second.nextValid()).reset();
    expect(String((await wire.readUntil("\r\n")).bytes)).toBe(
      "SERVER_ERROR shard connection closed\r\n",
    );
    expect(first.connections).toHaveLength(0);
    await worker.untilNothingIsHeld();
  });

  test("whose outcome is unknown is an error, and erased in the second shard", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send(SET);
    const other = await second.nextValid();
    await answerToken(other);
    const owner = await first.nextValid();
    await owner.takeText(SET);
    owner.reset();
    await other.takeText("delete k\r\n");
    other.write("DELETED\r\n");
    expect(String((await wire.readUntil("\r\n")).bytes)).toBe(
      "SERVER_ERROR shard connection closed\r\n",
    );
  });

  test("that never went out to the first shard leaves the second as it is", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send(SET);
    const other = await second.nextValid();
    await answerToken(other, false);
    (await first.next()).reset();
    expect(String((await wire.readUntil("\r\n")).bytes)).toContain("SERVER_ERROR");
    await other.takeText("md k C77\r\n");
    other.write("HD\r\n");
    await worker.untilNothingIsHeld();
    expect(String(other.received)).toBe("");
  });

  test("that did not follow for sure is an error, and erased when the second shard is there again", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send(SET);
    const other = await second.nextValid();
    await answerToken(other);
    const owner = await first.nextValid();
    await owner.takeText(SET);
    owner.write("STORED\r\n");
    await other.takeText(FOLLOW);
    other.reset();
    expect(String((await wire.readUntil("\r\n")).bytes)).toBe(
      "SERVER_ERROR shard connection closed\r\n",
    );
    const again = await second.nextValid();
    await again.takeText("delete k\r\n");
    again.write("DELETED\r\n");
  });

  test("goes on when its client has gone", async () => {
    const { worker, first, second } = await start();
    const wire = await worker.open();
    await wire.send(SET);
    const other = await second.nextValid();
    await other.takeText(TOKEN);
    wire.reset();
    await until("it has gone", () => worker.sessionCount === 0);
    other.write("NS\r\nHD c77\r\n");
    const owner = await first.nextValid();
    await owner.takeText(SET);
    owner.write("STORED\r\n");
    await other.takeText(FOLLOW);
    other.write("HD\r\n");
    await worker.untilNothingIsHeld();
  });
});

describe("while a shard is out", () => {
  test("the other has its keys alone: reads at once, changes when all proxies know", async () => {
    const { worker, second, firstNode, secondNode } = await start();
    otherProxy(worker, 2);
    eject(worker, firstNode, [secondNode]);
    const wire = await worker.open();
    await wire.send("get k\r\n");
    const alone = await second.nextValid();
    await alone.takeText("get k\r\n");
    alone.write(VALUE);
    expect(String((await wire.readUntil("END\r\n")).bytes)).toBe(VALUE);
    expect(await wire.line("set k 0 0 1\r\nv")).toBe("SERVER_ERROR no live shard");
    otherProxy(worker, 1_000);
    await wire.send(SET);
    await alone.takeText(SET);
    alone.write("STORED\r\n");
    expect(String((await wire.readUntil("\r\n")).bytes)).toBe("STORED\r\n");
    await worker.untilNothingIsHeld();
  });

  test("a change that was under way when that became known is undone in both", async () => {
    const { worker, first, second, secondNode, firstNode } = await start();
    const wire = await worker.open();
    await wire.send("delete k\r\n");
    const owner = await first.nextValid();
    await owner.takeText("delete k\r\n");
    eject(worker, secondNode, [firstNode]);
    owner.write("DELETED\r\n");
    await owner.takeText("delete k\r\n");
    owner.write("NOT_FOUND\r\n");
    expect(String((await wire.readUntil("\r\n")).bytes)).toContain("SERVER_ERROR");
    expect(second.connections).toHaveLength(0);
  });

  test("keys that have lost both are on the stand-in of the one that went last", async () => {
    const { worker, firstNode, secondNode } = await start();
    const standIn = await FakeShard.start();
    started.push(standIn);
    eject(worker, firstNode, [secondNode]);
    eject(worker, secondNode, [firstNode]);
    const open = { cache: CACHE, node: secondNode, host: firstNode, serial: "s" };
    const value = { ...open, address: standIn.address };
    worker.change(seen({ kind: "standIn", id: `${CACHE}/${secondNode}/${firstNode}`, value }));
    const wire = await worker.open();
    await wire.send(SET);
    const connection = await standIn.nextValid();
    await connection.takeText(SET);
    connection.write("STORED\r\n");
    expect(String((await wire.readUntil("\r\n")).bytes)).toBe("STORED\r\n");
  });
});
