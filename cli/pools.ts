/** `memward pool …`: memcached servers that we do not run, for caches to be made on them. */
import { z } from "zod";
import { Refusal } from "../core/runtime/process.ts";
import { segment } from "./api.ts";
import { CHANGE_DETAILS, change, changeRows, confirm, yesRow } from "./change.ts";
import { type Command, print } from "./command.ts";
import { apiCommand, printJson, show } from "./connection.ts";
import {
  type Column,
  facts,
  type Json,
  listField,
  numberField,
  table,
  textField,
} from "./table.ts";
import { age, countForPeople } from "./values.ts";

const SERVER_DETAILS = `A server is ADDRESS, NAME=ADDRESS or NAME=ADDRESS*WEIGHT; the address HOST:PORT or unix:/path.
The name divides the keys, and stays when the server moves to another address; without one it is
server-1, server-2, … in the order given.`;

const serverRows = {
  server: z
    .array(z.string())
    .min(1)
    .describe("a memcached server; repeat for more")
    .meta({ word: "SERVER" }),
};

const COLUMNS: readonly Column[] = [
  { title: "POOL", cell: (row) => textField(row, "name") },
  { title: "KIND", cell: (row) => textField(row, "kind") },
  { title: "QUOTA", cell: (row) => textField(row, "quota") },
  { title: "CACHES", cell: (row) => countForPeople(numberField(row, "caches") ?? 0), right: true },
  { title: "SERVERS", cell: (row) => listField(row, "servers").map(inWords).join(" ") },
];

const pathOf = (words: readonly string[]): string => `/v1/pools/${segment(words[0] ?? "")}`;

export const POOL_COMMANDS: readonly Command[] = [
  apiCommand({
    name: "pool create",
    summary: "name memcached servers that you have already",
    words: "POOL",
    isNew: true,
    details: `${SERVER_DETAILS}\n\nThen: memward cache create CACHE --pool POOL --plan PLAN.`,
    rows: serverRows,
    run: async ({ api, options, words }) => {
      const body = { name: words[0], servers: serversOf(options.server) };
      const { text } = await api.call({ method: "POST", path: "/v1/pools", body }, FLAGS);
      if (options.json) printJson(text);
      else print(`pool ${words[0]} made: ${countServers(body.servers.length)}\n`);
      return 0;
    },
  }),
  apiCommand({
    name: "pool list",
    summary: "list the pools: our nodes, and servers of others",
    rows: {},
    run: (it) => show(it, "/v1/pools", (body) => table(COLUMNS, listField(body, "pools"))),
  }),
  apiCommand({
    name: "pool show",
    summary: "show the servers of a pool",
    words: "POOL",
    rows: {},
    run: (it) => show(it, pathOf(it.words), shown),
  }),
  apiCommand({
    name: "pool change",
    summary: "give a pool other servers, all that it is to have",
    words: "POOL",
    details: `${SERVER_DETAILS}\n\nA server that comes takes its share of the keys. When one goes, those that had keys before
which come back to them now begin empty: nobody can take old values out of them.\n\n${CHANGE_DETAILS}`,
    rows: { ...serverRows, ...changeRows },
    run: (it) =>
      change(
        it,
        {
          method: "PATCH",
          path: pathOf(it.words),
          body: { servers: serversOf(it.options.server) },
        },
        { flags: FLAGS, told: (body) => `pool ${textField(body, "name")} changed\n` },
      ),
  }),
  apiCommand({
    name: "pool delete",
    summary: "forget a pool on which there are no caches",
    words: "POOL",
    rows: yesRow,
    run: async ({ api, options, words }) => {
      await confirm(`Forget the pool ${words[0]}?`, options);
      const { text } = await api.call({ method: "DELETE", path: pathOf(words) });
      if (options.json) printJson(text);
      else print(`pool ${words[0]} deleted\n`);
      return 0;
    },
  }),
];

const FLAGS = { name: "POOL", servers: "--server" };

type Server = { name: string; address: string; weight: number };

/** Throws `Refusal` when one is written in no way that is known. */
export function serversOf(texts: readonly string[]): Server[] {
  return texts.map((text, index) => {
    const match = /^(?:([^=*]+)=)?([^=*]+)(?:\*(\d{1,3}))?$/.exec(text);
    if (match === null) {
      throw new Refusal(`--server ${text} is not [NAME=]ADDRESS[*WEIGHT]`);
    }
    const [, name = `server-${index + 1}`, address = "", weight = "1"] = match;
    return { name, address, weight: Number(weight) };
  });
}

const countServers = (count: number): string => (count === 1 ? "1 server" : `${count} servers`);

function inWords(server: Json): string {
  const weight = numberField(server, "weight") ?? 1;
  const text = `${textField(server, "name")}=${textField(server, "address")}`;
  return weight === 1 ? text : `${text}*${weight}`;
}

function shown(pool: Json): string {
  const createdAt = textField(pool, "createdAt");
  return facts([
    ["pool", textField(pool, "name")],
    ["kind", textField(pool, "kind")],
    ["quota", textField(pool, "quota")],
    ["caches", countForPeople(numberField(pool, "caches") ?? 0)],
    ...listField(pool, "servers").map((server) => ["server", inWords(server)] as const),
    ["made", createdAt === "" ? "" : `${createdAt} (${age(createdAt)})`],
  ]);
}
