import { expect, test } from "vitest";
import { BusyKeys } from "../../../proxy/routing/busyKeys.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const KEY = 7;

test("who waits for a key changes it one after the other, and nobody is forgotten", async () => {
  const keys = new BusyKeys();
  const told: string[] = [];
  const waiter = (name: string, takesKey: boolean) => ({
    linkDrained: () => {
      told.push(name);
      if (takesKey) keys.begin(KEY);
    },
  });
  expect(keys.isBusyFor(waiter("nobody", true), KEY)).toBe(false);
  keys.begin(KEY);
  // One that has gone meanwhile takes nothing.
  for (const [name, takesKey] of [
    ["a", true],
    ["gone", false],
    ["b", true],
    ["c", true],
  ] as const) {
    expect(keys.isBusyFor(waiter(name, takesKey), KEY)).toBe(true);
  }
  keys.end(KEY);
  await turn();
  expect(told).toEqual(["a"]);
  keys.end(KEY);
  await turn();
  expect(told).toEqual(["a", "gone", "b"]);
  keys.end(KEY);
  await turn();
  expect(told).toEqual(["a", "gone", "b", "c"]);
  keys.end(KEY);
  expect(keys.isBusyFor(waiter("nobody", true), KEY)).toBe(false);
});

test("a key that is changed twice at once is busy until both are done", async () => {
  const keys = new BusyKeys();
  let told = 0;
  keys.begin(KEY);
  keys.begin(KEY);
  keys.isBusyFor({ linkDrained: () => told++ }, KEY);
  keys.end(KEY);
  await turn();
  expect(told).toBe(0);
  keys.end(KEY);
  await turn();
  expect(told).toBe(1);
});
