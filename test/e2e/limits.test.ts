/**
 * Promise: stock clients live with the limits of their cache: what is over a rate comes later and is
 * no error, who is one too many is told so. And they log in with passwords that somebody chose.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { digestOf, scryptDigestOf } from "../../core/cluster/credentials.ts";
import { cacheRecord, credentialRecord, type RecordInput } from "../../core/cluster/records.ts";
import { addCache, type Login, type Memward, startMemward } from "../harness/memward.ts";
import { type Memjs, memjs } from "./programs.ts";

const LIMITED: Login = { username: "limited", password: "password-of-the-limited" };
const CHOSEN: Login = { username: "chosen", password: "hunter2" };
const CACHE = "c-limited";
const RIGHTS = ["read", "write", "flush", "api"] as const;

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward({ proxies: 2 });
  await addCache(memward, { name: "limited", login: LIMITED });
}, 60_000);
afterAll(() => memward.stop());

async function put(kind: "cache" | "credential", id: string, value: unknown): Promise<void> {
  await memward.state(async (state) => {
    const commit = await state.commit([
      { kind, id, value } as Parameters<typeof state.commit>[0][number],
    ]);
    expect(commit.ok).toBe(true);
  });
}

const limit = (limits: RecordInput<"cache">["limits"]): Promise<void> =>
  put(
    "cache",
    CACHE,
    cacheRecord.parse({ name: "limited", bytes: 16 << 20, limits, createdAtMs: 1 }),
  );

const credential = (login: Login, fields: Partial<RecordInput<"credential">>): Promise<void> =>
  put(
    "credential",
    login.username,
    credentialRecord.parse({
      cache: CACHE,
      digest: digestOf(login.password),
      rights: RIGHTS,
      createdAtMs: 1,
      ...fields,
    }),
  );

async function withClient<T>(login: Login, use: (client: Memjs) => Promise<T>): Promise<T> {
  const client = memjs(memward.servers, login);
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

describe("memjs", () => {
  test("over the rate of its cache waits and gets every answer", async () => {
    // 100 a second on each of two proxies.
    await limit({ operationsPerSecondMax: 200 });
    await withClient(LIMITED, async (client) => {
      await client.set("k", "v", {});
      const values = await Promise.all(Array.from({ length: 300 }, () => client.get("k")));
      expect(values.every(({ value }) => String(value) === "v")).toBe(true);
    });
    await expect
      .poll(() => memward.metrics(), { timeout: 10_000 })
      .toMatch(
        /memward_proxy_limits_total\{cache="limited",limit="operations",effect="delayed",.*\} [1-9]/,
      );
    await limit({});
  }, 30_000);

  test("logs in with a password that somebody chose", async () => {
    await credential(CHOSEN, { digest: await scryptDigestOf(CHOSEN.password) });
    await expect
      .poll(
        () => withClient(CHOSEN, (client) => client.set("chosen", "v", {}).catch(() => false)),
        {
          timeout: 10_000,
        },
      )
      .toBe(true);
  }, 30_000);

  test("is told when its cache has no room for one more session", async () => {
    await limit({ sessionsMax: 2 });
    const held = await Promise.all(
      memward.servers.map((server) => memward.open("binary", LIMITED, server)),
    );
    await expect
      .poll(() => memward.open("text", LIMITED).then((wire) => wire.close(), String), {
        timeout: 10_000,
      })
      .toContain("too many sessions");
    for (const wire of held) wire.close();
    await limit({});
    await expect
      .poll(() => withClient(LIMITED, (client) => client.set("k", "v", {}).catch(() => false)), {
        timeout: 10_000,
      })
      .toBe(true);
  }, 30_000);
});
