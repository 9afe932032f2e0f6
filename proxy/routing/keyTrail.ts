/**
 * The keys of the mutations that are in flight on one connection to a shard, in their order: bytes
 * in a row, no object for any of them. Should the outcome of a mutation stay unknown, its key is what
 * can still be done something about.
 *
 *     | done with | size key size key size key | free |
 *                 ^ #head                      ^ #tail
 */
import assert from "node:assert/strict";

const SIZE_START = 1024;
const EMPTY = Buffer.alloc(0);

export class KeyTrail {
  /** Made when the first mutation comes: most connections of a thousand caches never have one. */
  #bytes: Buffer = EMPTY;
  #head = 0;
  #tail = 0;

  /** A key of at most 255 bytes, behind those that are there. */
  note(bytes: Uint8Array, from: number, size: number): void {
    if (this.#tail + 1 + size > this.#bytes.length) this.#makeRoom(1 + size);
    const to = this.#bytes;
    let tail = this.#tail;
    to[tail++] = size;
    for (let at = from; at < from + size; at++) to[tail++] = bytes[at]!;
    this.#tail = tail;
  }

  /** The oldest is done with. */
  drop(): void {
    assert(this.#head < this.#tail);
    this.#head += 1 + this.#bytes[this.#head]!;
    if (this.#head === this.#tail) this.clear();
  }

  /** The oldest, as a copy; it is done with. */
  take(): Buffer {
    const at = this.#head + 1;
    const key = Buffer.from(this.#bytes.subarray(at, at + this.#bytes[this.#head]!));
    this.drop();
    return key;
  }

  clear(): void {
    this.#head = 0;
    this.#tail = 0;
  }

  #makeRoom(size: number): void {
    const used = this.#tail - this.#head;
    const old = this.#bytes;
    // Moving pays off only if much is done with; else the next key would move all of them again.
    if (used + size > old.length >> 1) {
      this.#bytes = Buffer.allocUnsafeSlow(Math.max(SIZE_START, (used + size) * 2));
    }
    old.copy(this.#bytes, 0, this.#head, this.#tail);
    this.#head = 0;
    this.#tail = used;
  }
}
