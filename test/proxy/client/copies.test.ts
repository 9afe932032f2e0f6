/**
 * A cache whose keys have two copies, over real memcacheds: whatever commands come, in whatever
 * dialect and from however many sessions, the second copy is equal to the first or has nothing.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ShardLinks } from "../../../proxy/routing/route.ts";
import { describeWith } from "../../e2e/suite.ts";
import { binaryPieces } from "../../fuzz/binary.ts";
import { Chance, seedOf } from "../../fuzz/chance.ts";
import { joined, newTag, withTag } from "../../fuzz/stream.ts";
import { textPieces } from "../../fuzz/text.ts";
import { type Memcached, missing, startMemcached } from "../../harness/processes.ts";
import { connect, packet, type Wire } from "../../harness/wire.ts";
import { TestWorker } from "../worker.ts";

const SEED = Number(process.env["SEED"] ?? 20261121);
const STREAM_COUNT = 60;
const NAMES = ["a", "b", "c", "d", "n", "m", "\0 \r\n\xff", "\x01\t\x7f\xfe", "\xff"];

describeWith(["memcached"], `copies 2, seed ${SEED}`, () => {
  let shards: Memcached[] = [];
  let workers: TestWorker[] = [];
  let wires: Wire[] = [];

  beforeAll(async () => {
    if (missing("memcached") !== undefined) return;
    shards = await Promise.all([1, 2, 3].map(() => startMemcached()));
    const addresses = shards.map(({ address }) => address);
    workers = await Promise.all([1, 2].map(() => new TestWorker({ shards: addresses }).start()));
    for (const worker of workers) worker.changeCache({ copies: 2 });
    wires = await Promise.all(addresses.map((address) => connect(address)));
  });
  afterAll(async () => {
    for (const wire of wires) wire.close();
    for (const worker of workers) await worker.stop();
    for (const shard of shards) await shard.stop();
  });

  /** What a shard has under `key`: value, flags and time to live; null if nothing that counts. */
  async function kept(shard: ShardLinks, key: Buffer): Promise<string | null> {
    const wire = wires[shards.findIndex(({ address }) => address === shard.address)]!;
    const encoded = key.toString("base64");
    const line = encoded.length > 250 ? `mg ${key} v f t` : `mg ${encoded} b v f t`;
    await wire.send(`${line}\r\nmn\r\n`);
    const text = String((await wire.readUntil("MN\r\n")).bytes).slice(0, -"MN\r\n".length);
    if (text === "EN\r\n" || / f4294967294 /.test(text)) return null;
    // A second may have passed between the two.
    return text.replace(/ t(\d+)/, (_, left) => ` t~${Math.round(Number(left) / 10)}`);
  }

  async function compared(tag: string): Promise<{ equal: number; erased: number }> {
    const found = { equal: 0, erased: 0 };
    const { route } = [...workers[0]!.worker.services.directory.tenants.values()][0]!;
    const keys = [...NAMES.map((name) => tag + name), tag.padEnd(250, "x")];
    for (const key of keys.map((name) => Buffer.from(name, "latin1"))) {
      const { first, second } = { ...route.locate(key, 0, key.length) };
      const [mine, other] = [await kept(first!, key), await kept(second!, key)];
      if (other !== null) expect([String(key), other]).toEqual([String(key), mine]);
      if (mine !== null && other !== null) found.equal++;
      if (mine !== null && other === null) found.erased++;
      for (const one of shards) {
        if (one.address === first!.address || one.address === second!.address) continue;
        const third = route.shards.find(({ address }) => address === one.address)!;
        expect(await kept(third, key)).toBeNull();
      }
    }
    return found;
  }

  async function told(worker: TestWorker, bytes: Buffer, isBinary: boolean): Promise<void> {
    const wire = await worker.open();
    const end = isBinary
      ? { question: packet({ opcode: "noop", opaque: 77 }), size: 24 }
      : { question: Buffer.from("mg the-end O77 k v\r\nmn\r\n"), size: 4 };
    await wire.send(Buffer.concat([bytes, end.question]));
    const answer = isBinary ? packet({ opcode: "noop", opaque: 77, magic: 0x81 }) : "MN\r\n";
    expect((await wire.readUntil(answer)).ended).toBe("matched");
    wire.close();
  }

  const stream = (chance: Chance, isBinary: boolean, tag: string): Buffer =>
    withTag(joined(isBinary ? binaryPieces(chance) : textPieces(chance)), tag);

  test("after one session has changed keys in any way", { timeout: 60_000 }, async () => {
    const total = { equal: 0, erased: 0 };
    for (let index = 0; index < STREAM_COUNT; index++) {
      const chance = new Chance(seedOf(SEED, index));
      const tag = newTag();
      const isBinary = index % 2 === 1;
      await told(workers[index % 2]!, stream(chance, isBinary, tag), isBinary);
      const { equal, erased } = await compared(tag);
      total.equal += equal;
      total.erased += erased;
    }
    // Not more is erased than what cannot be copied: append, meta commands with unusual flags.
    expect(total.equal).toBeGreaterThan(STREAM_COUNT);
    for (const worker of workers) await worker.untilNothingIsHeld();
  });

  test("after sessions of two proxies have changed the same keys at once", {
    timeout: 60_000,
  }, async () => {
    for (let index = 0; index < STREAM_COUNT / 2; index++) {
      const chance = new Chance(seedOf(SEED + 1, index));
      const tag = newTag();
      const sessions = [0, 1, 2, 3].map((session) => {
        const isBinary = session > 1;
        return told(workers[session % 2]!, stream(chance, isBinary, tag), isBinary);
      });
      await Promise.all(sessions);
      await compared(tag);
    }
    for (const worker of workers) await worker.untilNothingIsHeld();
  });

  test.each([
    ["set", "set K 5 100 1\r\nx\r\n"],
    ["add", "add K 5 0 1\r\nx\r\n"],
    ["replace", "set K 0 0 1\r\na\r\nreplace K 5 0 1\r\nx\r\n"],
    ["incr", "set K 0 100 1\r\n1\r\nincr K 41\r\n"],
    ["decr", "set K 0 0 2\r\n43\r\ndecr K 1\r\n"],
    ["touch", "set K 0 0 1\r\nx\r\ntouch K 1000\r\n"],
    ["gat", "set K 0 0 1\r\nx\r\ngat 1000 K K2\r\n"],
    ["ms", "ms K 1 F7 T100\r\nx\r\n"],
    ["ma that makes the counter", "ma K N100 J13 v\r\n"],
    ["mg with T", "set K 0 0 1\r\nx\r\nmg K T1000 v\r\n"],
    ["an add that is refused", "set K 0 0 1\r\nx\r\nadd K 0 0 1\r\ny\r\n"],
    ["a cas that is refused", "set K 0 0 1\r\nx\r\ncas K 0 0 1 1\r\ny\r\n"],
  ])("%s is on both", async (_name, text) => {
    const tag = newTag();
    const bytes = Buffer.from(text.replaceAll("K2", `${tag}b`).replaceAll("K", `${tag}a`));
    await told(workers[0]!, bytes, false);
    expect(await compared(tag)).toEqual({ equal: 1, erased: 0 });
  });

  test("a value that is too large erases both", async () => {
    const tag = newTag();
    const size = 1024 * 1024 + 1;
    const large = `set ${tag}a 0 0 ${size}\r\n${"x".repeat(size)}\r\n`;
    await told(workers[0]!, Buffer.from(`set ${tag}a 0 0 1\r\nx\r\n${large}`), false);
    const wire = await workers[0]!.open();
    expect(await wire.line(`get ${tag}a`)).toBe("END");
    expect(await compared(tag)).toEqual({ equal: 0, erased: 0 });
  });

  test("what a session writes it reads, whatever it does not wait for", async () => {
    const tag = newTag();
    const wire = await workers[0]!.open();
    const lines = Array.from({ length: 200 }, (_, i) => {
      const value = String(i).padStart(3, "0");
      return `set ${tag}a 0 0 3 noreply\r\n${value}\r\nget ${tag}a ${tag}b\r\n`;
    });
    await wire.send(`${lines.join("")}mn\r\n`);
    const text = String((await wire.readUntil("MN\r\n")).bytes);
    const values = [...text.matchAll(/\r\n(\d{3})\r\n/g)].map(([, value]) => Number(value));
    expect(values).toEqual(Array.from({ length: 200 }, (_, i) => i));
  });
});
