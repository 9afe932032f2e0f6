/**
 * What all commands that change something share: asking before something is lost, waiting until
 * every proxy has applied it, and saying so.
 */
import { createInterface } from "node:readline";
import { z } from "zod";
import { EXIT, Refusal } from "../core/runtime/process.ts";
import type { Answer, Api, Call, FlagNames } from "./api.ts";
import { print } from "./command.ts";
import { printJson } from "./connection.ts";
import { field, type Json, listField, numberField } from "./table.ts";

export const changeRows = {
  noWait: z.boolean().default(false).describe("do not wait until every proxy has applied it"),
};
export const yesRow = {
  yes: z.boolean().default(false).describe("do it without asking"),
};

/** Said in the help of every command that changes something. */
export const CHANGE_DETAILS = `It waits until every live proxy has applied the change, and tells the time that took. If one has
not after 5 seconds, the change is made all the same, the proxy is named, and the exit code is 7.`;

interface ChangeOptions {
  noWait: boolean;
  json: boolean;
}

/** Makes the change, prints the answer, and returns the exit code. Throws `Refusal`. */
export async function change(
  { api, options }: { api: Api; options: ChangeOptions },
  call: Call,
  it: { flags?: FlagNames; told(body: Json): string },
): Promise<number> {
  const query = { ...call.query, wait: options.noWait ? undefined : "applied" };
  const answer = await api.call({ ...call, query }, it.flags);
  if (options.json) printJson(answer.text);
  else print(it.told(answer.body));
  return reportApplied(answer, options);
}

/** Where the change is in force, on standard error: standard output may be read by `eval`. */
export function reportApplied({ status, body }: Answer, { noWait, json }: ChangeOptions): number {
  if (noWait) return EXIT.done;
  if (status === 202) {
    const missing = listField(body, "applied.missing").join(", ") || "some proxies";
    const told = `changed, but not applied in time by ${missing}; they follow when they can`;
    process.stderr.write(`memward: ${told}\n`);
    return EXIT.notApplied;
  }
  const tookMs = numberField(body, "applied.ms");
  const count = listField(body, "applied.proxies").length;
  if (!json && tookMs !== undefined) {
    const proxies = count === 1 ? "1 proxy" : `${count} proxies`;
    process.stderr.write(`in force on ${proxies} after ${Math.round(tookMs)} ms\n`);
  }
  return EXIT.done;
}

/** Asks a person; where none can be asked, nothing is lost without `--yes`. Throws `Refusal`. */
export async function confirm(question: string, { yes }: { yes: boolean }): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new Refusal(`${question} Say --yes: there is no terminal to ask at`);
  }
  process.stderr.write(`${question} [y/N] `);
  const said = await nextLine();
  if (!/^y(es)?$/i.test(said.trim())) throw new Refusal("nothing was changed", EXIT.failed);
}

/** "" at the end of the input. The terminal edits the line and Ctrl-C ends us, as everywhere. */
function nextLine(): Promise<string> {
  const lines = createInterface({ input: process.stdin, terminal: false });
  return new Promise((resolve) => {
    lines.once("line", (line) => {
      resolve(line);
      lines.close();
    });
    lines.once("close", () => resolve(""));
  });
}

/** What was given, without what was not; undefined when nothing was. */
export function given<T extends Record<string, unknown>>(fields: T): Partial<T> | undefined {
  const found = Object.entries(fields).filter(([, value]) => value !== undefined);
  return found.length === 0 ? undefined : (Object.fromEntries(found) as Partial<T>);
}

/** Refuses a change that changes nothing; the API would take it for done. */
export function somethingGiven<T>(body: T | undefined, flags: string): T {
  if (body !== undefined) return body;
  throw new Refusal(`nothing to change is given; flags that do are ${flags}`);
}

const PAGE_COUNT_MAX = 10_000;

/** All pages of a list, joined as if they had been one. Throws `Refusal`. */
export async function listAll(api: Api, call: { path: string; key: string }): Promise<Answer> {
  const first = await api.call({ method: "GET", path: call.path });
  const rows = [...listField(first.body, call.key)];
  let next = field(first.body, "next");
  if (typeof next !== "string") return first;
  for (let page = 1; typeof next === "string" && page < PAGE_COUNT_MAX; page++) {
    const more = await api.call({ method: "GET", path: call.path, query: { after: next } });
    for (const row of listField(more.body, call.key)) rows.push(row);
    next = field(more.body, "next");
  }
  const body = { ...(first.body as object), [call.key]: rows, next: null };
  return { status: first.status, text: JSON.stringify(body), body };
}
