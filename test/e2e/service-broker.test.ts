/**
 * Promise: a platform orders, binds, resizes and gives back a cache through the Open Service Broker
 * API, and an application that gets nothing but the answer works with a stock client, at once.
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";
import { memjs } from "./programs.ts";

const INSTANCE = "/v2/service_instances/e2e-instance";
const BINDING = `${INSTANCE}/service_bindings/e2e-binding`;

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward({ proxies: 3, plain: false });
}, 60_000);
afterAll(() => memward.stop());

// biome-ignore lint/suspicious/noExplicitAny: what a platform reads is told by each expectation.
type Reply = { status: number; body: any };

async function ask(method: string, path: string, body?: unknown): Promise<Reply> {
  const reply = await fetch(memward.control + path, {
    method,
    headers: {
      authorization: `Basic ${Buffer.from(`cloudfoundry:${memward.token}`).toString("base64")}`,
      "x-broker-api-version": "2.17",
      "content-type": "application/json",
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: reply.status, body: await reply.json() };
}

test("an ordered cache lives from catalog to deprovisioning", async () => {
  const [service] = (await ask("GET", "/v2/catalog")).body.services;
  const planId = (name: string): string =>
    service.plans.find((plan: { name: string }) => plan.name === name).id;
  const ids = (name: string) => ({ service_id: service.id, plan_id: planId(name) });
  const query = `?${new URLSearchParams(ids("100mb"))}`;
  const order = { ...ids("25mb"), organization_guid: "o", space_guid: "s" };

  expect((await ask("PUT", INSTANCE, order)).status).toBe(201);
  const bound = await ask("PUT", BINDING, { ...ids("25mb"), bind_resource: { app_guid: "app" } });
  expect(bound.status).toBe(201);
  expect((await ask("PUT", BINDING, ids("25mb"))).body).toEqual(bound.body);

  const { MEMCACHIER_SERVERS, MEMCACHIER_USERNAME, MEMCACHIER_PASSWORD } = bound.body.credentials;
  const login = { username: MEMCACHIER_USERNAME, password: MEMCACHIER_PASSWORD };
  const servers = MEMCACHIER_SERVERS.split(",");
  expect(servers).toHaveLength(3);
  // Each proxy knows the login already.
  for (const server of servers) {
    const client = memjs([server], login);
    expect(await client.set(`at-${server}`, "hello", {})).toBe(true);
    client.close();
  }
  const client = memjs(servers, login);
  expect(await client.set("greeting", "hello", {})).toBe(true);
  expect((await ask("PATCH", INSTANCE, ids("100mb"))).status).toBe(200);
  expect(String((await client.get("greeting")).value)).toBe("hello");
  const limit = await new Promise((resolve) =>
    client.stats((_, __, stats) => resolve(stats?.limit_maxbytes)),
  );
  expect(limit).toBe(String(100 << 20));

  expect((await ask("DELETE", BINDING + query)).status).toBe(200);
  await expect(memjs(servers, login).get("greeting")).rejects.toThrow(/auth/i);
  expect((await ask("DELETE", BINDING + query)).status).toBe(410);
  expect((await ask("DELETE", INSTANCE + query)).status).toBe(200);
  expect((await ask("GET", INSTANCE)).status).toBe(404);
  client.close();
  expect(statSync(join(memward.dataDir, "broker.key")).mode & 0o777).toBe(0o600);
  // Nothing secret is in the logs.
  expect(memward.output()).not.toContain(MEMCACHIER_PASSWORD);
  expect(memward.output()).not.toContain(memward.token);
}, 60_000);
