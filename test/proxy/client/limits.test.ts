/** The limits of a cache on living connections: who is refused, who waits, and who never notices. */
import { afterEach, describe, expect, test } from "vitest";
import type { RecordInput } from "../../../core/cluster/records.ts";
import { LOGIN_OUTCOMES } from "../../../proxy/client/services.ts";
import { LIMIT_EFFECTS } from "../../../proxy/tenant/limits.ts";
import { until } from "../../core/io/pair.ts";
import { describeWith } from "../../e2e/suite.ts";
import { startMemcached } from "../../harness/processes.ts";
import { packet, readPackets, saslPlain } from "../../harness/wire.ts";
import { CACHE, PASSWORD, TestWorker, type WorkerSetup } from "../worker.ts";

let started: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const part of started.reverse()) await part.stop();
  started = [];
});

async function start(
  limits: RecordInput<"cache">["limits"],
  setup: Partial<WorkerSetup> = {},
): Promise<TestWorker> {
  const worker = await new TestWorker({ shards: [], ...setup }).start();
  started.push(worker);
  worker.changeCache({ limits });
  return worker;
}

const LOGIN = `set all 0 0 ${PASSWORD.length}\r\n${PASSWORD}`;
const BUSY = 0x85;

const outcomes = (worker: TestWorker, outcome: (typeof LOGIN_OUTCOMES)[number]): number =>
  worker.worker.services.counters.logins[LOGIN_OUTCOMES.indexOf(outcome)]!;

function effectsOf(worker: TestWorker): Record<string, number> {
  const { limits } = worker.worker.services.directory.tenants.get(CACHE)!;
  return Object.fromEntries(
    LIMIT_EFFECTS.map((effect) => [effect.join(" "), limits.effectCount(effect)] as const).filter(
      ([, count]) => count > 0,
    ),
  );
}

describe("sessions of a cache", () => {
  test("over the limit are refused in words, until one of them ends", async () => {
    const worker = await start({ sessionsMax: 2 });
    const first = await worker.openAs("all", "text");
    await worker.openAs("all", "binary");
    const text = await worker.open(worker.login);
    expect(await text.line(LOGIN)).toBe("SERVER_ERROR too many sessions");
    const binary = await worker.open(worker.login);
    const reply = await binary.ask(
      saslPlain({ username: "all", password: PASSWORD }),
      "too many sessions",
    );
    expect(readPackets(reply).packets[0]?.status).toBe(BUSY);
    expect(outcomes(worker, "too_many_sessions")).toBe(2);
    expect(effectsOf(worker)).toEqual({ "sessions refused": 2 });
    first.close();
    await until("it has gone", () => worker.worker.services.serving.size === 1);
    expect(await text.line(LOGIN)).toBe("STORED");
  });

  test("that log in again keep their place", async () => {
    const worker = await start({ sessionsMax: 1 });
    const wire = await worker.openAs("all", "binary");
    await wire.ask(saslPlain({ username: "all", password: PASSWORD }), "Authenticated");
  });

  test("without a login count and are refused too", async () => {
    const worker = await start({ sessionsMax: 1 });
    await (await worker.open()).line("mn");
    const wire = await worker.open();
    const { bytes, ended } = await wire.readToClose();
    expect([String(bytes), ended]).toEqual(["SERVER_ERROR too many sessions\r\n", "closed"]);
    const named = await worker.open(worker.login);
    expect(await named.line(LOGIN)).toBe("SERVER_ERROR too many sessions");
  });

  test("are not touched when the limit comes down", async () => {
    const worker = await start({});
    const wires = await Promise.all([1, 2, 3].map(() => worker.openAs("all", "text")));
    worker.changeCache({ limits: { sessionsMax: 1 } });
    for (const wire of wires) expect(await wire.line("mn")).toBe("MN");
    const late = await worker.open(worker.login);
    expect(await late.line(LOGIN)).toBe("SERVER_ERROR too many sessions");
    worker.changeCache({ limits: { sessionsMax: null } });
    expect(await late.line(LOGIN)).toBe("STORED");
  });
});

describe("new sessions of a cache", () => {
  test("over the limit wait their turn, and all keep the order of their commands", async () => {
    const worker = await start({ newSessionsPerSecondMax: 20 });
    const wires = await Promise.all(Array.from({ length: 30 }, () => worker.open(worker.login)));
    for (const wire of wires) await wire.send(`${LOGIN}\r\nmn\r\n`);
    for (const wire of wires) {
      expect(String((await wire.readUntil("MN\r\n")).bytes)).toBe("STORED\r\nMN\r\n");
    }
    expect(effectsOf(worker)["new_sessions delayed"]).toBeGreaterThanOrEqual(9);
    expect(outcomes(worker, "ok")).toBe(30);
  });

  test("far over it are told so", async () => {
    const worker = await start({ newSessionsPerSecondMax: 5 });
    const wires = await Promise.all(Array.from({ length: 30 }, () => worker.open(worker.login)));
    for (const wire of wires) await wire.send(`${LOGIN}\r\n`);
    const answers = await Promise.all(wires.map((wire) => wire.readUntil("\r\n")));
    const refused = answers.filter(
      ({ bytes }) => String(bytes) === "SERVER_ERROR too many new sessions\r\n",
    );
    expect(refused.length).toBeGreaterThanOrEqual(15);
    expect(refused.length).toBe(outcomes(worker, "too_many_new_sessions"));
    expect(outcomes(worker, "ok")).toBe(30 - refused.length);
  });

  test("are not used up by strangers", async () => {
    const worker = await start({ newSessionsPerSecondMax: 1 });
    for (let count = 0; count < 5; count++) {
      const stranger = await worker.open(worker.login);
      await stranger.line("set all 0 0 5\r\nwrong");
    }
    const wire = await worker.open(worker.login);
    expect(await wire.line(LOGIN)).toBe("STORED");
    expect(effectsOf(worker)).toEqual({});
  });
});

describe("operations of a cache", () => {
  test("over the limit are delayed, never refused, in order, by key", async () => {
    const worker = await start({ operationsPerSecondMax: 200 });
    const wire = await worker.open();
    const count = 100;
    const startedAtMs = performance.now();
    await wire.send("get a b c d\r\n".repeat(count));
    const { bytes } = await wire.read("END\r\n".length * count, 10_000);
    expect(String(bytes)).toBe("END\r\n".repeat(count));
    // 400 keys: 200 at once, the others at 200 a second.
    expect(performance.now() - startedAtMs).toBeGreaterThan(900);
    expect(effectsOf(worker)["operations delayed"]).toBeGreaterThan(0);
  });

  test("of a line with hundreds of keys are all counted", async () => {
    const worker = await start({ operationsPerSecondMax: 300 });
    const wire = await worker.open();
    const keys = Array.from({ length: 600 }, (_, i) => `key-${i}`).join(" ");
    const startedAtMs = performance.now();
    expect(String(await wire.ask(`get ${keys}\r\nmn\r\n`, "MN\r\n"))).toBe("END\r\nMN\r\n");
    expect(performance.now() - startedAtMs).toBeGreaterThan(700);
  });

  test("of quiet binary gets are counted one by one", async () => {
    const worker = await start({ operationsPerSecondMax: 100 });
    const wire = await worker.open();
    const gets = Array.from({ length: 200 }, () => packet({ opcode: "getkq", key: "k" }));
    const startedAtMs = performance.now();
    await wire.ask(Buffer.concat([...gets, packet({ opcode: "noop" })]), "no live shard");
    expect(performance.now() - startedAtMs).toBeGreaterThan(900);
  });

  test("keep little of what a client pours in", async () => {
    const worker = await start({ operationsPerSecondMax: 1 });
    const wire = await worker.open();
    wire.socket.write("get a\r\n".repeat(1_000_000));
    await until("it waits", () => effectsOf(worker)["operations delayed"] === 1);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(worker.worker.services.loop.keptSize).toBeLessThan(512 * 1024);
    worker.changeCache({ limits: { operationsPerSecondMax: null } });
    const size = "END\r\n".length * 1_000_000;
    expect((await wire.read(size, 20_000)).bytes.length).toBe(size);
  });

  test("go on at once when there is no limit any more, whatever was run ahead", async () => {
    const worker = await start({ operationsPerSecondMax: 1 });
    const wire = await worker.open();
    const keys = Array.from({ length: 60 }, (_, i) => `k${i}`).join(" ");
    await wire.ask(`get ${keys}\r\n`, "END\r\n");
    await wire.send("get a\r\n");
    await until("it waits", () => effectsOf(worker)["operations delayed"] === 1);
    worker.changeCache({ limits: {} });
    expect(String((await wire.readUntil("END\r\n")).bytes)).toBe("END\r\n");
  });

  test("end with their session: nobody is kept", async () => {
    const worker = await start({ operationsPerSecondMax: 1 });
    const wires = await Promise.all(Array.from({ length: 5 }, () => worker.openAs("all", "text")));
    for (const wire of wires) wire.socket.write("get a\r\n".repeat(10));
    await until("they wait", () => (effectsOf(worker)["operations delayed"] ?? 0) >= 4);
    worker.deleteLogin("all");
    for (const wire of wires) expect((await wire.readToClose()).ended).not.toBe("deadline");
    await until("all are gone", () => worker.sessionCount === 0);
    await worker.untilNothingIsHeld();
  });
});

describeWith(["memcached"], "values of a cache", () => {
  test("over the limit are too large for it: skipped, and the old value is gone", async () => {
    const memcached = await startMemcached();
    started.push(memcached);
    const worker = await start({ valueSizeMax: 1_000 }, { shards: [memcached.address] });
    const wire = await worker.open();
    expect(await wire.line(`set k 0 0 1000\r\n${"v".repeat(1_000)}`)).toBe("STORED");
    const refusal = "SERVER_ERROR object too large for cache";
    expect(await wire.line(`set k 0 0 1001\r\n${"v".repeat(1_001)}`)).toBe(refusal);
    expect(await wire.line("get k")).toBe("END");
    expect(await wire.line(`ms k 1001\r\n${"v".repeat(1_001)}`)).toBe(refusal);
    const binary = await worker.openAs("all", "binary");
    const set = packet({
      opcode: "set",
      key: "k",
      extras: Buffer.alloc(8),
      value: "v".repeat(1_001),
    });
    const reply = await binary.ask(set, "Too large.");
    expect(readPackets(reply).packets[0]?.status).toBe(3);
    expect(effectsOf(worker)).toEqual({ "value_size refused": 3 });
    worker.changeCache({ limits: {} });
    expect(await wire.line(`set k 0 0 1001\r\n${"v".repeat(1_001)}`)).toBe("STORED");
  });
});

test("limits are shared between the proxies that live, and their workers", async () => {
  const worker = await start({ sessionsMax: 10, newSessionsPerSecondMax: 3 });
  const { limits } = worker.worker.services.directory.tenants.get(CACHE)!;
  expect(limits.sessionsMax).toBe(10);
  const proxy = { pid: 1, addresses: [], ops: "", ready: true, appliedRevision: 1, startedAtMs: 1 };
  for (const id of ["p1", "p2", "p3"]) worker.change({ kind: "proxy", id, value: proxy });
  expect(limits.sessionsMax).toBe(4);
  worker.change({ kind: "proxy", id: "p2", value: null });
  expect(limits.sessionsMax).toBe(5);
});
