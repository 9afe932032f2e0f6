/**
 * The ops port: `/metrics`, `/healthz` (the process lives), `/readyz` (clients can be served), and
 * pages its owner adds. It only reads, holds no secrets, and is bounded in every direction: GET
 * and HEAD without a body, short headers, few connections, time limits. Not an admin API.
 */
import { chmodSync, rmSync } from "node:fs";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Server as NetServer } from "node:net";
import type { Writable } from "node:stream";
import { formatAddress, parseAddress } from "./config.ts";
import type { Logger } from "./log.ts";
import { METRICS_CONTENT_TYPE } from "./metrics.ts";

const HEADER_SIZE_MAX = 8 * 1024;
const CONNECTION_COUNT_MAX = 64;
const REQUEST_TIMEOUT_MS = 5_000;
const CONNECTIONS_CHECK_MS = 1_000;

export type OpsRow = {
  path: string;
  type: string;
} & (
  | { answer(): Promise<{ status: number; body: string }> }
  /** Writes to the response from the next turn on, until its end; false when there are too many. */
  | { stream(response: Writable): boolean }
);

export interface Ops {
  /** `host:port`, port 0 resolved; or `unix:/path`, see nearby.ts. */
  readonly address: string;
  close(): Promise<void>;
}

/** The three rows that each role has. `notReady` names what cannot serve; empty means ready. */
export function standardRows(source: {
  metrics(): Promise<string>;
  notReady(): readonly string[];
}): OpsRow[] {
  return [
    {
      path: "/metrics",
      type: METRICS_CONTENT_TYPE,
      answer: async () => ({ status: 200, body: await source.metrics() }),
    },
    {
      path: "/healthz",
      type: "application/json",
      answer: async () => ({ status: 200, body: '{"alive":true}\n' }),
    },
    {
      path: "/readyz",
      type: "application/json",
      answer: async () => {
        const notReady = source.notReady();
        const ready = notReady.length === 0;
        return { status: ready ? 200 : 503, body: `${JSON.stringify({ ready, notReady })}\n` };
      },
    },
  ];
}

/** Listens; rejects with the system's error (EADDRINUSE …) when it cannot. */
export async function startOps(options: {
  address: string;
  rows: readonly OpsRow[];
  log: Logger;
}): Promise<Ops> {
  const { createServer } = await import("node:http"); // Only processes with an ops port pay for it.
  const byPath = new Map(options.rows.map((row) => [row.path, row]));
  const server = createServer(
    {
      maxHeaderSize: HEADER_SIZE_MAX,
      headersTimeout: REQUEST_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: CONNECTIONS_CHECK_MS,
    },
    (request, response) => void serve(byPath, options.log, request, response),
  );
  server.maxConnections = CONNECTION_COUNT_MAX;
  const { host, port } = parseAddress(options.address) ?? { host: "127.0.0.1", port: 0 };
  await listen(server, { host, port });
  const bound = server.address();
  const actual = typeof bound === "object" && bound !== null ? bound.port : port;
  return {
    address: formatAddress({ host, port: actual }),
    close: () => closeServer(server),
  };
}

async function serve(
  rows: ReadonlyMap<string, OpsRow>,
  log: Logger,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method } = request;
  const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
  const row = rows.get(path);
  if (method !== "GET" && method !== "HEAD") {
    return send(request, response, { status: 405, body: "this port only reads: GET or HEAD\n" });
  }
  if (request.headers["content-length"] ?? request.headers["transfer-encoding"]) {
    return send(request, response, { status: 413, body: "a request here has no body\n" });
  }
  if (row === undefined) {
    const known = [...rows.keys()].join(" ");
    return send(request, response, { status: 404, body: `not here; this port has ${known}\n` });
  }
  if ("stream" in row) return openStream(row, request, response);
  try {
    send(request, response, { ...(await row.answer()), type: row.type });
  } catch (error) {
    log.error({ err: error, path }, "ops page failed");
    send(request, response, { status: 500, body: "failed; the reason is in the log\n" });
  }
}

function openStream(
  row: Extract<OpsRow, { stream: unknown }>,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  response.on("error", () => {}); // Told by its end, too.
  if (request.method === "HEAD") return send(request, response, { status: 200, body: "" });
  if (!row.stream(response)) {
    return send(request, response, { status: 503, body: "too many read this already\n" });
  }
  response.writeHead(200, {
    "content-type": `${row.type}; charset=utf-8`,
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  });
  response.flushHeaders();
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, body, type = "text/plain" }: { status: number; body: string; type?: string },
): void {
  response.writeHead(status, {
    "content-type": type.includes("charset") ? type : `${type}; charset=utf-8`,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
    ...(status === 405 ? { allow: "GET, HEAD" } : {}),
    // An announced body that we did not read must not be taken for the next request.
    ...(status === 405 || status === 413 ? { connection: "close" } : {}),
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

type ListenAt = { host: string; port: number } | { path: string };

/** A socket's file is ours alone; one that a killed process left is in the way. */
export async function listen(server: NetServer, at: ListenAt): Promise<void> {
  if ("path" in at) rmSync(at.path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(at, () => {
      server.off("error", reject);
      resolve();
    });
  });
  if ("path" in at) chmodSync(at.path, 0o600);
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
