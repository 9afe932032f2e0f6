/** Listening sockets: every accepted connection becomes a session. */
import net from "node:net";
import { Connection } from "../../core/io/connection.ts";
import type { Services } from "./services.ts";
import { Session } from "./session.ts";

const BACKLOG = 4096;
const KEEP_ALIVE_DELAY_MS = 60_000;

export interface ListenOptions {
  host: string;
  port: number;
  /** Share the port with other workers. */
  reusePort: boolean;
  /** Connections at most; more are closed as they come. */
  sessionsMax: number;
  /** A session that needs no login belongs to this cache; undefined when one is needed. */
  cache?: string;
}

export interface Listener {
  /** `host:port` as bound. */
  readonly address: string;
  /** Stops accepting; sessions live on. */
  close(): Promise<void>;
}

/** Rejects with the system's error when the address cannot be had. */
export async function listen(services: Services, options: ListenOptions): Promise<Listener> {
  const server = net.createServer({
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
  });
  server.maxConnections = options.sessionsMax;
  server.on("drop", () => services.counters.dropped++);
  server.on("connection", (socket) => accept(services, socket, options.cache));
  const { host, port, reusePort } = options;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, reusePort, backlog: BACKLOG }, () => {
      server.removeListener("error", reject);
      resolve();
    });
  });
  // Out of file descriptors, for one: the next connection may fare better.
  server.on("error", () => services.counters.dropped++);
  return { address: boundAddress(server), close: () => closeServer(server) };
}

function accept(services: Services, socket: net.Socket, cache: string | undefined): void {
  services.loop.turn();
  const session = new Session(services, (receiver) =>
    Connection.accepted(services.loop, socket, receiver),
  );
  if (cache === undefined) return;
  const tenant = services.directory.tenantByName(cache);
  if (tenant?.isEnabled) session.admit(tenant, null);
  else session.destroy("no_such_cache");
}

function boundAddress(server: net.Server): string {
  const { address, port, family } = server.address() as net.AddressInfo;
  return family === "IPv6" ? `[${address}]:${port}` : `${address}:${port}`;
}

const closeServer = (server: net.Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => resolve());
    // `close` waits for connections, which the sessions end in their own time.
    resolve();
  });
