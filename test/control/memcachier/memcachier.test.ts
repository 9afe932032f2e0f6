/**
 * MemCachier's API as its documentation has it: paths, statuses, shapes, and the words that scripts
 * look for. The statuses are those of the tables there.
 */
import fastify, { type FastifyInstance } from "fastify";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Gate } from "../../../control/gate.ts";
import { memcachierApi } from "../../../control/memcachier/api.ts";
import { changeCache, createCache, type ShownCache } from "../../../control/operations/caches.ts";
import type { MadeCredential } from "../../../control/operations/credential-shapes.ts";
import { createCredential, showCredential } from "../../../control/operations/credentials.ts";
import type { Right } from "../../../core/cluster/records.ts";
import { type Desk, OPERATOR, openDesk, resultOf } from "../operations/desk.ts";

let desk: Desk;
let server: FastifyInstance;
let cache: ShownCache;
let api: MadeCredential;

beforeEach(async () => {
  desk = await openDesk();
  server = fastify();
  await server.register(memcachierApi, { parts: desk, gate: new Gate(desk) });
  cache = resultOf(await createCache(desk, OPERATOR, { name: "shop", plan: "25mb" }));
  api = await make(["read", "write", "flush", "api"]);
});
afterEach(async () => {
  await server.close();
  await desk.close();
});

const make = async (rights: Right[], nameOrId = "shop"): Promise<MadeCredential> =>
  resultOf(await createCredential(desk, OPERATOR, nameOrId, { rights }));

type Login = { username: string; password: string } | null;

async function ask(
  method: "GET" | "POST" | "PATCH" | "DELETE" | "PUT",
  path: string,
  {
    id = "shop",
    login = api,
    body,
    type,
  }: { id?: string; login?: Login; body?: string; type?: string } = {},
): Promise<{ status: number; body: unknown; headers: Record<string, unknown> }> {
  const basic = Buffer.from(`${login?.username}:${login?.password}`).toString("base64");
  const reply = await server.inject({
    method,
    url: `/api/v2/caches/${id}${path}`,
    headers: {
      ...(login === null ? {} : { authorization: `Basic ${basic}` }),
      ...(type === undefined ? {} : { "content-type": type }),
    },
    ...(body === undefined ? {} : { payload: body }),
  });
  const text = reply.body;
  return {
    status: reply.statusCode,
    body: text === "" ? "" : JSON.parse(text),
    headers: reply.headers,
  };
}

const audited = async (): Promise<string[]> =>
  (await desk.state.list("audit")).entries.map(({ value }) => `${value.actor} ${value.action}`);

describe("admission", () => {
  const ROWS = [
    ["GET", "/info", 403],
    ["GET", "/credentials", 403],
    ["POST", "/credentials", 403],
    ["PATCH", "/credentials/x", 403],
    ["DELETE", "/credentials/x", 403],
    ["POST", "/credentials/primary/x", 403],
    ["POST", "/enable_cache", 403],
    ["POST", "/flush", 404],
    ["POST", "/reset_stats", 404],
    ["GET", "/stats", 404],
  ] as const;

  test.each(ROWS)("%s %s", async (method, path, elsewhere) => {
    resultOf(await createCache(desk, OPERATOR, { name: "other", plan: "25mb" }));
    const reader = await make(["read", "write"]);
    const statusWith = async (more: Parameters<typeof ask>[2]): Promise<number> =>
      (await ask(method, path, more)).status;
    expect(await statusWith({ login: null })).toBe(401);
    expect(await statusWith({ login: { ...api, password: "wrong" } })).toBe(401);
    expect(await statusWith({ login: { username: "nobody", password: "x" } })).toBe(401);
    expect(await statusWith({ id: "Not_An_Id" })).toBe(400);
    expect(await statusWith({ id: "x".repeat(64) })).toBe(400);
    expect(await statusWith({ id: "other" })).toBe(elsewhere);
    expect(await statusWith({ id: "none" })).toBe(elsewhere);
    expect(await statusWith({ login: reader })).toBe(403);
  });

  test("an error is a JSON message, and 401 asks for a login", async () => {
    const reply = await ask("GET", "/info", { login: null });
    expect(reply.body).toEqual({ message: expect.stringMatching(/\w{4}/) });
    expect(reply.headers["www-authenticate"]).toMatch(/^Basic /);
  });

  test("who tries passwords has to wait, and is told how long", async () => {
    const login = { ...api, password: "wrong" };
    for (let i = 0; i < 10; i++) expect((await ask("GET", "/info", { login })).status).toBe(401);
    const reply = await ask("GET", "/info");
    expect(reply.status).toBe(429);
    expect(Number(reply.headers["retry-after"])).toBeGreaterThan(0);
  });

  test("the cache is found by its id and by its name", async () => {
    const [byId, byName] = [await ask("GET", "/info", { id: cache.id }), await ask("GET", "/info")];
    expect([byId.status, byName.status]).toEqual([200, 200]);
    expect(byId.body).toEqual(byName.body);
  });
});

test("info shows the cache as MemCachier does, without passwords", async () => {
  const { body } = await ask("GET", "/info");
  expect(body).toEqual({
    id: cache.id,
    name: "shop",
    label: "shop",
    cache_type: "memcachier",
    plan: 26214400,
    provider: "memward",
    enabled: true,
    cluster_name: "memward",
    servers: ["cache.example:11211"],
    credentials: [
      {
        id: api.username,
        cache_id: cache.id,
        sasl_username: api.username,
        sasl_password: null,
        write_capability: true,
        flush_capability: true,
        api_capability: true,
        primary: true,
      },
    ],
    can_switch: false,
    can_manage_credentials: true,
    can_update_capabilities: true,
  });
});

describe("credentials", () => {
  test("POST makes one that may do everything, and shows its password once", async () => {
    const { status, body } = await ask("POST", "/credentials");
    expect(status).toBe(201);
    const made = body as Record<string, string>;
    expect(made).toMatchObject({
      cache_id: cache.id,
      write_capability: true,
      flush_capability: true,
      api_capability: true,
      primary: false,
    });
    const { sasl_username: username = "", sasl_password: password = "" } = made;
    expect((await ask("GET", "/info", { login: { username, password } })).status).toBe(200);
    const { body: list } = await ask("GET", "/credentials");
    expect(list).toHaveLength(2);
    expect(JSON.stringify(list)).not.toContain(password);
    expect(await audited()).toContain(`credential:${api.username} credential.create`);
  });

  test("POST takes capabilities", async () => {
    const body = '{"write_capability":false,"api_capability":false}';
    const made = await ask("POST", "/credentials", { body, type: "application/json" });
    expect(made.body).toMatchObject({
      write_capability: false,
      flush_capability: true,
      api_capability: false,
    });
  });

  test("PATCH takes away what is left out", async () => {
    const { username } = await make(["read", "write", "flush", "api"]);
    const path = `/credentials/${username}`;
    const body = '{"write_capability":true}';
    expect(await ask("PATCH", path, { body, type: "application/json" })).toMatchObject({
      status: 200,
      body: { write_capability: true, flush_capability: false, api_capability: false },
    });
    const shown = resultOf(showCredential(desk, "shop", username));
    expect(shown.rights).toEqual(["read", "write"]);
  });

  test("PATCH understands what curl -d sends, and a whole credential sent back", async () => {
    const { username } = await make(["read", "write"]);
    const path = `/credentials/${username}`;
    const type = "application/x-www-form-urlencoded";
    const body = '{"write_capability":true,"flush_capability":true,"api_capability":false}';
    expect((await ask("PATCH", path, { body, type })).status).toBe(200);
    const all = (await ask("GET", "/credentials")).body as { sasl_username: string }[];
    const whole = all.find((one) => one.sasl_username === api.username);
    const sent = { body: JSON.stringify(whole), type: "application/json" };
    expect((await ask("PATCH", path, sent)).body).toMatchObject({ api_capability: true });
  });

  test("PATCH gives nobody the right to read", async () => {
    const { username } = await make(["write"]);
    const path = `/credentials/${username}`;
    const body = '{"write_capability":true,"flush_capability":true}';
    expect((await ask("PATCH", path, { body })).status).toBe(200);
    expect(resultOf(showCredential(desk, "shop", username)).rights).toEqual(["write", "flush"]);
    expect((await ask("PATCH", path, { body: "{}" })).status).toBe(400);
  });

  test.each([
    ["", 400],
    ["nonsense", 400],
    ["[]", 400],
    ['{"write_capability":"yes"}', 400],
    ['{"write_capabilty":true}', 400],
  ])("PATCH refuses the body %j", async (body, status) => {
    const reply = await ask("PATCH", `/credentials/${api.username}`, { body });
    expect(reply.status).toBe(status);
    expect(resultOf(showCredential(desk, "shop", api.username)).rights).toHaveLength(4);
  });

  test("DELETE deletes, but never the last one", async () => {
    const { username } = await make(["read"]);
    expect((await ask("DELETE", `/credentials/${username}`)).status).toBe(200);
    expect((await ask("DELETE", `/credentials/${username}`)).status).toBe(404);
    expect((await ask("DELETE", `/credentials/${api.username}`)).status).toBe(403);
    expect((await ask("GET", "/credentials")).body).toHaveLength(1);
  });

  test("the credential of another cache cannot be reached", async () => {
    resultOf(await createCache(desk, OPERATOR, { name: "other", plan: "25mb" }));
    const { username } = await make(["read", "write"], "other");
    for (const [method, path] of [
      ["PATCH", `/credentials/${username}`],
      ["DELETE", `/credentials/${username}`],
      ["POST", `/credentials/primary/${username}`],
    ] as const) {
      expect((await ask(method, path, { body: "{}" })).status).toBe(404);
    }
    expect(resultOf(showCredential(desk, "other", username)).rights).toEqual(["read", "write"]);
  });

  test("promote makes it the primary one, the only one", async () => {
    const { username } = await make(["read", "write"]);
    const promoted = await ask("POST", `/credentials/primary/${username}`);
    expect(promoted).toMatchObject({
      status: 200,
      body: { sasl_username: username, primary: true },
    });
    const all = (await ask("GET", "/credentials")).body as { primary: boolean }[];
    expect(all.filter(({ primary }) => primary)).toHaveLength(1);
  });
});

describe("commands", () => {
  test("flush and reset_stats answer 204 and wish it of the shards", async () => {
    expect(await ask("POST", "/flush")).toMatchObject({ status: 204, body: "" });
    expect(await ask("POST", "/reset_stats")).toMatchObject({ status: 204, body: "" });
    const record = await desk.state.get("cache", cache.id);
    expect(record?.value).toMatchObject({ epoch: 1, statsEpoch: 1 });
    expect(await audited()).toContain(`credential:${api.username} cache.flush`);
  });

  test("a deploy hook may post whatever it has", async () => {
    for (const type of ["application/json", "application/vnd.heroku+json", "text/plain"]) {
      const sent = { body: '{"action":"create","data":{}}', type };
      expect((await ask("POST", "/flush", sent)).status).toBe(204);
    }
    expect((await ask("POST", "/flush", { body: "x".repeat(2 << 20) })).status).toBe(413);
  });

  test("stats have all of MemCachier's names, as numbers", async () => {
    const { status, body } = await ask("GET", "/stats");
    expect(status).toBe(200);
    expect(Object.keys(body as object).sort()).toEqual(
      (
        "auth_cmds auth_errors bytes bytes_read bytes_written cas_badval cas_hits cas_misses " +
        "cmd_delete cmd_flush cmd_get cmd_set cmd_touch curr_connections curr_items decr_hits " +
        "decr_misses delete_hits delete_misses evictions expired get_hits get_misses incr_hits " +
        "incr_misses limit_maxbytes time total_connections total_items touch_hits touch_misses"
      ).split(" "),
    );
    for (const value of Object.values(body as object)) expect(value).toEqual(expect.any(Number));
  });

  test("enable_cache enables", async () => {
    resultOf(await changeCache(desk, OPERATOR, "shop", { enabled: false }));
    expect((await ask("GET", "/info")).body).toMatchObject({ enabled: false });
    expect((await ask("POST", "/enable_cache")).status).toBe(200);
    expect((await ask("GET", "/info")).body).toMatchObject({ enabled: true });
  });

  test.each([
    ["POST", "/rotate_sso"],
    ["POST", "/switch_cluster"],
    ["GET", "/insight/processed_stats?names=hit_rate"],
    ["GET", "/insight/latency"],
    ["GET", "/alerts"],
    ["POST", "/alerts"],
    ["PUT", "/alerts/1"],
    ["GET", "/introspection/popular_items"],
    ["DELETE", "/introspection/prefixes/1"],
  ] as const)("%s %s is not offered and says so", async (method, path) => {
    const reply = await ask(method, path);
    expect(reply.status).toBe(501);
    expect(reply.body).toEqual({ message: expect.stringContaining("not offered") });
  });
});
