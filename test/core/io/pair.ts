/** Two ends of a real TCP connection on loopback: one is a `Connection`, the other a bare socket. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { describe } from "vitest";
import type { Connection } from "../../../core/io/connection.ts";
import { nativeProblem } from "../../../core/io/layer.ts";
import type { Loop } from "../../../core/io/loop.ts";
import type { Connecting, LayerName, Receiver } from "../../../core/io/wire.ts";

/** How our end came about: accepted by a server of ours, or connected by us. */
export type Kind = "accepted" | "connected";
/** And who moves its bytes. */
export type Way = { io: LayerName; kind: Kind };
const WAYS: readonly Way[] = [
  { io: "net", kind: "accepted" },
  { io: "net", kind: "connected" },
  { io: "native", kind: "accepted" },
  { io: "native", kind: "connected" },
];

/** Suites of a layer that this machine has not are skipped; `npm test` names what was skipped. */
export const hasLayer = (io: LayerName): boolean => io === "net" || nativeProblem() === undefined;

/** The suite in all ways; `%s` in its title becomes the way. */
export function describeWays(title: string, suite: (way: Way) => void): void {
  for (const way of WAYS) {
    const name = title.replace("%s", `${way.kind} by ${way.io}`);
    describe.skipIf(!hasLayer(way.io))(name, () => suite(way));
  }
}

export type Pair = {
  near: Connection;
  far: Socket;
  /** Everything the far end has read so far, and its size. */
  farBytes(): Buffer;
  farSize(): number;
  close(): void;
};

const HOST = "127.0.0.1";
const BACKLOG = 16;

export async function openPair(loop: Loop, receiver: Receiver, kind: Kind): Promise<Pair> {
  const { near, far } = await (kind === "accepted" ? accept : connectTo)(loop, receiver);
  const chunks: Buffer[] = [];
  let size = 0;
  far.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    size += chunk.length;
  });
  far.on("error", () => far.destroy());
  return {
    near,
    far,
    farBytes: () => Buffer.concat(chunks),
    farSize: () => size,
    close: () => {
      near.destroy();
      far.destroy();
    },
  };
}

type Ends = { near: Connection; far: Socket };

async function accept(loop: Loop, receiver: Receiver): Promise<Ends> {
  const near = Promise.withResolvers<Connection>();
  const listening = await loop.listen(
    { host: HOST, port: 0 },
    { backlog: BACKLOG },
    { accepted: (attach) => near.resolve(attach(receiver)) },
  );
  const port = Number(listening.address.split(":").at(-1));
  const far = connect({ port, host: HOST, allowHalfOpen: true });
  await Promise.all([near.promise, once(far, "connect")]);
  listening.close();
  return { near: await near.promise, far };
}

async function connectTo(loop: Loop, receiver: Receiver): Promise<Ends> {
  // Paused, or bytes could come before anybody listens for them.
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen(0, HOST);
  await once(server, "listening");
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const { port } = server.address() as AddressInfo;
  const opened = Promise.withResolvers<void>();
  const near = loop.connect({ host: HOST, port }, connecting(receiver, opened.resolve));
  await opened.promise;
  const [far] = await accepted;
  server.close();
  far.resume();
  return { near, far };
}

const connecting = (receiver: Receiver, opened: () => void): Connecting => ({
  opened,
  received: (bytes, from, to) => receiver.received(bytes, from, to),
  drained: () => receiver.drained(),
  ended: () => receiver.ended(),
  closed: (reason) => receiver.closed(reason),
});

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
