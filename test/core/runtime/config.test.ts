/** Options: one schema gives flags, variables, file check and help; the nearest one wins. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import {
  addressOption,
  check,
  formatAddress,
  optionRows,
  optionsHelp,
  parseAddress,
  parseSize,
  readConfigFile,
  resolveOptions,
  sizeOption,
} from "../../../core/runtime/config.ts";

const MB = 1024 ** 2;
const schema = z.strictObject({
  dataDir: z.string().default(".memward").describe("where the state is"),
  listen: z.array(addressOption()).default(["127.0.0.1:11211"]).describe("where clients connect"),
  nodes: z.int().min(1).max(64).default(2).describe("how many nodes"),
  memory: sizeOption({ sizeMin: MB, sizeMax: 1024 * MB })
    .prefault("100mb")
    .describe("size"),
  json: z.boolean().default(false).describe("for programs"),
});

const folder = mkdtempSync(join(tmpdir(), "memward-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

function problemsOf(given: Parameters<typeof resolveOptions>[1]): string[] {
  const checked = resolveOptions(schema, given);
  return checked.ok ? [] : checked.problems.map(({ where, message }) => `${where}: ${message}`);
}

describe("precedence", () => {
  const file = { nodes: 3, memory: "200mb" };
  const variables = { MEMWARD_NODES: "4", MEMWARD_LISTEN: "127.0.0.1:1, [::1]:2" };

  test("a flag beats a variable, which beats the file, which beats the default", () => {
    const value = (given: Parameters<typeof resolveOptions>[1]) => {
      const checked = resolveOptions(schema, given);
      return checked.ok ? checked.value.nodes : checked.problems;
    };
    expect(value({})).toBe(2);
    expect(value({ file })).toBe(3);
    expect(value({ file, variables })).toBe(4);
    expect(value({ file, variables, flags: { nodes: "5" } })).toBe(5);
  });

  test("a variable lists repeated values by commas; an empty one counts as absent", () => {
    expect(resolveOptions(schema, { variables: { ...variables, MEMWARD_DATA_DIR: "" } })).toEqual({
      ok: true,
      value: {
        dataDir: ".memward",
        listen: ["127.0.0.1:1", "[::1]:2"],
        nodes: 4,
        memory: 100 * MB,
        json: false,
      },
    });
  });

  test("the result is frozen, lists inside it too", () => {
    const checked = resolveOptions(schema, {});
    if (!checked.ok) throw new Error("refused its own defaults");
    expect(() => checked.value.listen.push("x")).toThrow(TypeError);
  });
});

describe("bad values", () => {
  test("all problems are told at once, each with the place it came from", () => {
    const given = {
      flags: { nodes: "many" },
      variables: { MEMWARD_MEMORY: "lots" },
      file: { listen: ["here"], colour: "red" },
    };
    expect(problemsOf(given)).toEqual([
      'listen.0: "here" is not HOST:PORT (IPv6 as [::1]:11211)',
      "--nodes: must be a number",
      'MEMWARD_MEMORY: "lots" is not a size like 100mb or 2.5gb',
      "colour: unknown key",
    ]);
  });

  test.each([
    [{ nodes: "0" }, "--nodes: must be at least 1"],
    [{ nodes: "65" }, "--nodes: must be at most 64"],
    [{ nodes: "1.5" }, "--nodes: must be a whole number"],
    [{ nodes: "1e1" }, "--nodes: must be a number"],
    [{ memory: "1kb" }, '--memory: "1kb" must be from 1mb to 1gb'],
  ])("%j", (flags, problem) => {
    expect(problemsOf({ flags })).toEqual([problem]);
  });

  test("what is required and missing is named by its flag", () => {
    const checked = resolveOptions(z.strictObject({ configFile: z.string() }), {});
    expect(checked).toEqual({
      ok: false,
      problems: [{ where: "--config-file", message: "is required" }],
    });
  });
});

describe("addresses", () => {
  test.each([
    ["127.0.0.1:11211", { host: "127.0.0.1", port: 11211 }],
    ["[::1]:11211", { host: "::1", port: 11211 }],
    ["cache.example:0", { host: "cache.example", port: 0 }],
    ["11211", undefined],
    [":11211", undefined],
    ["::1:11211", undefined],
    ["[127.0.0.1]:1", undefined],
    ["127.0.0.999:1", undefined],
    ["127.0.0.1:65536", undefined],
    ["127.0.0.1:", undefined],
    ["a b:1", undefined],
  ])("%s", (text, address) => {
    expect(parseAddress(text)).toEqual(address);
  });

  test("what is formatted is parsed back", () => {
    const hosts = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
    fc.assert(
      fc.property(hosts, fc.integer({ min: 0, max: 65_535 }), (host, port) => {
        expect(parseAddress(formatAddress({ host, port }))).toEqual({ host, port });
      }),
    );
  });
});

test.each([
  ["100mb", 100 * MB],
  ["2.5gb", 2.5 * 1024 * MB],
  ["64M", 64 * MB],
  ["1MiB", MB],
  ["1048576", MB],
  ["1 kb", 1024],
  ["-1mb", undefined],
  ["mb", undefined],
  ["1xb", undefined],
  ["99999999tb", undefined],
])("size %s", (text, size) => {
  expect(parseSize(text)).toBe(size);
});

describe("help", () => {
  test("each row becomes a flag with its help, its default and its variable", () => {
    const rows = optionRows(schema);
    expect(rows.map(({ flag, variable, kind }) => [flag, variable, kind])).toEqual([
      ["data-dir", "MEMWARD_DATA_DIR", "text"],
      ["listen", "MEMWARD_LISTEN", "list"],
      ["nodes", "MEMWARD_NODES", "number"],
      ["memory", "MEMWARD_MEMORY", "text"],
      ["json", "MEMWARD_JSON", "switch"],
    ]);
    const help = optionsHelp(rows);
    expect(help).toMatch(/--listen HOST:PORT +where clients connect; may be repeated/);
    expect(help).toMatch(/--memory SIZE +size \(default 100mb\)/);
    expect(help).toMatch(/--json {2,}for programs$/);
  });
});

describe("the file", () => {
  const write = (text: string): string => {
    const path = join(folder, "memward.yaml");
    writeFileSync(path, text);
    return path;
  };

  test("YAML and JSON both pass", async () => {
    const yaml = await readConfigFile(write("nodes: 3 # three\nlisten:\n  - 127.0.0.1:1\n"));
    const json = await readConfigFile(write('{ "nodes": 3, "listen": ["127.0.0.1:1"] }'));
    expect(yaml).toEqual({ ok: true, value: { nodes: 3, listen: ["127.0.0.1:1"] } });
    expect(json).toEqual(yaml);
  });

  test.each([
    ["nodes: [", /at line 1/],
    ["- 1", /must be a map/],
    ["nodes: 1\nnodes: 2", /unique/],
  ])("%j is refused with its place", async (text, reason) => {
    const read = await readConfigFile(write(text));
    expect(read.ok ? "accepted" : read.problems[0]?.message).toMatch(reason);
  });

  test("a missing file is refused, not thrown", async () => {
    const read = await readConfigFile(join(folder, "nowhere"));
    expect(read.ok ? "accepted" : read.problems[0]?.message).toBe("cannot be read (ENOENT)");
  });

  test("problems inside sections carry their path", () => {
    const sections = z.strictObject({ up: z.strictObject({ nodes: z.int() }) });
    expect(check(sections, { up: { nodes: "x", more: 1 } })).toEqual({
      ok: false,
      problems: [
        { where: "up.nodes", message: "must be a number" },
        { where: "up.more", message: "unknown key" },
      ],
    });
  });
});
