/** From the words of a command line to options: what is taken, and what is refused how. */
import { beforeEach, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import type { Command, CommandTable, Options } from "../../cli/command.ts";
import { dispatch } from "../../cli/dispatch.ts";

const ran: { name: string; options: Options; words: readonly string[] }[] = [];
beforeEach(() => {
  ran.length = 0;
  vi.unstubAllEnvs();
});

function command(name: string, rest: Partial<Command> = {}): Command {
  const run: Command["run"] = async (options, words) => {
    ran.push({ name, options, words });
    return 0;
  };
  return { name, summary: `what ${name} does`, run, ...rest };
}

const schema = async () =>
  z.strictObject({
    config: z.string().optional(),
    dryRun: z.boolean().default(false),
    name: z.string().default("none"),
    count: z.int().min(1).default(1),
    tag: z.array(z.string()).default([]),
  });
const group = async () => [
  command("thing make", { words: "NAME [SIZE]", schema }),
  command("thing"),
  command("thing with words", { words: "WORD…", schema, variables: ["name"] }),
  command("thing from file", { schema, fromFile: async (path) => ({ name: `in ${path}` }) }),
];
const TABLE: CommandTable = { thing: group };

const run = (line: string) => dispatch(TABLE, line.split(" "));

describe("taken:", () => {
  test("flags in both forms, lists by repetition and by commas, words anywhere", async () => {
    await run("thing make a --name=x=y --tag 1,2 --dry-run b --tag 3 --count 7");
    expect(ran).toEqual([
      {
        name: "thing make",
        options: { dryRun: true, name: "x=y", count: 7, tag: ["1", "2", "3"] },
        words: ["a", "b"],
      },
    ]);
  });

  test("words after -- even when they look like flags", async () => {
    await run("thing with words -- --name -h");
    expect(ran[0]?.words).toEqual(["--name", "-h"]);
  });

  test("the command with the longest name", async () => {
    await run("thing");
    await run("thing make a");
    expect(ran.map(({ name }) => name)).toEqual(["thing", "thing make"]);
  });

  test("flag before variable before file before default", async () => {
    await run("thing from file --config f");
    vi.stubEnv("MEMWARD_NAME", "of variable");
    await run("thing from file --config f");
    await run("thing from file --config f --name flag");
    const names = ran.map(({ options }) => options["name"]);
    expect(names).toEqual(["in f", "of variable", "flag"]);
  });

  test("only those variables that a command names", async () => {
    vi.stubEnv("MEMWARD_NAME", "named");
    vi.stubEnv("MEMWARD_COUNT", "9");
    await run("thing with words w");
    expect(ran[0]?.options).toMatchObject({ name: "named", count: 1 });
  });
});

describe("refused:", () => {
  test.each([
    ["thing make", "memward thing make needs NAME; memward help thing make explains"],
    ["thing make a b c", 'unexpected "c"; memward help thing make explains'],
    ["thing other", 'unexpected "other"; memward help thing explains'],
    ["thing make a --nam x", "unknown flag --nam; memward help thing make lists the flags"],
    ["thing make a -n", "unknown flag -n; memward help thing make lists the flags"],
    ["thing make a --name", "flag --name needs a value"],
    ["thing make a --name --dry-run", "flag --name needs a value"],
    ["thing make a --name x --name y", "flag --name is given twice"],
    ["thing make a --dry-run=perhaps", "--dry-run: must be true or false"],
    ["thing make a --count 0", "--count: must be at least 1"],
    ["constructor", 'unknown command "constructor"; memward help lists the commands'],
    ["", 'unknown command ""; memward help lists the commands'],
  ])("memward %s", async (line, sentence) => {
    await expect(run(line)).rejects.toMatchObject({ message: sentence, exitCode: 2 });
    expect(ran).toEqual([]);
  });

  test("all bad values at once, by the place they came from", async () => {
    vi.stubEnv("MEMWARD_COUNT", "many");
    await expect(run("thing make a --dry-run=2")).rejects.toMatchObject({
      message: "--dry-run: must be true or false\nmemward: MEMWARD_COUNT: must be a number",
    });
  });
});
