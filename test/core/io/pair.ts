/** Two ends of a real TCP connection on loopback: one is a `Connection`, the other a bare socket. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { Connection, type Receiver } from "../../../core/io/connection.ts";
import type { Loop } from "../../../core/io/loop.ts";

/** How our end came about: accepted by a server of ours, or connected by us. */
export type Kind = "accepted" | "connected";
export const KINDS: readonly Kind[] = ["accepted", "connected"];

export type Pair = {
  near: Connection;
  far: Socket;
  /** Everything the far end has read so far, and its size. */
  farBytes(): Buffer;
  farSize(): number;
  close(): void;
};

const servers = new Set<Server>();

async function listen(): Promise<{ server: Server; port: number }> {
  // Paused, or bytes could come before anybody listens for them.
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  servers.add(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { server, port: address.port };
}

export async function openPair(loop: Loop, receiver: Receiver, kind: Kind): Promise<Pair> {
  const { server, port } = await listen();
  const accepted = once(server, "connection") as Promise<[Socket]>;
  let near: Connection | null = null;
  let far: Socket;
  if (kind === "accepted") {
    far = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    const [socket] = await accepted;
    near = Connection.accepted(loop, socket, receiver);
    socket.resume();
  } else {
    const onread = Connection.readInto(loop, () => near as Connection);
    const socket = connect({ port, host: "127.0.0.1", onread });
    near = new Connection(loop, socket, receiver);
    await once(socket, "connect");
    [far] = await accepted;
    far.resume();
  }
  server.close();
  servers.delete(server);
  const chunks: Buffer[] = [];
  let size = 0;
  far.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    size += chunk.length;
  });
  far.on("error", () => far.destroy());
  const connection = near;
  return {
    near: connection,
    far,
    farBytes: () => Buffer.concat(chunks),
    farSize: () => size,
    close: () => {
      connection.destroy();
      far.destroy();
    },
  };
}

/** What happened to a connection, in order, and the bytes that were taken from it. */
export class Collector implements Receiver {
  readonly events: string[] = [];
  readonly taken: Buffer[] = [];
  connection: Connection | null = null;
  /** Called for every look; answers how far it took. All of it, unless told otherwise. */
  take: (bytes: Buffer, from: number, to: number) => number = (bytes, from, to) => {
    this.taken.push(Buffer.from(bytes.subarray(from, to)));
    return to;
  };

  get bytes(): Buffer {
    return Buffer.concat(this.taken);
  }

  received(bytes: Buffer, from: number, to: number): number {
    return this.take(bytes, from, to);
  }

  drained(): void {
    this.events.push("drained");
  }

  ended(): void {
    this.events.push("ended");
  }

  closed(reason: string): void {
    this.events.push(`closed ${reason}`);
  }
}

/** Waits until it is true; fails after a while, saying what was waited for. */
export async function until(
  what: string,
  isTrue: () => boolean,
  deadlineMs = 10_000,
): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  while (!isTrue()) {
    if (performance.now() > endMs) throw new Error(`waited too long until ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Lets everything that is on its way over loopback arrive, where nothing is expected to. */
export async function quiet(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve, 4));
}
