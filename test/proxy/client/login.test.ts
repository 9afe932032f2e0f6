/** Who may come in: both dialects, before, at and after a login. */
import { afterEach, describe, expect, test } from "vitest";
import { LOGIN_OUTCOMES } from "../../../proxy/client/services.ts";
import { until } from "../../core/io/pair.ts";
import {
  OPCODE,
  type Packet,
  packet,
  readPackets,
  saslPlain,
  type Wire,
} from "../../harness/wire.ts";
import { FakeShard } from "../fakeShard.ts";
import { PASSWORD, TestWorker, type WorkerSetup } from "../worker.ts";

let started: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const part of started.reverse()) await part.stop();
  started = [];
});

async function start(setup: Partial<WorkerSetup> = {}): Promise<TestWorker> {
  const worker = await new TestWorker({ shards: [], ...setup }).start();
  started.push(worker);
  return worker;
}

/** One packet asked and answered. */
async function ask(wire: Wire, request: Buffer): Promise<Packet> {
  await wire.send(request);
  const header = (await wire.read(24)).bytes;
  const body = (await wire.read(header.readUInt32BE(8))).bytes;
  const [reply] = readPackets(Buffer.concat([header, body])).packets;
  if (reply === undefined) throw new Error(`no answer: ${wire.state}`);
  return reply;
}

const WRONG = "set all 0 0 5\r\nwrong\r\n";
const GOOD = `set all 0 0 ${PASSWORD.length}\r\n${PASSWORD}\r\n`;
const GOOD_SASL = saslPlain({ username: "all", password: PASSWORD });
const WRONG_SASL = saslPlain({ username: "all", password: "wrong" });
const AUTH_ERROR = 0x20;
const FAILURES_MAX = 10;

describe("a wrong login", () => {
  test("is refused in words, and a good one behind it taken (text)", async () => {
    const worker = await start();
    const wire = await worker.open(worker.login);
    expect(await wire.line(WRONG.trimEnd())).toBe("CLIENT_ERROR authentication failed");
    expect(await wire.line("set nobody 0 0 1\r\nx")).toBe("CLIENT_ERROR authentication failed");
    expect(await wire.line("set any 0 0 9\r\nall wrong")).toBe(
      "CLIENT_ERROR authentication failed",
    );
    expect(await wire.line(GOOD.trimEnd())).toBe("STORED");
    expect(await wire.line("mn")).toBe("MN");
  });

  test("is refused as 0x20, and a good one behind it taken (binary)", async () => {
    const worker = await start();
    const wire = await worker.open(worker.login);
    for (const request of [
      WRONG_SASL,
      packet({ opcode: "saslAuth", key: "CRAM-MD5", value: "x" }),
    ]) {
      const refusal = await ask(wire, request);
      expect([refusal.status, String(refusal.value)]).toEqual([AUTH_ERROR, "Auth failure."]);
    }
    expect(await ask(wire, GOOD_SASL)).toMatchObject({ status: 0 });
    expect((await ask(wire, packet({ opcode: "saslList" }))).status).toBe(0);
  });

  test.each([
    ["text", WRONG, "CLIENT_ERROR authentication failed\r\n"],
    ["binary", WRONG_SASL, "Auth failure."],
  ])(`closes the connection at the ${FAILURES_MAX}th (%s)`, async (_, wrong, answer) => {
    const worker = await start();
    const wire = await worker.open(worker.login);
    for (let count = 1; count < FAILURES_MAX; count++) await wire.ask(wrong, answer);
    expect(wire.state).toBe("open");
    await wire.send(wrong);
    const { bytes, ended } = await wire.readToClose();
    expect([ended, bytes.toString("latin1").endsWith(answer)]).toEqual(["closed", true]);
    expect(worker.worker.services.counters.logins[LOGIN_OUTCOMES.indexOf("wrong")]).toBe(
      FAILURES_MAX,
    );
    // Nor does it stay, whatever the client does with its end.
    await until("the session is gone", () => worker.sessionCount === 0);
  });

  test("pipelined a hundred times is answered no more often than that", async () => {
    const worker = await start();
    const wire = await worker.open(worker.login);
    await wire.send(WRONG.repeat(100) + GOOD);
    const { bytes } = await wire.readToClose();
    expect(String(bytes)).toBe("CLIENT_ERROR authentication failed\r\n".repeat(FAILURES_MAX));
  });
});

describe("a login", () => {
  test("and the first command may come in one segment", async () => {
    const worker = await start();
    const text = await worker.open(worker.login);
    expect(String(await text.ask(`${GOOD}mn\r\n`, "MN\r\n"))).toBe("STORED\r\nMN\r\n");
    const binary = await worker.open(worker.login);
    const noop = packet({ opcode: "saslList", opaque: 9 });
    await binary.send(Buffer.concat([GOOD_SASL, noop]));
    const { packets } = readPackets((await binary.readUntil("PLAIN")).bytes);
    expect(packets.map(({ opcode, status }) => [opcode, status])).toEqual([
      [OPCODE.saslAuth, 0],
      [OPCODE.saslList, 0],
    ]);
  });

  test("may come byte by byte", async () => {
    const worker = await start();
    const text = await worker.open(worker.login);
    await text.send(`${GOOD}mn\r\n`, "bytes");
    expect(String((await text.readUntil("MN\r\n")).bytes)).toBe("STORED\r\nMN\r\n");
    const binary = await worker.open(worker.login);
    await binary.send(GOOD_SASL, "bytes");
    expect(readPackets((await binary.readUntil("Authenticated")).bytes).packets[0]?.status).toBe(0);
  });

  test("in memcached's own form and in the other are the same", async () => {
    const worker = await start();
    const wire = await worker.open(worker.login);
    const value = `all ${PASSWORD}`;
    expect(await wire.line(`set any-key 0 0 ${value.length}\r\n${value}`)).toBe("STORED");
  });

  test("with noreply is silent and good", async () => {
    const worker = await start();
    const wire = await worker.open(worker.login);
    await wire.send(GOOD.replace("\r\n", " noreply\r\n"));
    expect(await wire.line("mn")).toBe("MN");
  });

  test("of a cache that is switched off is refused", async () => {
    const worker = await start();
    worker.disableCache();
    const wire = await worker.open(worker.login);
    expect(await wire.line(GOOD.trimEnd())).toBe("CLIENT_ERROR authentication failed");
  });
});

describe("a stranger", () => {
  const LINES: [sent: string, answer: string][] = [
    ["get key", "CLIENT_ERROR unauthenticated"],
    ["gat 0 a b c", "CLIENT_ERROR unauthenticated"],
    ["add key 0 0 1\r\nx", "CLIENT_ERROR unauthenticated"],
    ["cas key 0 0 1 1\r\nx", "CLIENT_ERROR unauthenticated"],
    ["delete key", "CLIENT_ERROR unauthenticated"],
    ["incr key 1", "CLIENT_ERROR unauthenticated"],
    ["touch key 0", "CLIENT_ERROR unauthenticated"],
    ["mg key v", "CLIENT_ERROR unauthenticated"],
    ["ms key 1\r\nx", "CLIENT_ERROR unauthenticated"],
    ["md key", "CLIENT_ERROR unauthenticated"],
    ["ma key", "CLIENT_ERROR unauthenticated"],
    ["me key", "CLIENT_ERROR unauthenticated"],
    ["mn", "CLIENT_ERROR unauthenticated"],
    ["flush_all", "CLIENT_ERROR unauthenticated"],
    ["stats", "CLIENT_ERROR unauthenticated"],
    ["verbosity 1", "CLIENT_ERROR unauthenticated"],
    [`add key 0 0 100000\r\n${"x".repeat(100_000)}`, "CLIENT_ERROR unauthenticated"],
    [`ms key 1100000\r\n${"x".repeat(1_100_000)}`, "CLIENT_ERROR unauthenticated"],
    ["version", "VERSION 1.6.18"],
  ];

  test("is told so for every text command but version, and can log in all the same", async () => {
    const worker = await start();
    const wire = await worker.open(worker.login);
    for (const [sent, answer] of LINES) {
      expect(await wire.line(sent), sent.slice(0, 30)).toBe(answer);
    }
    expect(worker.worker.services.counters.unauthenticated).toBe(LINES.length - 1);
    expect(await wire.line(GOOD.trimEnd())).toBe("STORED");
  });

  test("is told so for every binary command but four, and can log in all the same", async () => {
    const worker = await start();
    const wire = await worker.open(worker.login);
    const OPEN = new Set<number>([OPCODE.saslList, OPCODE.version]);
    const CLOSING = new Set<number>([OPCODE.quit, OPCODE.quitq, OPCODE.saslAuth, OPCODE.saslStep]);
    for (const [name, opcode] of Object.entries(OPCODE)) {
      if (CLOSING.has(opcode)) continue;
      const extrasSize = /^(incr|decr)/.test(name)
        ? 20
        : /^(set|add|repl)/.test(name)
          ? 8
          : /^(touch|gat|verb)/.test(name)
            ? 4
            : 0;
      const hasKey = !/^(noop|version|flush|stat|verb|sasl)/.test(name);
      const request = packet({
        opcode,
        extras: Buffer.alloc(extrasSize),
        key: hasKey ? "k" : "",
        opaque: opcode,
      });
      const reply = await ask(wire, request);
      const expected = OPEN.has(opcode) ? 0 : AUTH_ERROR;
      expect([reply.opcode, reply.opaque, reply.status], name).toEqual([opcode, opcode, expected]);
    }
    expect((await ask(wire, GOOD_SASL)).status).toBe(0);
  });

  test("is not listened to for long: a line without an end is given up", async () => {
    const worker = await start();
    for (const bytes of ["x".repeat(20_000), `get ${"key ".repeat(20_000)}`]) {
      const wire = await worker.open(worker.login);
      await wire.send(bytes);
      const { ended } = await wire.readToClose();
      expect(ended).not.toBe("deadline");
    }
    await until("the sessions are gone", () => worker.sessionCount === 0);
  });

  test("gets the same words whatever other sessions have just asked", async () => {
    const worker = await start();
    const other = await worker.open(worker.plain);
    const wire = await worker.open(worker.login);
    await other.send("set k 0 0 1 noreply\r\nx\r\nmn\r\n");
    await other.readUntil("MN\r\n");
    await wire.send("y".repeat(5_000));
    expect(String((await wire.readToClose()).bytes)).toMatch(/^CLIENT_ERROR [^\r]+\r\n$/);
  });

  test("who speaks nonsense in binary is answered under no other's opaque", async () => {
    const worker = await start();
    const other = await worker.open(worker.plain);
    await ask(other, packet({ opcode: "saslList", opaque: 0xabcd_ef01 }));
    const wire = await worker.open(worker.login);
    await wire.send(packet({ opcode: "saslList", opaque: 5 }));
    await wire.readUntil("PLAIN");
    await ask(other, packet({ opcode: "saslList", opaque: 0xabcd_ef01 }));
    await wire.send(Buffer.alloc(30, "?"));
    const { packets } = readPackets((await wire.readToClose()).bytes);
    for (const { opaque } of packets) expect(opaque).not.toBe(0xabcd_ef01);
  });

  test("is sent away after the time he has for a login", async () => {
    const worker = await start({ options: { loginTimeoutSeconds: 1 } });
    const wire = await worker.open(worker.login);
    expect((await wire.readToClose()).ended).toBe("closed");
  });
});

describe("a credential that is deleted", () => {
  test("ends its sessions, and no others", async () => {
    const worker = await start({ logins: { all: ["read"], other: ["read"] } });
    const sessions = await Promise.all([
      worker.openAs("all", "text"),
      worker.openAs("all", "binary"),
      worker.openAs("other", "text"),
    ]);
    worker.deleteLogin("all");
    expect((await sessions[0]?.readToClose())?.ended).toBe("closed");
    expect((await sessions[1]?.readToClose())?.ended).toBe("closed");
    expect(await sessions[2]?.line("mn")).toBe("MN");
    const wire = await worker.open(worker.login);
    expect(await wire.line(GOOD.trimEnd())).toBe("CLIENT_ERROR authentication failed");
  });

  test("ends a session only when what it has asked is answered", async () => {
    const shard = await FakeShard.start();
    started.push(shard);
    const worker = await start({ shards: [shard.address] });
    const wire = await worker.openAs("all", "text");
    await wire.send("get a\r\nset b 0 0 1\r\nx\r\nget c\r\n");
    const connection = await shard.nextValid();
    await connection.takeText("get a\r\nset b 0 0 1\r\nx\r\nget c\r\n");
    worker.deleteLogin("all");
    connection.write("VALUE a 0 1\r\na\r\nEND\r\nSTORED\r\nEND\r\n");
    const { bytes, ended } = await wire.readToClose();
    expect(String(bytes)).toBe("VALUE a 0 1\r\na\r\nEND\r\nSTORED\r\nEND\r\n");
    expect(ended).toBe("closed");
    await until("the session is gone", () => worker.sessionCount === 0);
  });
});
