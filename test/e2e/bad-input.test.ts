/**
 * Promise: no input of a stranger or of a broken client harms anybody else. After each of these a
 * fresh connection is served and every acknowledged value is still there.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";
import {
  connect,
  OPCODE,
  packet,
  readPackets,
  saslPlain,
  startRelay,
  type Wire,
} from "../harness/wire.ts";
import { counterSum, rssOf } from "./observe.ts";
import { memjs } from "./programs.ts";

const LOGIN_FAILURES_MAX = 10;
const MIB = 1024 * 1024;
const EXTRAS = Buffer.alloc(8);
const NOOP = packet({ opcode: "noop", opaque: 0x600d });
const NOOP_REPLY = packet({ opcode: "noop", opaque: 0x600d, magic: 0x81 });

let memward: Memward;
let acknowledged: string[];

beforeAll(async () => {
  memward = await startMemward();
  acknowledged = Array.from({ length: 100 }, (_, index) => `kept-${index}`);
  const wire = await memward.open("text");
  for (const key of acknowledged) {
    expect(await storeText(wire, key, `value of ${key}`)).toBe("STORED");
  }
  wire.close();
}, 60_000);
afterAll(() => memward.stop());

afterEach(async () => {
  for (const dialect of ["text", "binary"] as const) {
    const wire = await memward.open(dialect);
    if (dialect === "binary") expect(await wire.ask(NOOP, NOOP_REPLY)).toEqual(NOOP_REPLY);
    else await expectAcknowledgedValues(wire);
    wire.close();
  }
});

async function expectAcknowledgedValues(wire: Wire): Promise<void> {
  const found = await wire.ask(`get ${acknowledged.join(" ")}\r\n`, "END\r\n");
  const expected = acknowledged.map((key) => {
    const value = `value of ${key}`;
    return `VALUE ${key} 0 ${value.length}\r\n${value}\r\n`;
  });
  expect(String(found)).toBe(`${expected.join("")}END\r\n`);
}

async function storeText(wire: Wire, key: string, value: string): Promise<string> {
  return String(await wire.ask(`set ${key} 0 0 ${value.length}\r\n${value}\r\n`, "\r\n")).trim();
}

const wrongLogin = (): Buffer => saslPlain({ ...memward, password: "wrong" });

async function expectRefusedLogin(wire: Wire): Promise<void> {
  await wire.send(wrongLogin());
  const reply = await wire.packet();
  expect(reply).toMatchObject({ opcode: OPCODE.saslAuth, status: 0x20 });
  expect(String(reply?.value)).toBe("Auth failure.");
}

describe("a wrong password", () => {
  test("is answered 0x20 with text, the connection kept, and counted", async () => {
    const before = counterSum(await memward.metrics(), /login/i, /wrong|fail/i);
    const wire = await connect(memward.server);
    await expectRefusedLogin(wire);
    await expectRefusedLogin(wire);
    await wire.send(saslPlain(memward));
    expect(await wire.packet()).toMatchObject({ opcode: OPCODE.saslAuth, status: 0 });
    wire.close();
    expect(counterSum(await memward.metrics(), /login/i, /wrong|fail/i) - before).toBe(2);
  });

  test(`closes a binary connection after ${LOGIN_FAILURES_MAX} of them`, async () => {
    const wire = await connect(memward.server);
    for (let count = 0; count < LOGIN_FAILURES_MAX; count++) await expectRefusedLogin(wire);
    expect((await wire.readToClose()).ended).not.toBe("deadline");
  });

  test(`closes a text connection after ${LOGIN_FAILURES_MAX} of them`, async () => {
    const wire = await connect(memward.server);
    const bad = `set ${memward.username} 0 0 5\r\nwrong\r\n`;
    for (let count = 1; count < LOGIN_FAILURES_MAX; count++) {
      expect(String(await wire.ask(bad, "\r\n"))).toBe("CLIENT_ERROR authentication failed\r\n");
    }
    await wire.send(bad);
    const { bytes, ended } = await wire.readToClose();
    expect(String(bytes)).toMatch(/^CLIENT_ERROR [^\r\n]*\r\n$/);
    expect(ended).not.toBe("deadline");
  });
});

describe("a stranger who never logs in", () => {
  test.each([
    ["AUTH announcing 4 GB", packet({ opcode: "saslAuth", key: "PLAIN", bodySize: 0xffff_ffff })],
    ["AUTH announcing 2 GB", packet({ opcode: "saslAuth", key: "PLAIN", bodySize: 0x8000_0000 })],
    ["SET announcing 4 GB", packet({ opcode: "set", extrasSize: 8, bodySize: 0xffff_fff0 })],
    ["a key size beyond the body", packet({ opcode: "saslAuth", keySize: 60_000 })],
    [
      "bad magic in its second packet",
      Buffer.concat([NOOP, packet({ opcode: "get", magic: 0x81 })]),
    ],
    ["a TLS hello", Buffer.from("16030100b0010000ac0303", "hex")],
    ["a long line", "x".repeat(100_000)],
  ])("is turned away for %s", async (_, bytes) => {
    const wire = await connect(memward.server);
    await wire.send(bytes);
    expect((await wire.readToClose()).ended).not.toBe("deadline");
  });

  test("cannot make the proxy hoard what it announces", async () => {
    const { pid } = await memward.role("proxy");
    const before = rssOf(pid);
    const wires = await Promise.all(Array.from({ length: 50 }, () => connect(memward.server)));
    const opening = packet({ opcode: "saslAuth", key: "PLAIN", bodySize: 5 + 900 * 1024 });
    await Promise.all(wires.map((wire) => wire.send(opening)));
    await Promise.all(wires.map((wire) => wire.send(Buffer.alloc(900 * 1024))));
    expect(rssOf(pid) - before).toBeLessThan(40 * MIB);
    for (const wire of wires) wire.close();
  });

  test("is told which text commands need a login, whatever they are", async () => {
    const wire = await connect(memward.server);
    expect(await wire.line("get kept-1")).toBe("CLIENT_ERROR unauthenticated");
    expect(await wire.line("no such command")).toMatch(/^(CLIENT_ERROR unauthenticated|ERROR)$/);
    wire.close();
  });
});

describe("a client that logs in and then", () => {
  test("resets inside a value", async () => {
    for (const dialect of ["text", "binary"] as const) {
      const wire = await memward.open(dialect);
      const start = { opcode: "set", key: "kept-1", extras: EXTRAS, bodySize: 100_014 } as const;
      await wire.send(dialect === "text" ? "set kept-1 0 0 100000\r\n" : packet(start));
      await wire.send(Buffer.alloc(50_000, "x"));
      wire.reset();
    }
  });

  test("half-closes after its commands gets all its answers", async () => {
    const wire = await memward.open("text");
    await wire.send("get kept-1\r\nget kept-2\r\nmn\r\n");
    wire.finish();
    const { bytes, ended } = await wire.readToClose();
    expect(ended).toBe("closed");
    expect(String(bytes)).toBe(
      "VALUE kept-1 0 15\r\nvalue of kept-1\r\nEND\r\nVALUE kept-2 0 15\r\nvalue of kept-2\r\nEND\r\nMN\r\n",
    );
  });

  test("half-closes inside a value stores nothing", async () => {
    const wire = await memward.open("text");
    await wire.send("set kept-3 0 0 100\r\nhalf a value");
    wire.finish();
    expect((await wire.readToClose()).ended).not.toBe("deadline");
  });

  test("half-closes at once", async () => {
    const wire = await connect(memward.server);
    wire.finish();
    expect((await wire.readToClose()).ended).toBe("closed");
  });

  test("sends one byte at a time", async () => {
    const wire = await memward.open("binary");
    const store = packet({ opcode: "set", key: "slow", value: "slow value", extras: EXTRAS });
    const fetch = packet({ opcode: "getk", key: "slow" });
    await wire.send(Buffer.concat([store, fetch, NOOP]), "bytes");
    const { packets } = readPackets((await wire.readUntil(NOOP_REPLY)).bytes);
    expect(packets.map(({ status }) => status)).toEqual([0, 0, 0]);
    expect(String(packets[1]?.value)).toBe("slow value");
    wire.close();
  });

  test("sends 5,000 quiet gets in one write", async () => {
    const wire = await memward.open("binary");
    const gets = Array.from({ length: 5_000 }, (_, index) =>
      packet({ opcode: "getkq", key: `kept-${index}`, opaque: index }),
    );
    const { packets } = readPackets(await wire.ask(Buffer.concat([...gets, NOOP]), NOOP_REPLY));
    expect(packets).toHaveLength(acknowledged.length + 1);
    for (const [index, { opaque, key, value }] of packets.slice(0, -1).entries()) {
      const expected = [index, `kept-${index}`, `value of kept-${index}`];
      expect([opaque, String(key), String(value)]).toEqual(expected);
    }
    wire.close();
  });

  test("asks for 5,000 keys in one line", async () => {
    const wire = await memward.open("text");
    const keys = Array.from({ length: 5_000 }, (_, index) => `kept-${index}`);
    const found = String(await wire.ask(`get ${keys.join(" ")}\r\n`, "END\r\n"));
    expect(found.match(/^VALUE /gm)).toHaveLength(acknowledged.length);
    wire.close();
  });

  test("speaks another dialect in the middle", async () => {
    const wire = await memward.open("binary");
    await wire.send("get kept-1\r\nget kept-2\r\nget kept-3\r\n");
    expect((await wire.readToClose()).ended).not.toBe("deadline");
  });
});

test("1,000 connections that come and go", async () => {
  for (let round = 0; round < 10; round++) {
    const wires = await Promise.all(Array.from({ length: 100 }, () => connect(memward.server)));
    for (const [index, wire] of wires.entries()) {
      if (index % 3 === 0) await wire.send("\x80");
      if (index % 2 === 0) wire.reset();
      else wire.close();
    }
  }
});

test("a client whose connection is cut everywhere inside a login and a set", async () => {
  const login = saslPlain(memward);
  const store = packet({ opcode: "set", key: "cut", value: "v".repeat(40), extras: EXTRAS });
  const bytes = Buffer.concat([login, store, NOOP]);
  const cuts = Array.from({ length: bytes.length }, (_, cut) => cut);
  for (let start = 0; start < cuts.length; start += 50) {
    await Promise.all(
      cuts.slice(start, start + 50).map(async (cut) => {
        const wire = await connect(memward.server);
        await wire.send(bytes.subarray(0, cut));
        if (cut % 2 === 0) wire.reset();
        else wire.close();
      }),
    );
  }
});

test("a stock client recovers when its connection is cut", async () => {
  const relay = await startRelay({ dial: () => connect(memward.server) });
  const client = memjs([relay.address], memward);
  expect(await client.set("cut-client", "before", {})).toBe(true);
  client.close();
  await relay.stop();
  const again = memjs([memward.server], memward);
  expect(String((await again.get("cut-client")).value)).toBe("before");
  again.close();
});
