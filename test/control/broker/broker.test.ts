/**
 * The broker as a platform meets it. The tables of statuses are those of the Open Service Broker
 * API 2.17 (spec.md, "Response" of each section); their words stand where they are told by.
 */
import { isDeepStrictEqual } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { changeCache, deleteCache } from "../../../control/operations/caches.ts";
import { deleteCredential } from "../../../control/operations/credentials.ts";
import { verify } from "../../../core/cluster/credentials.ts";
import { StateUnavailable } from "../../../core/cluster/state.ts";
import { OPERATOR, resultOf } from "../operations/desk.ts";
import { basic, openPlatform, type Platform, type Reply, VERSION } from "./platform.ts";

const INSTANCE = "/v2/service_instances/3f2b7c1e-0001-4000-8000-000000000001";
const BINDING = `${INSTANCE}/service_bindings/77aa0000-0001-4000-8000-000000000001`;

let platform: Platform;
beforeEach(async () => {
  platform = await openPlatform();
});
afterEach(() => platform.close());

const provision = (more: Record<string, unknown> = {}, plan = "25mb"): Promise<Reply> =>
  platform.ask("PUT", INSTANCE, { body: platform.order(plan, more) });
const bind = (more: Record<string, unknown> = {}, url = BINDING): Promise<Reply> =>
  platform.ask("PUT", url, { body: { ...platform.ids(), ...more } });
const unbind = (url = BINDING): Promise<Reply> => platform.ask("DELETE", url + platform.query());
const deprovision = (): Promise<Reply> => platform.ask("DELETE", INSTANCE + platform.query());
const cacheOf = async () => {
  const record = await platform.desk.state.get("serviceInstance", INSTANCE.slice(22));
  const id = record?.value.cache ?? "";
  return { id, ...(await platform.desk.state.get("cache", id))?.value };
};
const countOf = async (kind: "cache" | "credential" | "serviceInstance" | "serviceBinding") =>
  (await platform.desk.state.list(kind)).entries.length;

describe("admission", () => {
  test.each([
    ["no login", { token: null }, 401],
    ["a wrong token", { token: "mwt_aaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }, 401],
    ["an empty password", { token: "" }, 401],
    ["no version", { headers: {} }, 412],
    ["version 3", { headers: { "x-broker-api-version": "3.0" } }, 412],
    ["version nonsense", { headers: { "x-broker-api-version": "two" } }, 412],
    ["version 2.11", { headers: { "x-broker-api-version": "2.11" } }, 200],
    ["version 2.99", { headers: { "x-broker-api-version": "2.99" } }, 200],
  ])("%s", async (_, more, status) => {
    const reply = await platform.ask("GET", "/v2/catalog", more);
    expect(reply.status).toBe(status);
    if (status === 401) expect(reply.headers["www-authenticate"]).toMatch(/^Basic /);
    if (status !== 200) expect(reply.body.description).toEqual(expect.stringMatching(/\w{4}/));
  });

  test("operators and owners may, viewers may not, whatever their username", async () => {
    const { tokens, ask } = platform;
    const { viewer, operator, owner } = tokens;
    const statuses = [viewer, operator, owner].map(
      async (token) => (await ask("GET", "/v2/catalog", { token })).status,
    );
    expect(await Promise.all(statuses)).toEqual([401, 200, 200]);
    const headers = { ...VERSION, authorization: basic(owner, "x:y".slice(0, 1)) };
    expect((await ask("GET", "/v2/catalog", { token: null, headers })).status).toBe(200);
  });

  test("a request's identity comes back", async () => {
    const headers = { ...VERSION, "x-broker-api-request-identity": "7f9-abc" };
    const reply = await platform.ask("GET", "/v2/catalog", { headers });
    expect(reply.headers["x-broker-api-request-identity"]).toBe("7f9-abc");
  });

  test("who asked the platform stands in the audit log", async () => {
    const identity = { user_id: "683ea748-3092-4ff4-b656-39cacc4d5360" };
    const value = Buffer.from(JSON.stringify(identity)).toString("base64");
    const headers = {
      ...VERSION,
      "x-broker-api-originating-identity": `cloudfoundry ${value}`,
    };
    await platform.ask("PUT", INSTANCE, { body: platform.order(), headers });
    const { entries } = await platform.desk.state.list("audit");
    const audit = entries.map((entry) => entry.value);
    expect(audit.at(-1)).toMatchObject({ action: "cache.create", actor: "broker:operator" });
    expect(audit.find(({ action }) => action === "instance.create")).toMatchObject({
      actor: "broker:operator",
      from: "127.0.0.1",
      cache: (await cacheOf()).id,
      subject: INSTANCE.slice(22),
      after: { platform: "cloudfoundry", identity },
    });
  });

  test.each([
    ["no Base64 JSON", "cloudfoundry nonsense"],
    ["no object", `cloudfoundry ${Buffer.from("[1]").toString("base64")}`],
    ["no value", "cloudfoundry"],
    ["too large", `cf ${Buffer.from(JSON.stringify({ a: "x".repeat(5000) })).toString("base64")}`],
  ])("an originating identity with %s is refused", async (_, header) => {
    const headers = { ...VERSION, "x-broker-api-originating-identity": header };
    const reply = await platform.ask("PUT", INSTANCE, { body: platform.order(), headers });
    expect(reply.status).toBe(400);
    expect(reply.body.description).toMatch(/identity/i);
    expect(await countOf("cache")).toBe(0);
  });
});

describe("GET /v2/catalog", () => {
  test("offers the plans under ids that never change", async () => {
    const { body } = await platform.ask("GET", "/v2/catalog");
    const [service] = body.services as Record<string, unknown>[];
    expect(service).toMatchObject({
      name: "memward",
      id: "466295b1-80fc-5a8c-9f87-0742997ea50b",
      bindable: true,
      plan_updateable: true,
      instances_retrievable: true,
      bindings_retrievable: true,
    });
    const plans = service?.plans as Record<string, unknown>[];
    expect(plans.map(({ name }) => name)).toEqual(platform.desk.plans.map(({ name }) => name));
    expect(plans[0]).toMatchObject({ free: true, name: "25mb", binding_rotatable: true });
    expect(plans[0]?.id).toBe("430ec733-92d2-5a1f-8023-90347cd4e27b"); // As Python's uuid5 says.
    expect(plans[1]).toMatchObject({ free: false, name: "100mb" });
    for (const plan of plans) {
      expect(plan.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-/);
      expect(String(plan.description).length).toBeLessThanOrEqual(255);
      const schemas = JSON.stringify(plan.schemas);
      expect(schemas.length).toBeLessThan(64 * 1024);
      expect(
        schemas.match(/"\$schema":"http:\/\/json-schema.org\/draft-04\/schema#"/g),
      ).toHaveLength(3);
      expect(schemas).not.toContain('"$ref"');
    }
    expect(new Set(plans.map(({ id }) => id)).size).toBe(plans.length);
  });
});

describe("provisioning", () => {
  test("201 makes a cache of the plan, 200 when it is asked for again", async () => {
    expect(await provision()).toMatchObject({ status: 201, body: {} });
    expect(await provision()).toMatchObject({ status: 200, body: {} });
    expect(await cacheOf()).toMatchObject({ plan: "25mb", bytes: 25 << 20, enabled: true });
    expect(await countOf("cache")).toBe(1);
  });

  test("a cache gets the name that was asked for", async () => {
    expect((await provision({ parameters: { name: "shop" } })).status).toBe(201);
    expect((await cacheOf()).name).toBe("shop");
  });

  test("two at once: one is made, both are told of it", async () => {
    const replies = await Promise.all([provision(), provision(), provision()]);
    expect(replies.map(({ status }) => status).sort()).toEqual([200, 200, 201]);
    expect(await countOf("cache")).toBe(1);
  });

  test.each([
    ["another plan", { plan: "100mb" }],
    ["other parameters", { more: { parameters: { name: "other" } } }],
  ])("409 with %s", async (_, { plan, more }: { plan?: string; more?: object }) => {
    await provision();
    const reply = await platform.ask("PUT", INSTANCE, {
      body: platform.order(plan, { ...more }),
    });
    expect(reply.status).toBe(409);
    expect(await cacheOf()).toMatchObject({ plan: "25mb" });
  });

  test.each([
    ["service_id", { service_id: undefined }],
    ["plan_id", { plan_id: undefined }],
    ["organization_guid", { organization_guid: undefined }],
    ["space_guid", { space_guid: "" }],
    ["service_id", { service_id: "3f2b7c1e-0000-4000-8000-000000000000" }],
    ["plan_id", { plan_id: "3f2b7c1e-0000-4000-8000-000000000000" }],
    ["parameters.size", { parameters: { size: 3 } }],
    ["parameters.name", { parameters: { name: "Not A Name" } }],
    ["parameters", { parameters: "text" }],
    ["context", { context: { a: "x".repeat(17_000) } }],
  ])("400 tells about %s", async (path, more) => {
    const reply = await provision(more);
    expect(reply.status).toBe(400);
    expect(reply.body.description).toContain(path);
    expect(await countOf("cache")).toBe(0);
  });

  test("400 names all problems at once", async () => {
    const reply = await platform.ask("PUT", INSTANCE, { body: { parameters: { size: 1 } } });
    for (const path of ["service_id", "plan_id", "space_guid", "parameters.size"]) {
      expect(reply.body.description).toContain(path);
    }
  });

  test.each([
    ["no JSON", { raw: "{" }],
    ["no object", { raw: "[]" }],
    ["a trap", { raw: '{"__proto__":{"service_id":"x"}}' }],
    ["nothing", {}],
  ])("400 for a body that is %s", async (_, sent) => {
    expect((await platform.ask("PUT", INSTANCE, sent)).status).toBe(400);
  });

  test("400 for a body of another type, 413 for a huge one", async () => {
    const headers = { ...VERSION, "content-type": "text/plain" };
    expect((await platform.ask("PUT", INSTANCE, { raw: "{}", headers })).status).toBe(400);
    const raw = JSON.stringify(platform.order("25mb", { padding: "x".repeat(300_000) }));
    expect((await platform.ask("PUT", INSTANCE, { raw })).status).toBe(413);
  });

  test.each([
    "a%2Fb",
    "with%20blank",
    "x".repeat(96),
    "%C3%A4",
  ])("400 for the id %s", async (id) => {
    const body = platform.order();
    expect((await platform.ask("PUT", `/v2/service_instances/${id}`, { body })).status).toBe(400);
  });

  test("unknown fields are ignored", async () => {
    expect((await provision({ "x-vendor-field": 1 })).status).toBe(201);
  });

  test("400 for the name of another cache, which stays as it is", async () => {
    await provision({ parameters: { name: "shop" } });
    const url = `${INSTANCE}-other`;
    const body = platform.order("25mb", { parameters: { name: "shop" } });
    const reply = await platform.ask("PUT", url, { body });
    expect(reply.status).toBe(400);
    expect(reply.body.description).toContain("parameters.name");
    expect(await countOf("serviceInstance")).toBe(1);
  });

  test("422 MaintenanceInfoConflict: the catalog has no such version", async () => {
    const reply = await provision({ maintenance_info: { version: "1.0.0" } });
    expect(reply).toMatchObject({ status: 422, body: { error: "MaintenanceInfoConflict" } });
    expect(await countOf("cache")).toBe(0);
  });
});

describe("fetching an instance", () => {
  test("200 with service, plan and parameters; 404 without an instance", async () => {
    expect((await platform.ask("GET", INSTANCE)).status).toBe(404);
    await provision({ parameters: { name: "shop" } });
    expect(await platform.ask("GET", INSTANCE)).toMatchObject({
      status: 200,
      body: { ...platform.ids(), parameters: { name: "shop" } },
    });
  });

  test("its last operation succeeded; 410 when it is gone", async () => {
    await provision();
    const url = `${INSTANCE}/last_operation`;
    expect(await platform.ask("GET", url)).toMatchObject({
      status: 200,
      body: { state: "succeeded" },
    });
    await deprovision();
    expect((await platform.ask("GET", url)).status).toBe(410);
  });
});

describe("updating an instance", () => {
  const update = (body: Record<string, unknown>): Promise<Reply> =>
    platform.ask("PATCH", INSTANCE, { body: { ...platform.ids(), plan_id: undefined, ...body } });

  test("200 changes the plan, up and down, and again changes nothing", async () => {
    await provision();
    for (const plan of ["100mb", "100mb", "25mb"]) {
      const previous_values = { plan_id: "whatever", maintenance_info: { version: "1.0.0" } };
      const { plan_id } = platform.ids(plan);
      expect(await update({ plan_id, previous_values })).toMatchObject({ status: 200, body: {} });
      expect(await cacheOf()).toMatchObject({ plan });
      expect((await platform.ask("GET", INSTANCE)).body.plan_id).toBe(plan_id);
    }
    expect((await cacheOf()).bytes).toBe(25 << 20);
  });

  test("200 keeps a new context, and the plan", async () => {
    await provision();
    const context = { platform: "cloudfoundry", instance_name: "renamed" };
    expect((await update({ context })).status).toBe(200);
    const record = await platform.desk.state.get("serviceInstance", INSTANCE.slice(22));
    expect(record?.value.context).toEqual(context);
    expect(await cacheOf()).toMatchObject({ plan: "25mb" });
  });

  test.each([
    [404, {}, false],
    [400, { service_id: undefined }, true],
    [400, { service_id: "other" }, true],
    [400, { plan_id: "other" }, true],
    [400, { parameters: { size: 1 } }, true],
    [422, { parameters: { name: "other" } }, true],
    [422, { maintenance_info: { version: "1.0.0" } }, true],
  ])("%i for %j", async (status, body, isThere) => {
    if (isThere) await provision();
    expect((await update(body)).status).toBe(status);
    if (isThere) expect(await cacheOf()).toMatchObject({ plan: "25mb" });
  });

  test("an operator's own size is taken back by the plan", async () => {
    await provision();
    const { id } = await cacheOf();
    resultOf(await changeCache(platform.desk, OPERATOR, id, { bytes: 64 << 20 }));
    expect((await update({ plan_id: platform.ids("25mb").plan_id })).status).toBe(200);
    expect(await cacheOf()).toMatchObject({ plan: "25mb", bytes: 25 << 20 });
  });
});

describe("binding", () => {
  test("201 makes a credential, 200 with the same one when it is asked for again", async () => {
    await provision();
    const first = await bind({ bind_resource: { app_guid: "app-1" } });
    expect(first).toMatchObject({
      status: 201,
      body: {
        credentials: {
          servers: "cache.example:11211",
          MEMCACHIER_SERVERS: "cache.example:11211",
          MEMCACHIER_USERNAME: expect.stringMatching(/^[a-z2-9]{12}$/),
          MEMCACHIER_PASSWORD: expect.stringMatching(/^[a-z2-9]{32}$/),
        },
        endpoints: [{ host: "cache.example", ports: ["11211"], protocol: "tcp" }],
      },
    });
    const again = await bind();
    expect(again.status).toBe(200);
    expect(again.body).toEqual(first.body);
    const { username, password } = first.body.credentials as Record<string, string>;
    const credential = await platform.desk.state.get("credential", username ?? "");
    expect(credential?.value).toMatchObject({
      cache: (await cacheOf()).id,
      rights: ["read", "write", "flush"],
      primary: true,
      label: "app app-1",
      digest: { algorithm: "sha256" },
    });
    expect(verify(credential?.value.digest, Buffer.from(password ?? ""))).toBe(true);
    const fetched = await platform.ask("GET", BINDING);
    expect(fetched).toMatchObject({ status: 200, body: { ...first.body, parameters: {} } });
  });

  test("each binding has a login of its own", async () => {
    await provision();
    const [one, two] = [await bind(), await bind({}, `${BINDING}-2`)];
    expect(isDeepStrictEqual(one.body, two.body)).toBe(false);
    expect(await countOf("credential")).toBe(2);
  });

  test("many at once for one instance are all made, one of them primary", async () => {
    await provision();
    const urls = Array.from({ length: 6 }, (_, i) => `${BINDING}-${i % 3}`);
    const replies = await Promise.all(urls.map((url) => bind({}, url)));
    expect(replies.map(({ status }) => status).sort()).toEqual([200, 200, 200, 201, 201, 201]);
    const { entries } = await platform.desk.state.list("credential");
    expect(entries.filter(({ value }) => value.primary)).toHaveLength(1);
    expect(entries).toHaveLength(3);
  });

  test("parameters give it rights, key prefix, networks and a label", async () => {
    await provision();
    const parameters = {
      rights: ["read"],
      keyPrefix: "shop:",
      networks: ["10.0.0.0/8"],
      label: "reports",
    };
    expect((await bind({ parameters })).status).toBe(201);
    const [credential] = (await platform.desk.state.list("credential")).entries;
    expect(credential?.value).toMatchObject(parameters);
    expect((await bind({ parameters })).status).toBe(200);
    expect((await bind({ parameters: { rights: ["read", "write"] } })).status).toBe(409);
  });

  test.each([
    [404, {}, false],
    [400, { service_id: undefined }, true],
    [400, { plan_id: undefined }, true],
    [400, { service_id: "other" }, true],
    [400, { plan_id: "other" }, true],
    [400, { app_guid: "" }, true],
    [400, { parameters: { rights: [] } }, true],
    [400, { parameters: { rights: ["all"] } }, true],
    [400, { parameters: { expiresAt: "tomorrow" } }, true],
    [400, { parameters: { keyPrefix: "a b" } }, true],
    [400, { parameters: { networks: ["everywhere"] } }, true],
    [400, { parameters: { rights: ["api"], keyPrefix: "shop:" } }, true],
    [400, { predecessor_binding_id: "nobody" }, true],
  ])("%i for %j", async (status, more, isThere) => {
    if (isThere) await provision();
    const reply = await bind(more);
    expect(reply.status).toBe(status);
    expect(reply.body.description).toEqual(expect.stringMatching(/\w{4}/));
    expect(await countOf("credential")).toBe(0);
  });

  test("is rotated by a successor with the same parameters", async () => {
    await provision();
    const parameters = { rights: ["read"], label: "reports" };
    const first = await bind({ parameters });
    const url = `${BINDING}-next`;
    const predecessor_binding_id = BINDING.split("/").at(-1);
    const next = await bind({ predecessor_binding_id }, url);
    expect(next.status).toBe(201);
    expect(next.body.credentials).not.toEqual(first.body.credentials);
    expect((await platform.ask("GET", url)).body.parameters).toEqual(parameters);
    expect((await unbind()).status).toBe(200);
    const again = await bind({ predecessor_binding_id }, url);
    expect(again).toMatchObject({ status: 200, body: next.body });
  });

  test("another key is told, and no wrong password", async () => {
    await provision();
    await bind();
    const { path } = platform.desk;
    const stranger = await openPlatform({ path, key: Buffer.alloc(32, 8) });
    const reply = await stranger.ask("PUT", BINDING, {
      body: platform.ids(),
      token: platform.tokens.operator,
    });
    expect(reply.status).toBe(500);
    expect(reply.body.description).toContain("broker key");
    await stranger.close();
  });
});

describe("unbinding", () => {
  test("200 deletes the credential, then 410", async () => {
    await provision();
    await bind();
    expect(await unbind()).toMatchObject({ status: 200, body: {} });
    expect([await countOf("credential"), await countOf("serviceBinding")]).toEqual([0, 0]);
    expect((await unbind()).status).toBe(410);
    expect((await platform.ask("GET", BINDING)).status).toBe(404);
    expect((await platform.ask("GET", `${BINDING}/last_operation`)).status).toBe(410);
  });

  test("a binding made anew has another password", async () => {
    await provision();
    const first = await bind();
    await unbind();
    const second = await bind();
    expect(second.status).toBe(201);
    expect(second.body.credentials).not.toEqual(first.body.credentials);
  });

  test.each([
    "",
    "?service_id=x",
    "?plan_id=x",
    "?service_id=&plan_id=",
  ])("400 for the query %j", async (query) => {
    await provision();
    await bind();
    expect((await platform.ask("DELETE", BINDING + query)).status).toBe(400);
    expect(await countOf("credential")).toBe(1);
  });

  test("400 for another service, 410 for a binding of no instance", async () => {
    expect((await unbind()).status).toBe(410);
    await provision();
    await bind();
    const query = "?service_id=other&plan_id=other";
    expect((await platform.ask("DELETE", BINDING + query)).status).toBe(400);
  });

  test("one whose credential an operator deleted is gone, and may be made again", async () => {
    await provision();
    const first = await bind();
    const { username = "" } = first.body.credentials as Record<string, string>;
    const subject = { cache: (await cacheOf()).id, username };
    resultOf(await deleteCredential(platform.desk, OPERATOR, subject, { force: true }));
    expect((await platform.ask("GET", BINDING)).status).toBe(404);
    expect((await bind()).status).toBe(201);
    expect((await unbind()).status).toBe(200);
  });
});

describe("deprovisioning", () => {
  test("200 deletes cache, bindings and credentials, then 410", async () => {
    await provision();
    await bind();
    await bind({}, `${BINDING}-2`);
    expect(await deprovision()).toMatchObject({ status: 200, body: {} });
    for (const kind of ["cache", "credential", "serviceInstance", "serviceBinding"] as const) {
      expect(await countOf(kind), kind).toBe(0);
    }
    expect((await deprovision()).status).toBe(410);
  });

  test("a request without a body may say that it is JSON", async () => {
    await provision();
    const headers = { ...VERSION, "content-type": "application/json" };
    const url = INSTANCE + platform.query();
    expect((await platform.ask("DELETE", url, { headers })).status).toBe(200);
  });

  test("400 without ids or with another service", async () => {
    await provision();
    for (const query of ["", "?service_id=x", "?service_id=other&plan_id=other"]) {
      expect((await platform.ask("DELETE", INSTANCE + query)).status, query).toBe(400);
    }
    expect(await countOf("cache")).toBe(1);
  });

  test("two at once: both are told that it is gone", async () => {
    await provision();
    const statuses = (await Promise.all([deprovision(), deprovision()])).map((one) => one.status);
    expect(statuses.sort()).toEqual([200, 410]);
  });

  test("an instance whose cache an operator deleted is gone, and may be ordered anew", async () => {
    await provision();
    await bind();
    resultOf(await deleteCache(platform.desk, OPERATOR, (await cacheOf()).id));
    expect((await platform.ask("GET", INSTANCE)).status).toBe(404);
    expect((await bind()).status).toBe(404);
    expect((await provision()).status).toBe(201);
    expect((await platform.ask("GET", BINDING)).status).toBe(404);
    expect((await bind()).status).toBe(201);
    resultOf(await deleteCache(platform.desk, OPERATOR, (await cacheOf()).id));
    expect((await unbind()).status).toBe(410);
    expect((await deprovision()).status).toBe(410);
    expect([await countOf("serviceInstance"), await countOf("serviceBinding")]).toEqual([0, 0]);
  });
});

test("503 while the cluster state is away; afterwards the same request is done", async () => {
  let isAway = false;
  const away = await openPlatform({
    wrap: (state) =>
      new Proxy(state, {
        get: (target, key) => {
          const value: unknown = Reflect.get(target, key);
          if (typeof value !== "function") return value;
          if (isAway && key !== "close") return () => Promise.reject(new StateUnavailable("gone"));
          return value.bind(target);
        },
      }),
  });
  isAway = true;
  for (const ask of [
    () => away.ask("PUT", INSTANCE, { body: away.order() }),
    () => away.ask("GET", INSTANCE),
    () => away.ask("PUT", BINDING, { body: away.ids() }),
    () => away.ask("DELETE", INSTANCE + away.query()),
  ]) {
    const reply = await ask();
    expect(reply.status).toBe(503);
    expect(reply.body.description).toContain("gone");
  }
  expect((await away.ask("GET", "/v2/catalog")).status).toBe(200);
  isAway = false;
  expect((await away.ask("PUT", INSTANCE, { body: away.order() })).status).toBe(201);
  await away.close();
});

test("no password and no token is in the audit log", async () => {
  await provision();
  const { body } = await bind();
  const { password = "" } = body.credentials as Record<string, string>;
  await unbind();
  await deprovision();
  const audit = JSON.stringify((await platform.desk.state.list("audit")).entries);
  expect(audit).toContain("binding.create");
  expect(audit).not.toContain(password);
  for (const token of Object.values(platform.tokens)) expect(audit).not.toContain(token);
});
