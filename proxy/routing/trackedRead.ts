/**
 * A read of one key that is followed on its own, for one of two reasons: several clients wait for it
 * (single-flight), or its key has two copies and either may answer.
 *
 *     clients (slots in their queues) -> TrackedRead -> a part in flight at the first copy
 *                                                    -> and perhaps one at the second
 *
 * The second copy is asked when the first does not answer, when it is late, or when it has no value
 * and began empty later than the second. Both are right at any time (trackedChange.ts), so the first
 * value wins; a miss of the second says nothing while the first may still answer.
 */
import type { Loop } from "../../core/io/loop.ts";
import { Header } from "../../core/protocol/binary.ts";
import { COMMANDS, Command, Result } from "../../core/protocol/command.ts";
import type { Problem } from "../../core/protocol/problem.ts";
import { settleFailed, settleMiss } from "./failure.ts";
import type { Flights } from "./flights.ts";
import type { Gather } from "./gather.ts";
import type { Hedges, SecondRead } from "./hedges.ts";
import type { Link } from "./link.ts";
import { isPlaceholder } from "./placeholder.ts";
import type { ReplyQueue } from "./replies.ts";
import type { ShardLinks } from "./route.ts";
import type { Slots } from "./slots.ts";

/** Clients of one read; one more begins another. */
export const CLIENT_COUNT_MAX = 512;
const END_SIZE = "END\r\n".length;
const LETTER_W = 0x57;
const BLANK = 0x20;
const LF = 0x0a;

const FIRST = 0;
const SECOND = 1;

/** What everything that is tracked needs of its worker. */
export type Tracking = { readonly slots: Slots; readonly loop: Loop };

export type ReadFrom = {
  first: ShardLinks | null;
  /** The other copy of the key; null if there is none, or it is out. */
  second: ShardLinks | null;
  /** Who looks after reads that are late; null if there is no second copy. */
  hedges: Hedges | null;
  /** The first copy began empty later than the second: what it misses may be there. */
  asksOnMiss: boolean;
  /** The first of them may hold placeholders: it is not the one that decides, usually. */
  mayBePlaceholder: boolean;
};

export type ReadWish = {
  command: number;
  hash: number;
  /** As it goes to a shard: in its loud form, with an opaque of 0. */
  wire: Buffer;
  isBinary: boolean;
  /** A key of a text multi-get: its END is told by somebody else. */
  isPart: boolean;
};

export class TrackedRead implements Gather {
  readonly hash: number;
  readonly wire: Buffer;
  /** The next of its hash that may be joined. */
  next: TrackedRead | undefined;
  readonly #wish: ReadWish;
  readonly #from: ReadFrom;
  readonly #tracking: Tracking;
  readonly #slots: Slots;
  /** Slots of those who wait. */
  #clients: number[] = [];
  #flights: Flights | null = null;
  #inFlightCount = 0;
  #askedSecond = false;
  #isDone = false;
  #isMissAtFirst = false;
  #problem: Problem = "noShard";
  #startedAtMs = 0;

  constructor(tracking: Tracking, wish: ReadWish, from: ReadFrom) {
    this.#tracking = tracking;
    this.#slots = tracking.slots;
    this.#wish = wish;
    this.#from = from;
    this.hash = wish.hash;
    this.wire = wish.wire;
  }

  /** The client of `slot` waits for it as well; false if there are too many. */
  join(slot: number): boolean {
    if (this.#clients.length >= CLIENT_COUNT_MAX) return false;
    this.#slots.gather[slot] = this;
    this.#clients.push(slot);
    return true;
  }

  /** Asks, for those who have joined; others may join by `flights` until the answer is there. */
  begin(flights: Flights | null): void {
    this.#flights = flights;
    flights?.add(this);
    const { first, second, hedges } = this.#from;
    if (first === null || !this.#ask(first, FIRST)) {
      if (!this.#askSecond("failed")) this.#giveUp();
    } else if (second !== null) {
      this.#startedAtMs = this.#tracking.loop.nowMs;
      hedges?.watch(this);
    }
  }

  #ask(shard: ShardLinks, part: number): boolean {
    const link: Link = this.#wish.isBinary ? shard.binary : shard.text;
    const slots = this.#slots;
    const problem = slots.hasRoom(1) ? link.refusal() : "queueFull";
    if (problem !== undefined) {
      this.#problem = problem;
      return false;
    }
    const slot = slots.open(null, this.#wish.command, this.#tracking.loop.nowMs);
    slots.gather[slot] = this;
    slots.opaque[slot] = 0;
    slots.part[slot] = part;
    this.#inFlightCount++;
    link.expect(slot);
    link.append(this.wire, 0, this.wire.length);
    return true;
  }

  #askSecond(reason: SecondRead): boolean {
    const { second, hedges } = this.#from;
    if (second === null || this.#askedSecond) return false;
    this.#askedSecond = true;
    hedges?.count(reason);
    return this.#ask(second, SECOND);
  }

  /** It waits, and the second copy has not been asked yet. */
  get mayHedge(): boolean {
    return !this.#isDone && !this.#askedSecond;
  }

  /** The first copy takes longer than it usually does. */
  isLate(nowMs: number): boolean {
    return nowMs - this.#startedAtMs > this.#from.first!.hedgeAfterMs;
  }

  /** Asks the second copy as well; returns whether that was possible. */
  hedge(): boolean {
    return this.#askSecond("late");
  }

  take(
    slot: number,
    valueCount: number,
    bytes: Buffer,
    from: number,
    size: number,
    result: number,
  ): void {
    this.#inFlightCount--;
    if (this.#isDone) return;
    const { isBinary } = this.#wish;
    const isSecond = this.#slots.part[slot] === SECOND;
    const mayBePlaceholder = isSecond || this.#from.mayBePlaceholder;
    const isEmpty = mayBePlaceholder && isPlaceholder(bytes, from, size, isBinary);
    const isMiss = isEmpty || result === Result.miss;
    if (isMiss && !isSecond && this.#from.asksOnMiss) {
      this.#isMissAtFirst = true;
      if (this.#askSecond("missing") || this.#inFlightCount > 0) return;
    }
    if (isMiss && isSecond && this.#inFlightCount > 0) return;
    if (isEmpty) return this.#settleMisses();
    this.#settle(valueCount, result, bytes, from, size);
  }

  fail(_slot: number, problem: Problem): void {
    this.#inFlightCount--;
    if (this.#isDone) return;
    this.#problem = problem;
    if (this.#inFlightCount > 0) return;
    if (this.#isMissAtFirst) return this.#settleMisses();
    if (!this.#askSecond("failed")) this.#giveUp();
  }

  emit(): void {}

  abandon(slot: number): void {
    this.#clients.splice(this.#clients.indexOf(slot), 1);
  }

  // ---- answering --------------------------------------------------------------------------

  #settle(valueCount: number, result: number, bytes: Buffer, from: number, size: number): void {
    const clients = this.#end();
    const { command } = this.#wish;
    let count = clients.length;
    // To recache is asked of one client: the others ask for themselves.
    if (command === Command.mg && count > 1 && hasWon(bytes, from, size)) {
      for (const slot of clients.splice(1)) this.#readAlone(slot);
      count = 1;
    }
    for (let i = 0; i < count; i++) {
      const slot = clients[i]!;
      const isLast = i === count - 1;
      // What is sent may be changed in place, and then is of no use for the next.
      const isOwn = isLast || (!this.#wish.isBinary && this.#slots.prefixSize[slot] === 0);
      if (isOwn) this.#tell(slot, valueCount, result, bytes, from, size);
      else {
        const copy = Buffer.from(bytes.subarray(from, from + size));
        this.#tell(slot, valueCount, result, copy, 0, size);
      }
    }
  }

  #tell(
    slot: number,
    valueCount: number,
    result: number,
    bytes: Buffer,
    from: number,
    size: number,
  ): void {
    const slots = this.#slots;
    const { command, isBinary, isPart } = this.#wish;
    const queue = this.#release(slot);
    if (isBinary) bytes.writeUInt32BE(slots.opaque[slot]!, from + Header.opaque);
    if (isBinary || COMMANDS[command]!.shape !== "values") {
      queue.settle(slot, result, bytes, from, size);
    } else {
      const sizeToTell = !isPart ? size : valueCount === 0 ? 0 : size - END_SIZE;
      queue.settleValues(slot, valueCount, bytes, from, sizeToTell);
    }
  }

  /** The rest of them reads on its own, for itself only. */
  #readAlone(slot: number): void {
    const read = new TrackedRead(this.#tracking, this.#wish, this.#from);
    read.join(slot);
    read.begin(null);
  }

  #settleMisses(): void {
    const { isPart } = this.#wish;
    for (const slot of this.#end()) settleMiss(this.#release(slot), this.#slots, slot, isPart);
  }

  #giveUp(): void {
    const { isPart } = this.#wish;
    for (const slot of this.#end()) {
      const queue = this.#release(slot);
      if (isPart) new MissingValue(queue, slot, this.#problem);
      else settleFailed(queue, this.#slots, slot, this.#problem);
    }
  }

  #end(): number[] {
    this.#isDone = true;
    this.#flights?.remove(this);
    const clients = this.#clients;
    this.#clients = [];
    return clients;
  }

  /** From now on the slot is like any other. */
  #release(slot: number): ReplyQueue {
    this.#slots.gather[slot] = null;
    return this.#slots.queue[slot]!;
  }
}

/** A value of a multi-get that will not come: the END behind it tells, if the cache wants it to. */
export class MissingValue implements Gather {
  readonly #queue: ReplyQueue;
  readonly #problem: Problem;

  constructor(queue: ReplyQueue, slot: number, problem: Problem) {
    this.#queue = queue;
    this.#problem = problem;
    queue.slots.gather[slot] = this;
    queue.countFailed(slot);
    queue.gathered(slot);
  }

  take(): void {}
  fail(): void {}
  abandon(): void {}

  emit(): void {
    this.#queue.valuesMissing(this.#problem);
  }
}

/** Whether a meta reply carries the flag W on its first line. */
export function hasWon(bytes: Buffer, from: number, size: number): boolean {
  for (let at = from; at < from + size && bytes[at] !== LF; at++) {
    if (bytes[at] === BLANK && bytes[at + 1] === LETTER_W) return true;
  }
  return false;
}
