/** The admin API as scripts meet it: what each request answers, and who may ask for what. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ENDPOINTS } from "../../../control/api/rows.ts";
import { openRig, type Rig } from "./rig.ts";

const MB = 1024 ** 2;
let rig: Rig;
beforeEach(async () => {
  rig = await openRig();
});
afterEach(() => rig.close());

const makeCache = async (name = "shop") =>
  (await rig.call("POST /v1/caches", { body: { name, plan: "25mb" } })).body;
const makeCredential = async (body: object = {}, cache = "shop") =>
  (await rig.call(`POST /v1/caches/${cache}/credentials`, { body })).body;
const paths = (body: { problems: { path: string }[] }) => body.problems.map(({ path }) => path);

describe("the ways that scripts rely on", () => {
  test("a cache from its making to its end", async () => {
    const made = await rig.call("POST /v1/caches", { body: { name: "shop", plan: "100mb" } });
    expect(made).toMatchObject({ status: 201, headers: { location: "/v1/caches/shop" } });
    expect(made.body).toMatchObject({ name: "shop", plan: "100mb", bytes: 100 * MB });
    const { id } = made.body;
    expect((await rig.call("GET /v1/caches")).body.caches).toEqual([made.body]);
    expect((await rig.call(`GET /v1/caches/${id}`)).body).toEqual(made.body);
    const changed = await rig.call("PATCH /v1/caches/shop", { body: { plan: "1gb" } });
    expect(changed).toMatchObject({ status: 200, body: { plan: "1gb", bytes: 1024 * MB } });
    expect((await rig.call("POST /v1/caches/shop/disable")).body.enabled).toBe(false);
    expect((await rig.call("POST /v1/caches/shop/enable")).body.enabled).toBe(true);
    expect((await rig.call("POST /v1/caches/shop/flush")).status).toBe(200);
    expect((await rig.call("POST /v1/caches/shop/stats/reset")).status).toBe(200);
    const { stats } = (await rig.call("GET /v1/caches/shop/stats")).body;
    expect(stats).toMatchObject({ cmd_get: 0, curr_connections: 0, limit_maxbytes: 0 });
    expect(await rig.call("DELETE /v1/caches/shop")).toMatchObject({ status: 204, text: "" });
    expect((await rig.call("GET /v1/caches/shop")).status).toBe(404);
  });

  test("a credential from its making to its end", async () => {
    await makeCache();
    const body = { label: "web", rights: ["read", "write"], networks: ["10.0.0.0/8"] };
    const made = await rig.call("POST /v1/caches/shop/credentials", { body });
    const { username, password, env } = made.body;
    const path = `/v1/caches/shop/credentials/${username}`;
    expect(made).toMatchObject({ status: 201, headers: { location: path }, body });
    expect(env.MEMCACHIER_PASSWORD).toBe(password);
    const listed = (await rig.call("GET /v1/caches/shop/credentials")).body.credentials;
    expect(listed).toMatchObject([{ username, primary: true, lastUsedAt: null, addresses: [] }]);
    const change = { rights: ["read"], expiresAt: "2099-01-01T00:00:00Z" };
    const changed = await rig.call(`PATCH ${path}`, { body: change });
    expect(changed.body).toMatchObject({ rights: ["read"], expiresAt: "2099-01-01T00:00:00.000Z" });
    const rotated = await rig.call(`POST ${path}/rotate`, { body: { overlapSeconds: 60 } });
    expect(rotated.status).toBe(201);
    expect((await rig.call(`POST ${path}/promote`)).body.primary).toBe(true);
    expect((await rig.call(`DELETE ${path}`)).status).toBe(204);
    const last = `/v1/caches/shop/credentials/${rotated.body.username}`;
    expect((await rig.call(`DELETE ${last}`)).status).toBe(409);
    expect((await rig.call(`DELETE ${last}?force=true`)).status).toBe(204);
  });

  test("plans, nodes, proxies, status and the audit log", async () => {
    await makeCache();
    const { plans } = (await rig.call("GET /v1/plans")).body;
    expect(plans.map(({ name }: { name: string }) => name).join(" ")).toBe(
      "25mb 100mb 250mb 500mb 1gb 2.5gb 5gb 7.5gb 10gb 20gb",
    );
    expect(plans.filter(({ free }: { free: boolean }) => free)).toMatchObject([{ name: "25mb" }]);
    expect((await rig.call("GET /v1/nodes")).body).toEqual({ nodes: [] });
    expect((await rig.call("GET /v1/proxies")).body).toEqual({ proxies: [] });
    expect((await rig.call("GET /v1/status")).body).toMatchObject({ caches: 1 });
    const { records } = (await rig.call("GET /v1/audit?cache=shop")).body;
    expect(records).toMatchObject([
      { actor: "token:the owner", from: "192.0.2.7", action: "cache.create", subject: "shop" },
    ]);
  });

  test("lists come in pages, the audit log from the newest to the oldest", async () => {
    for (const name of ["a", "b", "c"]) await makeCache(name);
    const first = (await rig.call("GET /v1/caches?limit=2")).body;
    expect(first).toMatchObject({ caches: [{ name: "a" }, { name: "b" }], next: "b" });
    const second = (await rig.call("GET /v1/caches?limit=2&after=b")).body;
    expect(second).toMatchObject({ caches: [{ name: "c" }], next: null });
    const subjects: string[] = [];
    for (let next: string | null = "9"; next !== null; ) {
      const { body } = await rig.call(`GET /v1/audit?limit=2&before=${next}`);
      subjects.push(...body.records.map(({ subject }: { subject: string }) => subject));
      next = body.next;
    }
    const tokens = ["the owner", "the operator", "the viewer"];
    expect(subjects).toEqual(["c", "b", "a", ...tokens]);
  });
});

describe("who may what", () => {
  const filled = ({ method, path }: { method: string; path: string }): string =>
    `${method} ${path.replace("{name}", "shop").replace("{username}", "u").replace("{id}", "t").replace("{node}", "n")}`;

  test.each(ENDPOINTS.map((row) => [filled(row), row] as const))("%s", async (line, row) => {
    const roles = ["viewer", "operator", "owner"] as const;
    expect((await rig.call(line, { as: null })).status).toBe(401);
    for (const role of roles.slice(0, roles.indexOf(row.role))) {
      expect((await rig.call(line, { as: role })).status).toBe(403);
    }
    expect([401, 403]).not.toContain((await rig.call(line, { as: row.role })).status);
  });

  test("a credential with the right api manages its own cache and no other", async () => {
    await makeCache("shop");
    await makeCache("other");
    const login = await makeCredential({ rights: ["read", "api"] });
    const { username } = login;
    for (const line of [
      "GET /v1/caches/shop",
      "GET /v1/caches/shop/stats",
      "GET /v1/caches/shop/credentials",
      "POST /v1/caches/shop/flush",
      `GET /v1/caches/shop/credentials/${username}`,
    ]) {
      expect((await rig.call(line, { login })).status, line).toBe(200);
    }
    const refused = [
      "GET /v1/caches",
      "GET /v1/caches/other",
      "GET /v1/caches/nobody",
      "POST /v1/caches/other/flush",
      "DELETE /v1/caches/shop",
      "PATCH /v1/caches/shop",
      "POST /v1/caches/shop/enable",
      "GET /v1/audit",
      "GET /v1/tokens",
      "GET /v1/status",
    ];
    const told = new Set<string>();
    for (const line of refused) {
      const { status, text } = await rig.call(line, { login });
      expect(status, line).toBe(403);
      told.add(text);
    }
    expect(told.size).toBe(1); // Nothing is learned about caches of others.
    const { records } = (await rig.call("GET /v1/audit?limit=1")).body;
    expect(records).toMatchObject([{ actor: `credential:${username}`, action: "cache.flush" }]);
  });

  test("a credential without it may not; expired or from elsewhere it is a wrong login", async () => {
    await makeCache();
    const without = await makeCredential({ rights: ["read", "write"] });
    expect((await rig.call("GET /v1/caches/shop", { login: without })).status).toBe(403);
    const away = await makeCredential({ rights: ["api"], networks: ["10.0.0.0/8"] });
    expect((await rig.call("GET /v1/caches/shop", { login: away })).status).toBe(401);
    const near = { login: away, from: "10.1.2.3" };
    expect((await rig.call("GET /v1/caches/shop", near)).status).toBe(200);
    const expiresAt = new Date(Date.now() + 60_000).toISOString();
    const short = await makeCredential({ rights: ["api"], expiresAt });
    expect((await rig.call("GET /v1/caches/shop", { login: short })).status).toBe(200);
    rig.desk.pass(61_000);
    expect((await rig.call("GET /v1/caches/shop", { login: short })).status).toBe(401);
  });

  test("an imported login works here too, and a token's time can be over", async () => {
    await makeCache();
    const login = { username: "legacy", password: "correct-horse-battery" };
    await makeCredential({ ...login, rights: ["api"] });
    expect((await rig.call("GET /v1/caches/shop", { login })).status).toBe(200);
    const wrong = { ...login, password: "correct-horse" };
    expect((await rig.call("GET /v1/caches/shop", { login: wrong })).status).toBe(401);
    const expiresAt = new Date(Date.now() + 60_000).toISOString();
    const body = { name: "guest", role: "viewer", expiresAt };
    const { token } = (await rig.call("POST /v1/tokens", { body })).body;
    const headers = { authorization: `Bearer ${token}` };
    const asGuest = { as: null, headers } as const;
    expect((await rig.call("GET /v1/caches", asGuest)).status).toBe(200);
    rig.desk.pass(61_000);
    expect((await rig.call("GET /v1/caches", asGuest)).status).toBe(401);
  });

  test("tokens are shown once, and the last owner's stays", async () => {
    const made = await rig.call("POST /v1/tokens", { body: { name: "ci", role: "viewer" } });
    expect(made.status).toBe(201);
    expect(made.body.token).toMatch(/^mwt_[a-z2-9]{12}_[a-z2-9]{32}$/);
    const again = await rig.call("POST /v1/tokens", { body: { name: "ci", role: "owner" } });
    expect(again.status).toBe(409);
    const { text, body } = await rig.call("GET /v1/tokens");
    expect(text).not.toContain(made.body.token.split("_")[2]);
    for (const { id, role } of body.tokens) {
      const { status } = await rig.call(`DELETE /v1/tokens/${id}`);
      expect(status).toBe(role === "owner" ? 403 : 204);
    }
  });
});

test("a node is drained and taken in again; the audit log has both", async () => {
  const node = { pid: 1, engine: "embedded" as const, ready: true, startedAtMs: 1 };
  const commit = await rig.desk.state.commit([{ kind: "node", id: "node-1", value: node }]);
  await rig.desk.view.reached(commit.ok ? commit.revision : 0);
  const line = "PATCH /v1/nodes/node-1";
  expect((await rig.call(line, { body: { draining: true } })).status).toBe(200);
  expect((await rig.call("GET /v1/nodes")).body.nodes).toMatchObject([{ draining: true }]);
  expect((await rig.call(line, { body: { draining: false } })).status).toBe(200);
  expect((await rig.call("PATCH /v1/nodes/node-9", { body: { draining: true } })).status).toBe(404);
  const { records } = (await rig.call("GET /v1/audit?limit=2")).body;
  expect(records).toMatchObject([
    { action: "node.change", subject: "node-1", after: { draining: false } },
    { action: "node.change", subject: "node-1", after: { draining: true } },
  ]);
});

describe("wrong logins", () => {
  test("are told how to log in, and cost nothing to those who have none", async () => {
    const { status, headers, body } = await rig.call("GET /v1/caches", { as: null });
    expect(status).toBe(401);
    expect(String(headers["www-authenticate"])).toMatch(/Bearer.*Basic/);
    expect(body).toMatchObject({ title: "Unauthorized", status: 401 });
  });

  test("are slowed down by address, right ones from there as well, others not", async () => {
    const wrong = {
      as: null,
      headers: { authorization: `Bearer mwt_${"a".repeat(12)}_x` },
    } as const;
    const statuses: number[] = [];
    for (let n = 0; n < 15; n++) statuses.push((await rig.call("GET /v1/caches", wrong)).status);
    expect(statuses).toEqual([...Array(10).fill(401), ...Array(5).fill(429)]);
    const right = await rig.call("GET /v1/caches");
    expect(right.status).toBe(429);
    expect(Number(right.headers["retry-after"])).toBeGreaterThan(0);
    expect((await rig.call("GET /v1/caches", { from: "192.0.2.8" })).status).toBe(200);
  });
});

describe("bad input is refused with every problem by its path:", () => {
  test.each([
    [
      "unknown fields",
      { name: "a", plan: "25mb", colour: 1, limits: { x: 1 } },
      ["limits.x", "colour"],
    ],
    ["wrong types", { name: 7, bytes: "much", policies: [] }, ["name", "bytes", "policies"]],
    ["control characters in a name", { name: "a\u0007b", plan: "25mb" }, ["name"]],
    ["a name that looks like an id", { name: "c0123456789ab", plan: "25mb" }, ["name"]],
    ["a plan that does not exist", { name: "a", plan: "huge" }, ["plan"]],
    [
      "negative sizes and limits",
      { name: "a", bytes: -5, limits: { sessionsMax: -1 } },
      ["bytes", "limits.sessionsMax"],
    ],
    ["a body that is a list", [1], [""]],
  ])("%s in a cache", async (_, body, expected) => {
    const { status, headers, body: told } = await rig.call("POST /v1/caches", { body });
    expect(status).toBe(400);
    expect(headers["content-type"]).toMatch(/^application\/problem\+json/);
    expect(paths(told)).toEqual(expected);
  });

  test.each([
    ["a prefix over 200 bytes", { keyPrefix: "ü".repeat(101) }, ["keyPrefix"]],
    ["a prefix with a blank", { keyPrefix: "a b" }, ["keyPrefix"]],
    [
      "bad networks",
      { networks: ["10.0.0.0/8", "10.0.0.0/40", "home"] },
      ["networks.1", "networks.2"],
    ],
    ["unknown rights", { rights: ["read", "root"] }, ["rights.1"]],
    ["an expiry in the past", { expiresAt: "2001-01-01T00:00:00Z" }, ["expiresAt"]],
    ["an expiry that is no moment", { expiresAt: "tomorrow" }, ["expiresAt"]],
    ["control characters in a label", { label: "a\u0000" }, ["label"]],
    ["a username that cannot be one", { username: "a/b", password: "long-enough" }, ["username"]],
    [
      "a password no text client could send",
      { username: "a", password: "with a blank" },
      ["password"],
    ],
  ])("%s in a credential", async (_, body, expected) => {
    await makeCache();
    const { status, body: told } = await rig.call("POST /v1/caches/shop/credentials", { body });
    expect(status).toBe(400);
    expect(paths(told)).toEqual(expected);
  });

  test("queries and headers", async () => {
    await makeCache();
    const query = await rig.call("GET /v1/caches?limit=0&colour=red&wait=applied");
    expect(paths(query.body).toSorted()).toEqual(["colour", "limit", "wait"]);
    const headers = { "if-match": 'W/"x"' };
    const tag = await rig.call("PATCH /v1/caches/shop", { body: {}, headers });
    expect(paths(tag.body)).toEqual(["If-Match"]);
  });
});

describe("what HTTP itself refuses:", () => {
  test("text that is not JSON, without repeating it", async () => {
    const { status, text } = await rig.call("POST /v1/caches", { body: '{"secret":"hunter2' });
    expect(status).toBe(400);
    expect(text).not.toContain("hunter2");
  });

  test("a body over 1 MB, and one that is no JSON by its label", async () => {
    const large = { body: { name: "a".repeat(1024 * 1024) } };
    expect((await rig.call("POST /v1/caches", large)).status).toBe(413);
    const labelled = { body: "name=a", headers: { "content-type": "text/plain" } };
    expect((await rig.call("POST /v1/caches", labelled)).status).toBe(415);
  });

  test("paths that are not there, methods that are not", async () => {
    expect((await rig.call("GET /v1/cookies")).status).toBe(404);
    const { status, headers } = await rig.call("PUT /v1/caches/shop");
    expect({ status, allow: headers["allow"] }).toEqual({
      status: 405,
      allow: "GET, PATCH, DELETE",
    });
  });

  test("changes that a foreign page makes a browser send", async () => {
    await makeCache();
    const headers = { "sec-fetch-site": "cross-site" };
    expect((await rig.call("POST /v1/caches/shop/flush", { headers })).status).toBe(403);
  });
});

test("If-Match keeps two operators from overwriting each other", async () => {
  const { revision } = await makeCache();
  const { headers } = await rig.call("GET /v1/caches/shop");
  expect(headers["etag"]).toBe(`"${revision}"`);
  const first = { body: { plan: "1gb" }, headers: { "if-match": headers["etag"] ?? "" } };
  const changed = await rig.call("PATCH /v1/caches/shop", first);
  expect(changed.status).toBe(200);
  expect(changed.headers["etag"]).toBe(`"${changed.body.revision}"`);
  const second = { ...first, body: { plan: "25mb" } };
  const refused = await rig.call("PATCH /v1/caches/shop", second);
  expect(refused).toMatchObject({ status: 412, body: { revision: changed.body.revision } });
});

test("a name that is taken is a conflict with the revision it has", async () => {
  const { revision } = await makeCache();
  const again = await rig.call("POST /v1/caches", { body: { name: "shop", plan: "25mb" } });
  expect(again).toMatchObject({ status: 409, body: { revision, title: "Conflict" } });
});
