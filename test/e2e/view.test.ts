/** Promise: whoever may read the run directory sees what each proxy sees, as it happens. */
import { statSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ProxyView, proxyView } from "../../core/cluster/proxyView.ts";
import { type Memward, startMemward } from "../harness/memward.ts";

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward({ args: ["--workers", "2"] });
}, 60_000);
afterAll(() => memward.stop());

const opsOf = () =>
  memward.state(async (state) => (await state.list("proxy")).entries[0]?.value.ops ?? "");

function open(ops: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get({ socketPath: ops.replace(/^unix:/, ""), path: "/view" }, resolve).on("error", reject);
  });
}

/** Reads lines until one of them is right. */
async function untilSeen(
  stream: IncomingMessage,
  isRight: (view: ProxyView) => boolean,
): Promise<ProxyView> {
  let text = "";
  for await (const chunk of stream.setEncoding("utf8")) {
    text += chunk;
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    const views = lines.map((line) => proxyView.parse(JSON.parse(line)));
    const found = views.find(isRight);
    if (found !== undefined) return found;
  }
  throw new Error("the stream ended");
}

test("a socket of our own user streams the traffic of all workers", async () => {
  const ops = await opsOf();
  expect(ops).toMatch(/^unix:.*proxy-1\.ops\.sock$/);
  expect(statSync(ops.slice("unix:".length)).mode & 0o777).toBe(0o600);
  const stream = await open(ops);
  expect(stream.headers["content-type"]).toContain("application/x-ndjson");
  const wires = await Promise.all(Array.from({ length: 8 }, () => memward.open("text")));
  const asking = (async () => {
    for (let round = 0; round < 100; round++) {
      for (const wire of wires) await wire.line(`mg ${round}`);
    }
  })();
  const view = await untilSeen(stream, ({ caches }) => (caches[0]?.shards.length ?? 0) === 2);
  expect(view).toMatchObject({ proxy: "proxy-1", silentWorkers: 0 });
  expect(view.caches[0]?.misses).toBeGreaterThan(0);
  await asking;
  for (const wire of wires) wire.close();
});

test("more viewers than can be are sent away", async () => {
  const ops = await opsOf();
  const streams = await Promise.all(Array.from({ length: 9 }, () => open(ops)));
  expect(streams.map(({ statusCode }) => statusCode)).toContain(503);
  for (const stream of streams) stream.destroy();
});
