/** Webhooks against servers that take, refuse, stall, redirect and come back. */
import { createHmac } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { seededRandom } from "../../../core/runtime/random.ts";
import { Webhook } from "../../../monitor/fallback/webhook.ts";
import { makeCertificates } from "../../harness/certificates.ts";
import { temporaryFolder } from "../../harness/processes.ts";

type Taken = { headers: IncomingMessage["headers"]; text: string };
type Answer = (response: ServerResponse, count: number) => void;

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

const NOTICE = {
  id: "17.1.alice",
  to: "alice",
  body: "#17 CRIT über",
  payload: { incident: "17" },
};
const random = seededRandom(1);

async function serve(answer: Answer, tls?: { key: string; cert: string }) {
  const taken: Taken[] = [];
  const listen = (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      taken.push({ headers: request.headers, text: Buffer.concat(chunks).toString() });
      answer(response, taken.length);
    });
  };
  const server = tls === undefined ? createServer(listen) : createHttpsServer(tls, listen);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { taken, url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}/hook` };
}

const status =
  (...codes: number[]): Answer =>
  (response, count) => {
    response.writeHead(codes[count - 1] ?? codes.at(-1) ?? 200).end();
  };

const secretFile = (text: string, mode = 0o600): string => {
  const file = join(temporaryFolder("webhook"), "secret");
  writeFileSync(file, `${text}\n`, { mode });
  return file;
};

const hook = (options: { url: string; secretFile?: string; tokenFile?: string; caFile?: string }) =>
  new Webhook({ name: "hook", options, random });

test("what is told arrives as JSON, signed with the secret, with the token", async () => {
  const { url, taken } = await serve(status(204));
  const files = { secretFile: secretFile("shh"), tokenFile: secretFile("t0ken") };
  expect(await hook({ url, ...files }).send(NOTICE)).toMatchObject({ ok: true, attemptCount: 1 });
  const { headers, text } = taken[0] as Taken;
  expect(JSON.parse(text)).toEqual({
    id: "17.1.alice",
    to: "alice",
    text: "#17 CRIT über",
    payload: { incident: "17" },
  });
  const [, seconds, signature] = /^t=(\d+),v1=(\w+)$/.exec(
    String(headers["memward-signature"]),
  ) as RegExpExecArray;
  expect(signature).toBe(createHmac("sha256", "shh").update(`${seconds}.${text}`).digest("hex"));
  expect(headers).toMatchObject({ authorization: "Bearer t0ken", "idempotency-key": "17.1.alice" });
});

describe("answers", () => {
  test.each<[string, number[], object, number]>([
    ["one that passes is asked again", [503, 429, 200], { ok: true, attemptCount: 3 }, 3],
    ["one that stays is given up", [500], { ok: false, failure: "unavailable" }, 3],
    [
      "a refusal is not asked again",
      [403],
      { ok: false, failure: "refused", detail: "HTTP 403" },
      1,
    ],
  ])("%s", async (_, codes, outcome, count) => {
    const { url, taken } = await serve(status(...codes));
    expect(await hook({ url }).send(NOTICE)).toMatchObject(outcome);
    expect(taken).toHaveLength(count);
    expect(new Set(taken.map(({ headers }) => headers["idempotency-key"])).size).toBe(1);
  });

  test("a redirect is not followed", async () => {
    const elsewhere = await serve(status(200));
    const { url } = await serve((response) => {
      response.writeHead(307, { location: elsewhere.url }).end();
    });
    expect(await hook({ url }).send(NOTICE)).toMatchObject({ ok: false, failure: "redirected" });
    expect(elsewhere.taken).toEqual([]);
  });

  test("an answer without end counts by its status", async () => {
    const { url } = await serve((response) => {
      response.writeHead(200);
      response.write("x");
    });
    expect(await hook({ url }).send(NOTICE)).toMatchObject({ ok: true });
  });

  test("none at all is given up after its time", async () => {
    const { url, taken } = await serve(() => {});
    const impatient = new Webhook({ name: "hook", options: { url }, attemptMsMax: 200, random });
    expect(await impatient.send(NOTICE)).toMatchObject({ ok: false, failure: "timed_out" });
    expect(taken).toHaveLength(3);
  });
});

test("nobody listens: told without the URL, which may be a secret", async () => {
  const outcome = await hook({ url: "http://127.0.0.1:9/s3cret/path" }).send(NOTICE);
  expect(outcome).toMatchObject({ ok: false, failure: "unreachable" });
  expect(JSON.stringify(outcome)).not.toContain("s3cret");
});

test("TLS: the authority that was named, and no other", async () => {
  const { ca, server } = makeCertificates();
  const tls = {
    key: readFileSync(server.key, "utf8"),
    cert: readFileSync(server.certificate, "utf8"),
  };
  const { url, taken } = await serve(status(200), tls);
  expect(await hook({ url, caFile: ca }).send(NOTICE)).toMatchObject({ ok: true });
  expect(await hook({ url }).send(NOTICE)).toMatchObject({ ok: false, failure: "certificate" });
  expect(taken).toHaveLength(1);
});

test("a secret that others may read is not used", async () => {
  const { url, taken } = await serve(status(200));
  const outcome = await hook({ url, secretFile: secretFile("shh", 0o644) }).send(NOTICE);
  expect(outcome).toMatchObject({ ok: false, failure: "secret_file" });
  expect(JSON.stringify(outcome)).toMatch(/mode 644/);
  expect(JSON.stringify(outcome)).not.toContain("shh");
  expect(taken).toEqual([]);
});

test("closing ends what is under way", async () => {
  const { url } = await serve(() => {});
  const webhook = new Webhook({ name: "hook", options: { url } });
  const sending = webhook.send(NOTICE);
  await webhook.close();
  expect(await sending).toMatchObject({ ok: false, failure: "stopped" });
});
