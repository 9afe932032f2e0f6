/**
 * Promise: caches and credentials change over the admin API, in force on every proxy when it says
 * so, and no password or token is ever found in logs, metrics, the audit log or errors.
 */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Login, type Memward, runMemward, startMemward } from "../harness/memward.ts";

const PROXIES = 3;
let memward: Memward;
/** Everything secret that was used in this file, and everything that was answered to others. */
const secrets = new Set<string>();
const told: string[] = [];

type Reply = {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers are what is being looked at.
  body: any;
};

beforeAll(async () => {
  memward = await startMemward({ proxies: PROXIES });
  secrets.add(memward.token).add(memward.password);
}, 60_000);
afterAll(() => memward.stop());

async function call(line: string, body?: unknown, authorization?: string): Promise<Reply> {
  const [method = "", path = ""] = line.split(" ");
  const response = await fetch(`${memward.control}${path}`, {
    method,
    headers: {
      authorization: authorization ?? `Bearer ${memward.token}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const answer = text === "" ? undefined : JSON.parse(text);
  // The one place where a secret may be is the answer to whoever made it.
  if (answer?.password !== undefined) secrets.add(answer.password);
  else if (answer?.token !== undefined) secrets.add(answer.token);
  else told.push(text);
  return { status: response.status, body: answer };
}

async function works(login: Login, server: string): Promise<boolean> {
  try {
    const wire = await memward.open("text", login, server);
    const reply = await wire.line("mg no-such-key");
    wire.close();
    return reply === "EN";
  } catch {
    return false;
  }
}
const worksOn = (login: Login) =>
  Promise.all(memward.servers.map((server) => works(login, server)));
const everywhere = Array(PROXIES).fill(true);
const nowhere = Array(PROXIES).fill(false);

test("operator.token is for its owner only", () => {
  expect(statSync(join(memward.dataDir, "operator.token")).mode & 0o777).toBe(0o600);
});

test("a cache and its credential are usable on each of 3 proxies when the answer comes", async () => {
  const made = await call("POST /v1/caches?wait=applied", { name: "shop", plan: "25mb" });
  expect(made).toMatchObject({ status: 201, body: { applied: { missing: [] } } });
  const login = await call("POST /v1/caches/shop/credentials?wait=applied", { label: "web" });
  expect(login.status).toBe(201);
  expect(login.body.applied.proxies).toHaveLength(PROXIES);
  expect(login.body.env.MEMCACHIER_SERVERS.split(",")).toEqual(memward.servers);
  expect(await worksOn(login.body)).toEqual(everywhere);
});

test("who uses a credential is seen: when last, from where", async () => {
  const { body: login } = await call("POST /v1/caches/shop/credentials?wait=applied", {});
  const wire = await memward.open("text", login);
  await wire.line("mg no-such-key");
  const path = `/v1/caches/shop/credentials/${login.username}`;
  let shown: Reply["body"] = {};
  for (let n = 0; n < 100 && shown.sessions !== 1; n++) {
    await sleep(100);
    shown = (await call(`GET ${path}`)).body;
  }
  expect(shown).toMatchObject({ sessions: 1, addresses: [{ address: "127.0.0.1", sessions: 1 }] });
  expect(Date.parse(shown.lastUsedAt)).toBeGreaterThan(Date.now() - 60_000);
  wire.close();
}, 30_000);

test("a rotated credential lives for its overlap and dies by itself", async () => {
  const { body: old } = await call("POST /v1/caches/shop/credentials?wait=applied", {});
  const path = `/v1/caches/shop/credentials/${old.username}`;
  const rotated = await call(`POST ${path}/rotate?wait=applied`, { overlapSeconds: 2 });
  expect(rotated.status).toBe(201);
  expect(await worksOn(old)).toEqual(everywhere);
  expect(await worksOn(rotated.body)).toEqual(everywhere);
  for (let n = 0; n < 100 && (await call(`GET ${path}`)).status !== 404; n++) await sleep(100);
  expect((await call(`GET ${path}`)).status).toBe(404);
  expect(await worksOn(old)).toEqual(nowhere);
  expect(await worksOn(rotated.body)).toEqual(everywhere);
  const { records } = (await call("GET /v1/audit?cache=shop&limit=2")).body;
  expect(records).toMatchObject([
    { action: "credential.expire", subject: old.username, actor: "system:expiry" },
    { action: "credential.rotate", subject: old.username, actor: "token:operator" },
  ]);
}, 30_000);

test("a deleted credential is refused on each proxy when the answer comes", async () => {
  const { body: login } = await call("POST /v1/caches/shop/credentials?wait=applied", {});
  const sessions = await Promise.all(
    memward.servers.map((server) => memward.open("binary", login, server)),
  );
  const path = `/v1/caches/shop/credentials/${login.username}`;
  const deleted = await call(`DELETE ${path}?wait=applied`);
  expect(deleted).toMatchObject({ status: 200, body: { applied: { missing: [] } } });
  expect(await worksOn(login)).toEqual(nowhere);
  for (const wire of sessions) wire.close();
});

test("an imported password works, and is kept as a slow digest", async () => {
  const login = { username: "legacy.user", password: "correct-horse-battery-staple" };
  secrets.add(login.password);
  const made = await call("POST /v1/caches/shop/credentials?wait=applied", login);
  expect(made.status).toBe(201);
  expect(await worksOn(login)).toEqual(everywhere);
});

test("a flush has emptied every shard when the answer comes; counters can begin anew", async () => {
  const { body: login } = await call("POST /v1/caches/shop/credentials?wait=applied", {});
  const wire = await memward.open("text", login);
  for (let n = 0; n < 50; n++) {
    expect(await wire.line(`ms key-${n} 1\r\nx`)).toBe("HD");
  }
  const before = (await call("GET /v1/caches/shop/stats")).body;
  expect(before.shards).toEqual({ asked: 2, answered: 2 });
  expect(before.stats).toMatchObject({ cmd_set: 50, curr_items: 50 });
  const flushed = await call("POST /v1/caches/shop/flush?wait=applied");
  expect(flushed).toMatchObject({ status: 200, body: { applied: { missing: [] } } });
  for (let n = 0; n < 50; n++) expect(await wire.line(`mg key-${n}`)).toBe("EN");
  await call("POST /v1/caches/shop/stats/reset?wait=applied");
  expect((await call("GET /v1/caches/shop/stats")).body.stats).toMatchObject({ cmd_set: 0 });
  wire.close();
});

test("a disabled cache takes no logins until it is enabled", async () => {
  const { body: login } = await call("POST /v1/caches/shop/credentials?wait=applied", {});
  await call("POST /v1/caches/shop/disable?wait=applied");
  expect(await worksOn(login)).toEqual(nowhere);
  await call("POST /v1/caches/shop/enable?wait=applied");
  expect(await worksOn(login)).toEqual(everywhere);
});

test("a credential with the right api manages its cache with HTTP Basic", async () => {
  const { username, password } = memward;
  const basic = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  expect(await call("GET /v1/caches/default", undefined, basic)).toMatchObject({ status: 200 });
  expect((await call("GET /v1/caches/shop", undefined, basic)).status).toBe(403);
  const made = await call("POST /v1/caches/default/credentials?wait=applied", {}, basic);
  expect(await worksOn(made.body)).toEqual(everywhere);
});

test("the size of the cache default follows --memory until the API has changed it", async () => {
  const { body } = await call("GET /v1/caches/default");
  expect(body).toMatchObject({ plan: "quickstart", bytes: 100 * 1024 ** 2 });
  const changed = await call("PATCH /v1/caches/default?wait=applied", { plan: "250mb" });
  expect(changed).toMatchObject({ status: 200, body: { plan: "250mb" } });
});

test("a deleted cache is gone with its shards, its credentials and its name", async () => {
  await call("POST /v1/caches?wait=applied", { name: "gone", plan: "25mb" });
  const { body: login } = await call("POST /v1/caches/gone/credentials?wait=applied", {});
  expect((await call("DELETE /v1/caches/gone?wait=applied")).status).toBe(200);
  expect(await worksOn(login)).toEqual(nowhere);
  expect((await call("POST /v1/caches", { name: "gone", plan: "25mb" })).status).toBe(201);
});

test("a changed configuration is found wrong before anything starts", async () => {
  const file = join(memward.dataDir, "wrong.json");
  const plans = [{ name: "a b", bytes: "lots" }];
  await import("node:fs").then(({ writeFileSync }) =>
    writeFileSync(file, JSON.stringify({ control: { plans, colour: "red" } })),
  );
  const { code, stderr } = await runMemward(["config", "check", "--config", file]);
  expect(code).toBe(2);
  for (const where of ["control.plans.0.name", "control.plans.0.bytes", "control.colour"]) {
    expect(stderr).toContain(where);
  }
});

test("nobody else is ever told a password or token of this file", async () => {
  const { body } = await call("POST /v1/tokens", { name: "ci", role: "viewer" });
  for (const wrong of [
    `Bearer ${body.token}x`,
    `Basic ${btoa(`legacy.user:${memward.password}`)}`,
  ]) {
    expect((await call("GET /v1/caches/shop", undefined, wrong)).status).toBe(401);
  }
  await call("POST /v1/caches/shop/credentials", { username: "x", password: memward.token, y: 1 });
  let next = "";
  for (let page = 0; page < 20 && next !== null; page++) {
    next = (await call(`GET /v1/audit?limit=100${next && `&before=${next}`}`)).body.next;
  }
  await call("GET /v1/caches/shop/credentials");
  await call("GET /v1/tokens");
  told.push(await memward.metrics());
  // What it printed holds the first password on purpose, once, for whoever started it.
  told.push(memward.output().replace(`MEMCACHIER_PASSWORD=${memward.password}`, ""));
  told.push(readFileSync(join(memward.dataDir, "state.db-wal"), "latin1"));
  told.push(readFileSync(join(memward.dataDir, "state.db"), "latin1"));
  expect(secrets.size).toBeGreaterThan(8);
  const everything = told.join("\n");
  const found = [...secrets].filter((secret) =>
    everything.includes(secret.replace(/^mwt_\w+_/, "")),
  );
  expect(found).toEqual([]);
});
