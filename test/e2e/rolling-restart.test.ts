/**
 * Promise: proxies are restarted one after another, under load, and no stock client loses a write
 * that was acknowledged. What a client sees is that its connection ended and, until it has another
 * one, that nobody listens: never an answer that says something failed.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";
import { freePort } from "../harness/ports.ts";
import { favour } from "../harness/processes.ts";
import { Starvation } from "../harness/starvation.ts";
import { memjs, textClient } from "./programs.ts";

const PROXIES = 3;
const APPLICATIONS_PER_PROXY = 4;
const REPLACED_MS_MAX = 20_000;
/** memjs waits for ever for what it sent to a connection that then ended. */
const ANSWER_MS_MAX = 3_000;
/** How the two clients say that a connection ended, or that there is none. */
const RECONNECTING = /ECONNRESET|ECONNREFUSED|EPIPE|no answer|timed out|not available|closed/;

let memward: Memward;
let plain: string[];
/** A process that gets no CPU for 250 ms answers too late, which is no fault of a restart. */
let starvation: Starvation | undefined;
beforeAll(async () => {
  plain = await Promise.all(
    Array.from({ length: PROXIES }, async () => `127.0.0.1:${await freePort()}`),
  );
  const args = plain.flatMap((address) => ["--plain", address]);
  memward = await startMemward({ proxies: PROXIES, plain: false, args });
  const { roles } = await memward.status();
  for (const { pid } of roles) favour(pid);
  starvation = new Starvation(() => roles.map(({ pid }) => pid));
}, 60_000);
afterAll(() => {
  starvation?.stop();
  return memward?.stop();
});

/** What both clients can do. */
type Client = {
  set(key: string, value: string): Promise<unknown>;
  get(key: string): Promise<string | null>;
  close(): void;
};

const CLIENTS: Record<string, (proxy: number) => Client> = {
  memjs: (proxy) => {
    const client = memjs([memward.servers[proxy]!], memward);
    return {
      set: (key, value) => client.set(key, value, {}),
      get: async (key) => (await client.get(key)).value?.toString() ?? null,
      close: () => client.close(),
    };
  },
  "npm memcached": (proxy) => {
    // Its default is to leave a server alone for 30 s after the fifth trouble with it.
    const client = textClient([plain[proxy]!], { failures: 10_000, retry: 50 });
    return {
      set: (key, value) => client.call("set", key, value, 0),
      get: async (key) => ((await client.call("get", key)) as string | undefined) ?? null,
      close: () => client.end(),
    };
  },
};

/** Counts in a key of its own, through one proxy, without a pause; reads each number back. */
class Application {
  readonly errors: string[] = [];
  readonly lost: string[] = [];
  doneCount = 0;
  readonly #key: string;
  readonly #client: Client;
  #acknowledged = 0;
  #attempted = 0;
  #isStopping = false;
  readonly #done: Promise<void>;

  constructor(name: string, client: Client) {
    this.#key = name.replace(" ", "-");
    this.#client = client;
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#done;
    this.#client.close();
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      try {
        const next = ++this.#attempted;
        const stored = await inTime(this.#client.set(this.#key, String(next)));
        if (stored !== true) throw new Error(`answered ${stored}`);
        this.#acknowledged = next;
        await this.#look();
        this.doneCount++;
      } catch (error) {
        const { message } = error as Error;
        if (RECONNECTING.test(message) || !starvation?.wasSeen()) this.errors.push(message);
        await sleep(50);
        await this.#look().catch(() => {});
      }
      await sleep(1);
    }
  }

  /** The last number that was acknowledged, or one whose answer never came. */
  async #look(): Promise<void> {
    const value = await inTime(this.#client.get(this.#key));
    if (Number(value) >= this.#acknowledged && Number(value) <= this.#attempted) return;
    if (value === null && starvation?.wasSeen()) return; // A read that came too late is a miss.
    this.lost.push(`${value} instead of ${this.#acknowledged} to ${this.#attempted}`);
  }
}

const inTime = <T>(answer: Promise<T>): Promise<T> =>
  Promise.race([
    answer,
    sleep(ANSWER_MS_MAX).then(() => Promise.reject(new Error("no answer on a connection"))),
  ]);

test("stock clients that reconnect lose no acknowledged write", { timeout: 90_000 }, async () => {
  const applications = Object.entries(CLIENTS).flatMap(([name, newClient]) =>
    Array.from(
      { length: PROXIES * APPLICATIONS_PER_PROXY },
      (_, index) => new Application(`${name}-${index}`, newClient(index % PROXIES)),
    ),
  );
  await Promise.all(applications.map((one) => doneMore(one)));
  for (let proxy = 0; proxy < PROXIES; proxy++) {
    const { pid } = await memward.role("proxy", proxy);
    process.kill(pid, "SIGTERM");
    await replaced(proxy, pid);
    await Promise.all(applications.map((one) => doneMore(one)));
  }
  await Promise.all(applications.map((one) => one.stop()));
  expect(applications.flatMap(({ lost }) => lost)).toEqual([]);
  const errors = applications.flatMap((one) => one.errors);
  expect(errors.filter((error) => !RECONNECTING.test(error))).toEqual([]);
});

/** Until it has stored and read ten more numbers. */
async function doneMore(application: Application): Promise<void> {
  const wanted = application.doneCount + 10;
  const deadline = Date.now() + REPLACED_MS_MAX;
  while (application.doneCount < wanted) {
    if (Date.now() > deadline) throw new Error(`it stands still: ${application.errors.at(-1)}`);
    await sleep(10);
  }
}

/** Until another process serves in the place of this proxy. */
async function replaced(index: number, pid: number): Promise<void> {
  const deadline = Date.now() + REPLACED_MS_MAX;
  for (;;) {
    const proxy = await memward.role("proxy", index).catch(() => undefined);
    if (proxy?.ready && proxy.pid !== pid) return;
    if (Date.now() > deadline) throw new Error(`${pid} was not replaced: ${JSON.stringify(proxy)}`);
    await sleep(50);
  }
}
