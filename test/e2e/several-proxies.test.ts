/**
 * Promise: `--listen` given several times runs that many proxies, each a process of its own, all of
 * one mind; one of them can be killed without harm to the sessions of the others, and comes back.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";
import { memjs } from "./programs.ts";

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward({ proxies: 3 });
}, 60_000);
afterAll(() => memward.stop());

test("default.env lists them all", () => {
  expect(memward.servers).toHaveLength(3);
  expect(new Set(memward.servers).size).toBe(3);
});

test("a value stored through one is read through the others", async () => {
  const [first, ...others] = memward.servers;
  const writer = await memward.open("text", memward, first);
  for (let index = 0; index < 50; index++) {
    const value = `value ${index}`;
    await writer.ask(`set shared-${index} 0 0 ${value.length}\r\n${value}\r\n`, "STORED\r\n");
    for (const server of others) {
      const reader = await memward.open("text", memward, server);
      expect(String(await reader.ask(`get shared-${index}\r\n`, "END\r\n"))).toContain(value);
      reader.close();
    }
  }
  writer.close();
});

test("a stock client is given all of them", async () => {
  const client = memjs(memward.servers, memward);
  const keys = Array.from({ length: 60 }, (_, index) => `spread-${index}`);
  await Promise.all(keys.map((key) => client.set(key, key, {})));
  const values = await Promise.all(keys.map((key) => client.get(key)));
  expect(values.map(({ value }) => String(value))).toEqual(keys);
  client.close();
});

test("one that was killed harms no other, and comes back", async () => {
  const [first = "", second = ""] = memward.servers;
  const survivor = await memward.open("text", memward, second);
  await survivor.ask("set survives 0 0 3\r\nyes\r\n", "STORED\r\n");
  const victim = await memward.role("proxy", 0);
  expect(victim.addresses).toContain(first);
  process.kill(victim.pid, "SIGKILL");
  expect(String(await survivor.ask("get survives\r\n", "END\r\n"))).toContain("yes");
  await replaced(victim.pid);
  const wire = await memward.open("text", memward, first);
  expect(String(await wire.ask("get survives\r\n", "END\r\n"))).toContain("yes");
  wire.close();
  survivor.close();
});

/** Until another process serves in the place of the first proxy. */
async function replaced(pid: number): Promise<void> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const proxy = await memward.role("proxy", 0);
    if (proxy.ready && proxy.pid !== pid) return;
    if (Date.now() > deadline) throw new Error(`${pid} was not replaced: ${JSON.stringify(proxy)}`);
    await sleep(50);
  }
}
