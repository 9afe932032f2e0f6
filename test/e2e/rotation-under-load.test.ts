/**
 * Promise: the production password is rotated at noon and nobody notices. Fifty clients work while
 * their credential is rotated twenty times; each moves to the new one while the old one lives on.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Login, type Memward, startMemward } from "../harness/memward.ts";
import { type Memjs, memjs } from "./programs.ts";

const CLIENTS = 50;
const ROTATIONS = 20;
/** Long enough for all clients to move, short enough for the first ones to die during the test. */
const OVERLAP_SECONDS = 3;
const WAIT_MS_MAX = 30_000;

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward({ proxies: 2, plain: false });
}, 60_000);
afterAll(() => memward.stop());

async function ask<T>(method: string, path: string, body?: object): Promise<T> {
  const reply = await fetch(`${memward.control}/v1/caches/default/credentials${path}`, {
    method,
    headers: {
      authorization: `Bearer ${memward.token}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  expect(reply.status).toBeLessThan(300);
  return (await reply.json()) as T;
}

/** One application process: works without a pause, on the credential that it was told last. */
class Application {
  readonly errors: unknown[] = [];
  doneCount = 0;
  readonly #key: string;
  #client: Memjs;
  #next: Login | null = null;
  #isStopping = false;
  readonly #done: Promise<void>;

  constructor(number: number, login: Login) {
    this.#key = `application-${number}`;
    this.#client = memjs(memward.servers, login);
    this.#done = this.#run();
  }

  /** Resolves when it works on the new credential. */
  async move(login: Login): Promise<void> {
    this.#next = login;
    while (this.#next !== null) await sleep(5);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#done;
    this.#client.close();
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      if (this.#next !== null) {
        this.#client.close();
        this.#client = memjs(memward.servers, this.#next);
        this.#next = null;
      }
      try {
        const value = String(this.doneCount);
        if (!(await this.#client.set(this.#key, value, {}))) throw new Error("not stored");
        const got = await this.#client.get(this.#key);
        if (String(got.value) !== value) throw new Error(`${got.value} instead of ${value}`);
        this.doneCount++;
      } catch (error) {
        this.errors.push(error);
      }
      await sleep(1);
    }
  }
}

test("fifty clients see no error in twenty rotations", { timeout: 120_000 }, async () => {
  const first = await ask<Login>("POST", "?wait=applied", { label: "web" });
  const applications = Array.from({ length: CLIENTS }, (_, i) => new Application(i, first));
  const retired: string[] = [];
  let login = first;
  for (let rotation = 0; rotation < ROTATIONS; rotation++) {
    const path = `/${login.username}/rotate?wait=applied`;
    retired.push(login.username);
    login = await ask<Login>("POST", path, { overlapSeconds: OVERLAP_SECONDS });
    await Promise.all(applications.map((application) => application.move(login)));
  }
  // The last of the old ones die while everybody works on.
  const giveUpAt = Date.now() + WAIT_MS_MAX;
  const names = async (): Promise<string[]> => {
    const { credentials } = await ask<{ credentials: { username: string }[] }>("GET", "?limit=100");
    return credentials.map(({ username }) => username);
  };
  while ((await names()).some((name) => retired.includes(name)) && Date.now() < giveUpAt) {
    await sleep(100);
  }
  const doneBefore = applications.map(({ doneCount }) => doneCount);
  await sleep(300);
  await Promise.all(applications.map((application) => application.stop()));
  expect(applications.flatMap(({ errors }) => errors)).toEqual([]);
  for (const [i, { doneCount }] of applications.entries()) {
    expect(doneCount, `application ${i} still works`).toBeGreaterThan(doneBefore[i]!);
  }
  expect((await names()).filter((name) => retired.includes(name))).toEqual([]);
});
