/** Promise: `memward status` and the operations port tell what runs, where, and if it serves. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Memward, runMemward, startMemward } from "../harness/memward.ts";
import { temporaryFolder } from "../harness/processes.ts";

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward({ proxies: 2, args: ["--nodes", "3"] });
}, 60_000);
afterAll(() => memward.stop());

const get = (path: string): Promise<Response> => fetch(`http://${memward.ops}${path}`);

test("--json lists every role with name, pid, addresses and ready", async () => {
  const { running, roles } = await memward.status();
  expect(running).toBe(true);
  expect(roles.every(({ ready }) => ready)).toBe(true);
  const names = roles.map(({ role, name }) => `${role} ${name}`);
  for (const name of ["proxy-1", "proxy-2"]) expect(names).toContain(`proxy ${name}`);
  for (const name of ["node-1", "node-2", "node-3"]) expect(names).toContain(`backend ${name}`);
  expect(roles.map(({ role }) => role)).toContain("control");
  for (const { pid } of roles) expect(process.kill(pid, 0)).toBe(true);
  const proxies = roles.filter(({ role }) => role === "proxy");
  for (const server of memward.servers) {
    expect(proxies.flatMap(({ addresses }) => addresses)).toContain(server);
  }
  expect(new Set(proxies.map(({ pid }) => pid)).size).toBe(2);
});

test("without --json it is a table for people", async () => {
  const { code, stdout } = await runMemward(["status", "--data-dir", memward.dataDir]);
  expect(code).toBe(0);
  for (const word of ["proxy-1", "node-1", memward.server]) expect(stdout).toContain(word);
});

test("says when nothing runs in a directory", async () => {
  const folder = temporaryFolder("memward-status");
  const { code, stdout, stderr } = await runMemward(["status", "--json", "--data-dir", folder]);
  expect(code).not.toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ running: false });
  expect(stderr).toMatch(/no instance/);
});

describe("the operations port", () => {
  test("/healthz and /readyz say yes", async () => {
    expect((await get("/healthz")).status).toBe(200);
    expect((await get("/readyz")).status).toBe(200);
  });

  test("has a page for people, and no page that is not there", async () => {
    expect((await get("/")).status).toBe(200);
    expect((await get("/no-such-page")).status).toBe(404);
  });

  test("/metrics is Prometheus text", async () => {
    const response = await get("/metrics");
    expect(response.headers.get("content-type")).toMatch(/^text\/plain/);
    const text = await response.text();
    expect(text).toMatch(/^# HELP memward_/m);
    expect(text).toMatch(/^# TYPE memward_\w+ (counter|gauge|histogram)$/m);
  });
});

test("help names every command and flag", async () => {
  const { code, stdout } = await runMemward(["help"]);
  expect(code).toBe(0);
  for (const word of ["up", "status", "proxy", "backend", "config"]) expect(stdout).toContain(word);
  const { stdout: upHelp } = await runMemward(["help", "up"]);
  for (const flag of [
    "data-dir",
    "listen",
    "ops",
    "nodes",
    "memory",
    "workers",
    "plain",
    "config",
  ]) {
    expect(stdout + upHelp).toContain(`--${flag}`);
  }
});
