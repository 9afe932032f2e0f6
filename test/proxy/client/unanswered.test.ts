/** Reads that no shard answers, where the cache prefers an error to a miss. */
import { afterEach, describe, expect, test } from "vitest";
import { until } from "../../core/io/pair.ts";
import { packet, readPackets } from "../../harness/wire.ts";
import { FakeShard } from "../fakeShard.ts";
import { TestWorker } from "../worker.ts";

let started: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const part of started.reverse()) await part.stop();
  started = [];
});

const POLICIES = { unansweredRead: "error" } as const;
const NO_SHARD = "SERVER_ERROR no live shard";

async function start(shards: readonly string[]): Promise<TestWorker> {
  const worker = await new TestWorker({ shards }).start();
  started.push(worker);
  worker.changeCache({ policies: POLICIES });
  return worker;
}

describe("without a shard", () => {
  test("every read is an error, in its place, and every write as before", async () => {
    const worker = await start([]);
    const wire = await worker.open();
    const many = Array.from({ length: 100 }, (_, i) => `k${i}`).join(" ");
    await wire.send(
      `get a\r\nget a b\r\ngets ${many}\r\nmg a v\r\nmg a v q\r\nset a 0 0 1\r\nx\r\nmn\r\n`,
    );
    const { bytes } = await wire.readUntil("MN\r\n");
    expect(String(bytes)).toBe(`${`${NO_SHARD}\r\n`.repeat(6)}MN\r\n`);
  });

  test("binary reads say temporary failure, quiet ones too", async () => {
    const worker = await start([]);
    const wire = await worker.open();
    const gets = (["get", "getq", "getk", "getkq"] as const).map((opcode, opaque) =>
      packet({ opcode, key: "a", opaque }),
    );
    await wire.send(Buffer.concat(gets));
    const { bytes } = await wire.read((24 + "no live shard".length) * gets.length);
    const told = readPackets(bytes).packets.map(({ status, opaque }) => [status, opaque]);
    expect(told).toEqual([0, 1, 2, 3].map((opaque) => [0x86, opaque]));
  });

  test("they are misses again when the cache says so, on sessions that live", async () => {
    const worker = await start([]);
    const wire = await worker.open();
    expect(await wire.line("get a")).toBe(NO_SHARD);
    worker.changeCache({});
    expect(await wire.line("get a")).toBe("END");
  });
});

describe("with one shard of two", () => {
  test("a multi-get gives the values that came and ends with the error, its neighbours do not", async () => {
    const shards = [await FakeShard.start(), await FakeShard.start()];
    started.push(...shards);
    const worker = await start(shards.map(({ address }) => address));
    const wire = await worker.open();
    const { route } = [...worker.worker.services.directory.tenants.values()][0]!;
    const keyOf = (shard: number): string => {
      for (let i = 0; ; i++) {
        const key = Buffer.from(`key-${i}`);
        if (route.ownerOfKey(key, 0, key.length) === shard) return String(key);
      }
    };
    const [mine, theirs] = [keyOf(0), keyOf(1)];
    await wire.send(`get ${mine}\r\nget ${mine} ${theirs}\r\nget ${mine}\r\n`);
    const [alive, dying] = [await shards[0]!.nextValid(), await shards[1]!.nextValid()];
    const value = `VALUE ${mine} 0 1\r\nv\r\n`;
    await until("all is asked", () => alive.received.length === 3 * `get ${mine}\r\n`.length);
    dying.reset();
    alive.write(`${value}END\r\n`.repeat(3));
    const { bytes } = await wire.readUntil(
      `${value}END\r\n${value}SERVER_ERROR shard connection closed\r\n${value}END\r\n`,
    );
    expect(String(bytes)).toContain("SERVER_ERROR");
    await worker.untilNothingIsHeld();
  });
});
