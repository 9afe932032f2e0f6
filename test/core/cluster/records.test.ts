import { describe, expect, test } from "vitest";
import {
  type Cache,
  cacheRecord,
  credentialRecord,
  withDefaults,
} from "../../../core/cluster/records.ts";

const old = { name: "shop", bytes: 2 ** 20, pool: "managed", enabled: false, createdAtMs: 1 };

describe("a record written before its kind had a field", () => {
  test("is read with the default of that field", () => {
    expect(withDefaults("cache", old as Cache)).toEqual(cacheRecord.parse(old));
  });

  test("keeps what it says", () => {
    const full = { ...cacheRecord.parse(old), epoch: 7, plan: "100mb" };
    expect(withDefaults("cache", full)).toEqual(full);
  });
});

describe("a credential", () => {
  const digest = { algorithm: "sha256", salt: "AAAA", hash: "AAAA" } as const;
  const problemsOf = (over: object): string[] =>
    credentialRecord
      .safeParse({ cache: "c", digest, rights: [], createdAtMs: 0, ...over })
      .error?.issues.map(({ path }) => path.join(".")) ?? [];

  test.each([
    "",
    "shop:",
    "ünïcödé/",
    "x".repeat(200),
  ])("may have the key prefix %j", (keyPrefix) => {
    expect(problemsOf({ keyPrefix })).toEqual([]);
  });

  test.each([
    "a b",
    "a\n",
    "\u0000",
    "\u007f",
    "x".repeat(201),
    "ü".repeat(101),
    "half\ud800pair",
  ])("may not have the key prefix %j", (keyPrefix) => {
    expect(problemsOf({ keyPrefix })).toEqual(["keyPrefix"]);
  });

  test("may be used from networks only", () => {
    expect(problemsOf({ networks: ["10.0.0.0/8", "::1/128", "fd00::/8"] })).toEqual([]);
    const bad = ["10.0.0.0", "10.0.0.0/33", "example.com/8", "::1/129"];
    expect(problemsOf({ networks: bad })).toEqual(bad.map((_, index) => `networks.${index}`));
  });
});
