/**
 * Promise: a cache without a live shard says so. Signs of life fail, writes are errors that name the
 * reason in every dialect, reads are misses; and stock clients understand the errors they are
 * given (0x86 and 0x85 of the binary dialect are in no document of memcached).
 */
import { createRequire } from "node:module";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Status } from "../../core/protocol/problem.ts";
import { type Memward, startMemward } from "../harness/memward.ts";
import { packet, printPacket } from "../harness/wire.ts";
import { type Memjs, memjs, type TextClient, textClient } from "./programs.ts";
import { describeWith } from "./suite.ts";

const SIGNS_OF_LIFE_MS_MAX = 10_000;

let memward: Memward;

/** The only shard stops or dies, and nobody is there to replace it. */
async function shardPid(): Promise<{ agent: number; shard: number }> {
  const { pid, shards = [] } = await memward.role("backend");
  return { agent: pid, shard: shards[0]?.pid ?? 0 };
}

describeWith(["memcached"], "a cache on one memcached", () => {
  let agent = 0;
  let shard = 0;
  let binary: Memjs;
  let text: TextClient;

  beforeAll(async () => {
    memward = await startMemward({ args: ["--engine", "memcached", "--nodes", "1"] });
    ({ agent, shard } = await shardPid());
    binary = memjs(memward.servers, memward);
    text = textClient([memward.plain]);
  }, 60_000);
  afterAll(async () => {
    binary.close();
    text.end();
    process.kill(agent, "SIGCONT");
    await memward.stop();
  });

  describe("whose process is stopped", () => {
    beforeAll(async () => {
      await binary.set("before", "v", {});
      await text.call("set", "before", "v", 0);
      process.kill(agent, "SIGSTOP");
      process.kill(shard, "SIGSTOP");
    });

    test("is a temporary failure to memjs", async () => {
      await expect(binary.set("k", "v", {})).rejects.toThrow("MemJS SET: Temporary failure");
    });

    test("misses all, and has stored nothing, to npm memcached", async () => {
      expect(await text.call("get", "before")).toBeUndefined();
      // It takes SERVER_ERROR as trouble with the server, and answers false.
      expect(await text.call("set", "k", "v", 0)).toBe(false);
    });
  });

  describe("whose process is dead", () => {
    beforeAll(() => void process.kill(shard, "SIGKILL"));

    test("shows no sign of life", async () => {
      const wire = await memward.openPlain();
      await expect
        .poll(() => wire.line("version"), { timeout: SIGNS_OF_LIFE_MS_MAX })
        .toBe("SERVER_ERROR no live shard");
      wire.close();
      const session = await memward.open("binary");
      for (const opcode of ["version", "noop"] as const) {
        await session.send(packet({ opcode, opaque: 7 }));
        expect(printPacket((await session.packet())!)).toBe(
          `${opcode} status=0086 opaque=00000007 cas=0000000000000000 value="no live shard"`,
        );
      }
      session.close();
    });

    test("refuses writes and misses reads, in words that stock clients know", async () => {
      await expect(binary.set("k", "v", {})).rejects.toThrow("MemJS SET: Temporary failure");
      await expect(binary.delete("k")).rejects.toThrow("MemJS DELETE: Temporary failure");
      expect(await binary.get("before")).toEqual({ value: null, flags: null });
      const fresh = textClient([memward.plain]);
      expect(await fresh.call("get", "before")).toBeUndefined();
      expect(await fresh.call("set", "k", "v", 0)).toBe(false);
      fresh.end();
    });

    test("comes back by itself when its agent does", async () => {
      process.kill(agent, "SIGCONT");
      // Not "k", which may still be deleted because nobody knows what became of it.
      await expect
        .poll(() => binary.set("other", "again", {}).catch(() => false), { timeout: 20_000 })
        .toBe(true);
      expect(String((await binary.get("other")).value)).toBe("again");
      const wire = await memward.openPlain();
      expect(await wire.line("version")).toMatch(/^VERSION \d/);
      wire.close();
    }, 30_000);
  });
});

test("the numbers of busy and temporary failure are those that memjs knows", () => {
  const { errors } = createRequire(import.meta.url)("memjs/lib/memjs/protocol");
  expect(errors[Status.busy]).toBe("Busy");
  expect(errors[Status.temporaryFailure]).toBe("Temporary failure");
});
