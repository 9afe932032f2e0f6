/** Stock clients as tests call them: programs run to their end, npm clients with types. */
import { createRequire } from "node:module";
import { find, Running } from "../harness/processes.ts";

export type Ran = { code: number | null; stdout: string; stderr: string };

export async function run(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<Ran> {
  const running = new Running(program, find(program) ?? program, args, options);
  const code = await running.exited;
  return { code, stdout: running.stdout, stderr: running.stderr };
}

const require = createRequire(import.meta.url);

/** The part of memjs that the tests use; its promises are of `{ value, flags }` or `success`. */
export type Memjs = {
  get(key: string): Promise<{ value: Buffer | null; flags: Buffer | null }>;
  set(key: string, value: string | Buffer, options: { expires?: number }): Promise<boolean>;
  add(key: string, value: string, options: { expires?: number }): Promise<boolean>;
  replace(key: string, value: string, options: { expires?: number }): Promise<boolean>;
  delete(key: string): Promise<boolean>;
  append(key: string, value: string): Promise<boolean>;
  touch(key: string, expires: number): Promise<boolean>;
  increment(
    key: string,
    amount: number,
    options: { initial?: number; expires?: number },
  ): Promise<{ success: boolean; value: number | null }>;
  decrement(
    key: string,
    amount: number,
    options: { initial?: number; expires?: number },
  ): Promise<{ success: boolean; value: number | null }>;
  flush(callback: (error: Error | null, results: Record<string, boolean>) => void): void;
  stats(
    callback: (error: Error | null, server: string, stats: Record<string, string> | null) => void,
  ): void;
  quit(): void;
  close(): void;
};

const silent = { log: () => {}, error: () => {}, warn: () => {}, info: () => {} };

export function memjs(
  servers: readonly string[],
  login: { username: string; password: string },
): Memjs {
  const { Client } = require("memjs") as {
    Client: { create(servers: string, options: Record<string, unknown>): Memjs };
  };
  // Its default of 0.5 s is for production; a loaded test machine may pause longer than that.
  const options = { ...login, retries: 1, timeout: 5, conntimeout: 5, logger: silent };
  return Client.create(servers.join(","), options);
}

type TextCallback = (error: Error | undefined, result: unknown) => void;

/** npm's `memcached`, a text client. Its results are `undefined` for a miss. */
export type TextClient = {
  call(method: string, ...args: unknown[]): Promise<unknown>;
  end(): void;
};

export function textClient(
  servers: readonly string[],
  options: Record<string, unknown> = {},
): TextClient {
  const Memcached = require("memcached") as new (
    servers: readonly string[],
    options: Record<string, unknown>,
  ) => Record<string, (...args: unknown[]) => void>;
  const client = new Memcached(servers, {
    ...{ timeout: 5_000, retries: 0, reconnect: 100 },
    ...options,
  });
  const call = (method: string, ...args: unknown[]): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const done: TextCallback = (error, result) => (error ? reject(error) : resolve(result));
      client[method]?.(...args, done);
    });
  return { call, end: () => client.end?.() };
}
