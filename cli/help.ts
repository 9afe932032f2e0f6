/** `memward help`, of all commands, of one group and of one command: made from the same rows. */
import { optionRows, optionsHelp } from "../core/runtime/config.ts";
import { Refusal } from "../core/runtime/process.ts";
import {
  type Command,
  type CommandTable,
  findCommand,
  print,
  quoted,
  visibleCommands,
} from "./command.ts";

/** Prints the help for these words; none is the whole program. Throws `Refusal`. */
export async function help(table: CommandTable, words: readonly string[]): Promise<number> {
  if (words.length === 0) print(overview(await visibleCommands(table)));
  else {
    const command = await findCommand(table, words);
    const isExact = command?.name === words.join(" ") && !command.hidden;
    print(isExact ? await one(command) : await group(table, words));
  }
  return 0;
}

function overview(commands: readonly Command[]): string {
  return `Memward: managed memcached that you run yourself.

Usage: memward COMMAND [FLAGS]

${list(commands)}

memward help COMMAND lists its flags. Each flag is also a variable: --data-dir is
MEMWARD_DATA_DIR; values of a repeated flag are separated by commas. The nearest wins: flag,
variable, configuration file, default. All are read once, when the command starts.

Exit codes: 0 done, 1 failed, 2 refused (bad input, port taken, directory in use), 3 not running.
`;
}

async function group(table: CommandTable, words: readonly string[]): Promise<string> {
  const [first = ""] = words;
  const isGroup = words.length === 1 && Object.hasOwn(table, first);
  const commands = isGroup ? await table[first]?.() : undefined;
  const named = commands?.filter(({ name, hidden }) => !hidden && name.startsWith(`${first} `));
  if (named === undefined || named.length === 0) {
    throw new Refusal(
      `unknown command ${quoted(words.join(" "))}; memward help lists the commands`,
    );
  }
  return `Usage: memward ${first} COMMAND [FLAGS]\n\n${list(named)}\n`;
}

async function one(command: Command): Promise<string> {
  const schema = await command.schema?.();
  const rows = schema === undefined ? [] : optionRows(schema);
  const shown = rows.filter(({ flag }) => flag !== "supervised");
  const usage = ["memward", command.name, command.words ?? "", shown.length > 0 ? "[FLAGS]" : ""];
  const parts = [`Usage: ${usage.filter(Boolean).join(" ")}`, command.summary];
  if (shown.length > 0) parts.push(optionsHelp(shown));
  if (command.details !== undefined) parts.push(command.details.trim());
  return `${parts.join("\n\n")}\n`;
}

function list(commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  return commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join("\n");
}
