/** The endpoint of a shard: listens, and gives each connection its session. */
import net from "node:net";
import { Connection } from "../../core/io/connection.ts";
import type { Loop } from "../../core/io/loop.ts";
import { sleep } from "../../core/runtime/clock.ts";
import { Session } from "./session.ts";
import type { Shard } from "./shard.ts";

const BACKLOG = 1024;
const DRAIN_MS_MAX = 2_000;

export type Endpoint = { path: string } | { host: string; port: number };

export class ShardServer {
  readonly #loop: Loop;
  readonly #shard: Shard;
  readonly #server: net.Server;
  readonly #sessions = new Set<Session>();

  constructor(loop: Loop, shard: Shard) {
    this.#loop = loop;
    this.#shard = shard;
    this.#server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      this.#accept(socket),
    );
  }

  /** The address it listens on: `unix:/path` or `host:port`. Rejects with the system's error. */
  listen(endpoint: Endpoint): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ ...endpoint, backlog: BACKLOG }, () => {
        this.#server.off("error", reject);
        resolve(addressOf(this.#server));
      });
    });
  }

  #accept(socket: net.Socket): void {
    this.#loop.turn();
    const session = new Session(
      this.#shard,
      (receiver) => Connection.accepted(this.#loop, socket, receiver),
      (closed) => this.#sessions.delete(closed),
    );
    this.#sessions.add(session);
  }

  /** Stops accepting, answers what was read, closes; who does not read does not hold us up. */
  async drain(): Promise<void> {
    let isClosed = false;
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => {
        isClosed = true;
        resolve();
      });
    });
    for (const session of this.#sessions) session.drain();
    await Promise.race([closed, sleep(DRAIN_MS_MAX)]);
    if (isClosed) return;
    for (const session of this.#sessions) session.destroy();
    await closed;
  }
}

function addressOf(server: net.Server): string {
  const address = server.address();
  if (typeof address === "string") return `unix:${address}`;
  return `${address?.address}:${address?.port}`;
}
