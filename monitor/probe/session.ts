/**
 * One session with a proxy as an application has it, by memjs: logs in, sets, gets and deletes.
 * memjs opens the connection with the first command, and anew after it broke.
 */
import type { Client } from "memjs";
import { clock, sleep } from "../../core/runtime/clock.ts";
import { parseAddress } from "../../core/runtime/config.ts";
import type { KnownLogin } from "./login.ts";

/** A proxy answers within 250 ms whatever its shards do; more is a proxy that does not. */
const TIMEOUT_SECONDS = 1;
const LATE_MS = 1_500;
const EXPIRES_SECONDS = 60;

export interface CanaryOutcome {
  /** The slowest of the three; null when one failed. */
  readonly durationMs: number | null;
  readonly failure: string | null;
  /** The proxy answered, if only that its shard does not. */
  readonly isAnswer: boolean;
}

type Memjs = typeof import("memjs");
/** Loaded when the first canary flies. */
let memjs: Promise<Memjs> | null = null;
const loadMemjs = (): Promise<Memjs> => {
  memjs ??= import("memjs");
  return memjs;
};

/** memjs waits for ever when a connection ends while it waits. */
const late = async (): Promise<never> => {
  await sleep(LATE_MS);
  throw new Error("no answer in time");
};

export class ProbeSession {
  readonly address: string;
  readonly login: KnownLogin;
  #client: Client | null = null;

  constructor(address: string, login: KnownLogin) {
    this.address = address;
    this.login = login;
  }

  close(): void {
    this.#client?.close();
    this.#client = null;
  }

  async canary(key: string, token: string): Promise<CanaryOutcome> {
    let slowestMs = 0;
    try {
      const client = await this.#open();
      const timed = async <T>(run: () => Promise<T>): Promise<T> => {
        const startedAtMs = clock.nowMs();
        const answer = await Promise.race([run(), late()]);
        slowestMs = Math.max(slowestMs, clock.nowMs() - startedAtMs);
        return answer;
      };
      await timed(() => client.set(key, token, { expires: EXPIRES_SECONDS }));
      const { value } = await timed(() => client.get(key));
      await timed(() => client.delete(key));
      const isSame = value?.toString() === token;
      const failure = isSame ? null : value === null ? "the value is gone" : "another value";
      return { durationMs: isSame ? slowestMs : null, failure, isAnswer: true };
    } catch (error) {
      const { message = String(error) } = error as Partial<Error>;
      // What the server answered begins so; the rest is the connection, which is given up.
      const isAnswer = /^MemJS \w+: /.test(message);
      if (!isAnswer) this.close();
      return { durationMs: null, failure: message, isAnswer };
    }
  }

  async #open(): Promise<Client> {
    if (this.#client !== null) return this.#client;
    const { Client: MemjsClient, Server } = await loadMemjs();
    const { host, port } = parseAddress(this.address) ?? { host: "127.0.0.1", port: 0 };
    const { username, password } = this.login;
    const options = { timeout: TIMEOUT_SECONDS, conntimeout: TIMEOUT_SECONDS, keepAlive: true };
    const server = new Server(host, port, username, password, options);
    this.#client = new MemjsClient([server], { retries: 1, logger: { log: () => {} } });
    return this.#client;
  }
}
