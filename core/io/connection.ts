/**
 * A buffered connection: bytes in, what remains of a half message kept, bytes out collected for one
 * write per turn. It knows neither protocols nor sockets; who moves the bytes is a wire (wire.ts).
 *
 * Input:  fresh bytes are parsed in the arena's read region. What the receiver leaves is kept in a
 *         slab of the arena, where it fits and many are free, else in a buffer of this connection's
 *         own, until enough has come or the receiver resumes; then it is parsed again.
 * Output: `append` copies into a slab of the arena; `flush` hands it to the wire. When the
 *         kernel takes all at once (nearly always) the slab is free again at once.
 *
 *     append -> | slab that fills | -> queue of pieces -> one piece on the wire -> kernel
 *
 * Where bytes wait, and who stops reading: output above `HIGH_WATER_SIZE` means that the receiver
 * must stop reading the side that makes it (`isFull`, then `drained`). Input waits only while
 * `paused`, and then the wire is paused too.
 */
import { HEADROOM_SIZE, SLAB_SIZE } from "./arena.ts";
import type { Loop } from "./loop.ts";
import type { Receiver, Wire } from "./wire.ts";

/** Above this many unsent bytes a connection counts as full; below a quarter of it as drained. */
export const HIGH_WATER_SIZE = 256 * 1024;
const LOW_WATER_SIZE = HIGH_WATER_SIZE / 4;
const LEFTOVER_SIZE_MIN = 1024;
const LEFTOVER_STEP_MAX = 64 * 1024;
/** How long a connection that we ended may stay without reading on. */
const LINGER_MS = 1000;

/** Bytes that wait for the wire; with the slab that they fill, or -1. */
interface Piece {
  bytes: Buffer;
  slabAt: number;
}
/** Shared by all connections with nothing queued, which is nearly all of them. */
const NO_PIECES: Piece[] = [];

export class Connection {
  readonly loop: Loop;
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
  readonly #wire: Wire;
  readonly #receiver: Receiver;
  #dirty = false;
  #wasFull = false;
  /** The slab that fills. */
  #slabAt = -1;
  #fill = 0;
  /** Pieces before that slab, in order. */
  #queue: Piece[] = NO_PIECES;
  /** The piece on the wire, while the kernel has not taken it. */
  #wiredSize = 0;
  #wiredSlabAt = -1;
  /** What of `unsentSize` the loop has counted. */
  #waitingSize = 0;
  /** What the kept bytes are in, from `#leftoverAt`: the arena, or a buffer of their own. */
  #leftover: Buffer | null = null;
  #leftoverAt = 0;
  #leftoverSize = 0;
  /** The slab that they are in, or -1. */
  #leftoverSlabAt = -1;
  #ending = false;
  #isLingering = false;
  #inputEnded = false;

  constructor(loop: Loop, wire: Wire, receiver: Receiver) {
    this.loop = loop;
    this.#wire = wire;
    this.#receiver = receiver;
  }

  /** Where the other side is, without port; "" for a unix socket. A system call at first. */
  get remoteAddress(): string {
    return this.#wire.remoteAddress;
  }

  /** It is read with those of this group, see `Loop.limitReads`. */
  joinGroup(group: number): void {
    if (this.isOpen) this.#wire.joinGroup(group);
  }

  // ---- input ------------------------------------------------------------------------------

  /** The wire read `size` bytes into the arena at `at`; what lies before them may be overwritten. */
  read(at: number, size: number): void {
    this.loop.turn();
    this.readSize += size;
    const { bytes } = this.loop.arena;
    const end = at + size;
    if (this.paused) return this.#keep(bytes, at, end);
    let from = at;
    if (this.#leftoverSize > 0) {
      const sizeTogether = this.#leftoverSize + size;
      if (sizeTogether < this.sizeNeeded || this.#leftoverSize > HEADROOM_SIZE) {
        this.#keep(bytes, at, end);
        if (sizeTogether >= this.sizeNeeded) this.#parseLeftover();
        return;
      }
      from = at - this.#leftoverSize;
      this.loop.arena.move(from, this.#leftover!, this.#leftoverAt, this.#leftoverSize);
      this.#dropLeftover();
    }
    this.sizeNeeded = 0;
    const done = this.#receiver.received(bytes, from, end);
    if (done < end && this.isOpen) this.#keep(bytes, done, end);
  }

  /** What is left of a slab stays where it is: a session may take many turns for what it sent. */
  #parseLeftover(): void {
    const { arena } = this.loop;
    const bytes = this.#leftover!;
    const slabAt = this.#leftoverSlabAt;
    const from = this.#leftoverAt;
    const end = from + this.#leftoverSize;
    this.#leftoverSlabAt = -1;
    this.#dropLeftover();
    this.sizeNeeded = 0;
    const at = this.#receiver.received(bytes, from, end);
    const isLeft = at < end && this.isOpen;
    if (isLeft && slabAt >= 0) this.#leaveIn(bytes, slabAt, at, end - at);
    else if (isLeft) this.#keep(bytes, at, end);
    else if (slabAt >= 0) arena.give(slabAt);
  }

  #keep(bytes: Buffer, from: number, to: number): void {
    const size = to - from;
    const sizeTogether = this.#leftoverSize + size;
    if (this.#leftover === null || !this.#hasRoom(sizeTogether)) this.#makeRoom(sizeTogether);
    const keptTo = this.#leftoverAt + this.#leftoverSize;
    if (this.#leftoverSlabAt >= 0) this.loop.arena.move(keptTo, bytes, from, size);
    else bytes.copy(this.#leftover!, keptTo, from, to);
    this.loop.keptSize += size;
    this.#leftoverSize = sizeTogether;
  }

  #hasRoom(size: number): boolean {
    const slabAt = this.#leftoverSlabAt;
    const end = slabAt >= 0 ? slabAt + SLAB_SIZE : this.#leftover!.length;
    return this.#leftoverAt + size <= end;
  }

  /** Moves what is kept to where `sizeTogether` bytes have room. */
  #makeRoom(sizeTogether: number): void {
    const { arena } = this.loop;
    const slabAt = this.#leftoverSlabAt;
    const isForSlab = Math.max(sizeTogether, this.sizeNeeded) <= SLAB_SIZE;
    const ownAt = isForSlab && slabAt < 0 ? arena.takeSpare() : slabAt;
    if (isForSlab && ownAt >= 0) {
      if (this.#leftover !== null) {
        arena.move(ownAt, this.#leftover, this.#leftoverAt, this.#leftoverSize);
      }
      this.#leftover = arena.bytes;
      this.#leftoverAt = ownAt;
      this.#leftoverSlabAt = ownAt;
      return;
    }
    const grown = this.#grown(sizeTogether);
    this.#leftover?.copy(grown, 0, this.#leftoverAt, this.#leftoverAt + this.#leftoverSize);
    if (slabAt >= 0) arena.give(slabAt);
    this.#leftover = grown;
    this.#leftoverAt = 0;
    this.#leftoverSlabAt = -1;
  }

  /** Grows with what really came, not with what was announced: announcing costs us nothing. */
  #grown(sizeTogether: number): Buffer {
    const step = Math.max(sizeTogether, LEFTOVER_STEP_MAX);
    const ahead = Math.min(this.sizeNeeded, sizeTogether + step);
    return Buffer.allocUnsafeSlow(Math.max(sizeTogether, ahead, LEFTOVER_SIZE_MIN));
  }

  #leaveIn(bytes: Buffer, slabAt: number, at: number, size: number): void {
    this.#leftover = bytes;
    this.#leftoverSlabAt = slabAt;
    this.#leftoverAt = at;
    this.#leftoverSize = size;
    this.loop.keptSize += size;
  }

  #dropLeftover(): void {
    this.loop.keptSize -= this.#leftoverSize;
    if (this.#leftoverSlabAt >= 0) this.loop.arena.give(this.#leftoverSlabAt);
    this.#leftover = null;
    this.#leftoverSize = 0;
    this.#leftoverSlabAt = -1;
  }

  /** Bytes kept of a half message, or of paused input. */
  get keptSize(): number {
    return this.#leftoverSize;
  }

  /** Stops reading. Bytes that the receiver left are kept until `resume`. */
  pause(): void {
    if (this.paused) return;
    this.paused = true;
    this.#wire.pause();
  }

  /** The other side will send no more; what came before is told first, even when it waits. */
  inputEnded(): void {
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
    this.#wire.resume();
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
    if (bytes.length === 0) return;
    if (!this.#dirty) this.#markDirty();
    this.unsentSize += bytes.length;
    this.#closeSlab();
    this.#enqueue(bytes, -1);
  }

  /** Goes out at once, before all output that is corked. */
  greet(bytes: Buffer): void {
    this.unsentSize += bytes.length;
    this.#wiredSize = bytes.length;
    if (this.#wire.write(bytes)) this.#settle();
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
          this.#enqueue(Buffer.from(bytes.subarray(at, end)), -1);
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
    const { bytes } = this.loop.arena;
    this.#enqueue(bytes.subarray(this.#slabAt, this.#slabAt + this.#fill), this.#slabAt);
    this.#slabAt = -1;
    this.#fill = 0;
  }

  #enqueue(bytes: Buffer, slabAt: number): void {
    if (this.#queue === NO_PIECES) this.#queue = [];
    this.#queue.push({ bytes, slabAt });
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
    if (this.#wiredSize === 0) this.#send();
    else this.#countWaiting();
    // Where the other side has ended, too, it is closed by now: a storm of those leaves no timers,
    // and with them nothing that would outlive its turn.
    if (this.#ending && this.isOpen && !this.#isLingering) this.#linger(Number.POSITIVE_INFINITY);
  }

  /** The kernel has taken the piece on the wire, or the wire has given it up. */
  written(): void {
    this.#settle();
    if (!this.isOpen) return this.#countWaiting();
    this.loop.turn();
    if (!this.corked) this.#send();
  }

  /** The kernel has taken so much of the piece on the wire, and more is to come. */
  wrote(size: number): void {
    this.#wiredSize -= size;
    this.unsentSize -= size;
    this.writtenSize += size;
  }

  /** Puts one piece after another on the wire, until one is not taken at once. */
  #send(): void {
    while (this.isOpen) {
      const isTaken = this.#queue.length > 0 ? this.#sendPiece() : this.#sendSlab();
      if (!isTaken) break;
      this.#settle();
    }
    if (!this.isOpen) return;
    this.#countWaiting();
    if (this.#wasFull && this.unsentSize < LOW_WATER_SIZE) {
      this.#wasFull = false;
      this.#receiver.drained();
    }
    // Last, because it may close; and only if nobody who drained had more to say.
    if (this.#ending && this.isOpen && this.unsentSize === 0) this.#wire.end();
  }

  /** What is still unsent after a flush waits for the kernel. */
  #countWaiting(): void {
    this.loop.unsentSize += this.unsentSize - this.#waitingSize;
    this.#waitingSize = this.unsentSize;
  }

  #sendPiece(): boolean {
    const { bytes, slabAt } = this.#queue.shift()!;
    if (this.#queue.length === 0) this.#queue = NO_PIECES;
    this.#wiredSlabAt = slabAt;
    this.#wiredSize = bytes.length;
    this.loop.writeCount++;
    return this.#wire.write(bytes);
  }

  #sendSlab(): boolean {
    if (this.#slabAt < 0) return false;
    const slabAt = this.#slabAt;
    const size = this.#fill;
    this.#wiredSlabAt = slabAt;
    this.#wiredSize = size;
    this.#slabAt = -1;
    this.#fill = 0;
    this.loop.writeCount++;
    return this.#wire.writeSlab(slabAt, size);
  }

  /** What was on the wire is done with; its slab is free again. */
  #settle(): void {
    this.wrote(this.#wiredSize);
    if (this.#wiredSlabAt < 0) return;
    this.loop.arena.give(this.#wiredSlabAt);
    this.#wiredSlabAt = -1;
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
  }

  /** Closes when the other side has read nothing more for a while, or has read it all. */
  #linger(unsentBefore: number): void {
    this.#isLingering = true;
    setTimeout(() => {
      if (!this.isOpen) return;
      if (this.unsentSize > 0 && this.unsentSize < unsentBefore) this.#linger(this.unsentSize);
      else this.destroy();
    }, LINGER_MS).unref();
  }

  /** Closes now; unsent output is lost. */
  destroy(): void {
    this.close("destroyed");
  }

  /**
   * Closes now, and takes back what the kernel still has to deliver. (What the other side's kernel
   * has already is beyond anybody's reach, and so is what is on the way of a unix socket.)
   */
  reset(): void {
    this.close("destroyed", true);
  }

  /** The wire is gone, or has to go. */
  close(reason: string, isReset = false): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.loop.turn();
    const { loop } = this;
    if (this.#slabAt >= 0) loop.arena.give(this.#slabAt);
    for (const { slabAt } of this.#queue) if (slabAt >= 0) loop.arena.give(slabAt);
    this.#slabAt = -1;
    this.#queue = NO_PIECES;
    this.unsentSize = this.#wiredSize;
    this.#countWaiting();
    this.#dropLeftover();
    this.#wire.close(isReset);
    this.#receiver.closed(reason);
  }
}
