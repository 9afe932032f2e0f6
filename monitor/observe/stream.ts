/**
 * The view of one proxy, read line by line for as long as it lives, and opened again when it ends.
 * A line that is too long or no view ends the connection: whoever it is, it is not our proxy.
 */
import { type ClientRequest, get, type IncomingMessage } from "node:http";
import {
  type ProxyView,
  proxyView,
  VIEW_LINE_SIZE_MAX,
  VIEW_PATH,
} from "../../core/cluster/proxyView.ts";
import { sleep } from "../../core/runtime/clock.ts";
import { parseAddress } from "../../core/runtime/config.ts";
import type { Logger } from "../../core/runtime/log.ts";

const RETRY_DELAY_MS = 300;
const UNIX = "unix:";
/** A stream that says nothing for so long is opened anew. */
const SILENCE_MS_MAX = 2_000;

export interface ViewStreamParts {
  proxy: string;
  ops: string;
  log: Logger;
  seen(view: ProxyView): void;
}

export class ViewStream {
  readonly ops: string;
  readonly #parts: ViewStreamParts;
  #request: ClientRequest | null = null;
  #isClosed = false;

  constructor(parts: ViewStreamParts) {
    this.#parts = parts;
    this.ops = parts.ops;
    void this.#read();
  }

  close(): void {
    this.#isClosed = true;
    this.#request?.destroy();
  }

  async #read(): Promise<void> {
    const { log, proxy } = this.#parts;
    let wasBroken = false;
    while (!this.#isClosed) {
      const problem = await this.#readOnce().catch((error: Error) => error.message);
      if (this.#isClosed) return;
      if (!wasBroken) log.warn({ proxy, problem }, "the view of a proxy broke off");
      wasBroken = true;
      await sleep(RETRY_DELAY_MS);
    }
  }

  /** Resolves with why it ended. */
  #readOnce(): Promise<string> {
    return new Promise((resolve) => {
      const request = get({ ...placeOf(this.ops), path: VIEW_PATH, agent: false }, (response) => {
        if (response.statusCode !== 200) resolve(`status ${response.statusCode}`);
        if (response.statusCode !== 200) return void response.destroy();
        this.#readLines(response, resolve);
      });
      this.#request = request;
      request.setTimeout(SILENCE_MS_MAX, () => request.destroy(new Error("silent")));
      request.on("error", (error) => resolve(error.message));
      request.on("close", () => resolve("closed"));
    });
  }

  #readLines(response: IncomingMessage, ended: (problem: string) => void): void {
    const reader = new LineReader((line) => {
      const view = viewOf(line, this.#parts.proxy);
      if (typeof view === "string") return view;
      this.#parts.seen(view);
      return undefined;
    });
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => {
      const problem = reader.add(chunk);
      if (problem === undefined) return;
      ended(problem);
      response.destroy();
    });
    response.on("error", (error) => ended(error.message));
  }
}

/** A line as a view of that proxy, or what is wrong with it. */
export function viewOf(line: string, proxy: string): ProxyView | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return "not JSON";
  }
  const parsed = proxyView.safeParse(value);
  if (!parsed.success) return "not a view";
  return parsed.data.proxy === proxy
    ? parsed.data
    : `the view of ${parsed.data.proxy.slice(0, 63)}`;
}

/** Text in pieces, lines out; `take` says what is wrong with one, and that is passed on. */
export class LineReader {
  readonly #take: (line: string) => string | undefined;
  #rest = "";

  constructor(take: (line: string) => string | undefined) {
    this.#take = take;
  }

  add(chunk: string): string | undefined {
    const lines = (this.#rest + chunk).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const problem = this.#take(line);
      if (problem !== undefined) return problem;
    }
    return this.#rest.length > VIEW_LINE_SIZE_MAX ? "a line without an end" : undefined;
  }
}

function placeOf(ops: string): { socketPath: string } | { host: string; port: number } {
  if (ops.startsWith(UNIX)) return { socketPath: ops.slice(UNIX.length) };
  const { host, port } = parseAddress(ops) ?? { host: "127.0.0.1", port: 0 };
  return { host, port };
}
