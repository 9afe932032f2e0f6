/** `memward token …`: tokens with which operators and their scripts use the admin API. */
import { z } from "zod";
import { segment } from "./api.ts";
import { confirm, given, listAll, yesRow } from "./change.ts";
import { type Command, print } from "./command.ts";
import { apiCommand, printJson } from "./connection.ts";
import { type Column, facts, listField, table, textField } from "./table.ts";
import { age, momentOption } from "./values.ts";

/** As the API knows them; a test compares. */
export const ROLE_WORDS = ["viewer", "operator", "owner"] as const;

const COLUMNS: readonly Column[] = [
  { title: "TOKEN", cell: (row) => textField(row, "id") },
  { title: "NAME", cell: (row) => textField(row, "name") },
  { title: "ROLE", cell: (row) => textField(row, "role") },
  { title: "EXPIRES", cell: (row) => age(textField(row, "expiresAt")) || "never" },
  { title: "MADE", cell: (row) => age(textField(row, "createdAt")) },
];

export const TOKEN_COMMANDS: readonly Command[] = [
  apiCommand({
    name: "token create",
    summary: "make a token for somebody and print it, once",
    words: "NAME",
    isNew: true,
    details: `A viewer may look, an operator may also change caches and credentials, an owner may also make
and delete tokens.`,
    rows: {
      role: z
        .enum(ROLE_WORDS)
        .default("viewer")
        .describe("what its holder may do")
        .meta({ word: "ROLE" }),
      expires: momentOption()
        .optional()
        .describe("when it stops working: 2026-12-31T00:00:00Z, 30d, or never"),
    },
    run: async ({ api, options, words }) => {
      const { role, expires } = options;
      const body = { name: words[0], role, ...given({ expiresAt: expires }) };
      const flags = { name: "NAME", role: "--role", expiresAt: "--expires" };
      const answer = await api.call({ method: "POST", path: "/v1/tokens", body }, flags);
      if (options.json) printJson(answer.text);
      else {
        print(
          facts([
            ["token", `${textField(answer.body, "token")}  (shown now and never again)`],
            ["name", textField(answer.body, "name")],
            ["role", textField(answer.body, "role")],
            ["expires", age(textField(answer.body, "expiresAt")) || "never"],
          ]),
        );
      }
      return 0;
    },
  }),
  apiCommand({
    name: "token list",
    summary: "list the tokens, without what is secret in them",
    rows: {},
    run: async ({ api, options }) => {
      const { text, body } = await listAll(api, { path: "/v1/tokens", key: "tokens" });
      if (options.json) printJson(text);
      else print(table(COLUMNS, listField(body, "tokens")));
      return 0;
    },
  }),
  apiCommand({
    name: "token delete",
    summary: "delete a token; whoever holds it is refused from now on",
    words: "TOKEN",
    rows: yesRow,
    run: async ({ api, options, words }) => {
      const path = `/v1/tokens/${segment(words[0] ?? "")}`;
      await confirm(`Delete the token ${words[0]}?`, options);
      const answer = await api.call({ method: "DELETE", path });
      if (options.json) printJson(answer.text);
      else print(`token ${words[0]} deleted\n`);
      return 0;
    },
  }),
];
