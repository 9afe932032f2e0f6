/**
 * A buffered connection over `node:net`: bytes in, what remains of a half message kept, bytes out
 * collected for one write per turn. It knows nothing of protocols. This is the seam that moves
 * bytes: another layer (an addon, TLS) replaces this file and keeps its methods.
 *
 * Input:  fresh bytes are parsed in the arena's read region. What the receiver leaves is kept in a
 *         buffer of this connection's own until enough has come, then parsed again.
 * Output: `append` copies into a slab of the arena; `flush` hands it to the kernel. When the
 *         kernel takes all at once (nearly always) the slab is free again at once.
 *
 * Where bytes wait, and who stops reading: output above `highWater` means that the receiver
 * must stop reading the side that makes it (`isFull`, then `drained`). Input waits only while
 * `paused`, and then the socket is paused too.
 */
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { HEADROOM_SIZE, READ_AT, READ_SIZE, SLAB_SIZE } from "./arena.ts";
import type { Loop } from "./loop.ts";

/** Above this many unsent bytes a connection counts as full; below a quarter of it as drained. */
export const HIGH_WATER_SIZE = 256 * 1024;
const LOW_WATER_SIZE = HIGH_WATER_SIZE / 4;
const LEFTOVER_SIZE_MIN = 1024;
const LEFTOVER_STEP_MAX = 64 * 1024;
const EMPTY = Buffer.alloc(0);
/** Shared by all connections with nothing queued, which is nearly all of them. */
const NO_VIEWS: Buffer[] = [];
const NO_SLABS: number[] = [];
/** How long a connection that we ended may stay without reading on. */
const LINGER_MS = 1000;

const OWNER = Symbol("connection");
type OwnedSocket = Socket & { [OWNER]: Connection };
const ownerOf = (socket: Socket): Connection => (socket as OwnedSocket)[OWNER];

export interface Receiver {
  /**
   * Looks at `bytes[from..to)` and returns how far it got. The rest is offered again, with more
   * behind it, once `connection.sizeNeeded` bytes are there. `bytes` is valid during the call,
   * unless it is not the arena and the whole of it was consumed: then the receiver may keep it.
   */
  received(bytes: Buffer, from: number, to: number): number;
  /** Output fell below the low-water mark after `isFull` was true. */
  drained(): void;
  /** The other side will send no more (it may still read). */
  ended(): void;
  /** The connection is gone; called exactly once. `reason` is "closed" or a system error code. */
  closed(reason: string): void;
}

export class Connection {
  readonly loop: Loop;
  readonly socket: Socket;
  /** Size from which the kept bytes are worth another look; set by the receiver. */
  sizeNeeded = 0;
  /** Bytes appended and not yet taken by the kernel. */
  unsentSize = 0;
  readSize = 0;
  writtenSize = 0;
  paused = false;
  /** Output is collected but not written, until `uncork`. */
  corked = false;
  isOpen = true;
  #receiver: Receiver;
  #dirty = false;
  #wasFull = false;
  #slabAt = -1;
  #fill = 0;
  /** Views filled before the current slab, in order; and the slabs behind them. */
  #queue: Buffer[] = NO_VIEWS;
  #queueSlabs: number[] = NO_SLABS;
  #leftover: Buffer | null = null;
  #leftoverSize = 0;
  #ending = false;
  #inputEnded = false;
  /** Part of `unsentSize` that the socket holds; the rest is in our slabs. */
  #inSocketSize = 0;

  constructor(loop: Loop, socket: Socket, receiver: Receiver) {
    this.loop = loop;
    this.socket = socket;
    this.#receiver = receiver;
    (socket as OwnedSocket)[OWNER] = this;
    // Shared functions: closures of its own would cost each idle connection 300 bytes.
    socket.on("end", onEnd);
    socket.on("error", onError);
    socket.on("close", onClose);
  }

  /**
   * For sockets that a server accepted: Node allocates their read buffers itself, and they cannot
   * have `onread`. What a socket reads it pushes to itself as a stream; taken at that point, it
   * skips the stream's queue and a tick per read (0.8 µs per request, a tenth of all). Only the
   * plain case is taken: a paused socket, or one with something queued, stays a stream.
   */
  static accepted(loop: Loop, socket: Socket, receiver: Receiver): Connection {
    const connection = new Connection(loop, socket, receiver);
    socket.push = push;
    socket.on("data", onData);
    return connection;
  }

  /** The `onread` option for a socket that we connect: it reads straight into the arena. */
  static readInto(
    loop: Loop,
    connectionOf: () => Connection,
  ): { buffer: Buffer; callback: (size: number) => boolean } {
    const buffer = loop.arena.bytes.subarray(READ_AT, READ_AT + READ_SIZE);
    return {
      buffer,
      callback: (size) => {
        const connection = connectionOf();
        connection.#feed(size);
        return !connection.paused;
      },
    };
  }

  // ---- input ------------------------------------------------------------------------------

  /** The socket read `chunk`. */
  socketRead(chunk: Buffer): void {
    const { bytes } = this.loop.arena;
    for (let at = 0; at < chunk.length && this.isOpen; at += READ_SIZE) {
      const size = Math.min(READ_SIZE, chunk.length - at);
      chunk.copy(bytes, READ_AT, at, at + size);
      this.#feed(size);
    }
  }

  /** `size` fresh bytes stand in the arena at READ_AT. */
  #feed(size: number): void {
    this.loop.turn();
    this.readSize += size;
    const { bytes } = this.loop.arena;
    const end = READ_AT + size;
    if (this.paused) return this.#keep(bytes, READ_AT, end);
    let from = READ_AT;
    if (this.#leftoverSize > 0) {
      const sizeTogether = this.#leftoverSize + size;
      if (sizeTogether < this.sizeNeeded || this.#leftoverSize > HEADROOM_SIZE) {
        this.#keep(bytes, READ_AT, end);
        if (sizeTogether >= this.sizeNeeded) this.#parseLeftover();
        return;
      }
      from = READ_AT - this.#leftoverSize;
      this.#leftover!.copy(bytes, from, 0, this.#leftoverSize);
      this.#dropLeftover();
    }
    this.sizeNeeded = 0;
    const at = this.#receiver.received(bytes, from, end);
    if (at < end && this.isOpen) this.#keep(bytes, at, end);
  }

  #parseLeftover(): void {
    const whole = this.#leftover!.subarray(0, this.#leftoverSize);
    this.#dropLeftover();
    this.sizeNeeded = 0;
    const at = this.#receiver.received(whole, 0, whole.length);
    if (at < whole.length && this.isOpen) this.#keep(whole, at, whole.length);
  }

  /** Grows with what really came, not with what was announced: announcing costs us nothing. */
  #keep(bytes: Buffer, from: number, to: number): void {
    const sizeTogether = this.#leftoverSize + (to - from);
    if (this.#leftover === null || this.#leftover.length < sizeTogether) {
      const ahead = Math.min(
        this.sizeNeeded,
        sizeTogether + Math.max(sizeTogether, LEFTOVER_STEP_MAX),
      );
      const grown = Buffer.allocUnsafeSlow(Math.max(sizeTogether, ahead, LEFTOVER_SIZE_MIN));
      if (this.#leftover !== null) this.#leftover.copy(grown, 0, 0, this.#leftoverSize);
      this.#leftover = grown;
    }
    bytes.copy(this.#leftover, this.#leftoverSize, from, to);
    this.loop.keptSize += to - from;
    this.#leftoverSize = sizeTogether;
  }

  #dropLeftover(): void {
    this.loop.keptSize -= this.#leftoverSize;
    this.#leftover = null;
    this.#leftoverSize = 0;
  }

  /** Bytes kept of a half message, or of paused input. */
  get keptSize(): number {
    return this.#leftoverSize;
  }

  /** Stops reading. Bytes that the receiver left are kept until `resume`. */
  pause(): void {
    if (this.paused) return;
    this.paused = true;
    this.socket.pause();
  }

  /** The other side will send no more; what came before is told first, even when it waits. */
  socketEnded(): void {
    this.loop.turn();
    this.#inputEnded = true;
    if (this.isOpen && !this.paused) this.#receiver.ended();
  }

  /** Offers what was kept, then reads on, unless the receiver paused again meanwhile. */
  resume(): void {
    if (!this.paused || !this.isOpen) return;
    this.paused = false;
    this.loop.turn();
    if (this.#leftoverSize > 0) this.#parseLeftover();
    if (this.paused || !this.isOpen) return;
    this.socket.resume();
    if (this.#inputEnded) this.#receiver.ended();
  }

  // ---- output -----------------------------------------------------------------------------

  /** Copies `size` bytes to the output. */
  append(bytes: Uint8Array, from: number, size: number): void {
    if (!this.#dirty) this.#markDirty();
    this.unsentSize += size;
    if (this.#slabAt >= 0 && this.#fill + size <= SLAB_SIZE) {
      this.loop.arena.move(this.#slabAt + this.#fill, bytes, from, size);
      this.#fill += size;
      return;
    }
    this.#appendAcross(bytes, from, size);
  }

  /** Takes over a whole buffer without copying it; nobody may change it any more. */
  adopt(bytes: Buffer): void {
    if (!this.#dirty) this.#markDirty();
    this.unsentSize += bytes.length;
    this.#closeSlab();
    this.#enqueue(bytes);
  }

  #appendAcross(bytes: Uint8Array, from: number, size: number): void {
    const { arena } = this.loop;
    let at = from;
    const end = from + size;
    while (at < end) {
      if (this.#slabAt < 0 || this.#fill === SLAB_SIZE) {
        this.#closeSlab();
        this.#slabAt = arena.take();
        if (this.#slabAt < 0) {
          // The arena is full: the heap carries the rest, counted in `unsentSize` like all output.
          this.#enqueue(Buffer.from(bytes.subarray(at, end)));
          return;
        }
      }
      const part = Math.min(SLAB_SIZE - this.#fill, end - at);
      arena.move(this.#slabAt + this.#fill, bytes, at, part);
      this.#fill += part;
      at += part;
    }
  }

  #closeSlab(): void {
    if (this.#slabAt < 0) return;
    const view = this.loop.arena.bytes.subarray(this.#slabAt, this.#slabAt + this.#fill);
    this.#enqueue(view);
    if (this.#queueSlabs === NO_SLABS) this.#queueSlabs = [];
    this.#queueSlabs.push(this.#slabAt);
    this.#slabAt = -1;
    this.#fill = 0;
  }

  #enqueue(view: Buffer): void {
    if (this.#queue === NO_VIEWS) this.#queue = [];
    this.#queue.push(view);
  }

  #markDirty(): void {
    this.#dirty = true;
    this.loop.markDirty(this);
  }

  /** True when the side that makes this output should be read no further. */
  get isFull(): boolean {
    if (this.unsentSize <= HIGH_WATER_SIZE) return false;
    this.#wasFull = true;
    return true;
  }

  uncork(): void {
    this.corked = false;
    if (this.#dirty) this.loop.markDirty(this);
  }

  /** Called by the loop, once per turn in which something was appended. */
  flush(): void {
    if (this.corked) return;
    this.#dirty = false;
    if (!this.isOpen) return;
    const { socket } = this;
    if (this.#queue.length > 0) this.#flushQueue();
    else if (this.#slabAt >= 0) this.#flushSlab();
    if (this.#ending) socket.end();
    if (this.#wasFull && this.unsentSize < LOW_WATER_SIZE) this.#tellDrained();
  }

  #flushSlab(): void {
    const { arena } = this.loop;
    const slabAt = this.#slabAt;
    const { socket } = this;
    this.#slabAt = -1;
    socket.write(arena.bytes.subarray(slabAt, slabAt + this.#fill));
    const size = this.#fill;
    this.#fill = 0;
    this.writtenSize += size;
    if (socket.writableLength === 0) {
      this.unsentSize -= size;
      arena.give(slabAt);
    } else {
      this.#awaitKernel(size, [slabAt]);
    }
  }

  #flushQueue(): void {
    this.#closeSlab();
    const { socket } = this;
    const slabs = this.#queueSlabs;
    socket.cork();
    for (const view of this.#queue) socket.write(view);
    socket.uncork();
    this.#queue = NO_VIEWS;
    this.#queueSlabs = NO_SLABS;
    const size = this.unsentSize - this.#inSocketSize;
    this.writtenSize += size;
    if (socket.writableLength === 0) {
      this.unsentSize -= size;
      for (const slabAt of slabs) this.loop.arena.give(slabAt);
    } else {
      this.#awaitKernel(size, slabs);
    }
  }

  /** The kernel is full: an empty write behind ours tells when all before it was taken. */
  #awaitKernel(size: number, slabs: number[]): void {
    const { loop } = this;
    loop.unsentSize += size;
    this.#inSocketSize += size;
    this.socket.write(EMPTY, () => {
      loop.unsentSize -= size;
      this.#inSocketSize -= size;
      this.unsentSize -= size;
      for (const slabAt of slabs) loop.arena.give(slabAt);
      if (!this.isOpen) return;
      loop.turn();
      if (this.#wasFull && this.unsentSize < LOW_WATER_SIZE) this.#tellDrained();
    });
  }

  #tellDrained(): void {
    this.#wasFull = false;
    this.#receiver.drained();
  }

  // ---- the end ----------------------------------------------------------------------------

  /**
   * Sends what was appended, then closes. The other side gets a moment to read it and to close
   * too: closing with its bytes unread would reset the connection under our last reply.
   */
  end(): void {
    if (this.#ending || !this.isOpen) return;
    this.#ending = true;
    if (!this.#dirty) this.#markDirty();
    this.#linger(-1);
  }

  /** Closes when the other side has read nothing more for a while, or has read it all. */
  #linger(writtenBefore: number): void {
    setTimeout(() => {
      if (!this.isOpen) return;
      const sent = this.socket.bytesWritten - this.socket.writableLength;
      if (this.unsentSize > 0 && sent > writtenBefore) this.#linger(sent);
      else this.destroy();
    }, LINGER_MS).unref();
  }

  /** Closes now; unsent output is lost. */
  destroy(): void {
    this.socket.destroy();
    this.socketClosed("destroyed");
  }

  /** The socket is gone, or has to go. */
  socketClosed(reason: string): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.loop.turn();
    const { arena } = this.loop;
    if (this.#slabAt >= 0) arena.give(this.#slabAt);
    for (const slabAt of this.#queueSlabs) arena.give(slabAt);
    this.#slabAt = -1;
    this.#queueSlabs = NO_SLABS;
    this.#queue = NO_VIEWS;
    this.#dropLeftover();
    this.socket.destroy();
    this.#receiver.closed(reason);
  }
}

function onEnd(this: Socket): void {
  ownerOf(this).socketEnded();
}

function onError(this: Socket, error: NodeJS.ErrnoException): void {
  ownerOf(this).socketClosed(error.code ?? "error");
}

function onClose(this: Socket): void {
  ownerOf(this).socketClosed("closed");
}

function onData(this: Socket, chunk: Buffer): void {
  ownerOf(this).socketRead(chunk);
}

function push(this: Socket, chunk: Buffer | null, encoding?: BufferEncoding): boolean {
  const connection = ownerOf(this);
  if (chunk === null || connection.paused || this.readableLength > 0) {
    return Readable.prototype.push.call(this, chunk, encoding);
  }
  connection.socketRead(chunk);
  return true;
}
