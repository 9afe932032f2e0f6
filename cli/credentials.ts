/** `memward credential …` and `memward env`: logins of a cache. A password is printed once. */
import { readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
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
  reportApplied,
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
import { age, durationOption, momentOption } from "./values.ts";

/** As the API knows them; a test compares. */
export const RIGHT_WORDS = ["read", "write", "flush", "api"] as const;
const PASSWORD_FILE_SIZE_MAX = 4096;
const USES_SHOWN_MAX = 20;

const rightsRow = (help: string) =>
  z.array(z.enum(RIGHT_WORDS)).optional().describe(help).meta({ word: "RIGHTS" });
const loginRows = {
  label: z.string().optional().describe("for people: who uses it").meta({ word: "TEXT" }),
  rights: rightsRow("read, write, flush, api; separated by commas (read,write unless given)"),
  expires: momentOption()
    .optional()
    .describe("when it stops working: 2026-12-31T00:00:00Z, 30d, or never"),
  network: z
    .array(z.string())
    .optional()
    .describe("where it may be used from, like 10.0.0.0/8; everywhere unless given")
    .meta({ word: "CIDR" }),
};
const prefixRow = {
  keyPrefix: z
    .string()
    .optional()
    .describe("put before every key; whoever logs in sees and reaches nothing else")
    .meta({ word: "TEXT" }),
};
/** Fields of a body, as problems name them, by the flag that gives them. */
const FLAGS = {
  label: "--label",
  rights: "--rights",
  keyPrefix: "--key-prefix",
  expiresAt: "--expires",
  networks: "--network",
  username: "--username",
  password: "--password-file",
  overlapSeconds: "--overlap",
};

interface Wished {
  label?: string | undefined;
  rights?: readonly string[] | undefined;
  keyPrefix?: string | undefined;
  expires?: string | null | undefined;
  network?: readonly string[] | undefined;
}

const bodyOf = ({ label, rights, keyPrefix, expires, network }: Wished) =>
  given({ label, rights, keyPrefix, expiresAt: expires, networks: network });

const listPath = (words: readonly string[]): string =>
  `/v1/caches/${segment(words[0] ?? "")}/credentials`;
const onePath = (words: readonly string[]): string =>
  `${listPath(words)}/${segment(words[1] ?? "")}`;

export const CREDENTIAL_COMMANDS: readonly Command[] = [
  apiCommand({
    name: "credential create",
    summary: "make a credential of a cache and print its password, once",
    words: "CACHE",
    details: `A login that exists elsewhere is taken over with --username and --password-file.

${CHANGE_DETAILS}`,
    rows: {
      ...loginRows,
      ...prefixRow,
      username: z.string().optional().describe("take over this username").meta({ word: "NAME" }),
      passwordFile: z
        .string()
        .optional()
        .describe("with its password from this file; - is standard input")
        .meta({ word: "FILE" }),
      ...changeRows,
    },
    run: (it) => {
      const { username, passwordFile } = it.options;
      const password = passwordFile === undefined ? undefined : readPassword(passwordFile);
      const body = { ...bodyOf(it.options), ...given({ username, password }) };
      const call = { method: "POST", path: listPath(it.words), body } as const;
      return change(it, call, { flags: FLAGS, told: made });
    },
  }),
  apiCommand({
    name: "credential list",
    summary: "list the credentials of a cache, with who still uses them",
    words: "CACHE",
    rows: {},
    run: async ({ api, options, words }) => {
      const { text, body } = await listAll(api, { path: listPath(words), key: "credentials" });
      if (options.json) printJson(text);
      else print(table(COLUMNS, listField(body, "credentials")));
      return 0;
    },
  }),
  apiCommand({
    name: "credential show",
    summary: "show one credential, with the addresses that are logged in with it",
    words: "CACHE USERNAME",
    rows: {},
    run: (it) => show(it, onePath(it.words), shown),
  }),
  apiCommand({
    name: "credential change",
    summary: "change rights, label, expiry or networks of a credential",
    words: "CACHE USERNAME",
    details: `What is given replaces what was there: --rights read makes it read-only. Sessions that are
logged in feel it too.\n\n${CHANGE_DETAILS}`,
    rows: { ...loginRows, rights: rightsRow("read, write, flush, api"), ...changeRows },
    run: (it) => {
      const flags = "--rights, --label, --expires and --network";
      const body = somethingGiven(bodyOf(it.options), flags);
      const call = { method: "PATCH", path: onePath(it.words), body } as const;
      return change(it, call, { flags: FLAGS, told: shown });
    },
  }),
  apiCommand({
    name: "credential rotate",
    summary: "replace a credential by a new one; the old one works for a while longer",
    words: "CACHE USERNAME",
    details: `The new credential is like the old one and its password is printed, once. The old one dies by
itself after --overlap: until then give the new one to all who use it (credential show tells
who still does). Taking it back: credential change … --expires never.\n\n${CHANGE_DETAILS}`,
    rows: {
      overlap: durationOption()
        .optional()
        .describe("how long the old one goes on working (1h unless given; 0: not at all)"),
      ...changeRows,
    },
    run: (it) => {
      const { overlap } = it.options;
      const seconds = overlap === undefined ? undefined : Math.ceil(overlap / 1000);
      const body = given({ overlapSeconds: seconds }) ?? {};
      const call = { method: "POST", path: `${onePath(it.words)}/rotate`, body } as const;
      return change(it, call, { flags: FLAGS, told: made });
    },
  }),
  apiCommand({
    name: "credential promote",
    summary: "make a credential the primary one of its cache",
    words: "CACHE USERNAME",
    details: CHANGE_DETAILS,
    rows: changeRows,
    run: (it) =>
      change(it, { method: "POST", path: `${onePath(it.words)}/promote` }, { told: shown }),
  }),
  apiCommand({
    name: "credential delete",
    summary: "delete a credential; its sessions end at once",
    words: "CACHE USERNAME",
    details: CHANGE_DETAILS,
    rows: {
      force: z.boolean().default(false).describe("even if it is the last one of the cache"),
      ...yesRow,
      ...changeRows,
    },
    run: async (it) => {
      const path = onePath(it.words);
      const [cache, username] = it.words;
      await confirm(`Delete the credential ${username} of the cache ${cache}?`, it.options);
      const query = { force: it.options.force ? "true" : undefined };
      const told = () => `credential ${username} deleted\n`;
      return change(it, { method: "DELETE", path, query }, { told });
    },
  }),
  apiCommand({
    name: "env",
    summary: "make a credential and print the lines that an application needs",
    words: "CACHE",
    details: `In a shell: eval "$(memward env CACHE)". For a file: (umask 077; memward env CACHE --dotenv > .env)
Each call makes one more credential, labelled with who asked; credential list shows them all.`,
    rows: {
      ...loginRows,
      label: loginRows.label.describe("for people: who uses it; user@host unless given"),
      ...prefixRow,
      dotenv: z.boolean().default(false).describe("KEY=VALUE lines for a file, without export"),
      ...changeRows,
    },
    run: async ({ api, options, words }) => {
      const body = { ...bodyOf(options), label: options.label ?? whoAsks() };
      const query = { wait: options.noWait ? undefined : "applied" };
      const call = { method: "POST", path: listPath(words), query, body } as const;
      const answer = await api.call(call, FLAGS);
      if (options.json) printJson(answer.text);
      else print(envLines(answer.body, options));
      return reportApplied(answer, options);
    },
  }),
];

function whoAsks(): string {
  const { username } = userInfo();
  return `${username}@${hostname()}`.slice(0, 200);
}

/** Text that a shell reads as it is, whatever it holds. */
function envLines(body: Json, { dotenv }: { dotenv: boolean }): string {
  const variables = Object.entries((field(body, "env") as object | undefined) ?? {});
  if (variables.length === 0) throw new Refusal("the API sent no variables");
  const lines = variables.map(([name, value]) => {
    const text = String(value);
    const isBare = /^[\w.,:@%/+=[\]-]*$/.test(text) && (dotenv || !/[[\]]/.test(text));
    const safe = isBare ? text : `'${text.replaceAll("'", "'\\''")}'`;
    return dotenv ? `${name}=${safe}\n` : `export ${name}=${safe}\n`;
  });
  return lines.join("");
}

function made(body: Json): string {
  return facts([
    ["username", textField(body, "username")],
    ["password", `${textField(body, "password")}  (shown now and never again)`],
    ["servers", textField(body, "env.MEMCACHIER_SERVERS")],
    ["rights", rights(body)],
    ["label", textField(body, "label") || undefined],
    ["key prefix", textField(body, "keyPrefix") || undefined],
    ["expires", moment(body, "expiresAt")],
    ["networks", networks(body)],
  ]);
}

function shown(body: Json): string {
  const uses = listField(body, "addresses").slice(0, USES_SHOWN_MAX);
  const addresses = uses.map((use) => {
    return `${textField(use, "address")} (${numberField(use, "sessions")})`;
  });
  return facts([
    ["username", textField(body, "username")],
    ["cache", textField(body, "cache")],
    ["label", textField(body, "label")],
    ["rights", rights(body)],
    ["primary", field(body, "primary") === true ? "yes" : "no"],
    ["key prefix", textField(body, "keyPrefix") || undefined],
    ["networks", networks(body)],
    ["made", moment(body, "createdAt")],
    ["expires", moment(body, "expiresAt") ?? "never"],
    ["rotated to", textField(body, "replacedBy") || undefined],
    ["last used", moment(body, "lastUsedAt") ?? "never"],
    ["sessions", String(numberField(body, "sessions") ?? "")],
    ["used from", addresses.length === 0 ? undefined : addresses.join(", ")],
  ]);
}

const rights = (row: Json): string => listField(row, "rights").join(",");
const networks = (row: Json): string | undefined =>
  listField(row, "networks").join(",") || undefined;
/** The moment itself and how far away it is; undefined when there is none. */
const moment = (row: Json, path: string): string | undefined => {
  const text = textField(row, path);
  return text === "" ? undefined : `${text} (${age(text)})`;
};

const COLUMNS: readonly Column[] = [
  { title: "USERNAME", cell: (row) => textField(row, "username") },
  { title: "LABEL", cell: (row) => textField(row, "label") },
  { title: "RIGHTS", cell: rights },
  { title: "PRIMARY", cell: (row) => (field(row, "primary") === true ? "yes" : "") },
  { title: "PREFIX", cell: (row) => textField(row, "keyPrefix") },
  { title: "EXPIRES", cell: (row) => age(textField(row, "expiresAt")) || "never" },
  { title: "LAST USED", cell: (row) => age(textField(row, "lastUsedAt")) || "never" },
  { title: "SESSIONS", cell: (row) => String(numberField(row, "sessions") ?? ""), right: true },
];

/** Without the line end that editors and `echo` put there. */
function readPassword(path: string): string {
  let text: string;
  try {
    text = readFileSync(path === "-" ? 0 : path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new Refusal(`--password-file: ${path} cannot be read (${code})`);
  }
  const password = text.replace(/\r?\n$/, "");
  if (password !== "" && password.length <= PASSWORD_FILE_SIZE_MAX) return password;
  throw new Refusal(`--password-file: ${path} is empty or too long to be a password`);
}
