/** Help is made from the rows of the commands; so it is whole, and fits on a terminal. */
import { describe, expect, test } from "vitest";
import { type Command, visibleGroups } from "../../cli/command.ts";
import { help } from "../../cli/help.ts";
import { optionRows } from "../../core/runtime/config.ts";
import { TABLE } from "./fakeApi.ts";

const COLUMNS_MAX = 100;
const groups = await visibleGroups(TABLE);
const commands = groups.flat().map((command) => [command.name, command] as const);

async function helpOf(words: readonly string[]): Promise<string> {
  let shown = "";
  const { write } = process.stdout;
  process.stdout.write = (text) => {
    shown += text;
    return true;
  };
  try {
    await help(TABLE, words);
  } finally {
    process.stdout.write = write;
  }
  return shown;
}

test.each<readonly [string, Command]>(commands)("of %s", async (name, command) => {
  const text = await helpOf(name.split(" "));
  expect(text).toMatch(new RegExp(`^Usage: memward ${name}`));
  expect(text).toContain(command.summary);
  const rows = optionRows((await command.schema?.()) ?? expect.unreachable());
  for (const { flag, help: explained } of rows) {
    expect(text).toContain(`--${flag}`);
    expect(explained.length, flag).toBeGreaterThan(9);
  }
  expect(text.split("\n").filter((line) => line.length > COLUMNS_MAX)).toEqual([]);
});

test("of a group lists its commands", async () => {
  expect(await helpOf(["token"])).toMatch(/^Usage: memward token COMMAND(.|\n)+token delete/);
});

describe("of the whole", () => {
  test("names every command once, and every exit code", async () => {
    const text = await helpOf([]);
    for (const [name] of commands) {
      expect(text.match(new RegExp(`^ {2}${name} {2,}`, "gm"))).toHaveLength(1);
    }
    for (const code of [0, 1, 2, 3, 4, 5, 6, 7])
      expect(text).toMatch(new RegExp(`^ {2}${code} `, "m"));
    expect(text.split("\n").filter((line) => line.length > COLUMNS_MAX)).toEqual([]);
  });
});

test.each([
  [["nonsense"]],
  [["cache", "nonsense"]],
  [["constructor"]],
])("of %j there is none", async (words) => {
  await expect(help(TABLE, words)).rejects.toMatchObject({ name: "Refusal", exitCode: 2 });
});
