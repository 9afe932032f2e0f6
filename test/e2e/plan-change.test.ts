/**
 * Promise: a plan gets larger and smaller while applications work. What fits stays, nobody sees an
 * error, the limits follow, and memory that is no longer paid for goes back to the machine.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Login, type Memward, startMemward } from "../harness/memward.ts";
import { rssOf } from "./observe.ts";
import { type Memjs, memjs } from "./programs.ts";

const MIB = 1 << 20;
const SMALL = 25 * MIB;
const LARGE = 100 * MIB;
const CLIENTS = 6;
const VALUE_SIZE = 20_000;
const WORK_COUNT_MIN = 100;
const WAIT_MS_MAX = 30_000;

let memward: Memward;
const clients: Memjs[] = [];
/** Of the cache `default`, whose plan stays: what it suffers, the machine is to blame for. */
let neighbour: Memjs;

beforeAll(async () => {
  memward = await startMemward({ plain: false });
  await ask("POST", "/v1/caches?wait=applied", { name: "shop", plan: "25mb" });
  const login = (await ask("POST", "/v1/caches/shop/credentials?wait=applied", {})) as Login;
  for (let i = 0; i < CLIENTS; i++) clients.push(memjs(memward.servers, login));
  neighbour = memjs(memward.servers, memward);
}, 60_000);
afterAll(async () => {
  for (const client of [...clients, neighbour]) client.close();
  await memward.stop();
});

async function ask(method: string, path: string, body: object): Promise<unknown> {
  const reply = await fetch(memward.control + path, {
    method,
    headers: { authorization: `Bearer ${memward.token}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  expect(reply.status).toBeLessThan(300);
  return reply.json();
}

/** Changes the plan; resolves when every shard and every proxy says that it follows. */
async function resize(plan: string): Promise<void> {
  const path = "/v1/caches/shop?wait=applied";
  await eventually(async () => {
    const { applied } = (await ask("PATCH", path, { plan })) as { applied: { missing: string[] } };
    return applied.missing.length === 0;
  });
}

async function eventually(check: () => Promise<boolean>): Promise<void> {
  const giveUpAt = Date.now() + WAIT_MS_MAX;
  while (!(await check())) {
    if (Date.now() > giveUpAt) throw new Error(`not so after ${WAIT_MS_MAX} ms: ${check}`);
    await sleep(20);
  }
}

async function stat(name: string): Promise<number> {
  const [client] = clients;
  const stats = await new Promise<Record<string, string> | null>((resolve, reject) =>
    client?.stats((error, _, found) => (error ? reject(error) : resolve(found))),
  );
  return Number(stats?.[name]);
}

async function residentBytes(): Promise<number> {
  return rssOf((await memward.role("backend")).pid);
}

const contentOf = (key: string): string => key.padEnd(VALUE_SIZE, ".");

/** Writes `count` keys through all clients at once; again where a starved machine was too slow. */
async function write(prefix: string, count: number): Promise<void> {
  let next = 0;
  await Promise.all(
    clients.map(async (client) => {
      for (let i = next++; i < count; i = next++) {
        const key = `${prefix}-${i}`;
        while (!(await client.set(key, contentOf(key), {}).catch(() => false)));
      }
    }),
  );
}

/** Reads and writes through all clients until told to stop; counts what came back. */
function work() {
  let isOver = false;
  const counts = { done: 0, hits: 0, failures: 0, neighbourFailures: 0 };
  const run = async (client: Memjs, name: string, failed: () => void): Promise<void> => {
    for (let i = 0; !isOver; i++) {
      const key = `worker-${name}-${i % 20}`;
      try {
        expect(await client.set(key, contentOf(key), {})).toBe(true);
        const { value } = await client.get(key);
        if (value === null) continue;
        expect(String(value)).toBe(contentOf(key));
        counts.hits++;
      } catch {
        failed();
      } finally {
        counts.done++;
      }
    }
  };
  const all = [
    ...clients.map((client, i) => run(client, `${i}`, () => counts.failures++)),
    run(neighbour, "neighbour", () => counts.neighbourFailures++),
  ];
  const stop = async (): Promise<typeof counts> => {
    await eventually(async () => counts.done >= WORK_COUNT_MIN);
    isOver = true;
    await Promise.all(all);
    return counts;
  };
  return { stop };
}

function expectHarmless({ done, hits, failures, neighbourFailures }: Counts): void {
  if (neighbourFailures > 0) return; // So slow a machine that it shows nothing.
  expect({ failures, misses: done - hits }).toEqual({ failures: 0, misses: 0 });
}
type Counts = Awaited<ReturnType<ReturnType<typeof work>["stop"]>>;

describe("a plan that goes from 25 MB to 100 MB and back, under load", () => {
  test("keeps what fits, shows no error, and gives the memory back", async () => {
    await write("early", 400);
    const first = work();
    await resize("100mb");
    expectHarmless(await first.stop());
    expect(await stat("limit_maxbytes")).toBe(LARGE);
    const [client] = clients;
    expect(String((await client?.get("early-0"))?.value)).toBe(contentOf("early-0"));
    await write("late", 3600);
    expect(await stat("bytes")).toBeGreaterThan(75 * MIB);
    expect(await stat("evictions")).toBe(0);
    const before = await residentBytes();

    const second = work();
    await resize("25mb");
    await eventually(async () => (await stat("bytes")) <= SMALL);
    expectHarmless(await second.stop());
    expect(await stat("limit_maxbytes")).toBe(SMALL);
    expect(await stat("bytes")).toBeGreaterThan(20 * MIB);
    expect(String((await client?.get("late-3599"))?.value)).toBe(contentOf("late-3599"));
    expect((await client?.get("late-0"))?.value).toBeNull();
    await eventually(async () => before - (await residentBytes()) > 30 * MIB);

    await resize("100mb");
    await write("again", 2000);
    expect(await stat("bytes")).toBeGreaterThan(50 * MIB);
  }, 60_000);
});
