/**
 * What a command of the command line is: a row with its name, its help, the rows of its options and
 * what it does. Rows of one group stand in one file, which is loaded when its first word is typed.
 */
import type { z } from "zod";

export type Options = Record<string, unknown>;

export interface Command {
  /** One or two words. */
  name: string;
  summary: string;
  /** Words after the command, as help shows them: `CACHE [USERNAME]`. */
  words?: string;
  /** What help says below the flags. */
  details?: string;
  hidden?: boolean;
  /** Its words are names that do not exist yet; completion has none to offer. */
  isNew?: boolean;
  /** Rows of its options; absent when it has none. */
  schema?(): Promise<z.ZodObject>;
  /** Options that are also variables; absent when all are. */
  variables?: readonly string[];
  /** What the configuration file says about its options; absent when it reads none. */
  fromFile?(path: string): Promise<Options>;
  /** The exit code; undefined while the process serves. */
  run(options: Options, words: readonly string[]): Promise<number | undefined>;
}

/** Commands by their first word. */
export type CommandTable = Readonly<Record<string, () => Promise<readonly Command[]>>>;

/** Of several that begin alike the longest name wins: `proxy` is not `proxy list`. */
export async function findCommand(
  table: CommandTable,
  words: readonly string[],
): Promise<Command | undefined> {
  const group = Object.hasOwn(table, words[0] ?? "") ? table[words[0] ?? ""] : undefined;
  const found = ((await group?.()) ?? []).filter(({ name }) =>
    name.split(" ").every((word, at) => words[at] === word),
  );
  return found.sort((a, b) => b.name.length - a.name.length)[0];
}

/** All commands in the order of the table, by group, without those that only we use. */
export async function visibleGroups(table: CommandTable): Promise<Command[][]> {
  const groups = await Promise.all([...new Set(Object.values(table))].map((load) => load()));
  return groups.map((group) => group.filter(({ hidden }) => !hidden));
}

export const quoted = (text: string | undefined): string => JSON.stringify(text ?? "");

export function print(text: string): void {
  process.stdout.write(text);
}
