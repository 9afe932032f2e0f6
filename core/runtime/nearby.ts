/**
 * What a role streams to others of its machine: `GET <path>` in HTTP/1.1 on a socket that only our
 * user may open. Written on `node:net` because `node:http` costs 7 MB in a process that needs
 * nothing else of it. No keep-alive, no body, short head, few connections; it only reads.
 */
import { createServer, type Server, type Socket } from "node:net";
import { parseAddress } from "./config.ts";
import { listen, type Ops, type OpsRow } from "./ops.ts";

const UNIX = "unix:";
const HEAD_SIZE_MAX = 8 * 1024;
const HEAD_MS_MAX = 5_000;
const CONNECTION_COUNT_MAX = 32;

export type StreamRow = Extract<OpsRow, { stream: unknown }>;

const REASONS = {
  200: "OK",
  400: "Bad Request",
  404: "Not Found",
  503: "Service Unavailable",
} as const;

/** Listens at `unix:/path` or `host:port`; rejects with the system's error when it cannot. */
export async function serveNearby(address: string, rows: readonly StreamRow[]): Promise<Ops> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    readHead(socket, rows);
  });
  server.maxConnections = CONNECTION_COUNT_MAX;
  const at = address.startsWith(UNIX)
    ? { path: address.slice(UNIX.length) }
    : (parseAddress(address) ?? { host: "127.0.0.1", port: 0 });
  await listen(server, at);
  return { address: addressOf(server, address), close: () => close(server, sockets) };
}

function readHead(socket: Socket, rows: readonly StreamRow[]): void {
  let head = "";
  socket.setEncoding("latin1");
  socket.setTimeout(HEAD_MS_MAX, () => socket.destroy());
  const take = (chunk: string): void => {
    head += chunk;
    if (head.length > HEAD_SIZE_MAX) return refuse(socket, 400);
    if (!head.includes("\r\n\r\n")) return;
    socket.off("data", take);
    socket.setTimeout(0);
    socket.resume(); // Whatever else it says is of no interest, but its end is.
    const [, target] = /^GET (\/\S*) HTTP\/1\.[01]\r\n/.exec(head) ?? [];
    if (target === undefined) return refuse(socket, 400);
    const row = rows.find(({ path }) => path === target.split("?", 1)[0]);
    if (row === undefined) return refuse(socket, 404);
    if (!row.stream(socket)) return refuse(socket, 503);
    socket.write(headOf(200, row.type));
  };
  socket.on("data", take);
}

function refuse(socket: Socket, status: keyof typeof REASONS): void {
  socket.removeAllListeners("data");
  socket.resume();
  socket.end(`${headOf(status, "text/plain")}${REASONS[status]}\n`);
}

/** The body ends with the connection. */
const headOf = (status: keyof typeof REASONS, type: string): string =>
  `HTTP/1.1 ${status} ${REASONS[status]}\r\ncontent-type: ${type}; charset=utf-8\r\n` +
  "cache-control: no-store\r\nconnection: close\r\n\r\n";

function addressOf(server: Server, asked: string): string {
  const bound = server.address();
  if (bound === null || typeof bound === "string") return asked;
  return `${bound.address}:${bound.port}`;
}

function close(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    for (const socket of sockets) socket.destroy();
  });
}
