/** A server with scripted answers in place of the admin API, and commands run against it. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { CACHE_COMMANDS } from "../../cli/caches.ts";
import type { CommandTable } from "../../cli/command.ts";
import { CREDENTIAL_COMMANDS } from "../../cli/credentials.ts";
import { dispatch } from "../../cli/dispatch.ts";
import { INCIDENT_COMMANDS } from "../../cli/incidents.ts";
import { NODE_COMMANDS } from "../../cli/nodes.ts";
import { POOL_COMMANDS } from "../../cli/pools.ts";
import { TOKEN_COMMANDS } from "../../cli/tokens.ts";
import { VIEW_COMMANDS } from "../../cli/views.ts";
import { Refusal } from "../../core/runtime/process.ts";

export interface Asked {
  method: string;
  /** With the query. */
  path: string;
  token: string | undefined;
  body: unknown;
}
export interface Said {
  status?: number;
  type?: string;
  /** Text is sent as it is, everything else as JSON; nothing sends nothing. */
  body?: unknown;
  /** Never answers. */
  silent?: boolean;
}

export class FakeApi {
  readonly asked: Asked[] = [];
  /** Answers in order; the last one again and again. */
  says: Said[] = [];
  readonly #server = createServer((request, response) => {
    let text = "";
    request.setEncoding("utf8");
    request.on("data", (chunk) => {
      text += chunk;
    });
    request.on("end", () => {
      this.asked.push({
        method: request.method ?? "",
        path: request.url ?? "",
        token: request.headers.authorization,
        body: text === "" ? undefined : JSON.parse(text),
      });
      const said = this.says.length > 1 ? this.says.shift() : this.says[0];
      const { status = 200, type = "application/json", body, silent = false } = said ?? {};
      if (silent) return;
      response.writeHead(status, body === undefined ? {} : { "content-type": type });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
    });
  });

  async start(): Promise<void> {
    await new Promise<void>((done) => this.#server.listen(0, "127.0.0.1", done));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): Promise<unknown> {
    this.#server.closeAllConnections();
    return new Promise((done) => this.#server.close(done));
  }
}

const caches = async () => CACHE_COMMANDS;
const credentials = async () => CREDENTIAL_COMMANDS;
const views = async () => [...TOKEN_COMMANDS, ...NODE_COMMANDS, ...POOL_COMMANDS, ...VIEW_COMMANDS];
const incidents = async () => INCIDENT_COMMANDS;
export const TABLE: CommandTable = {
  cache: caches,
  credential: credentials,
  env: credentials,
  token: views,
  plan: views,
  node: views,
  pool: views,
  proxies: views,
  audit: views,
  incident: incidents,
  alert: incidents,
  silence: incidents,
  people: incidents,
  monitors: incidents,
};

export interface Ran {
  code: number | undefined;
  stdout: string;
  /** As it is printed, without `memward: ` before the first sentence. */
  stderr: string;
}

/** Runs a command in this process, as `memward.ts` does. */
export async function run(argv: readonly string[]): Promise<Ran> {
  const ran: Ran = { code: undefined, stdout: "", stderr: "" };
  const { write: toStdout } = process.stdout;
  const { write: toStderr } = process.stderr;
  process.stdout.write = (text) => {
    ran.stdout += text;
    return true;
  };
  process.stderr.write = (text) => {
    ran.stderr += text;
    return true;
  };
  try {
    ran.code = await dispatch(TABLE, argv);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    ran.code = error.exitCode;
    ran.stderr += `${error.message}\n`;
  } finally {
    process.stdout.write = toStdout;
    process.stderr.write = toStderr;
  }
  return ran;
}
