/** The ops port: three rows for each role, read-only and bounded. */
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLog } from "../../../core/runtime/log.ts";
import { type Ops, standardRows, startOps } from "../../../core/runtime/ops.ts";

let notReady: string[] = [];
let ops: Ops;
let base = "";

beforeAll(async () => {
  const source = { metrics: async () => "up 1\n", notReady: () => notReady };
  const broken = {
    path: "/broken",
    type: "text/plain",
    answer: () => Promise.reject(new Error("secret details")),
  };
  const rows = [...standardRows(source), broken];
  ops = await startOps({
    address: "127.0.0.1:0",
    rows,
    log: createLog({ name: "test", level: "silent" }),
  });
  base = `http://${ops.address}`;
});
afterAll(() => ops.close());

test("port 0 is resolved", () => {
  expect(ops.address).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
});

test("/metrics has Prometheus' content type", async () => {
  const reply = await fetch(`${base}/metrics`);
  expect(reply.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(await reply.text()).toBe("up 1\n");
});

test("/healthz answers while nothing is ready; /readyz names what is not", async () => {
  notReady = ["proxy-1"];
  expect((await fetch(`${base}/healthz`)).status).toBe(200);
  const sick = await fetch(`${base}/readyz?verbose`);
  expect([sick.status, await sick.json()]).toEqual([503, { ready: false, notReady: ["proxy-1"] }]);
  notReady = [];
  const well = await fetch(`${base}/readyz`);
  expect([well.status, await well.json()]).toEqual([200, { ready: true, notReady: [] }]);
});

describe("refused", () => {
  test("any method that could change something", async () => {
    const reply = await fetch(`${base}/healthz`, { method: "POST", body: "x" });
    expect([reply.status, reply.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  });

  test("a body", async () => {
    const request = "GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000000\r\n\r\n";
    expect(await raw(request)).toMatch(/^HTTP\/1\.1 413 /);
  });

  test("long headers", async () => {
    const request = `GET /healthz HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(20_000)}\r\n\r\n`;
    expect(await raw(request)).toMatch(/^HTTP\/1\.1 431 /);
  });

  test("unknown paths, with the known ones named", async () => {
    const reply = await fetch(`${base}/admin`);
    expect(reply.status).toBe(404);
    expect(await reply.text()).toContain("/metrics /healthz /readyz");
  });
});

test("a page that fails answers 500 and keeps its reason to itself", async () => {
  const reply = await fetch(`${base}/broken`);
  expect(reply.status).toBe(500);
  expect(await reply.text()).not.toContain("secret");
});

test("HEAD has the headers of GET and no body", async () => {
  const reply = await fetch(`${base}/metrics`, { method: "HEAD" });
  expect([reply.headers.get("content-length"), await reply.text()]).toEqual(["5", ""]);
});

test("a taken port rejects with the system's error", async () => {
  const again = startOps({
    address: ops.address,
    rows: [],
    log: createLog({ name: "test", level: "silent" }),
  });
  await expect(again).rejects.toMatchObject({ code: "EADDRINUSE" });
});

function raw(request: string): Promise<string> {
  const port = Number(ops.address.split(":")[1]);
  return new Promise((resolve, reject) => {
    let reply = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(request));
    socket.on("data", (chunk) => {
      reply += chunk.toString();
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(reply));
  });
}
