/** The socket for neighbours: one kind of request, one kind of answer, and nothing else. */
import { statSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { serveNearby } from "../../../core/runtime/nearby.ts";
import type { Ops } from "../../../core/runtime/ops.ts";
import { temporaryFolder } from "../../harness/processes.ts";

let path = "";
let ops: Ops;
let readers: Writable[] = [];
beforeEach(async () => {
  readers = [];
  path = join(temporaryFolder("memward-nearby"), "ops.sock");
  const stream = (reader: Writable): boolean => readers.length < 2 && readers.push(reader) > 0;
  ops = await serveNearby(`unix:${path}`, [
    { path: "/view", type: "application/x-ndjson", stream },
  ]);
});
afterEach(() => ops.close());

const ask = (url: string): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    get({ socketPath: path, path: url, agent: false }, resolve).on("error", reject);
  });

/** What comes back for these bytes, until the other side ends. */
const send = (bytes: string): Promise<string> =>
  new Promise((resolve) => {
    let text = "";
    const socket = connect(path, () => socket.write(bytes));
    socket.setEncoding("utf8");
    socket.on("data", (chunk) => {
      text += chunk;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
  });

test("only our user may open it; a file that a killed process left is no obstacle", async () => {
  expect(ops.address).toBe(`unix:${path}`);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const again = await serveNearby(`unix:${path}`, []);
  await again.close();
});

test("a client of HTTP reads what is streamed, until its end", async () => {
  const response = await ask("/view?now");
  expect(response.statusCode).toBe(200);
  expect(response.headers["content-type"]).toBe("application/x-ndjson; charset=utf-8");
  readers[0]?.write("one\n");
  readers[0]?.end("two\n");
  let text = "";
  for await (const chunk of response.setEncoding("utf8")) text += chunk;
  expect(text).toBe("one\ntwo\n");
});

test("other paths are not found, too many readers are sent away", async () => {
  expect((await ask("/metrics")).statusCode).toBe(404);
  const statuses = (await Promise.all([ask("/view"), ask("/view"), ask("/view")])).map(
    ({ statusCode }) => statusCode,
  );
  expect(statuses.sort()).toEqual([200, 200, 503]);
});

test("whatever is no request of ours ends the connection", async () => {
  expect(await send("POST /view HTTP/1.1\r\ncontent-length: 1\r\n\r\nx")).toContain("400");
  expect(await send("\x16\x03\x01 nonsense\r\n\r\n")).toContain("400");
  expect(await send("x".repeat(20_000))).toContain("400");
  expect((await ask("/view")).statusCode).toBe(200);
});

test("closing it ends those who read", async () => {
  const response = await ask("/view");
  const ended = new Promise((resolve) => {
    response.on("close", resolve);
    response.on("error", () => {});
    response.resume();
  });
  await ops.close();
  await ended;
  ops = await serveNearby(`unix:${path}`, []);
});
