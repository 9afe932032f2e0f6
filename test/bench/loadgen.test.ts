/**
 * The load generator must notice what it is there to notice: crossed values, wrong order, misses,
 * errors and stalls. Liars are small servers made here; the truth is memcached.
 */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  has,
  type Memcached,
  missingForSasl,
  startMemcached,
  temporaryFolder,
} from "../harness/processes.ts";
import { buildGenerator, type Generator, type Load, type Target } from "./generator.ts";

const load: Load = {
  dialect: "text",
  sessions: 4,
  sources: 1,
  batch: 1,
  multiget: false,
  setPercent: 0,
  valueSize: 100,
  rate: 0,
};
const timing = { seconds: 0.1, warmup: 0, seed: 1 };

describe.skipIf(!has("cc"))("load generator", () => {
  let generator: Generator;
  beforeAll(async () => {
    generator = await buildGenerator(temporaryFolder("loadgen-test"));
  });

  describe("before a server that lies", () => {
    it("believes the truth", async () => {
      const counts = await against((keys) => keys.map(truth));
      expect(counts.hits).toBe(counts.operations);
      expect(counts).toMatchObject({ wrong: 0, misses: 0, failures: 0, lost: 0 });
    });

    it.each<[string, Answer]>([
      ["another key and its value", (keys) => keys.map((key) => truth(neighbour(key)))],
      ["the value of another key", (keys) => keys.map((key) => answer(key, value(neighbour(key))))],
      ["a value with one other byte", (keys) => keys.map((key) => answer(key, bent(key)))],
      ["a short value", (keys) => keys.map((key) => answer(key, value(key).slice(1)))],
    ])("counts %s as wrong", async (_, lie) => {
      const counts = await against(lie);
      expect(counts.wrong).toBeGreaterThan(0);
      expect(counts.hits).toBe(0);
    });

    it("counts pipelined replies in another order as wrong", async () => {
      const counts = await against((keys) => keys.map(truth).reverse(), { batch: 8 });
      expect(counts.wrong).toBeGreaterThan(0);
    });

    it("counts misses and error lines", async () => {
      expect((await against((keys) => keys.map(() => "END\r\n"))).misses).toBeGreaterThan(0);
      const refused = await against((keys) => keys.map(() => "SERVER_ERROR no\r\n"));
      expect(refused.failures).toBeGreaterThan(0);
    });

    it("charges a stall to every request that was due meanwhile", async () => {
      let stalls = 1;
      const stallOnce: Answer = async (keys) => {
        if (stalls-- > 0) await sleep(400);
        return keys.map(truth);
      };
      // 500 requests are due, 400 of them in the stall: half of all wait 150 ms or longer. Sent
      // only when the one session is free, one request would have been slow and the rest quick.
      const counts = await against(stallOnce, { sessions: 1, rate: 1000 }, 0.5);
      expect(counts.p50Us).toBeGreaterThan(100_000);
    });
  });

  describe.skipIf(!has("memcached"))("before memcached", () => {
    let memcached: Memcached;
    beforeAll(async () => {
      memcached = await startMemcached();
    });
    afterAll(() => memcached.stop());

    const batches = { single: {}, pipelined: { batch: 8, setPercent: 10 } };
    for (const dialect of ["text", "meta", "binary"] as const) {
      const multiget = { batch: 16, multiget: true };
      for (const [name, batch] of Object.entries({ ...batches, multiget })) {
        it(`reads back in ${dialect}, ${name}`, async () => {
          const target = { pids: [memcached.pid], plain: memcached.address };
          await generator("fill", target, { ...load, dialect }, timing);
          const counts = await generator("run", target, { ...load, ...batch, dialect }, timing);
          expect(counts).toMatchObject({ wrong: 0, misses: 0, failures: 0, lost: 0 });
          expect(counts.hits).toBeGreaterThan(0);
          expect(counts.cpuUs).toBeGreaterThan(0);
        });
      }
    }
  });

  describe.skipIf(missingForSasl() !== undefined)("before memcached with SASL", () => {
    const login = { username: "alice", password: "secret" };
    let memcached: Memcached;
    let target: Target;
    beforeAll(async () => {
      memcached = await startMemcached({ sasl: login });
      target = {
        pids: [memcached.pid],
        plain: "",
        login: { address: memcached.address, ...login },
      };
    });
    afterAll(() => memcached.stop());

    it("logs in, again and again", async () => {
      const counts = await generator("logins", target, { ...load, dialect: "binary" }, timing);
      expect(counts.operations).toBeGreaterThan(0);
    });

    it("says when the login is refused", async () => {
      const wrong = { ...target, login: { ...login, address: memcached.address, password: "no" } };
      const running = generator("idle", wrong, { ...load, dialect: "binary" }, timing);
      await expect(running).rejects.toThrow("the login of alice was refused");
    });
  });

  /** Runs the load against a server that answers each chunk's gets as `lie` says. */
  async function against(lie: Answer, changes: Partial<Load> = {}, seconds = timing.seconds) {
    const server = await listen(lie);
    const { port } = server.address() as AddressInfo;
    const target = { pids: [process.pid], plain: `127.0.0.1:${port}` };
    try {
      return await generator("run", target, { ...load, ...changes }, { ...timing, seconds });
    } finally {
      server.close();
    }
  }
});

type Answer = (keys: string[]) => string[] | Promise<string[]>;

async function listen(lie: Answer): Promise<Server> {
  const server = createServer((socket) => {
    socket.on("data", async (chunk) => {
      // A batch is far smaller than a segment, so it comes whole.
      const keys = [...chunk.toString().matchAll(/get (\S+)\r\n/g)].map((match) => match[1] ?? "");
      const answers = await lie(keys);
      socket.write(answers.join(""));
    });
    socket.on("error", () => socket.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

const PREFIX = `bench:${load.valueSize}:`;
const number = (key: string): number => Number(key.slice(PREFIX.length));
const neighbour = (key: string): string =>
  PREFIX + String((number(key) + 1) % 10_000).padStart(7, "0");

/** Eight hexadecimal digits name the key; the letters go on where they would stand without. */
function value(key: string): string {
  const name = number(key).toString(16).padStart(8, "0");
  const letters = "abcdefghijklmnopqrstuvwxyz".repeat(5);
  return name + letters.slice(name.length, load.valueSize);
}

const bent = (key: string): string => `${value(key).slice(0, -1)}!`;
const answer = (key: string, text: string): string =>
  `VALUE ${key} 0 ${text.length}\r\n${text}\r\nEND\r\n`;
const truth = (key: string): string => answer(key, value(key));
