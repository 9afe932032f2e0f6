/**
 * Promise: SIGTERM ends Memward with exit code 0 after draining: commands that were read are
 * answered, nothing is cut in the middle, and new connections are refused.
 */
import { afterEach, expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";
import { connect, packet, readPackets } from "../harness/wire.ts";

let memward: Memward;
afterEach(() => memward.stop("SIGKILL"));

test.each([
  "SIGTERM",
  "SIGINT",
] as const)("%s ends it with 0, and all its roles", async (signal) => {
  memward = await startMemward();
  const { roles } = await memward.status();
  expect(await memward.stop(signal)).toBe(0);
  for (const { pid } of roles) expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
  await expect(connect(memward.server)).rejects.toThrow();
  expect(await memward.status()).toMatchObject({ running: false });
}, 60_000);

test("commands that were read are answered before the session ends", async () => {
  memward = await startMemward();
  const wires = await Promise.all(Array.from({ length: 20 }, () => memward.open("text")));
  const value = "v".repeat(2_000);
  await wires[0]?.ask(`set drained 0 0 ${value.length}\r\n${value}\r\n`, "\r\n");
  const reply = `VALUE drained 0 ${value.length}\r\n${value}\r\nEND\r\n`;
  const asked = 200;
  await Promise.all(wires.map((wire) => wire.send("get drained\r\n".repeat(asked))));
  // The first bytes of an answer: the segment with all commands of that session has been read.
  await Promise.all(wires.map((wire) => wire.read(1)));
  const exit = memward.stop("SIGTERM");
  for (const wire of wires) {
    const { bytes, ended } = await wire.readToClose(15_000);
    expect(ended).toBe("closed");
    expect(bytes.length).toBe(reply.length * asked - 1);
    expect(bytes.subarray(reply.length - 1, 2 * reply.length - 1).toString()).toBe(reply);
  }
  expect(await exit).toBe(0);
}, 60_000);

test("an acknowledged write of a draining session was done, and no answer is cut", async () => {
  memward = await startMemward();
  const wire = await memward.open("binary");
  const extras = Buffer.alloc(8);
  const sets = Array.from({ length: 2_000 }, (_, index) =>
    packet({ opcode: "set", key: `set-${index}`, value: "x".repeat(500), extras, opaque: index }),
  );
  const sent = wire.send(Buffer.concat(sets));
  await wire.read(1);
  const exit = memward.stop("SIGTERM");
  const { bytes } = await wire.readToClose(15_000);
  await sent;
  const { packets, rest } = readPackets(Buffer.concat([Buffer.from([0x81]), bytes]));
  expect(rest).toHaveLength(0);
  expect(packets.map(({ opaque }) => opaque)).toEqual(packets.map((_, index) => index));
  expect(packets.every(({ status }) => status === 0)).toBe(true);
  expect(await exit).toBe(0);
}, 60_000);

test("idle, anonymous and half-sent sessions do not delay it", async () => {
  memward = await startMemward();
  const idle = await memward.open("text");
  const anonymous = await connect(memward.server);
  const half = await memward.open("text");
  await half.send("set half 0 0 1000\r\nhalf");
  expect(await memward.stop("SIGTERM")).toBe(0);
  for (const wire of [idle, anonymous, half]) {
    expect((await wire.readToClose()).ended).not.toBe("deadline");
  }
}, 60_000);

test("a client that does not read delays it for a bounded time only", async () => {
  memward = await startMemward();
  const wire = await memward.open("text");
  const value = "v".repeat(500_000);
  await wire.ask(`set large 0 0 ${value.length}\r\n${value}\r\n`, "\r\n");
  wire.socket.pause();
  await wire.send("get large\r\n".repeat(200));
  await memward.stop("SIGTERM"); // Bounded by the harness, which insists with SIGKILL later.
  expect(memward.output()).not.toMatch(/AssertionError|uncaught/i);
  wire.close();
}, 60_000);
