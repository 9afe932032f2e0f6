/**
 * Credentials that change while they are used: who may come in, who has to go, and that nobody
 * goes without the answers to what was read of him.
 */
import { afterEach, describe, expect, test } from "vitest";
import { digestOf, scryptDigestOf } from "../../../core/cluster/credentials.ts";
import { CLOSE_REASONS, LOGIN_OUTCOMES } from "../../../proxy/client/services.ts";
import { until } from "../../core/io/pair.ts";
import { packet, saslPlain, type Wire } from "../../harness/wire.ts";
import { FakeShard } from "../fakeShard.ts";
import { PASSWORD, TestWorker, type WorkerSetup } from "../worker.ts";

let started: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const part of started.reverse()) await part.stop();
  started = [];
});

async function start(setup: Partial<WorkerSetup> = {}): Promise<TestWorker> {
  const worker = await new TestWorker({ shards: [], ...setup }).start();
  started.push(worker);
  return worker;
}

const loginLine = (password: string): string => `set all 0 0 ${password.length}\r\n${password}`;
const REFUSED = "CLIENT_ERROR authentication failed";
const HOUR_MS = 3_600_000;

const outcomes = (worker: TestWorker, outcome: (typeof LOGIN_OUTCOMES)[number]): number =>
  worker.worker.services.counters.logins[LOGIN_OUTCOMES.indexOf(outcome)]!;
const closed = (worker: TestWorker, reason: (typeof CLOSE_REASONS)[number]): number =>
  worker.worker.services.counters.closed[CLOSE_REASONS.indexOf(reason)]!;

async function isClosed(worker: TestWorker, wire: Wire): Promise<void> {
  expect((await wire.readToClose()).ended).toBe("closed");
  await until("the session is gone", () => worker.sessionCount === 0);
}

/** What a refused login sends, byte by byte, in both dialects. */
async function refusalBytes(worker: TestWorker, password: string): Promise<string[]> {
  const text = await worker.open(worker.login);
  const binary = await worker.open(worker.login);
  const line = String(await text.ask(`${loginLine(password)}\r\n`, "\r\n"));
  const bytes = await binary.ask(saslPlain({ username: "all", password }), "Auth failure.");
  return [line, bytes.toString("hex")];
}

describe("a credential that expires", () => {
  test("is refused like a wrong password from then on, and counted for itself", async () => {
    const worker = await start();
    const wrong = await refusalBytes(worker, "wrong-password");
    worker.changeLogin("all", { expiresAtMs: Date.now() - 1 });
    expect(await refusalBytes(worker, PASSWORD)).toEqual(wrong);
    expect([outcomes(worker, "expired"), outcomes(worker, "wrong")]).toEqual([2, 2]);
    expect(await refusalBytes(worker, "wrong-password")).toEqual(wrong);
    expect(outcomes(worker, "wrong")).toBe(4);
  });

  test("closes its sessions when the moment comes", async () => {
    const worker = await start();
    const wire = await worker.openAs("all", "text");
    worker.changeLogin("all", { expiresAtMs: Date.now() + 50 });
    expect(await wire.line("mn")).toBe("MN");
    await isClosed(worker, wire);
    expect(closed(worker, "credential_expired")).toBe(1);
  });

  test("may live on when it is told to in time", async () => {
    const worker = await start();
    const wire = await worker.openAs("all", "text");
    worker.changeLogin("all", { expiresAtMs: Date.now() + 100 });
    worker.changeLogin("all", { expiresAtMs: Date.now() + HOUR_MS });
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(await wire.line("mn")).toBe("MN");
    worker.changeLogin("all", { expiresAtMs: null });
    expect(await wire.line("mn")).toBe("MN");
  });

  test("may come back to life", async () => {
    const worker = await start();
    worker.changeLogin("all", { expiresAtMs: Date.now() - HOUR_MS });
    const wire = await worker.open(worker.login);
    expect(await wire.line(loginLine(PASSWORD))).toBe(REFUSED);
    worker.changeLogin("all", { expiresAtMs: Date.now() + HOUR_MS });
    expect(await wire.line(loginLine(PASSWORD))).toBe("STORED");
  });
});

describe("a credential of some networks", () => {
  test("is refused from outside like a wrong password, and counted for itself", async () => {
    const worker = await start();
    const wrong = await refusalBytes(worker, "wrong-password");
    worker.changeLogin("all", { networks: ["192.0.2.0/24", "2001:db8::/32"] });
    expect(await refusalBytes(worker, PASSWORD)).toEqual(wrong);
    expect(outcomes(worker, "outside_network")).toBe(2);
    worker.changeLogin("all", { networks: ["192.0.2.0/24", "127.0.0.0/8"] });
    const wire = await worker.open(worker.login);
    expect(await wire.line(loginLine(PASSWORD))).toBe("STORED");
  });

  test("closes the sessions that are outside when they change", async () => {
    const worker = await start();
    const wire = await worker.openAs("all", "binary");
    worker.changeLogin("all", { networks: ["127.0.0.1/32"] });
    await wire.ask(packet({ opcode: "noop" }), "no live shard");
    worker.changeLogin("all", { networks: ["127.0.0.2/32"] });
    await isClosed(worker, wire);
    expect(closed(worker, "outside_network")).toBe(1);
  });
});

describe("a chosen password", () => {
  test("logs in, again and again, in both dialects; others do not", async () => {
    const worker = await start();
    worker.changeLogin("all", { digest: await scryptDigestOf("hunter2") });
    const text = await worker.open(worker.login);
    expect(await text.line(loginLine("hunter3"))).toBe(REFUSED);
    expect(await text.line("set nobody 0 0 7\r\nhunter2")).toBe(REFUSED);
    expect(await text.line(loginLine("hunter2"))).toBe("STORED");
    const binary = await worker.open(worker.login);
    await binary.ask(saslPlain({ username: "all", password: "hunter2" }), "Authenticated");
    expect(worker.worker.services.passwords.runningCount).toBe(0);
  });

  test("is waited for: what is pipelined behind it is answered behind it", async () => {
    const worker = await start();
    worker.changeLogin("all", { digest: await scryptDigestOf("hunter2") });
    const wire = await worker.open(worker.login);
    await wire.send(`version\r\n${loginLine("no")}\r\n${loginLine("hunter2")}\r\nget a\r\nmn\r\n`);
    const { bytes } = await wire.readUntil("MN\r\n");
    expect(String(bytes)).toBe(`VERSION 1.6.18\r\n${REFUSED}\r\nSTORED\r\nEND\r\nMN\r\n`);
  });

  test("is not waited for by clients who leave", async () => {
    const worker = await start();
    worker.changeLogin("all", { digest: await scryptDigestOf("hunter2") });
    const wires = await Promise.all(Array.from({ length: 6 }, () => worker.open(worker.login)));
    for (const [index, wire] of wires.entries()) {
      await wire.send(`${loginLine(`guess-${index}`)}\r\n`);
    }
    const { passwords } = worker.worker.services;
    await until("they are checked", () => passwords.runningCount > 0);
    for (const wire of wires) wire.reset();
    await until("nothing is checked", () => passwords.runningCount + passwords.waitingCount === 0);
    await until("all are gone", () => worker.sessionCount === 0);
  });

  test("of whom there are too many is told so, and a generated one gets in meanwhile", async () => {
    const worker = await start({ logins: { all: ["read"], generated: ["read"] } });
    worker.changeLogin("all", { digest: await scryptDigestOf("hunter2") });
    const strangers = await Promise.all(
      Array.from({ length: 12 }, () => worker.open(worker.login)),
    );
    for (const [index, wire] of strangers.entries()) {
      await wire.send(`${loginLine(`guess-${index}`)}\r\n`);
    }
    await until("it is too much", () => outcomes(worker, "too_many_checks") > 0);
    const wire = await worker.open(worker.login);
    const line = `set generated 0 0 ${PASSWORD.length}\r\n${PASSWORD}`;
    expect(await wire.line(line)).toBe("STORED");
    const answers = await Promise.all(strangers.map((one) => one.readUntil("\r\n")));
    const told = new Set(answers.map(({ bytes }) => String(bytes)));
    expect(told).toEqual(new Set([`${REFUSED}\r\n`, "SERVER_ERROR too many logins at once\r\n"]));
  });
});

describe("sessions that live when their credential changes", () => {
  test("get more and fewer rights at once", async () => {
    const worker = await start();
    const wire = await worker.openAs("all", "text");
    worker.changeLogin("all", { rights: ["read"] });
    expect(await wire.line("delete k")).toBe("CLIENT_ERROR credential is read-only");
    worker.changeLogin("all", { rights: ["read", "write"] });
    expect(await wire.line("delete k")).toBe("SERVER_ERROR no live shard");
  });

  test("end when the password is another, and not when it stays", async () => {
    const worker = await start();
    const wire = await worker.openAs("all", "text");
    worker.changeLogin("all", { label: "renamed" });
    expect(await wire.line("mn")).toBe("MN");
    worker.changeLogin("all", { digest: digestOf("another-password") });
    await isClosed(worker, wire);
    expect(closed(worker, "credential_revoked")).toBe(1);
    const next = await worker.open(worker.login);
    expect(await next.line(loginLine(PASSWORD))).toBe(REFUSED);
    expect(await next.line(loginLine("another-password"))).toBe("STORED");
  });

  test("end when their keys would get another prefix", async () => {
    const worker = await start();
    const wire = await worker.openAs("all", "text");
    worker.changeLogin("all", { keyPrefix: "a:" });
    await isClosed(worker, wire);
  });

  test("end when the cache is disabled; it can be enabled again", async () => {
    const worker = await start();
    const wire = await worker.openAs("all", "text");
    worker.changeCache({ enabled: false });
    await isClosed(worker, wire);
    expect(closed(worker, "cache_disabled")).toBe(1);
    const next = await worker.open(worker.login);
    expect(await next.line(loginLine(PASSWORD))).toBe(REFUSED);
    worker.changeCache({ enabled: true });
    expect(await next.line(loginLine(PASSWORD))).toBe("STORED");
  });
});

test.each([
  ["is deleted", (worker: TestWorker) => worker.deleteLogin("all")],
  ["expires", (worker: TestWorker) => worker.changeLogin("all", { expiresAtMs: Date.now() + 5 })],
  [
    "has a new password",
    (worker: TestWorker) => worker.changeLogin("all", { digest: digestOf("new") }),
  ],
])("a credential that %s leaves no command unanswered that was read", async (_, change) => {
  const shard = await FakeShard.start();
  started.push(shard);
  const worker = await start({ shards: [shard.address] });
  const sessionCount = 5;
  const commandCount = 20;
  const wires = await Promise.all(
    Array.from({ length: sessionCount }, () => worker.openAs("all", "text")),
  );
  const command = "get k\r\n";
  for (const wire of wires) await wire.send(command.repeat(commandCount));
  const connection = await shard.nextValid();
  await until(
    "all of it is asked",
    () => connection.received.length === command.length * commandCount * sessionCount,
  );
  change(worker);
  await until("it is in force", () => worker.worker.services.directory.changeCount > 0);
  connection.write("VALUE k 0 1\r\nv\r\nEND\r\n".repeat(commandCount * sessionCount));
  for (const wire of wires) {
    const { bytes, ended } = await wire.readToClose();
    expect([String(bytes), ended]).toEqual([
      "VALUE k 0 1\r\nv\r\nEND\r\n".repeat(commandCount),
      "closed",
    ]);
  }
  await until("all have gone", () => worker.sessionCount === 0);
  await worker.untilNothingIsHeld();
});
