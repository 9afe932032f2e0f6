/**
 * The replies of one session, in the order of its commands. A reply of the oldest command goes to
 * the client at once; one that overtook it is held until its turn. Here commands are counted,
 * quiet replies dropped and quiet opcodes put back.
 */
import type { Connection } from "../../core/io/connection.ts";
import { Header } from "../../core/protocol/binary.ts";
import { Command, Result } from "../../core/protocol/command.ts";
import { cutBinaryKey, cutMetaKey, cutValueKeys } from "../../core/protocol/keyPrefix.ts";
import { isQuietMetaResult } from "../../core/protocol/meta.ts";
import type { Problem } from "../../core/protocol/problem.ts";
import type { CacheCounters } from "./counters.ts";
import { type CachePolicies, textError } from "./failure.ts";
import { Quiet, SlotState, type Slots } from "./slots.ts";
import { PIECE_SIZE_MAX, type Stash } from "./stash.ts";

export type Dialect = "text" | "binary";

/**
 * Commands that one session may have in flight: few until it is known how large its replies are,
 * then one more for each that comes, up to what keeps IN_FLIGHT_SIZE_MAX bytes coming at the size
 * of the largest. A slow reader of large values could else fill the links that others share.
 */
const IN_FLIGHT_START = 32;
const IN_FLIGHT_MAX = 1024;
const IN_FLIGHT_MIN = 8;
const IN_FLIGHT_SIZE_MAX = 8 * 1024 * 1024;
const REPLY_SIZE_START = IN_FLIGHT_SIZE_MAX / IN_FLIGHT_MAX;
/** So many replies of less than half the largest, and the largest is forgotten by half. */
const FORGET_COUNT = 256;

/** What the queue tells the session that owns it. */
export interface QueueOwner {
  /** The number of commands in flight fell to where the session may go on. */
  mayProceed(): void;
}

export class ReplyQueue {
  readonly slots: Slots;
  readonly stash: Stash;
  readonly connection: Connection;
  readonly owner: QueueOwner;
  dialect: Dialect = "text";
  counters: CacheCounters | null = null;
  /** Of the cache that the session works on. */
  policies: CachePolicies | null = null;
  /** Someone waits for `mayProceed`. */
  isHeldBack = false;
  inFlightCount = 0;
  /** Instead of the END of the retrieval whose values were sent last. */
  #endProblem: Problem | null = null;
  #inFlightMax = IN_FLIGHT_START;
  #inFlightCeiling = IN_FLIGHT_MAX;
  #replySizeMax = REPLY_SIZE_START;
  #smallReplyCount = 0;
  #head = -1;
  #tail = -1;
  #whenEmpty: (() => void) | null = null;

  constructor(slots: Slots, stash: Stash, connection: Connection, owner: QueueOwner) {
    this.slots = slots;
    this.stash = stash;
    this.connection = connection;
    this.owner = owner;
  }

  get isEmpty(): boolean {
    return this.#head < 0;
  }

  get isFull(): boolean {
    return this.inFlightCount >= this.#inFlightMax;
  }

  /** Calls `then` once every command so far is answered. */
  whenEmpty(then: () => void): void {
    if (this.#head < 0) then();
    else this.#whenEmpty = then;
  }

  /** Opens a slot at the end of the queue. */
  open(command: number, nowMs: number): number {
    const { slots } = this;
    const slot = slots.open(this, command, nowMs);
    if (this.#tail < 0) this.#head = slot;
    else slots.next[this.#tail] = slot;
    this.#tail = slot;
    this.inFlightCount++;
    return slot;
  }

  /** An answer of our own, in its turn; counted as what it is. */
  answer(command: number, result: number, bytes: Uint8Array, from: number, size: number): void {
    this.counters?.count(command, result, 1);
    this.tell(bytes, from, size);
  }

  /** Bytes of our own, in their turn. */
  tell(bytes: Uint8Array, from: number, size: number): void {
    if (this.#head >= 0) this.#settled(this.open(Command.invalid, 0), bytes, from, size);
    else if (this.#endProblem !== null) this.#tellProblem();
    else if (size > 0) this.connection.append(bytes, from, size);
  }

  /** Some values of a gathered retrieval will not come; its END is what is told next. */
  valuesMissing(problem: Problem): void {
    if (this.policies?.unansweredRead === "error") this.#endProblem ??= problem;
  }

  #tellProblem(): void {
    const line = textError(this.#endProblem!);
    this.#endProblem = null;
    this.connection.append(line, 0, line.length);
  }

  isHead(slot: number): boolean {
    return slot === this.#head;
  }

  /** Keys that a shard did not answer for. */
  countFailed(slot: number): void {
    this.counters?.count(this.slots.command[slot]!, Result.failed, this.slots.keyCount[slot]!);
  }

  /**
   * The reply to `slot` came: `size` bytes at `from`, which may be changed in place. With size 0
   * nothing goes to the client.
   */
  settle(slot: number, result: number, bytes: Buffer, from: number, size: number): void {
    const { slots } = this;
    const command = slots.command[slot]!;
    const quiet = slots.quiet[slot]!;
    this.counters?.count(command, result, 1);
    const at = slots.prefixSize[slot] === 0 ? from : from + this.#cutKey(slot, bytes, from, size);
    let sizeToSend = from + size - at;
    if (quiet !== Quiet.no) {
      if (isSilent(quiet, command, result)) sizeToSend = 0;
      else if (quiet === Quiet.binary) bytes[at + Header.opcode] = slots.opcode[slot]!;
    }
    this.learnReplySize(size);
    this.#settled(slot, bytes, at, sizeToSend);
  }

  #cutKey(slot: number, bytes: Buffer, from: number, size: number): number {
    const { prefixSize, keySize } = this.slots;
    const cutSize = prefixSize[slot]!;
    if (this.dialect === "binary") return cutBinaryKey(bytes, from, cutSize);
    return cutMetaKey(bytes, from, from + size, cutSize, keySize[slot]!);
  }

  /** The same for text retrievals, which are counted by key. */
  settleValues(slot: number, valueCount: number, bytes: Buffer, from: number, size: number): void {
    this.countValues(slot, valueCount);
    this.learnReplySize(size);
    const prefixSize = this.slots.prefixSize[slot]!;
    if (prefixSize === 0 || valueCount === 0) return this.#settled(slot, bytes, from, size);
    const to = cutValueKeys(bytes, from, from + size, prefixSize, valueCount);
    this.#settled(slot, bytes, from + prefixSize, to - from - prefixSize);
  }

  /** Instead of the shard we answer, in the words the client expects. */
  settleLocally(slot: number, result: number, answer: Buffer): void {
    const { slots } = this;
    this.counters?.count(slots.command[slot]!, result, slots.keyCount[slot]!);
    this.#settled(slot, answer, 0, slots.quiet[slot] === Quiet.all ? 0 : answer.length);
  }

  countValues(slot: number, valueCount: number): void {
    const command = this.slots.command[slot]!;
    const missCount = this.slots.keyCount[slot]! - valueCount;
    if (valueCount > 0) this.counters?.count(command, Result.hit, valueCount);
    if (missCount > 0) this.counters?.count(command, Result.miss, missCount);
  }

  /** All parts of a gathered command are there; it is written when its turn comes. */
  gathered(slot: number): void {
    if (slot === this.#head) {
      this.slots.gather[slot]!.emit(this.connection);
      this.#pop(slot);
      this.#advance();
    } else {
      this.slots.state[slot] = SlotState.settled;
    }
  }

  /** Forgets all commands: the client has gone. Their replies will be dropped as they come. */
  abandon(): void {
    const { slots } = this;
    for (let slot = this.#head; slot >= 0; ) {
      const next = slots.next[slot]!;
      const gather = slots.gather[slot]!;
      if (slots.state[slot] === SlotState.settled || gather !== null) {
        gather?.abandon(slot);
        this.#dropHeld(slot);
        slots.free(slot);
      } else {
        slots.queue[slot] = null;
      }
      slot = next;
    }
    this.#head = -1;
    this.#tail = -1;
    this.inFlightCount = 0;
  }

  #settled(slot: number, bytes: Uint8Array, from: number, size: number): void {
    if (slot !== this.#head) {
      this.#hold(slot, bytes, from, size);
      return;
    }
    if (size > 0) this.#send(bytes, from, size);
    this.#pop(slot);
    this.#advance();
  }

  #send(bytes: Uint8Array, from: number, size: number): void {
    // A large reply was assembled in a buffer of its own: pass it on instead of copying it.
    if (size > PIECE_SIZE_MAX && size === bytes.length) this.connection.adopt(bytes as Buffer);
    else this.connection.append(bytes, from, size);
  }

  #pop(slot: number): void {
    const next = this.slots.next[slot]!;
    this.#head = next;
    if (next < 0) this.#tail = -1;
    this.slots.free(slot);
    this.inFlightCount--;
  }

  /** Sends what was held behind the command that was just answered. */
  #advance(): void {
    const { slots } = this;
    while (this.#head >= 0 && slots.state[this.#head] === SlotState.settled) {
      const slot = this.#head;
      const gather = slots.gather[slot]!;
      if (gather !== null) gather.emit(this.connection);
      else this.#emitHeld(slot);
      this.#pop(slot);
    }
    if (this.#head < 0 && this.#whenEmpty !== null) this.#whenEmpty();
    if (this.isHeldBack && this.inFlightCount <= this.#inFlightMax >> 1) this.owner.mayProceed();
  }

  #hold(slot: number, bytes: Uint8Array, from: number, size: number): void {
    const { slots } = this;
    slots.state[slot] = SlotState.settled;
    slots.heldSize[slot] = size;
    if (size === 0) return;
    const at = size <= PIECE_SIZE_MAX ? this.stash.hold(bytes, from, size) : -1;
    slots.heldAt[slot] = at;
    if (at < 0) slots.held[slot] = Buffer.from(bytes.subarray(from, from + size));
  }

  #emitHeld(slot: number): void {
    const { slots } = this;
    const size = slots.heldSize[slot]!;
    if (size === 0) return;
    const held = slots.held[slot]!;
    const isEnd = this.#endProblem !== null && slots.command[slot] === Command.invalid;
    if (isEnd) this.#tellProblem();
    else if (held !== null) this.connection.adopt(held);
    else this.connection.append(this.connection.loop.arena.bytes, slots.heldAt[slot]!, size);
    this.#dropHeld(slot);
  }

  #dropHeld(slot: number): void {
    const { slots } = this;
    if (slots.heldSize[slot]! > 0 && slots.held[slot] === null)
      this.stash.release(slots.heldAt[slot]!);
    slots.held[slot] = null;
    slots.heldSize[slot] = 0;
  }

  /** A reply, or a part of one, of this size came. */
  learnReplySize(size: number): void {
    if (size <= this.#replySizeMax) {
      if (this.#inFlightMax < this.#inFlightCeiling) this.#inFlightMax++;
      if (this.#replySizeMax > REPLY_SIZE_START && size < this.#replySizeMax >> 1) this.#forget();
      return;
    }
    this.#smallReplyCount = 0;
    this.#setReplySizeMax(size);
  }

  #forget(): void {
    if (++this.#smallReplyCount < FORGET_COUNT) return;
    this.#smallReplyCount = 0;
    this.#setReplySizeMax(Math.max(REPLY_SIZE_START, this.#replySizeMax >> 1));
  }

  #setReplySizeMax(size: number): void {
    this.#replySizeMax = size;
    const count = Math.floor(IN_FLIGHT_SIZE_MAX / size);
    this.#inFlightCeiling = Math.max(IN_FLIGHT_MIN, Math.min(IN_FLIGHT_MAX, count));
    this.#inFlightMax = Math.min(this.#inFlightMax, this.#inFlightCeiling);
  }
}

function isSilent(quiet: number, command: number, result: number): boolean {
  if (quiet === Quiet.all) return true;
  if (quiet === Quiet.meta) return isQuietMetaResult(command, result);
  const isGet = command === Command.get || command === Command.gat;
  return isGet ? result === Result.miss : result === Result.ok;
}
