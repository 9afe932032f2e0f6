/**
 * What all commands of the admin API share: where it is, who asks, and tables or JSON. Only these
 * options are also variables; a forgotten MEMWARD_YES or MEMWARD_PLAN must not decide anything.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { formatAddress, parseAddress } from "../core/runtime/config.ts";
import { EXIT } from "../core/runtime/process.ts";
import { Api, findToken } from "./api.ts";
import { type Command, type Options, print } from "./command.ts";
import { type Json, listField, textField } from "./table.ts";

const DEFAULT_URL = "http://127.0.0.1:8211";

export const connectionRows = {
  control: controlUrl()
    .optional()
    .describe(`where the admin API is (where the instance in DIR has it, else ${DEFAULT_URL})`),
  tokenFile: z
    .string()
    .min(1)
    .optional()
    .describe("file with your token; else MEMWARD_TOKEN, else DIR/operator.token")
    .meta({ word: "FILE" }),
  dataDir: z
    .string()
    .min(1)
    .default(".memward")
    .describe("directory of an instance on this machine")
    .meta({ word: "DIR" }),
  json: z.boolean().default(false).describe("print what the API answers, as JSON"),
};
export const connectionSchema = z.strictObject(connectionRows);
const CONNECTION_VARIABLES = Object.keys(connectionRows);

export type Connection = z.output<typeof connectionSchema>;

/** A client of the API that those options name. Throws `Refusal` when the token file is no such. */
export function openApi(
  { control, tokenFile, dataDir }: Connection,
  limits: { answerMsMax?: number } = {},
): Api {
  const variable = process.env["MEMWARD_TOKEN"];
  // The owner's token of this machine is nothing for another one.
  const isHere = control === undefined || isLoopback(new URL(control).hostname);
  const { token, lookedFor } = findToken({ tokenFile, variable, dataDir, isHere });
  return new Api({ url: control ?? urlOf(dataDir), token, lookedFor, ...limits });
}

const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "[::1]" || /^127\.[\d.]+$/.test(host);

const STATUS_SIZE_MAX = 1024 * 1024;

/** What a running instance says in its directory (up/status.ts); where nothing can be read, ours. */
function urlOf(dataDir: string): string {
  try {
    const text = readFileSync(join(dataDir, "run", "status.json"), "utf8");
    const status: unknown = JSON.parse(text.slice(0, STATUS_SIZE_MAX));
    const role = listField(status, "roles").find((one) => textField(one, "role") === "control");
    return originOf(String(listField(role, "addresses")[0])) ?? DEFAULT_URL;
  } catch {
    return DEFAULT_URL; // No instance here, or another user's.
  }
}

type Rows = Record<string, z.ZodType>;

export interface Running<R extends Rows> {
  api: Api;
  options: z.output<z.ZodObject<R>> & Connection;
  words: readonly string[];
}

/** A row of the command table whose `run` gets the client and typed options. */
export function apiCommand<R extends Rows>(row: {
  name: string;
  summary: string;
  words?: string;
  details?: string;
  isNew?: boolean;
  rows: R;
  run(running: Running<R>): Promise<number>;
}): Command {
  const { rows, run, ...command } = row;
  const schema = z.strictObject({ ...rows, ...connectionRows });
  return {
    ...command,
    variables: CONNECTION_VARIABLES,
    schema: async () => schema,
    run: async (given: Options, words) => {
      const options = given as Running<R>["options"]; // Checked with the schema above.
      return run({ api: openApi(options), options, words });
    },
  };
}

/** Asks for what is at `path` and prints it: the answer with `--json`, else what `shown` makes of it. */
export async function show(
  { api, options }: { api: Api; options: { json: boolean } },
  path: string,
  shown: (body: Json) => string,
): Promise<number> {
  const { text, body } = await api.call({ method: "GET", path });
  if (options.json) printJson(text);
  else print(shown(body));
  return EXIT.done;
}

export function printJson(text: string): void {
  if (text !== "") print(text.endsWith("\n") ? text : `${text}\n`);
}

/** A URL or HOST:PORT; the URL's origin comes out. */
export function controlUrl() {
  return z
    .string()
    .transform((text, context) => {
      const url = originOf(text);
      if (url !== undefined) return url;
      const shown = JSON.stringify(text.replace(/[^/]*@/, "…@"));
      const message = `${shown} is neither a URL like ${DEFAULT_URL} nor HOST:PORT`;
      context.issues.push({ code: "custom", message, input: text });
      return z.NEVER;
    })
    .meta({ word: "URL" });
}

/** No login in the URL: what stands in an argument, every user of the machine can read. */
function originOf(text: string): string | undefined {
  const address = parseAddress(text);
  if (address !== undefined) return `http://${formatAddress(address)}`;
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  const isBare = url.pathname === "/" && url.search === "" && url.hash === "";
  return isBare && url.username === "" && url.password === "" ? url.origin : undefined;
}
