/**
 * A client of the admin API: one request at a time, bounded in time and size, with the operator's
 * token. Whatever is not a success becomes a `Refusal` with the sentences and the exit code for it.
 * The token goes to the address that was given and nowhere else: redirects are not followed.
 */
import { readFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import { EXIT, type ExitCode, Refusal } from "../core/runtime/process.ts";
import { type Json, listField, textField } from "./table.ts";

/** The API answers a change that waits for all proxies after 5 s at the latest. */
const ANSWER_MS_MAX = 15_000;
/** A list of 100,000 credentials has 40 MB. */
const ANSWER_SIZE_MAX = 128 * 1024 * 1024;
const TOKEN_FILE_SIZE_MAX = 4096;
const TOKEN_PATTERN = /^[\x21-\x7e]{1,512}$/;
const PROBLEM_COUNT_MAX = 100;

export interface Answer {
  status: number;
  /** As it came, for `--json`. */
  text: string;
  body: Json;
}

export interface Call {
  method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  path: string;
  query?: Readonly<Record<string, string | undefined>>;
  body?: Readonly<Record<string, unknown>> | undefined;
}

export interface ApiOptions {
  /** URL without a path. */
  url: string;
  token: string | undefined;
  /** Where a token was looked for, to say so when one is asked for. */
  lookedFor?: string;
  answerMsMax?: number;
}

/** What has flags may name them in problems: fields of a body by their option. */
export type FlagNames = Readonly<Record<string, string>>;

export class Api {
  readonly #options: ApiOptions;

  constructor(options: ApiOptions) {
    this.#options = options;
  }

  /** Throws `Refusal`. */
  async call(call: Call, flags: FlagNames = {}): Promise<Answer> {
    const { answer, isJson } = await this.#exchange(call);
    const { status, text, body } = answer;
    if (status >= 200 && status < 300 && (isJson || text === "")) return answer;
    if (!isJson) throw this.#stranger(status);
    throw this.#refusal(status, body, flags);
  }

  async #exchange({ method, path, query = {}, body }: Call) {
    const { url, token, answerMsMax = ANSWER_MS_MAX } = this.#options;
    const target = new URL(path, url);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) target.searchParams.set(name, value);
    }
    const text = body === undefined ? "" : JSON.stringify(body);
    const headers: Record<string, string> = { accept: "application/json" };
    if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    if (text !== "") headers["content-length"] = String(Buffer.byteLength(text));
    try {
      const got = await exchange({ target, method, headers, text, answerMsMax });
      const isJson = /^application\/(problem\+)?json\b/.test(got.contentType);
      const parsed: Json = isJson ? JSON.parse(got.text) : undefined;
      return { answer: { status: got.status, text: got.text, body: parsed }, isJson };
    } catch (error) {
      throw this.#unreachable(error);
    }
  }

  #unreachable(error: unknown): Refusal {
    const { url } = this.#options;
    const reason = reasonOf(error);
    const hint = "is memward up running there? --control says where the API is";
    return new Refusal(
      `cannot reach the admin API at ${url}: ${reason} (${hint})`,
      EXIT.notRunning,
    );
  }

  #stranger(status: number): Refusal {
    const { url } = this.#options;
    const text = `${url} answers with status ${status}, but not as Memward's admin API does`;
    return new Refusal(`${text}; --control says where it is`, EXIT.notRunning);
  }

  #refusal(status: number, body: Json, flags: FlagNames): Refusal {
    const exitCode = exitCodeOf(status);
    const sentences = problemSentences(body, flags);
    if (sentences.length === 0) sentences.push(`the admin API answered with status ${status}`);
    const { token, lookedFor } = this.#options;
    if (status === 401 && token === undefined && lookedFor !== undefined) {
      sentences.push(`no token was sent: ${lookedFor}`);
    }
    return new Refusal(sentences.join("\nmemward: "), exitCode);
  }
}

/** One segment of a path. Dots alone would be resolved to another resource, `""` to the list. */
export function segment(word: string): string {
  if (/^\.{0,2}$/.test(word)) throw new Refusal(`${JSON.stringify(word)} is no name`);
  return encodeURIComponent(word);
}

const EXIT_OF_STATUS: Readonly<Record<number, ExitCode>> = {
  400: EXIT.refused,
  413: EXIT.refused,
  415: EXIT.refused,
  422: EXIT.refused,
  401: EXIT.notAllowed,
  403: EXIT.notAllowed,
  404: EXIT.notFound,
  410: EXIT.notFound,
  409: EXIT.conflict,
  412: EXIT.conflict,
  503: EXIT.notRunning,
};

export function exitCodeOf(status: number): ExitCode {
  return EXIT_OF_STATUS[status] ?? EXIT.failed;
}

/** RFC 9457 with our list of problems; a field that a flag gave is named by the flag. */
function problemSentences(body: Json, flags: FlagNames): string[] {
  const problems = listField(body, "problems").slice(0, PROBLEM_COUNT_MAX);
  if (problems.length > 0) {
    return problems.map((problem) => {
      const path = textField(problem, "path");
      const where = flagOf(path, flags) ?? path;
      const message = textField(problem, "message");
      return where === "" ? message : `${where}: ${message}`;
    });
  }
  const said = textField(body, "detail") || textField(body, "title") || textField(body, "message");
  return said === "" ? [] : [said];
}

function flagOf(path: string, flags: FlagNames): string | undefined {
  if (Object.hasOwn(flags, path)) return flags[path];
  const [first = ""] = path.split(".");
  return Object.hasOwn(flags, first) ? flags[first] : undefined;
}

/**
 * The operator's token: a file that was named, else the variable, else, for an API on this machine,
 * the one that the first start of an instance left in its directory. Never a flag: every user of a machine sees those.
 */
export function findToken(it: {
  tokenFile: string | undefined;
  variable: string | undefined;
  dataDir: string;
  /** The API is on this machine. */
  isHere: boolean;
}): { token: string | undefined; lookedFor: string } {
  if (it.tokenFile !== undefined) {
    return { token: readToken(it.tokenFile, { isNeeded: true }), lookedFor: "" };
  }
  if (it.variable !== undefined && it.variable !== "") {
    return { token: checkToken(it.variable, "MEMWARD_TOKEN"), lookedFor: "" };
  }
  const path = join(it.dataDir, "operator.token");
  if (!it.isHere) {
    const why = `${path} is sent to this machine alone; --token-file can name it`;
    return { token: undefined, lookedFor: `MEMWARD_TOKEN is not set, and ${why}` };
  }
  const token = readToken(path, { isNeeded: false });
  return { token, lookedFor: `MEMWARD_TOKEN is not set and ${path} cannot be read` };
}

function readToken(path: string, { isNeeded }: { isNeeded: boolean }): string | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    if (isNeeded) throw new Refusal(`--token-file: ${path} cannot be read (${code})`);
    return undefined;
  }
  return checkToken(text.slice(0, TOKEN_FILE_SIZE_MAX).trim(), path);
}

/** What is not printable could not be sent, and an error about it would show it. */
function checkToken(token: string, where: string): string {
  if (TOKEN_PATTERN.test(token)) return token;
  throw new Refusal(`${where} does not hold a token (one word of printable characters)`);
}

interface Exchange {
  target: URL;
  method: string;
  headers: Record<string, string>;
  text: string;
  answerMsMax: number;
}

/** One request on a connection of its own. Not `fetch`, which refuses a list of harmless ports. */
async function exchange({ target, method, headers, text, answerMsMax }: Exchange) {
  const { request } = target.protocol === "https:" ? await import("node:https") : http;
  const signal = AbortSignal.timeout(answerMsMax);
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    const asked = request(target, { method, headers, signal, agent: false }, resolve);
    asked.on("error", reject);
    asked.end(text);
  });
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > ANSWER_SIZE_MAX) throw new TooLarge();
    chunks.push(chunk);
  }
  const { statusCode: status = 0, headers: got } = response;
  const contentType = got["content-type"] ?? "";
  return { status, contentType, text: Buffer.concat(chunks).toString("utf8") };
}

class TooLarge extends Error {
  override name = "TooLarge";
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  ENOTFOUND: "the host name is not known",
  EAI_AGAIN: "the host name cannot be looked up",
  EHOSTUNREACH: "no way to that host",
  ENETUNREACH: "no way to that network",
  ETIMEDOUT: "no answer in time",
  ABORT_ERR: "no answer in time",
  HPE_INVALID_CONSTANT: "what listens there does not speak HTTP",
  SyntaxError: "the answer is not JSON",
  TooLarge: "the answer is too large",
};

function reasonOf(error: unknown): string {
  // A host with several addresses: what the first of them said.
  const first = error instanceof AggregateError ? (error.errors[0] as unknown) : error;
  const name = textField(first, "code") || (first instanceof Error ? first.name : "");
  return REASONS[name] ?? (first instanceof Error ? first.message : String(first));
}
