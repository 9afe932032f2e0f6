import { describe, expect, test } from "vitest";
import { CHANGES_MAX, checkChanges } from "../../../core/cluster/changes.ts";
import { cacheRecord } from "../../../core/cluster/records.ts";
import type { Change } from "../../../core/cluster/state.ts";

const value = { name: "a", bytes: 2 ** 20, createdAtMs: 0 } as never;
const problemsOf = (changes: unknown[]): string[] => {
  const result = checkChanges(changes as Change[]);
  return result.ok ? [] : result.problems;
};

describe("changes", () => {
  test("that fit are completed with their defaults", () => {
    expect(checkChanges([{ kind: "cache", id: "a", value, expected: 3 }])).toEqual({
      ok: true,
      checked: [
        {
          kind: "cache",
          id: "a",
          value: cacheRecord.parse(value),
          expected: 3,
          leaseId: undefined,
        },
      ],
    });
  });

  test("name all problems of a value at once, each with its path", () => {
    const bad = { name: "Not A Name", bytes: 1, pool: "managed", enabled: true, colour: "red" };
    expect(problemsOf([{ kind: "cache", id: "a", value: bad }])).toEqual([
      "name: lower-case letters, digits and dashes, at most 63",
      expect.stringMatching(/^bytes: /),
      expect.stringMatching(/^createdAtMs: /),
      expect.stringMatching(/^value: .*colour/),
    ]);
    const digest = { algorithm: "md5", salt: "", hash: "" };
    const credential = { cache: "a", digest, rights: ["read", "fly"], createdAtMs: 0 };
    expect(problemsOf([{ kind: "credential", id: "u", value: credential }])).toEqual([
      expect.stringMatching(/^digest\.algorithm: /),
      expect.stringMatching(/^rights\.1: /),
    ]);
  });

  test.each([
    ["", "id: printable"],
    ["a b", "id: printable"],
    ["a\n", "id: printable"],
    ["ä", "id: printable"],
    ["a".repeat(201), "id: longer than 200"],
  ])("have ids that fit into paths and log lines: not %j", (id, problem) => {
    expect(problemsOf([{ kind: "cache", id, value: null }])).toEqual([
      expect.stringContaining(problem),
    ]);
  });

  test.each(["toString", "__proto__", "unheard"])("are of known kinds: not %s", (kind) => {
    expect(problemsOf([{ kind, id: "a", value: null }])).toEqual(["kind: unknown"]);
    expect(problemsOf([{ kind, id: "a", value }])).toEqual(["kind: unknown"]);
  });

  test("touch a record once per commit", () => {
    const twice = [
      { kind: "cache", id: "a", value },
      { kind: "node", id: "a", value: null },
      { kind: "cache", id: "a", value: null },
    ];
    expect(problemsOf(twice)).toEqual(["changed twice in one commit"]);
  });

  test("come in a limited number", () => {
    const many = Array.from({ length: CHANGES_MAX }, (_, index) => ({
      kind: "cache",
      id: `c${index}`,
      value: null,
    }));
    expect(checkChanges(many as Change[]).ok).toBe(true);
    const oneMore = [...many, { kind: "cache", id: "last", value: null }];
    expect(problemsOf(oneMore)).toEqual([`more than ${CHANGES_MAX} changes in one commit`]);
  });
});
