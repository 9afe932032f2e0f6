/**
 * From the words of a command line to a command that runs with checked options. All that is wrong
 * is told in one go, one sentence each, before anything is done.
 */
import {
  type OptionRow,
  optionRows,
  type Problem,
  resolveOptions,
} from "../core/runtime/config.ts";
import { Refusal } from "../core/runtime/process.ts";
import { type Command, type CommandTable, findCommand, type Options, quoted } from "./command.ts";

/** Runs the command and returns its exit code; undefined while it serves. Throws `Refusal`. */
export async function dispatch(
  table: CommandTable,
  argv: readonly string[],
): Promise<number | undefined> {
  if (argv.length === 0 || argv[0] === "--help" || argv[0] === "-h") return showHelp(table, []);
  if (argv[0] === "--version" || argv[0] === "-v") return dispatch(table, ["version"]);
  const command = await findCommand(table, argv);
  if (command === undefined) return unknownCommand(table, argv);
  const schema = await command.schema?.();
  const rows = schema === undefined ? [] : optionRows(schema);
  const args = argv.slice(command.name.split(" ").length);
  const given = parseFlags(command, rows, args);
  if (given.flags["help"] === true) return showHelp(table, command.name.split(" "));
  checkWords(command, given.words);
  if (schema === undefined) return command.run({}, given.words);
  const path = given.flags["config"] ?? process.env["MEMWARD_CONFIG"];
  const isFile = typeof path === "string" && path !== "";
  const file = isFile ? ((await command.fromFile?.(path)) ?? {}) : {};
  const variables = variablesOf(command, rows);
  const checked = resolveOptions(schema, { flags: given.flags, variables, file });
  if (!checked.ok) throw refusals(checked.problems.map(sentence));
  return command.run(checked.value, given.words);
}

/** One refusal that says several sentences. */
export function refusals(sentences: readonly string[]): Refusal {
  return new Refusal(sentences.join("\nmemward: "));
}

export function sentence({ where, message }: Problem): string {
  return `${where}: ${message}`;
}

async function showHelp(table: CommandTable, words: readonly string[]): Promise<number> {
  const { help } = await import("./help.ts");
  return help(table, words);
}

/** `memward cache` alone is a question: which commands are there? */
async function unknownCommand(table: CommandTable, argv: readonly string[]): Promise<number> {
  const [first = "", second] = argv;
  if (!Object.hasOwn(table, first)) {
    throw new Refusal(`unknown command ${quoted(first)}; memward help lists the commands`);
  }
  if (second === "--help" || second === "-h") return showHelp(table, [first]);
  if (second === undefined) {
    throw new Refusal(`memward ${first} needs a command; memward help ${first} lists them`);
  }
  const named = quoted(`${first} ${second}`);
  throw new Refusal(`unknown command ${named}; memward help ${first} lists its commands`);
}

function variablesOf(
  command: Command,
  rows: readonly OptionRow[],
): Record<string, string | undefined> {
  const { variables } = command;
  const read = rows.filter(({ key }) => variables === undefined || variables.includes(key));
  return Object.fromEntries(read.map(({ variable }) => [variable, process.env[variable]]));
}

/** What people see: without those that only we give. */
export function visibleRows(rows: readonly OptionRow[]): OptionRow[] {
  return rows.filter(({ flag }) => flag !== "supervised");
}

/** Flags by the rows; whatever is not in them is refused by name. */
export function parseFlags(
  command: Command,
  rows: readonly OptionRow[],
  args: readonly string[],
): { flags: Options; words: string[] } {
  const byFlag = new Map(rows.map((row) => [row.flag, row]));
  const flags: Options = {};
  const words: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const arg = args[at] ?? "";
    if (arg === "--") {
      words.push(...args.slice(at + 1));
      break;
    }
    if (arg === "--help" || arg === "-h") {
      flags["help"] = true;
      continue;
    }
    if (!arg.startsWith("-") || arg === "-") {
      words.push(arg);
      continue;
    }
    const equals = arg.indexOf("=");
    const name = equals < 0 ? arg : arg.slice(0, equals);
    const row = name.startsWith("--") ? byFlag.get(name.slice(2)) : undefined;
    if (row === undefined) {
      throw new Refusal(`unknown flag ${name}; memward help ${command.name} lists the flags`);
    }
    let value: string | undefined = equals < 0 ? undefined : arg.slice(equals + 1);
    if (value === undefined && row.kind !== "switch") {
      at += 1;
      value = args[at];
      if (value === undefined || value.startsWith("--")) {
        throw new Refusal(`flag ${name} needs a value`);
      }
    }
    setFlag(flags, row, value);
  }
  return { flags, words };
}

function setFlag(flags: Options, row: OptionRow, value: string | undefined): void {
  if (row.kind === "switch") flags[row.key] = value ?? true;
  else if (row.kind === "list") {
    flags[row.key] = [...((flags[row.key] as string[] | undefined) ?? []), value];
  } else if (flags[row.key] !== undefined) {
    throw new Refusal(`flag --${row.flag} is given twice`);
  } else flags[row.key] = value;
}

/** The words after a command, counted against those it names. */
function checkWords(command: Command, words: readonly string[]): void {
  const named = command.words?.split(" ") ?? [];
  const needed = named.filter((word) => !word.startsWith("["));
  const explains = `memward help ${command.name} explains`;
  if (words.length < needed.length) {
    const missing = needed.slice(words.length).join(" ");
    throw new Refusal(`memward ${command.name} needs ${missing}; ${explains}`);
  }
  const isOpen = named.at(-1)?.includes("…") === true;
  if (words.length > named.length && !isOpen) {
    throw new Refusal(`unexpected ${quoted(words[named.length])}; ${explains}`);
  }
}
