/** Promise: the cluster knows how caches are used and from where credentials log in. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward({ args: ["--workers", "2"] });
}, 60_000);
afterAll(() => memward.stop());

async function until<T>(read: () => Promise<T>, isRight: (value: T) => boolean): Promise<T> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const value = await read();
    if (isRight(value)) return value;
    if (Date.now() > deadline) throw new Error(`still ${JSON.stringify(value)}`);
    await sleep(100);
  }
}

const lastUse = () =>
  memward.state(async (state) => (await state.list("lastUse")).entries[0]?.value);
const usage = () => memward.state(async (state) => (await state.list("usage")).entries[0]?.value);

describe("a proxy of two workers", () => {
  test("tells who is logged in from where, until they go", async () => {
    const wires = await Promise.all(Array.from({ length: 8 }, () => memward.open("binary")));
    const used = await until(lastUse, (value) => value?.sessions === 8);
    expect(used?.addresses).toEqual([{ address: "127.0.0.1", sessions: 8 }]);
    expect(Math.abs(Date.now() - (used?.lastUsedAtMs ?? 0))).toBeLessThan(60_000);
    for (const wire of wires) wire.close();
    await until(lastUse, (value) => value?.sessions === 0);
  });

  test("counts logins, refused ones and bytes", async () => {
    const before = await usage();
    const wire = await memward.open("text");
    await memward
      .open("text", { username: memward.username, password: "wrong" })
      .catch(() => undefined);
    await wire.line("mn");
    const after = await until(usage, (value) => value?.sessions === 1 && value.authErrors > 0);
    expect(after?.authErrors).toBe(1);
    expect((after?.authCommands ?? 0) - (before?.authCommands ?? 0)).toBe(2);
    expect(after?.bytesWritten).toBeGreaterThan(before?.bytesWritten ?? 0);
    wire.close();
  });

  test("writes nothing while nothing happens, and does not answer its own writing", async () => {
    await until(usage, (value) => value?.sessions === 0);
    const revision = () => memward.state(async (state) => (await state.list("usage")).revision);
    await sleep(1_500);
    const before = await revision();
    await sleep(2_500);
    expect(await revision()).toBe(before);
  });
});
