/** Within a session commands take effect in the order they were sent, also where links differ. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeWith } from "../../e2e/suite.ts";
import { type Memcached, startMemcached } from "../../harness/processes.ts";
import { type Packet, packet, readPackets, type Wire } from "../../harness/wire.ts";
import { TestWorker } from "../worker.ts";

const EXTRAS = Buffer.alloc(8);
const ROUND_COUNT = 50;

describeWith(["memcached"], "a pipeline", () => {
  let memcacheds: Memcached[];
  let worker: TestWorker;
  beforeAll(async () => {
    memcacheds = await Promise.all([startMemcached(), startMemcached()]);
    worker = await new TestWorker({ shards: memcacheds.map(({ address }) => address) }).start();
  });
  afterAll(async () => {
    await worker.stop();
    for (const memcached of memcacheds) await memcached.stop();
  });

  let opaque = 1;
  /** All answers to packets that are sent in one segment. */
  async function ask(wire: Wire, ...packets: Buffer[]): Promise<Packet[]> {
    const last = { opcode: "noop", opaque: opaque++ } as const;
    await wire.send(Buffer.concat([...packets, packet(last)]));
    const read = await wire.readUntil(packet({ ...last, magic: 0x81 }));
    return readPackets(read.bytes).packets.slice(0, -1);
  }
  const set = (key: string): Buffer => packet({ opcode: "set", key, extras: EXTRAS, value: "x" });
  const get = (key: string): Buffer => packet({ opcode: "get", key });

  test("with a binary flush in it flushes what was before, and nothing behind", async () => {
    const wire = await worker.open();
    for (let round = 0; round < ROUND_COUNT; round++) {
      for (const flush of ["flush", "flushq"] as const) {
        const answers = await ask(
          wire,
          set("a"),
          packet({ opcode: flush }),
          get("a"),
          set("b"),
          get("b"),
        );
        const loud = flush === "flush" ? [0, 0, 1, 0, 0] : [0, 1, 0, 0];
        expect(
          answers.map(({ status }) => status),
          `${flush} ${round}`,
        ).toEqual(loud);
        const [b] = await ask(wire, get("b"));
        expect(b?.status, `b after ${flush} ${round}`).toBe(0);
      }
    }
  });

  test("with a text flush in it flushes what was before, and nothing behind", async () => {
    const wire = await worker.open();
    const keys = ["a", "b", "c", "d", "e", "f"];
    const store = keys.map((key) => `set ${key} 0 0 1 noreply\r\nx\r\n`).join("");
    const values = keys.map((key) => `VALUE ${key} 0 1\r\nx\r\n`).join("");
    const fetch = `get ${keys.join(" ")}\r\n`;
    for (let round = 0; round < ROUND_COUNT; round++) {
      const answers = await wire.ask(
        `${store}flush_all\r\n${fetch}${store}${fetch}mn\r\n`,
        "MN\r\n",
      );
      expect(String(answers), `${round}`).toBe(`OK\r\nEND\r\n${values}END\r\nMN\r\n`);
      expect(String(await wire.ask(`${fetch}mn\r\n`, "MN\r\n"))).toBe(`${values}END\r\nMN\r\n`);
    }
  });

  test("sees its own writes, one key after another", async () => {
    const wire = await worker.open();
    const lines = Array.from({ length: 300 }, (_, index) => {
      const key = `k${index % 7}`;
      return {
        sent: `set ${key} 0 0 3\r\n${`${index}`.padStart(3)}\r\nget ${key} k${(index + 1) % 7}\r\n`,
        key,
        index,
      };
    });
    const answers = String(
      await wire.ask(`${lines.map(({ sent }) => sent).join("")}mn\r\n`, "MN\r\n"),
    );
    const values = new Map<string, string>();
    let expected = "";
    for (const { key, index } of lines) {
      values.set(key, `${index}`.padStart(3));
      expected += "STORED\r\n";
      for (const name of [key, `k${(index + 1) % 7}`]) {
        const value = values.get(name);
        if (value !== undefined) expected += `VALUE ${name} 0 3\r\n${value}\r\n`;
      }
      expected += "END\r\n";
    }
    expect(answers).toBe(`${expected}MN\r\n`);
  });
});
