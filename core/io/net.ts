/**
 * The layer over `node:net`: public API only, runs wherever Node does.
 *
 * What a socket that we connect reads goes straight into the arena (`onread`). Node gives accepted
 * sockets no such option: they allocate their read buffers themselves, and what they read they push
 * to themselves as a stream. Taken at that point it skips the stream's queue and a tick per read
 * (0.8 µs per request, a tenth of all). Only the plain case is taken: a paused socket, or one with
 * something queued, stays a stream.
 */
import net from "node:net";
import { Readable } from "node:stream";
import { READ_AT, READ_SIZE } from "./arena.ts";
import { Connection } from "./connection.ts";
import type { Loop } from "./loop.ts";
import {
  type Acceptor,
  addressOf,
  type Connecting,
  type Endpoint,
  type Layer,
  type Listening,
  type ListenOptions,
  type Receiver,
  type Wire,
} from "./wire.ts";

const EMPTY = Buffer.alloc(0);
const WIRE = Symbol("wire");
type WiredSocket = net.Socket & { [WIRE]: NetWire };

export class NetLayer implements Layer {
  readonly name = "net";
  readonly #loop: Loop;
  /** Valid for one callback only, so all sockets can share it. */
  readonly #readBuffer: Buffer;

  constructor(loop: Loop) {
    this.#loop = loop;
    this.#readBuffer = loop.arena.bytes.subarray(READ_AT, READ_AT + READ_SIZE);
  }

  async listen(endpoint: Endpoint, options: ListenOptions, acceptor: Acceptor): Promise<Listening> {
    const { backlog, reusePort = false, connectionsMax, keepAliveDelayMs } = options;
    const server = net.createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: keepAliveDelayMs !== undefined,
      keepAliveInitialDelay: keepAliveDelayMs ?? 0,
    });
    if (connectionsMax !== undefined) server.maxConnections = connectionsMax;
    server.on("drop", () => acceptor.dropped?.());
    server.on("connection", (socket) => {
      this.#loop.turn();
      acceptor.accepted((receiver) => this.#attach(socket, receiver));
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ ...endpoint, reusePort, backlog }, () => {
        server.removeListener("error", reject);
        resolve();
      });
    });
    // Out of file descriptors, for one: the next connection may fare better.
    server.on("error", () => acceptor.dropped?.());
    return { address: addressOf(boundEndpoint(server)), close: () => void server.close() };
  }

  connect(endpoint: Endpoint, receiver: Connecting): Connection {
    const socket = net.connect({
      ...endpoint,
      noDelay: true,
      keepAlive: true,
      onread: {
        buffer: this.#readBuffer,
        callback: (size) => {
          connection.read(READ_AT, size);
          return !connection.paused;
        },
      },
    });
    const { connection } = new NetWire(this.#loop, socket, receiver);
    socket.on("connect", () => {
      if (connection.isOpen) receiver.opened();
    });
    return connection;
  }

  /** Sockets write when they are told to. */
  flush(): void {}

  /** Node reads sockets in its own order. */
  limitReads(): void {}

  #attach(socket: net.Socket, receiver: Receiver): Connection {
    const { connection } = new NetWire(this.#loop, socket, receiver);
    socket.push = push;
    socket.on("data", onData);
    return connection;
  }
}

class NetWire implements Wire {
  readonly connection: Connection;
  readonly #loop: Loop;
  readonly #socket: net.Socket;

  constructor(loop: Loop, socket: net.Socket, receiver: Receiver) {
    this.#loop = loop;
    this.#socket = socket;
    this.connection = new Connection(loop, this, receiver);
    (socket as WiredSocket)[WIRE] = this;
    // Shared functions: closures of its own would cost each idle connection 300 bytes.
    socket.on("end", onEnd);
    socket.on("error", onError);
    socket.on("close", onClose);
  }

  get remoteAddress(): string {
    return this.#socket.remoteAddress ?? "";
  }

  /** The socket read `chunk` into a buffer of its own. */
  took(chunk: Buffer): void {
    const { bytes } = this.#loop.arena;
    for (let at = 0; at < chunk.length && this.connection.isOpen; at += READ_SIZE) {
      const size = Math.min(READ_SIZE, chunk.length - at);
      chunk.copy(bytes, READ_AT, at, at + size);
      this.connection.read(READ_AT, size);
    }
  }

  write(bytes: Buffer): boolean {
    const socket = this.#socket;
    socket.write(bytes);
    if (socket.writableLength === 0) return true;
    // The kernel is full: an empty write behind ours tells when all before it was taken.
    socket.write(EMPTY, () => this.connection.written());
    return false;
  }

  writeSlab(at: number, size: number): boolean {
    return this.write(this.#loop.arena.bytes.subarray(at, at + size));
  }

  joinGroup(): void {}

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    this.#socket.end();
  }

  close(isReset: boolean): void {
    const socket = this.#socket;
    // Unix sockets know no reset, and say so by throwing; they have no remote address.
    if (isReset && socket.remoteAddress !== undefined) socket.resetAndDestroy();
    else socket.destroy();
  }
}

const wireOf = (socket: net.Socket): NetWire => (socket as WiredSocket)[WIRE];

function onEnd(this: net.Socket): void {
  wireOf(this).connection.inputEnded();
}

function onError(this: net.Socket, error: NodeJS.ErrnoException): void {
  wireOf(this).connection.close(error.code ?? "error");
}

function onClose(this: net.Socket): void {
  wireOf(this).connection.close("closed");
}

function onData(this: net.Socket, chunk: Buffer): void {
  wireOf(this).took(chunk);
}

function push(this: net.Socket, chunk: Buffer | null, encoding?: BufferEncoding): boolean {
  const wire = wireOf(this);
  if (chunk === null || wire.connection.paused || this.readableLength > 0) {
    return Readable.prototype.push.call(this, chunk, encoding);
  }
  wire.took(chunk);
  return true;
}

function boundEndpoint(server: net.Server): Endpoint {
  const bound = server.address();
  if (typeof bound === "string") return { path: bound };
  return { host: bound?.address ?? "", port: bound?.port ?? 0 };
}
