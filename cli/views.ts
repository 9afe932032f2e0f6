/**
 * What can only be looked at: plans, proxies, the audit log. Proxies are there because they run, so
 * they are a view with one word; `memward proxy` runs one.
 */
import { z } from "zod";
import { sleep } from "../core/runtime/clock.ts";
import type { Api } from "./api.ts";
import { listAll } from "./change.ts";
import { type Command, print } from "./command.ts";
import { apiCommand, printJson } from "./connection.ts";
import {
  type Column,
  field,
  type Json,
  listField,
  NOTHING,
  numberField,
  table,
  textField,
} from "./table.ts";
import { age, countForPeople, sizeForPeople } from "./values.ts";

const FOLLOW_MS = 1_000;
const AUDIT_LENGTH_MAX = 10_000;
const AUDIT_PAGE_LENGTH = 500;

const yes = (row: Json, path: string): string => (field(row, path) === true ? "yes" : "no");
const count = (row: Json, path: string): string => {
  const found = numberField(row, path);
  return found === undefined ? "" : countForPeople(found);
};
const size = (row: Json, path: string): string => {
  const found = numberField(row, path);
  return found === undefined ? "" : sizeForPeople(found);
};

const PLAN_COLUMNS: readonly Column[] = [
  { title: "PLAN", cell: (row) => textField(row, "name") },
  { title: "SIZE", cell: (row) => size(row, "bytes"), right: true },
  { title: "SESSIONS MAX", cell: (row) => count(row, "limits.sessionsMax") || "none", right: true },
  {
    title: "NEW SESSIONS/S MAX",
    cell: (row) => count(row, "limits.newSessionsPerSecondMax") || "none",
    right: true,
  },
  {
    title: "OPERATIONS/S MAX",
    cell: (row) => count(row, "limits.operationsPerSecondMax") || "none",
    right: true,
  },
  { title: "VALUE SIZE MAX", cell: (row) => size(row, "limits.valueSizeMax"), right: true },
  { title: "FREE", cell: (row) => (field(row, "free") === true ? "yes" : "") },
];

const PROXY_COLUMNS: readonly Column[] = [
  { title: "PROXY", cell: (row) => textField(row, "name") },
  { title: "READY", cell: (row) => yes(row, "ready") },
  { title: "SESSIONS", cell: (row) => count(row, "sessions"), right: true },
  { title: "REVISION", cell: (row) => count(row, "appliedRevision"), right: true },
  { title: "STARTED", cell: (row) => age(textField(row, "startedAt")) },
  { title: "ADDRESSES", cell: (row) => listField(row, "addresses").join(" ") },
];

const AUDIT_COLUMNS: readonly Column[] = [
  { title: "TIME", cell: (row) => textField(row, "at") },
  { title: "WHO", cell: (row) => textField(row, "actor") },
  { title: "FROM", cell: (row) => textField(row, "from") },
  { title: "ACTION", cell: (row) => textField(row, "action") },
  { title: "SUBJECT", cell: (row) => textField(row, "subject") },
  { title: "CHANGED", cell: changedText },
];

/** A view that is one list. */
function listing(it: {
  name: string;
  summary: string;
  path: string;
  key: string;
  columns: readonly Column[];
}): Command {
  const { name, summary, path, key, columns } = it;
  return apiCommand({
    name,
    summary,
    rows: {},
    run: async ({ api, options }) => {
      const { text, body } = await listAll(api, { path, key });
      if (options.json) printJson(text);
      else print(table(columns, listField(body, key)));
      return 0;
    },
  });
}

export const VIEW_COMMANDS: readonly Command[] = [
  listing({
    name: "plan list",
    summary: "list the plans: sizes and limits that caches can have",
    path: "/v1/plans",
    key: "plans",
    columns: PLAN_COLUMNS,
  }),
  listing({
    name: "proxies",
    summary: "list the proxies that are alive, with the revision each has applied",
    path: "/v1/proxies",
    key: "proxies",
    columns: PROXY_COLUMNS,
  }),
  apiCommand({
    name: "audit",
    summary: "show who changed what, when and from where; the newest last",
    details: `With --json the newest comes first, as the API answers; with --follow too, each record stands
on a line of its own, the newest last.`,
    rows: {
      cache: z.string().optional().describe("only of this cache").meta({ word: "CACHE" }),
      limit: z.int().min(1).max(AUDIT_LENGTH_MAX).default(50).describe("so many of the newest"),
      follow: z.boolean().default(false).describe("go on and print new ones as they come"),
    },
    run: async ({ api, options }) => {
      const { cache, limit, json } = options;
      const { records, next } = await newest(api, { cache, limit, after: "" });
      if (!options.follow) {
        if (json) printJson(JSON.stringify({ records, next }));
        else print(table(AUDIT_COLUMNS, [...records].reverse()));
        return 0;
      }
      if (!json) print(table(AUDIT_COLUMNS, [...records].reverse()));
      else for (const record of [...records].reverse()) printJson(JSON.stringify(record));
      return follow(api, { cache, json, last: textField(records[0], "id") });
    },
  }),
];

/** The newest records first, page by page, down to the one with the id `after`. */
async function newest(
  api: Api,
  it: { cache: string | undefined; limit: number; after: string },
): Promise<{ records: Json[]; next: Json }> {
  const records: Json[] = [];
  let before: string | undefined;
  for (;;) {
    const limit = String(Math.min(AUDIT_PAGE_LENGTH, it.limit - records.length));
    const query = { cache: it.cache, limit, before };
    const { body } = await api.call({ method: "GET", path: "/v1/audit", query });
    for (const record of listField(body, "records")) {
      if (textField(record, "id") <= it.after) return { records, next: null };
      records.push(record);
    }
    const next = field(body, "next") ?? null;
    if (typeof next !== "string" || records.length >= it.limit) return { records, next };
    before = next;
  }
}

/** Until it is interrupted or nobody reads any more; ids grow with time. */
async function follow(
  api: Api,
  it: { cache: string | undefined; json: boolean; last: string },
): Promise<number> {
  let { last } = it;
  let isRead = true;
  process.stdout.once("error", () => {
    isRead = false; // `memward audit --follow | head` has seen enough.
  });
  while (isRead) {
    await sleep(FOLLOW_MS);
    const { records } = await newest(api, {
      cache: it.cache,
      limit: AUDIT_LENGTH_MAX,
      after: last,
    });
    last = textField(records[0], "id") || last;
    for (const record of records.reverse()) {
      if (it.json) printJson(JSON.stringify(record));
      else print(`${AUDIT_COLUMNS.map(({ cell }) => cell(record) || NOTHING).join("  ")}\n`);
    }
  }
  return 0;
}

/** The fields that differ, as `plan 25mb -> 100mb`; nothing for what was made or deleted. */
function changedText(record: Json): string {
  const before = field(record, "before");
  const after = field(record, "after");
  return isMap(before) && isMap(after) ? differences(before, after).join("; ") : "";
}

function differences(before: Fields, after: Fields, within = ""): string[] {
  return Object.keys({ ...before, ...after }).flatMap((name): string[] => {
    const [one, other] = [before[name], after[name]];
    if (isMap(one) && isMap(other)) return differences(one, other, `${within}${name}.`);
    const [was, is] = [inWords(one), inWords(other)];
    return was === is ? [] : [`${within}${name} ${was} -> ${is}`];
  });
}

type Fields = Record<string, Json>;
const isMap = (value: Json): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function inWords(value: Json): string {
  if (Array.isArray(value)) return value.map(inWords).join(",") || NOTHING;
  const text = typeof value === "string" ? value : (JSON.stringify(value ?? null) as string);
  return text === "" || text === "null" ? NOTHING : text.slice(0, 80);
}
