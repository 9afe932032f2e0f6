/** `memward cache …`: make, look at, change, empty and delete caches. */
import { z } from "zod";
import { Refusal } from "../core/runtime/process.ts";
import { segment } from "./api.ts";
import {
  CHANGE_DETAILS,
  change,
  changeRows,
  confirm,
  given,
  listAll,
  somethingGiven,
  yesRow,
} from "./change.ts";
import { type Command, print } from "./command.ts";
import { apiCommand, printJson, show } from "./connection.ts";
import {
  type Column,
  facts,
  field,
  type Json,
  listField,
  numberField,
  table,
  textField,
} from "./table.ts";
import { age, bytesOption, countForPeople, limitOption, sizeForPeople } from "./values.ts";

const planRows = {
  plan: z
    .string()
    .min(1)
    .optional()
    .describe("its size and limits (memward plan list)")
    .meta({ word: "PLAN" }),
  size: bytesOption().optional().describe("any size, in place of the plan's"),
};
const poolRow = {
  pool: z
    .string()
    .min(1)
    .optional()
    .describe("servers of others that hold its values (memward pool list)")
    .meta({ word: "POOL" }),
};
const limitRows = {
  sessionsMax: limitOption().optional().describe("most sessions at a time, over all proxies"),
  newSessionsPerSecondMax: limitOption().optional().describe("most new sessions in a second"),
  operationsPerSecondMax: limitOption().optional().describe("most operations in a second"),
  valueSizeMax: bytesOption().optional().describe("largest value, at most 1mb"),
};
const policyRows = {
  unansweredRead: z
    .enum(["miss", "error"])
    .optional()
    .describe("what a read gets that no shard answers")
    .meta({ word: "miss|error" }),
  singleFlight: z
    .enum(["failover", "always"])
    .optional()
    .describe("when gets of one key share one read")
    .meta({ word: "failover|always" }),
  deadline: z
    .enum(["fixed", "adaptive"])
    .optional()
    .describe("250 ms for a shard, or less where its siblings are much quicker")
    .meta({ word: "fixed|adaptive" }),
};
const copiesRow = {
  copies: z
    .enum(["1", "2"])
    .optional()
    .describe("shards that each key is in; two take twice the memory")
    .meta({ word: "1|2" }),
};
/** Fields of a body, as problems name them, by the flag that gives them. */
const FLAGS = {
  pool: "--pool",
  plan: "--plan",
  bytes: "--size",
  "limits.sessionsMax": "--sessions-max",
  "limits.newSessionsPerSecondMax": "--new-sessions-per-second-max",
  "limits.operationsPerSecondMax": "--operations-per-second-max",
  "limits.valueSizeMax": "--value-size-max",
  "policies.unansweredRead": "--unanswered-read",
  "policies.singleFlight": "--single-flight",
  "policies.deadline": "--deadline",
  copies: "--copies",
};

type Wished = {
  [K in keyof (typeof planRows &
    typeof limitRows &
    typeof policyRows &
    typeof copiesRow)]?: unknown;
};

function bodyOf(options: Wished) {
  const { plan, size, unansweredRead, singleFlight, deadline } = options;
  const { sessionsMax, newSessionsPerSecondMax, operationsPerSecondMax, valueSizeMax } = options;
  const limits = { sessionsMax, newSessionsPerSecondMax, operationsPerSecondMax, valueSizeMax };
  const policies = given({ unansweredRead, singleFlight, deadline });
  const copies = options.copies === undefined ? undefined : Number(options.copies);
  return given({ plan, bytes: size, copies, limits: given(limits), policies });
}

const pathOf = (words: readonly string[]): string => `/v1/caches/${segment(words[0] ?? "")}`;

export const CACHE_COMMANDS: readonly Command[] = [
  apiCommand({
    name: "cache create",
    summary: "make a cache with the size and limits of a plan, or of any size",
    words: "CACHE",
    isNew: true,
    details: `Lower-case letters, digits and dashes. Then: memward env CACHE.\n\n${CHANGE_DETAILS}`,
    rows: { ...poolRow, ...planRows, ...copiesRow, ...limitRows, ...policyRows, ...changeRows },
    run: async (it) => {
      const { plan, size, pool } = it.options;
      if (plan === undefined && size === undefined) {
        throw new Refusal("which size? Say --plan PLAN (memward plan list) or --size SIZE");
      }
      return change(
        it,
        {
          method: "POST",
          path: "/v1/caches",
          body: { name: it.words[0], ...given({ pool }), ...bodyOf(it.options) },
        },
        { flags: { ...FLAGS, name: "CACHE" }, told: (body) => told(body, "made") },
      );
    },
  }),
  apiCommand({
    name: "cache list",
    summary: "list all caches",
    rows: {},
    run: async ({ api, options }) => {
      const { text, body } = await listAll(api, { path: "/v1/caches", key: "caches" });
      if (options.json) printJson(text);
      else print(table(COLUMNS, listField(body, "caches")));
      return 0;
    },
  }),
  apiCommand({
    name: "cache show",
    summary: "show size, limits and policies of a cache",
    words: "CACHE",
    rows: {},
    run: (it) => show(it, pathOf(it.words), shown),
  }),
  apiCommand({
    name: "cache stats",
    summary: "show the counters of a cache, by memcached's names",
    words: "CACHE",
    rows: {},
    run: (it) => show(it, `${pathOf(it.words)}/stats`, statsText),
  }),
  apiCommand({
    name: "cache resize",
    summary: "give a cache another plan or size; what fits stays in it",
    words: "CACHE",
    details: CHANGE_DETAILS,
    rows: { ...planRows, ...changeRows },
    run: (it) =>
      change(
        it,
        {
          method: "PATCH",
          path: pathOf(it.words),
          body: somethingGiven(bodyOf(it.options), "--plan and --size"),
        },
        { flags: FLAGS, told: (body) => told(body, "resized") },
      ),
  }),
  apiCommand({
    name: "cache change",
    summary: "change limits and policies of a cache",
    words: "CACHE",
    details: CHANGE_DETAILS,
    rows: { ...limitRows, ...policyRows, ...changeRows },
    run: (it) =>
      change(
        it,
        {
          method: "PATCH",
          path: pathOf(it.words),
          body: somethingGiven(
            bodyOf(it.options),
            "--…-max, --unanswered-read, --single-flight and --deadline",
          ),
        },
        { flags: FLAGS, told: (body) => told(body, "changed") },
      ),
  }),
  switching("enable", true, "let clients use a cache again that was disabled"),
  switching("disable", false, "refuse all logins to a cache and end its sessions; values stay"),
  apiCommand({
    name: "cache flush",
    summary: "empty a cache; credentials and counters stay",
    words: "CACHE",
    details: CHANGE_DETAILS,
    rows: { ...yesRow, ...changeRows },
    run: async (it) => {
      await confirm(`Empty the cache ${it.words[0]}?`, it.options);
      const path = `${pathOf(it.words)}/flush`;
      const flushed = () => `cache ${it.words[0]} emptied\n`;
      return change(it, { method: "POST", path }, { told: flushed });
    },
  }),
  apiCommand({
    name: "cache reset-stats",
    summary: "let the counters of a cache begin anew at zero",
    words: "CACHE",
    details: CHANGE_DETAILS,
    rows: changeRows,
    run: (it) =>
      change(
        it,
        { method: "POST", path: `${pathOf(it.words)}/stats/reset` },
        { told: () => `counters of cache ${it.words[0]} begin anew\n` },
      ),
  }),
  apiCommand({
    name: "cache delete",
    summary: "delete a cache with its values and all its credentials",
    words: "CACHE",
    details: CHANGE_DETAILS,
    rows: { ...yesRow, ...changeRows },
    run: async (it) => {
      const path = pathOf(it.words);
      await confirm(`Delete the cache ${it.words[0]}, its values and credentials?`, it.options);
      const deleted = () => `cache ${it.words[0]} deleted\n`;
      return change(it, { method: "DELETE", path }, { told: deleted });
    },
  }),
];

function switching(verb: "enable" | "disable", enabled: boolean, summary: string): Command {
  return apiCommand({
    name: `cache ${verb}`,
    summary,
    words: "CACHE",
    details: CHANGE_DETAILS,
    rows: changeRows,
    run: (it) =>
      change(
        it,
        { method: "PATCH", path: pathOf(it.words), body: { enabled } },
        { told: (body) => told(body, `${verb}d`) },
      ),
  });
}

function told(body: Json, what: string): string {
  return `cache ${textField(body, "name")} ${what}: ${size(body)}, plan ${textField(body, "plan")}\n`;
}

const size = (row: Json): string => {
  const bytes = numberField(row, "bytes");
  return bytes === undefined ? "" : sizeForPeople(bytes);
};
const limit = (row: Json, path: string): string => {
  const found = field(row, path);
  return typeof found === "number" ? countForPeople(found) : found === null ? "none" : "";
};
const state = (row: Json): string => (field(row, "enabled") === false ? "disabled" : "enabled");
const COLUMNS: readonly Column[] = [
  { title: "CACHE", cell: (row) => textField(row, "name") },
  { title: "PLAN", cell: (row) => textField(row, "plan") },
  { title: "SIZE", cell: size, right: true },
  { title: "SESSIONS MAX", cell: (row) => limit(row, "limits.sessionsMax"), right: true },
  {
    title: "OPERATIONS/S MAX",
    cell: (row) => limit(row, "limits.operationsPerSecondMax"),
    right: true,
  },
  { title: "STATE", cell: state },
  { title: "MADE", cell: (row) => age(textField(row, "createdAt")) },
];

function shown(cache: Json): string {
  const valueSizeMax = numberField(cache, "limits.valueSizeMax");
  return facts([
    ["cache", textField(cache, "name")],
    ["id", textField(cache, "id")],
    ["plan", textField(cache, "plan")],
    ["size", size(cache)],
    ["copies", String(numberField(cache, "copies") ?? 1)],
    ["pool", textField(cache, "pool")],
    ["quota", textField(cache, "quota")],
    ["sessions max", limit(cache, "limits.sessionsMax")],
    ["new sessions/s max", limit(cache, "limits.newSessionsPerSecondMax")],
    ["operations/s max", limit(cache, "limits.operationsPerSecondMax")],
    ["value size max", valueSizeMax === undefined ? "" : sizeForPeople(valueSizeMax)],
    ["unanswered read", textField(cache, "policies.unansweredRead")],
    ["single-flight", textField(cache, "policies.singleFlight")],
    ["deadline", textField(cache, "policies.deadline")],
    ["state", state(cache)],
    ["made", `${textField(cache, "createdAt")} (${age(textField(cache, "createdAt"))})`],
  ]);
}

/** Counters, sorted as memcached's clients print them: by name. */
function statsText(body: Json): string {
  const stats = field(body, "stats") ?? body;
  if (typeof stats !== "object" || stats === null) throw new Refusal("the API sent no counters");
  const rows = Object.entries(stats).filter(([, value]) => typeof value !== "object");
  return facts(rows.map(([name, value]) => [name, String(value)] as const));
}
