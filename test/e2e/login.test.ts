/**
 * Promise: logins are answered as memcached answers them, in both dialects, and nothing of a cache
 * is served before. memcached's own answers are recorded in this run with the same credential
 * (`-S` for binary, `-Y` for text).
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";
import { type Memcached, missingForSasl, startMemcached } from "../harness/processes.ts";
import {
  connect,
  packet,
  printPacket,
  readPackets,
  saslPlain,
  type Wire,
} from "../harness/wire.ts";
import { describeWith } from "./suite.ts";

const EXTRAS = Buffer.alloc(8);
const GET = packet({ opcode: "get", key: "no-such-key", opaque: 7 });

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward();
}, 60_000);
afterAll(() => memward.stop());

/** Sends packets one after the other, each after the reply to the one before. */
async function answers(wire: Wire, packets: readonly Buffer[]): Promise<string[]> {
  const lines: string[] = [];
  for (const each of packets) {
    await wire.send(each);
    const reply = await wire.packet();
    lines.push(reply === undefined ? `<${wire.state}>` : printPacket(reply));
  }
  return lines;
}

describeWith(
  ["memcached"],
  "a binary login is answered as memcached answers it",
  () => {
    let memcached: Memcached;
    beforeAll(async () => {
      const { username, password } = memward;
      memcached = await startMemcached({ sasl: { username, password } });
    });
    afterAll(() => memcached.stop());

    const good = () => saslPlain(memward);
    const wrong = () => saslPlain({ ...memward, password: "wrong" });
    const step = () => {
      const value = `\0${memward.username}\0${memward.password}`;
      return packet({ opcode: "saslStep", key: "PLAIN", value });
    };
    const CONVERSATIONS: readonly [name: string, packets: () => Buffer[]][] = [
      ["mechanisms", () => [packet({ opcode: "saslList", opaque: 1 })]],
      ["login", () => [good(), GET]],
      ["login that repeats the username", () => [saslPlain(memward, memward.username), GET]],
      ["login as somebody else", () => [saslPlain(memward, "somebody")]],
      ["wrong password", () => [wrong()]],
      ["unknown username", () => [saslPlain({ username: "nobody", password: "x" })]],
      ["empty password", () => [saslPlain({ ...memward, password: "" })]],
      ["wrong password, then the right one", () => [wrong(), wrong(), good(), GET]],
      ["unknown mechanism", () => [packet({ opcode: "saslAuth", key: "SCRAM-SHA-256" }), good()]],
      ["message without NUL", () => [packet({ opcode: "saslAuth", key: "PLAIN", value: "x" })]],
      ["message of two NULs", () => [packet({ opcode: "saslAuth", key: "PLAIN", value: "\0\0" })]],
      ["step without a login", () => [step()]],
      ["get before a login", () => [GET]],
      ["noop before a login", () => [packet({ opcode: "noop" })]],
      ["stat before a login", () => [packet({ opcode: "stat" })]],
      ["flush before a login", () => [packet({ opcode: "flush" })]],
      [
        "set before a login",
        () => [packet({ opcode: "set", key: "k", value: "v", extras: EXTRAS })],
      ],
    ];

    test.each(CONVERSATIONS)("%s", async (_, packets) => {
      const [theirs, ours] = [await connect(memcached.address), await connect(memward.server)];
      expect(await answers(ours, packets())).toEqual(await answers(theirs, packets()));
      theirs.close();
      ours.close();
    });
  },
  missingForSasl(),
);

describe("a binary session before its login", () => {
  test("tells its version", async () => {
    const wire = await connect(memward.server);
    expect(await answers(wire, [packet({ opcode: "version" })])).toEqual([
      expect.stringMatching(/^version status=0000 .* value="\d+\.\d+\.\d+/),
    ]);
    wire.close();
  });

  test("goes on after a command that was refused", async () => {
    const wire = await connect(memward.server);
    const [refused, login, miss] = await answers(wire, [GET, saslPlain(memward), GET]);
    expect(refused).toContain("get status=0020 opaque=00000007");
    expect(login).toContain("saslAuth status=0000");
    expect(miss).toContain("get status=0001 opaque=00000007");
    wire.close();
  });

  test("may log in and ask in one segment", async () => {
    const wire = await connect(memward.server);
    await wire.send(Buffer.concat([saslPlain(memward), GET, packet({ opcode: "noop" })]));
    const read = await wire.readUntil(packet({ opcode: "noop", magic: 0x81 }));
    const lines = readPackets(read.bytes).packets.map(printPacket);
    expect(lines.map((line) => line.split(" ").slice(0, 2).join(" "))).toEqual([
      "saslAuth status=0000",
      "get status=0001",
      "noop status=0000",
    ]);
    wire.close();
  });

  test("may log in one byte at a time", async () => {
    const wire = await connect(memward.server);
    await wire.send(Buffer.concat([saslPlain(memward), GET]), "bytes");
    expect(await answers(wire, [Buffer.alloc(0), Buffer.alloc(0)])).toEqual([
      expect.stringContaining("saslAuth status=0000"),
      expect.stringContaining("get status=0001"),
    ]);
    wire.close();
  });
});

describe("a text login", () => {
  const username = () => memward.username;
  const password = () => memward.password;
  const set = (key: string, value: string) => `set ${key} 0 0 ${value.length}\r\n${value}\r\n`;

  test("takes the username as key and the password as value", async () => {
    const wire = await connect(memward.server);
    expect(String(await wire.ask(set(username(), password()), "\r\n"))).toBe("STORED\r\n");
    expect(await wire.line("mg no-such-key v")).toBe("EN");
    wire.close();
  });

  test("takes memcached's own form, any key and `username password` as value", async () => {
    const wire = await connect(memward.server);
    const token = `${username()} ${password()}`;
    expect(String(await wire.ask(set("any", token), "\r\n"))).toBe("STORED\r\n");
    expect(await wire.line("mg no-such-key v")).toBe("EN");
    wire.close();
  });

  test("is no value of the cache", async () => {
    const wire = await memward.open("text");
    expect(String(await wire.ask(`get ${username()} any\r\n`, "END\r\n"))).toBe("END\r\n");
    wire.close();
  });

  test("may come one byte at a time, with commands behind it", async () => {
    const wire = await connect(memward.server);
    await wire.send(`${set(username(), password())}mg no-such-key\r\nmn\r\n`, "bytes");
    const { bytes } = await wire.readUntil("MN\r\n");
    expect(String(bytes)).toBe("STORED\r\nEN\r\nMN\r\n");
    wire.close();
  });

  test("may be tried again on the same connection", async () => {
    const wire = await connect(memward.server);
    const refusal = "CLIENT_ERROR authentication failed\r\n";
    expect(String(await wire.ask(set(username(), "wrong"), "\r\n"))).toBe(refusal);
    expect(String(await wire.ask(set("any", `${username()} wrong`), "\r\n"))).toBe(refusal);
    expect(String(await wire.ask(set("nobody", password()), "\r\n"))).toBe(refusal);
    expect(String(await wire.ask(set(username(), password()), "\r\n"))).toBe("STORED\r\n");
    wire.close();
  });

  test.each([
    "get a",
    "gets a b c",
    "mg a v",
    "mn",
    "delete a",
    "incr a 1",
    "touch a 1",
    "flush_all",
    "stats",
    "md a",
    "gat 1 a",
  ])("is needed before %s", async (command) => {
    const wire = await connect(memward.server);
    expect(await wire.line(command)).toBe("CLIENT_ERROR unauthenticated");
    expect(String(await wire.ask(set(username(), password()), "\r\n"))).toBe("STORED\r\n");
    wire.close();
  });

  test("is not needed for version and quit", async () => {
    const wire = await connect(memward.server);
    expect(await wire.line("version")).toMatch(/^VERSION \d+\.\d+\.\d+/);
    await wire.send("quit\r\n");
    expect((await wire.readToClose()).ended).toBe("closed");
  });
});
