/** `memward help`, of all commands, of one group and of one command: made from the same rows. */
import { optionRows, optionsHelp } from "../core/runtime/config.ts";
import { EXIT, Refusal } from "../core/runtime/process.ts";
import {
  type Command,
  type CommandTable,
  findCommand,
  print,
  quoted,
  visibleGroups,
} from "./command.ts";
import { visibleRows } from "./dispatch.ts";

/** Prints the help for these words; none is the whole program. Throws `Refusal`. */
export async function help(table: CommandTable, words: readonly string[]): Promise<number> {
  if (words.length === 0) print(overview(await visibleGroups(table)));
  else {
    const command = await findCommand(table, words);
    const isExact = command?.name === words.join(" ") && !command.hidden;
    print(isExact ? await one(command) : await group(table, words));
  }
  return 0;
}

function overview(groups: readonly (readonly Command[])[]): string {
  const width = widthOf(groups.flat());
  return `Memward: managed memcached that you run yourself.

Usage: memward COMMAND [FLAGS]

${groups.map((group) => list(group, width)).join("\n\n")}

memward help COMMAND explains one and lists its flags. Flags of those that run here are also
variables: --data-dir is MEMWARD_DATA_DIR; values of a repeated flag are separated by commas. The
nearest wins: flag, variable, configuration file, default. All are read once, at the start.

Commands from cache to audit ask the admin API of the instance in --data-dir, or the one that
--control or MEMWARD_CONTROL names. They log in with the token in --token-file FILE, else in
MEMWARD_TOKEN, else (on the same machine) in operator.token of the data directory.

Exit codes:
${Object.entries(EXIT_HELP)
  .map(([name, text]) => `  ${EXIT[name as keyof typeof EXIT]}  ${text}`)
  .join("\n")}
`;
}

const EXIT_HELP: Readonly<Record<keyof typeof EXIT, string>> = {
  done: "done",
  failed: "failed",
  refused: "refused: bad input, a port that is taken, a directory in use",
  notRunning: "not running, or not reachable",
  notFound: "there is no such cache, credential or token",
  conflict: "it exists already, is the last one, or was changed meanwhile",
  notAllowed: "the token is missing, wrong, or may not do that",
  notApplied: "changed, but not applied by every proxy in time; it will be",
};

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
  const shown = visibleRows(rows);
  const usage = ["memward", command.name, command.words ?? "", shown.length > 0 ? "[FLAGS]" : ""];
  const parts = [`Usage: ${usage.filter(Boolean).join(" ")}`, command.summary];
  if (shown.length > 0) parts.push(optionsHelp(shown));
  if (command.details !== undefined) parts.push(command.details.trim());
  return `${parts.join("\n\n")}\n`;
}

const widthOf = (commands: readonly Command[]): number =>
  Math.max(...commands.map(({ name }) => name.length));

function list(commands: readonly Command[], width: number = widthOf(commands)): string {
  return commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join("\n");
}
