/**
 * Shell completion. The scripts ask `memward complete LINE` at each TAB, so they never grow old:
 * what is offered comes from the table of commands as it is, and names come from the API when it
 * answers quickly. When it does not there is nothing to offer, and nothing is said.
 */
import { type OptionRow, optionRows, resolveOptions } from "../core/runtime/config.ts";
import { type Api, segment } from "./api.ts";
import {
  type Command,
  type CommandTable,
  findCommand,
  type Options,
  visibleGroups,
} from "./command.ts";
import { connectionRows, connectionSchema, openApi } from "./connection.ts";
import { parseFlags, visibleRows } from "./dispatch.ts";
import { SHELLS } from "./shells.ts";
import { listField, textField } from "./table.ts";

/** A person waits with a finger on a key. */
const ASKING_MS_MAX = 1_500;
const OFFER_COUNT_MAX = 1_000;

export interface Offer {
  text: string;
  /** Shown beside it by shells that can. */
  help: string;
}
/** What may stand there: one of these words, or whatever files or directories the shell finds. */
export type Offers = readonly Offer[] | "files" | "folders";

/** The protocol of the scripts: what kind of offers, then each as `text TAB help`. */
export async function completionText(table: CommandTable, line: string): Promise<string> {
  const offers = await complete(table, line).catch((): Offers => []); // Not while somebody types.
  if (typeof offers === "string") return `${offers}\n`;
  const clean = (text: string) => text.replace(/\p{Cc}/gu, " ");
  const lines = offers.slice(0, OFFER_COUNT_MAX);
  return `words\n${lines.map(({ text, help }) => `${clean(text)}\t${clean(help)}\n`).join("")}`;
}

/** What can stand at the end of the line, whose first word is the program. Rejects with `Refusal`. */
export async function complete(table: CommandTable, line: string): Promise<Offers> {
  const words = shellWords(line).slice(1);
  const last = words.pop() ?? "";
  const command = await findCommand(table, words);
  if (command === undefined) return beginning(await nextWords(table, words), last);
  const schema = await command.schema?.();
  const rows = schema === undefined ? [] : visibleRows(optionRows(schema));
  const args = words.slice(command.name.split(" ").length);
  const waiting = waitingFlag(rows, args);
  const typed = parseFlags(command, rows, waiting === undefined ? args : args.slice(0, -1));
  const it: Typed = { table, command, ...typed };
  if (waiting !== undefined) return valuesOf(waiting, last, it);
  const [, flag, value = ""] = /^--([a-z-]+)=(.*)$/s.exec(last) ?? [];
  const row = rows.find((one) => one.flag === flag);
  if (row !== undefined) {
    const offers = await valuesOf(row, value, it);
    if (typeof offers === "string") return offers;
    return offers.map(({ text, help }) => ({ text: `--${flag}=${text}`, help }));
  }
  if (last.startsWith("-")) return beginning(flagOffers(rows, it.flags), last);
  const word = positional(command, it.words.length);
  if (word === "FILE") return "files";
  return word === undefined ? [] : beginning(await named(word, it), last);
}

/** The command and what was typed for it before the word that is being typed. */
interface Typed {
  table: CommandTable;
  command: Command;
  flags: Options;
  words: readonly string[];
}

/** Words that follow these in the names of commands. */
async function nextWords(table: CommandTable, words: readonly string[]): Promise<Offer[]> {
  const offers = new Map<string, Offer>();
  for (const { name, summary } of (await visibleGroups(table)).flat()) {
    const parts = name.split(" ");
    const text = parts[words.length];
    if (text === undefined || words.some((word, at) => parts[at] !== word)) continue;
    const help = parts.length === words.length + 1 ? summary : `commands of ${text}`;
    offers.set(text, offers.get(text) ?? { text, help });
  }
  return [...offers.values()];
}

/** The flag whose value is being typed, if the word before was one. */
function waitingFlag(rows: readonly OptionRow[], args: readonly string[]): OptionRow | undefined {
  const flag = args.at(-1);
  return rows.find((row) => row.kind !== "switch" && `--${row.flag}` === flag);
}

function flagOffers(rows: readonly OptionRow[], given: Options): Offer[] {
  const left = rows.filter(({ key, kind }) => kind === "list" || given[key] === undefined);
  const offers = left.map(({ flag, help }) => ({ text: `--${flag}`, help }));
  return [...offers, { text: "--help", help: "explain this command" }];
}

async function valuesOf(row: OptionRow, typed: string, it: Typed): Promise<Offers> {
  if (row.word === "FILE") return "files";
  if (row.word === "DIR") return "folders";
  // Of `read,wri` the last part is being typed.
  const cut = row.kind === "list" ? typed.lastIndexOf(",") + 1 : 0;
  const before = typed.slice(0, cut);
  const values = row.values.map((text) => ({ text, help: "" }));
  const offers = values.length > 0 ? values : await named(row.word, it);
  const left = offers.filter(({ text }) => !before.split(",").includes(text));
  const matching = beginning(left, typed.slice(cut));
  return matching.map(({ text, help }) => ({ text: `${before}${text}`, help }));
}

/** What help calls the word at that place; undefined when none may stand there, or a new name. */
function positional({ words = "", isNew }: Command, at: number): string | undefined {
  const all = words.split(" ");
  const word = all[at] ?? (words.includes("…") ? all.at(-1) : undefined);
  return isNew === true ? undefined : word?.replace(/[[\]…]/g, "");
}

/** Names that only the API knows, by the word that stands for them in help. */
const ASKED: Readonly<Record<string, (api: Api, words: readonly string[]) => Promise<Offer[]>>> = {
  INCIDENT: (api) =>
    ask(api, { path: "/v1/incidents", key: "incidents", name: "id", help: "summary" }),
  KEY: (api) => ask(api, { path: "/v1/silences", key: "silences", name: "key", help: "text" }),
  PERSON: (api) =>
    ask(api, { path: "/v1/people", key: "people", name: "name", help: "reachability" }),
  CACHE: (api) => ask(api, { path: "/v1/caches", key: "caches", name: "name", help: "plan" }),
  PLAN: (api) => ask(api, { path: "/v1/plans", key: "plans", name: "name", help: "" }),
  TOKEN: (api) => ask(api, { path: "/v1/tokens", key: "tokens", name: "id", help: "name" }),
  USERNAME: (api, [cache = ""]) => {
    const path = `/v1/caches/${segment(cache)}/credentials`;
    return ask(api, { path, key: "credentials", name: "username", help: "label" });
  },
};

async function ask(
  api: Api,
  { path, key, name, help }: { path: string; key: string; name: string; help: string },
): Promise<Offer[]> {
  const { body } = await api.call({ method: "GET", path });
  return listField(body, key).map((row) => {
    return { text: textField(row, name), help: textField(row, help) };
  });
}

/** Rejects with `Refusal` when the API does not answer in time or says no. */
async function named(word: string, { table, flags, words }: Typed): Promise<Offer[]> {
  if (word === "COMMAND") return nextWords(table, words);
  if (word === "SHELL") return SHELLS.map((text) => ({ text, help: "" }));
  const asked = Object.hasOwn(ASKED, word) ? ASKED[word] : undefined;
  if (asked === undefined) return [];
  const mine = Object.entries(flags).filter(([key]) => Object.hasOwn(connectionRows, key));
  const given = { flags: Object.fromEntries(mine), variables: process.env };
  const checked = resolveOptions(connectionSchema, given);
  if (!checked.ok) return [];
  return asked(openApi(checked.value, { answerMsMax: ASKING_MS_MAX }), words);
}

const beginning = (offers: readonly Offer[], typed: string): Offer[] =>
  offers.filter(({ text }) => text.startsWith(typed));

/** Words as a shell sees them; what is not finished, a quotation too, is the last one. */
export function shellWords(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (const [part] of line.matchAll(/\s+|\\.?|'[^']*'?|"(?:\\.|[^"\\])*"?|[^\s\\'"]+/gs)) {
    if (/^\s/.test(part)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? "") + unquoted(part);
  }
  return [...words, word ?? ""];
}

function unquoted(part: string): string {
  if (part.startsWith("'")) return part.replaceAll("'", "");
  if (part.startsWith('"')) return part.replace(/^"|"$/g, "").replace(/\\(["\\$`])/g, "$1");
  return part.startsWith("\\") ? part.slice(1) : part;
}
