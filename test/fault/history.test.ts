import { describe, expect, test } from "vitest";
import { History, type Mutation } from "./history.ts";

const mutation = (version: number, endMs: number, over: Partial<Mutation> = {}): Mutation => ({
  key: "k",
  version,
  kind: "set",
  startMs: endMs - 1,
  endMs,
  outcome: "ok",
  ...over,
});

function staleAfter(
  mutations: Mutation[],
  get: { at: number; version: number | null },
  graceMs = 0,
) {
  const history = new History(graceMs);
  for (const one of mutations) history.mutated(one);
  history.got({ key: "k", startMs: get.at, endMs: get.at + 1, version: get.version, proxy: 0 });
  return history.totals.staleAfterConvergence;
}

describe("a get", () => {
  const two = [mutation(1, 10), mutation(2, 20)];

  test("of the last acknowledged version is fine", () => {
    expect(staleAfter(two, { at: 20, version: 2 })).toBe(0);
  });

  test("of an older version is stale", () => {
    expect(staleAfter(two, { at: 20, version: 1 })).toBe(1);
  });

  test("of an older version is fine while the newer one is under way", () => {
    expect(staleAfter(two, { at: 19, version: 1 })).toBe(0);
  });

  test("that misses is always fine", () => {
    expect(staleAfter(two, { at: 30, version: null })).toBe(0);
  });

  test("of a deleted value is stale", () => {
    const deleted = [mutation(1, 10), mutation(2, 20, { kind: "delete" })];
    expect(staleAfter(deleted, { at: 20, version: 1 })).toBe(1);
    expect(staleAfter(deleted, { at: 20, version: null })).toBe(0);
  });

  test("of a version whose mutation failed is fine, until a newer one was acknowledged", () => {
    const failed = [mutation(1, 10), mutation(2, 20, { outcome: "failed" })];
    expect(staleAfter(failed, { at: 30, version: 2 })).toBe(0);
    expect(staleAfter(failed, { at: 30, version: 1 })).toBe(0);
    expect(staleAfter([...failed, mutation(3, 40)], { at: 50, version: 2 })).toBe(1);
  });

  test("has a grace while views converge", () => {
    expect(staleAfter(two, { at: 1019, version: 1 }, 1000)).toBe(0);
    expect(staleAfter(two, { at: 1020, version: 1 }, 1000)).toBe(1);
  });
});

test("an outage lasts until nothing has failed for a second", () => {
  const history = new History(0);
  for (const endMs of [0, 300, 900, 2_500, 2_600]) {
    history.mutated(mutation(endMs + 1, endMs, { outcome: "failed" }));
  }
  expect(history.totals).toMatchObject({ failedMutations: 5, failedMutationsMsMax: 900 });
});
