/** The same key is the same item, whichever dialect and form it comes in, on whichever shard. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeWith } from "../../e2e/suite.ts";
import { type Memcached, startMemcached } from "../../harness/processes.ts";
import { packet } from "../../harness/wire.ts";
import { TestWorker } from "../worker.ts";

const KEYS = Array.from({ length: 40 }, (_, index) => `stored-${index}`);
const base64 = (text: string): string => Buffer.from(text, "latin1").toString("base64");

describeWith(["memcached"], "a key", () => {
  let shards: Memcached[];
  let worker: TestWorker;
  beforeAll(async () => {
    shards = await Promise.all(Array.from({ length: 3 }, () => startMemcached()));
    const addresses = shards.map(({ address }) => address);
    worker = await new TestWorker({ shards: addresses }).start();
  });
  afterAll(async () => {
    await worker.stop();
    for (const shard of shards) await shard.stop();
  });

  test("in base64 is found where the same in plain bytes is, odd bytes in it or not", async () => {
    const wire = await worker.open();
    for (const key of KEYS) {
      await wire.line(`set ${key} 0 0 1\r\nx`);
      const coded = base64(key);
      // memcached passes over what is not of the alphabet, even where others take it for a digit.
      for (const form of [coded, `-${coded}`, `${coded.slice(0, 5)}_*${coded.slice(5)}`]) {
        expect(await wire.line(`mg ${form} b s k`), form).toBe(`HD s1 k${key}`);
      }
    }
  });

  test("in binary is found after another session spoke in base64", async () => {
    const text = await worker.open();
    const binary = await worker.openAs("all", "binary");
    for (const key of KEYS) {
      await text.line(`mg ${base64("another")} b`);
      const extras = Buffer.alloc(8);
      await binary.send(packet({ opcode: "set", key: `b-${key}`, extras, value: "x" }));
      expect((await binary.packet())?.status).toBe(0);
      expect(await text.line(`mg b-${key} s`)).toBe("HD s1");
    }
  });

  test("with a line end in it is not repeated, however it is written", async () => {
    const binary = await worker.openAs("all", "binary");
    await binary.send(packet({ opcode: "set", key: "\0\n", extras: Buffer.alloc(8), value: "x" }));
    await binary.packet();
    const wire = await worker.open();
    for (const form of ["AAo=", "A-Ao=", "_AAo="]) {
      expect(await wire.line(`mg ${form} b k`)).toBe("CLIENT_ERROR error decoding key");
      expect(await wire.line(`mg ${form} b s`)).toBe("HD s1");
    }
  });
});
