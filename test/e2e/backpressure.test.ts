/**
 * Promise: who does not read, and who does not answer, is waited for with bounded memory, and
 * nobody else notices. Limits: a session stops being read while its answers wait, a shard's queue
 * has an end.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BackendNode, type Memward, startMemward, startNode } from "../harness/memward.ts";
import { connect, packet, type Wire } from "../harness/wire.ts";
import { rssOf } from "./observe.ts";

const MIB = 1024 * 1024;
/** More than a session, its kernel buffers and the garbage collector need; far below the load. */
const GROWTH_MAX = 100 * MIB;
const EXTRAS = Buffer.alloc(8);

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward();
}, 60_000);
afterAll(() => memward.stop());

async function proxyPid(): Promise<number> {
  return (await memward.role("proxy")).pid;
}

/** Largest memory seen while `act` runs. */
async function peakRss(pid: number, act: () => Promise<void>): Promise<number> {
  let peak = rssOf(pid);
  let running = true;
  const watching = (async () => {
    while (running) {
      peak = Math.max(peak, rssOf(pid));
      await sleep(20);
    }
  })();
  try {
    await act();
  } finally {
    running = false;
    await watching;
  }
  return peak;
}

const text = (size: number): string => "v".repeat(size);

async function expectServed(wire: Wire): Promise<void> {
  for (let index = 0; index < 20; index++) {
    const reply = String(await wire.ask(`get other-${index % 5}\r\n`, "END\r\n"));
    expect(reply).toContain(`other value ${index % 5}`);
  }
}

async function storeOthers(wire: Wire): Promise<void> {
  for (let index = 0; index < 5; index++) {
    await wire.ask(`set other-${index} 0 0 13\r\nother value ${index}\r\n`, "STORED\r\n");
  }
}

test("a client that does not read 200 MB of answers", async () => {
  const other = await memward.open("text");
  await storeOthers(other);
  const value = text(500_000);
  const slow = await memward.open("text");
  await slow.ask(`set large 0 0 ${value.length}\r\n${value}\r\n`, "STORED\r\n");
  const reply = `VALUE large 0 ${value.length}\r\n${value}\r\nEND\r\n`;
  const asked = 400;
  const pid = await proxyPid();
  const before = rssOf(pid);
  slow.socket.pause();
  const peak = await peakRss(pid, async () => {
    await slow.send("get large\r\n".repeat(asked));
    for (let round = 0; round < 5; round++) {
      await expectServed(other);
      await sleep(100);
    }
    // Then it reads after all: every answer comes, whole.
    slow.socket.resume();
    const { bytes } = await slow.read(reply.length * asked, 60_000);
    expect(bytes.length).toBe(reply.length * asked);
    for (let index = 0; index < asked; index++) {
      const at = index * reply.length;
      expect(bytes.subarray(at, at + 30).toString()).toBe(reply.slice(0, 30));
      expect(bytes.subarray(at + reply.length - 7, at + reply.length).toString()).toBe(
        "\r\nEND\r\n",
      );
    }
  });
  expect(peak - before).toBeLessThan(GROWTH_MAX);
  slow.close();
  other.close();
}, 90_000);

test("forty clients that do not read, in binary, and are gone then", async () => {
  const other = await memward.open("text");
  await storeOthers(other);
  const store = await memward.open("binary");
  const value = text(500_000);
  await store.send(packet({ opcode: "set", key: "large", value, extras: EXTRAS }));
  await store.packet();
  const pid = await proxyPid();
  const before = rssOf(pid);
  const slow = await Promise.all(Array.from({ length: 40 }, () => memward.open("binary")));
  const peak = await peakRss(pid, async () => {
    const gets = Buffer.concat(
      Array.from({ length: 100 }, () => packet({ opcode: "getk", key: "large" })),
    );
    for (const wire of slow) wire.socket.pause();
    await Promise.all(slow.map((wire) => wire.send(gets)));
    for (let round = 0; round < 5; round++) {
      await expectServed(other);
      await sleep(100);
    }
    for (const wire of slow) wire.reset();
    await expectServed(other);
  });
  expect(peak - before).toBeLessThan(300 * MIB); // 2 GB were asked for.
  other.close();
  store.close();
}, 90_000);

describe("a shard that stops answering", () => {
  let stalling: BackendNode;
  beforeAll(async () => {
    stalling = await startNode(memward, "stalling");
    await keysByNode();
  }, 60_000);
  afterAll(() => stalling.stop());

  /** Keys on each of the nodes, once all of them are in routing: one that failed returns by itself. */
  async function keysByNode(): Promise<Map<string, string>> {
    const deadline = Date.now() + 20_000;
    for (;;) {
      const found = await keysNow();
      if (![...found.values()].includes("") || Date.now() > deadline) return found;
      await sleep(100);
    }
  }

  async function keysNow(): Promise<Map<string, string>> {
    const wire = await memward.openPlain();
    const names = Array.from({ length: 40 }, (_, index) => `node-key-${index}`);
    // While routing changes a write may be refused for a moment.
    for (const name of names) await wire.ask(`set ${name} 0 0 3\r\nold\r\n`, "\r\n");
    wire.close();
    const keysOf = new Map<string, string[]>();
    for (const { node, address } of await memward.shards()) {
      const shard = await connect(address);
      const reply = String(await shard.ask(`get ${names.join(" ")}\r\n`, "END\r\n"));
      keysOf.set(
        node,
        [...reply.matchAll(/^VALUE (\S+) /gm)].map(([, key = ""]) => key),
      );
      shard.close();
    }
    // A shard that gave keys away to one that joined may not have dropped them yet.
    const all = [...keysOf.values()].flat();
    const found = new Map<string, string>();
    for (const [node, keys] of keysOf) {
      const own = keys.filter((key) => all.indexOf(key) === all.lastIndexOf(key));
      found.set(node, own[0] ?? "").set(`${node} flood`, own[1] ?? "");
    }
    return found;
  }

  /** The node is a process of its own, so that it can be stopped alone. */
  async function whileStopped(act: () => Promise<void>): Promise<void> {
    process.kill(stalling.pid, "SIGSTOP");
    try {
      await act();
    } finally {
      process.kill(stalling.pid, "SIGCONT");
    }
  }

  test("costs its own keys only, and never claims a write", async () => {
    const keys = await keysByNode();
    const [sick = "", well = ""] = [keys.get("stalling"), keys.get("node-1")];
    const wire = await memward.openPlain();
    const other = await memward.openPlain();
    await whileStopped(async () => {
      await wire.send(`get ${sick}\r\nset ${sick} 0 0 3\r\nnew\r\nget ${sick} ${well}\r\n`);
      for (let index = 0; index < 20; index++) {
        expect(String(await other.ask(`get ${well}\r\n`, "END\r\n"))).toContain("old");
      }
      const answer = String((await wire.readUntil("END\r\n", 20_000)).bytes);
      const [read = "", write = "", ...both] = answer.split("\r\n");
      expect(read).toMatch(/^(END|SERVER_ERROR .+)$/);
      if (write !== "") expect(write).toMatch(/^SERVER_ERROR .+$/);
      expect(both.join()).not.toContain("STORED");
    });
    wire.close();
    expect(await served(well, sick)).toMatch(/^VALUE /);
    other.close();
  }, 60_000);

  test("does not fill the proxy with what it is asked", async () => {
    const keys = await keysByNode();
    const sick = keys.get("stalling") ?? "";
    const pid = await proxyPid();
    const before = rssOf(pid);
    // Another key than the one checked later: the flood may still be written, unacknowledged.
    const flood = packet({
      opcode: "set",
      key: keys.get("stalling flood") ?? "",
      value: text(100_000),
      extras: EXTRAS,
    });
    const wires = await Promise.all(Array.from({ length: 20 }, () => memward.open("binary")));
    const other = await memward.openPlain();
    const peak = await peakRss(pid, () =>
      whileStopped(async () => {
        // 200 MB in all; the clients wait, because the proxy stops reading them.
        for (const wire of wires) void wire.send(Buffer.concat(Array(100).fill(flood) as Buffer[]));
        for (let index = 0; index < 10; index++) {
          const reply = String(await other.ask(`get ${keys.get("node-1")}\r\n`, "END\r\n"));
          expect(reply).toContain("old");
          await sleep(100);
        }
      }),
    );
    expect(peak - before).toBeLessThan(300 * MIB);
    for (const wire of wires) wire.reset();
    expect(await served(keys.get("node-1") ?? "", sick)).toMatch(/^VALUE /);
    other.close();
  }, 60_000);

  /**
   * Both keys are served again, and answers belong to their questions. Between the two the shard may
   * leave or return, empty: a miss is no fault, the old value would be.
   */
  async function served(well: string, sick: string): Promise<string> {
    const deadline = Date.now() + 15_000;
    for (;;) {
      const wire = await memward.openPlain();
      const stored = await wire.line(`set ${sick} 0 0 5\r\nfresh`);
      const reply = String(await wire.ask(`get ${sick} ${well}\r\n`, "END\r\n"));
      wire.close();
      if (stored === "STORED") expect(reply).not.toContain(`VALUE ${sick} 0 3\r\n`);
      const isServed = reply.includes(`VALUE ${sick} 0 5\r\nfresh\r\n`);
      if (stored === "STORED" && isServed && reply.includes(`VALUE ${well} `)) return reply;
      if (Date.now() > deadline) return `${stored} ${reply}`;
      await sleep(100);
    }
  }
});
