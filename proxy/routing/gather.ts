/**
 * Commands that several shards answer together. `KeyGather` joins the shares of a text multi-get
 * in the order of its keys, as memcached would have answered: VALUE blocks come in each share in
 * the order asked, so walking all keys once with a cursor per share is enough.
 *
 *     get a b c d   ->  shard 0: get a c     VALUE a … VALUE c … END
 *                       shard 1: get b d     VALUE d … END            (b is a miss)
 *     to the client:    VALUE a … VALUE c … VALUE d …
 *
 * A share that failed counts as misses: a slow shard costs its own keys, never the others. Where
 * the cache prefers errors, an error line ends the reply in place of END.
 */
import assert from "node:assert/strict";
import type { Connection } from "../../core/io/connection.ts";
import { endOfBlock, VALUE_WORD_SIZE } from "../../core/protocol/keyPrefix.ts";
import type { Problem } from "../../core/protocol/problem.ts";
import type { ReplyQueue } from "./replies.ts";
import { PIECE_SIZE_MAX } from "./stash.ts";

export interface Gather {
  /** The reply to a part's slot: `size` bytes at `from`, valid during the call. */
  take(
    slot: number,
    valueCount: number,
    bytes: Buffer,
    from: number,
    size: number,
    result: number,
  ): void;
  /** A part that will not be answered. */
  fail(slot: number, problem: Problem): void;
  /** Writes the whole reply; called once, when its turn has come. */
  emit(connection: Connection): void;
  /** The client of `slot` does not wait any more; what still comes for it is dropped. */
  abandon(slot: number): void;
}

/** Keys gathered at once; a longer line is answered in portions. */
export const GATHER_KEY_COUNT_MAX = 64;

const BLANK = 0x20;

/** Gathers that are done, to be used again: their arrays cost more than the rest of a multi-get. */
const idle: KeyGather[] = [];
const IDLE_COUNT_MAX = 1024;

export class KeyGather implements Gather {
  #queue!: ReplyQueue;
  #slot = -1;
  #missingCount = 0;
  #abandoned = false;
  /** Why a share will not come. */
  #problem: Problem | null = null;
  /** Bytes to take off every key that is answered. */
  #prefixSize = 0;
  /** The keys as they stood on the line, and where each of them is in that piece. */
  #keys!: Buffer;
  #keysAt = -1;
  #keyCount = 0;
  readonly #keyFrom: Int32Array = new Int32Array(GATHER_KEY_COUNT_MAX);
  readonly #keySize: Int32Array = new Int32Array(GATHER_KEY_COUNT_MAX);
  readonly #keyPart: Uint16Array = new Uint16Array(GATHER_KEY_COUNT_MAX);
  /** Shares: their bytes (the arena's or a buffer of their own), the cursor and the end. */
  readonly #partBytes: (Buffer | null)[] = [];
  readonly #partHeldAt: number[] = [];
  readonly #partCursor: number[] = [];
  readonly #partEnd: number[] = [];

  /** A gather for the command of `slot`; its keys carry a prefix that the client does not see. */
  static open(queue: ReplyQueue, slot: number, prefixSize: number): KeyGather {
    const gather = idle.pop() ?? new KeyGather();
    gather.#queue = queue;
    gather.#slot = slot;
    gather.#abandoned = false;
    gather.#problem = null;
    gather.#missingCount = 0;
    gather.#keyCount = 0;
    gather.#prefixSize = prefixSize;
    queue.slots.gather[slot] = gather;
    return gather;
  }

  /** `slot` asks one shard for its share. */
  addPart(slot: number): void {
    const { slots } = this.#queue;
    slots.gather[slot] = this;
    slots.part[slot] = this.#missingCount++;
    this.#partHeldAt.push(-1);
    this.#partBytes.push(null);
    this.#partCursor.push(0);
    this.#partEnd.push(0);
  }

  /** The next key, at `[from, from + size)` of the line, is asked for by `slot`. */
  addKey(from: number, size: number, slot: number): void {
    const i = this.#keyCount++;
    this.#keyFrom[i] = from;
    this.#keySize[i] = size;
    this.#keyPart[i] = this.#queue.slots.part[slot]!;
  }

  /** All keys were added; `bytes[from..to)` holds them and is copied before the line is gone. */
  begin(bytes: Buffer, from: number, to: number): void {
    const { stash, connection } = this.#queue;
    this.#keysAt = to - from <= PIECE_SIZE_MAX ? stash.hold(bytes, from, to - from) : -1;
    this.#keys =
      this.#keysAt >= 0 ? connection.loop.arena.bytes : Buffer.from(bytes.subarray(from, to));
    const offset = (this.#keysAt < 0 ? 0 : this.#keysAt) - from;
    for (let i = 0; i < this.#keyCount; i++) this.#keyFrom[i]! += offset;
  }

  take(slot: number, valueCount: number, bytes: Buffer, from: number, size: number): void {
    if (!this.#abandoned) {
      const part = this.#queue.slots.part[slot]!;
      this.#queue.countValues(slot, valueCount);
      this.#queue.learnReplySize(size);
      // The last share of a command whose turn it is goes out as it is, without being held.
      const isLast = this.#missingCount === 1 && this.#queue.isHead(this.#slot);
      if (isLast) this.#note(part, bytes, from, size);
      else this.#hold(part, bytes, from, size);
    }
    this.#partDone();
  }

  fail(slot: number, problem: Problem): void {
    if (!this.#abandoned) this.#queue.countFailed(slot);
    this.#problem ??= problem;
    this.#partDone();
  }

  #hold(part: number, bytes: Buffer, from: number, size: number): void {
    const { stash, connection } = this.#queue;
    const at = size <= PIECE_SIZE_MAX ? stash.hold(bytes, from, size) : -1;
    this.#partHeldAt[part] = at;
    if (at >= 0) this.#note(part, connection.loop.arena.bytes, at, size);
    else this.#note(part, Buffer.from(bytes.subarray(from, from + size)), 0, size);
  }

  #note(part: number, bytes: Buffer, from: number, size: number): void {
    this.#partBytes[part] = bytes;
    this.#partCursor[part] = from;
    this.#partEnd[part] = from + size;
  }

  #partDone(): void {
    assert(this.#missingCount > 0);
    if (--this.#missingCount > 0) return;
    if (this.#abandoned) this.#retire();
    else this.#queue.gathered(this.#slot);
  }

  emit(connection: Connection): void {
    if (this.#problem !== null) this.#queue.valuesMissing(this.#problem);
    const keys = this.#keys;
    const prefixSize = this.#prefixSize;
    for (let i = 0; i < this.#keyCount; i++) {
      const part = this.#keyPart[i]!;
      const bytes = this.#partBytes[part]!;
      if (bytes === null) continue;
      const at = this.#partCursor[part]!;
      const end = this.#partEnd[part]!;
      const size = this.#keySize[i]!;
      if (!isValueOf(bytes, at, end, keys, this.#keyFrom[i]!, size)) continue;
      const blockEnd = endOfBlock(bytes, at + VALUE_WORD_SIZE + size + 1);
      if (prefixSize > 0) bytes.copyWithin(at + prefixSize, at, at + VALUE_WORD_SIZE);
      connection.append(bytes, at + prefixSize, blockEnd - at - prefixSize);
      this.#partCursor[part] = blockEnd;
    }
    this.#release();
    this.#retire();
  }

  abandon(): void {
    this.#abandoned = true;
    this.#release();
    if (this.#missingCount === 0) this.#retire();
  }

  #release(): void {
    const { stash } = this.#queue;
    if (this.#keysAt >= 0) stash.release(this.#keysAt);
    this.#keysAt = -1;
    for (const at of this.#partHeldAt) if (at >= 0) stash.release(at);
    this.#partHeldAt.length = 0;
    this.#partBytes.length = 0;
    this.#partCursor.length = 0;
    this.#partEnd.length = 0;
  }

  /** No shard and no session knows this gather any more. */
  #retire(): void {
    if (idle.length < IDLE_COUNT_MAX) idle.push(this);
  }
}

/** Whether the block at `at` is `VALUE <this key> …`. */
function isValueOf(
  bytes: Buffer,
  at: number,
  end: number,
  keys: Buffer,
  keyFrom: number,
  keySize: number,
): boolean {
  const keyAt = at + VALUE_WORD_SIZE;
  if (keyAt + keySize >= end || bytes[at] !== 0x56 || bytes[keyAt + keySize] !== BLANK)
    return false;
  for (let i = 0; i < keySize; i++) if (bytes[keyAt + i] !== keys[keyFrom + i]) return false;
  return true;
}
