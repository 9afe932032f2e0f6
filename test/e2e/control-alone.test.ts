/** Promise: the admin API runs alone beside the others; several of them agree; its options count. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Memward, runMemward, spawnMemward, startMemward } from "../harness/memward.ts";
import { freePort } from "../harness/ports.ts";
import { type Running, temporaryFolder, waitForListener } from "../harness/processes.ts";

let memward: Memward;
let alone: Running;
let address = "";
const folder = temporaryFolder("memward-control");

function configFile(name: string, content: object): string {
  const file = join(folder, name);
  writeFileSync(file, JSON.stringify(content));
  return file;
}

beforeAll(async () => {
  const plans = [{ name: "tiny", bytes: "5mb", limits: { sessionsMax: 3 } }];
  const file = configFile("up.json", { control: { plans, servers: ["cache.example:11211"] } });
  memward = await startMemward({ args: ["--config", file] });
  address = `127.0.0.1:${await freePort()}`;
  const own = configFile("control.json", {
    dataDir: memward.dataDir,
    control: { listen: address },
  });
  alone = spawnMemward(["control", "--config", own]);
  await waitForListener(address, alone);
}, 60_000);
afterAll(async () => {
  expect(await alone.stop()).toBe(0);
  await memward.stop();
});

async function ask(url: string, path: string, body?: object) {
  const response = await fetch(`${url}${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: { authorization: `Bearer ${memward.token}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: JSON.parse(await response.text()) };
}

test("what is made through one is changed through the other", async () => {
  const here = `http://${address}`;
  const made = await ask(here, "/v1/caches?wait=applied", { name: "shop", plan: "100mb" });
  expect(made).toMatchObject({ status: 201, body: { applied: { missing: [] } } });
  const login = await ask(memward.control, "/v1/caches/shop/credentials?wait=applied", {});
  expect(login.status).toBe(201);
  expect(login.body.env.MEMCACHIER_SERVERS).toBe("cache.example:11211");
  const wire = await memward.open("text", login.body);
  expect(await wire.line("mg no-such-key")).toBe("EN");
  wire.close();
});

test("plans and servers are those of the configuration file", async () => {
  const { body } = await ask(memward.control, "/v1/plans");
  expect(body.plans).toMatchObject([
    {
      name: "tiny",
      bytes: 5 * 1024 ** 2,
      limits: { sessionsMax: 3, operationsPerSecondMax: null },
    },
  ]);
});

test("a port that is taken is refused in one sentence", async () => {
  const dataDir = join(folder, "other");
  const file = configFile("taken.json", { dataDir, control: { listen: address } });
  const { code, stderr } = await runMemward(["control", "--config", file, "--log-level", "silent"]);
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr: `memward: cannot listen on ${address} (listen): the port is taken by another program\n`,
  });
});
