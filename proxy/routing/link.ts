/**
 * One connection to one shard, in one dialect, shared by all sessions of a cache. Replies come in
 * the order of the requests, so a queue of slot numbers is all the matching there is.
 *
 *     idle -> connecting -> validating -> ready -> waiting -> connecting …       closed
 *              |               |            |         ^
 *              +---------------+------------+---------+  any failure, with a reason
 *     any of them -> ejected -> idle                     while its shard is out of routing
 *     ready -> idle                                      unused for a minute
 *
 * A fresh connection proves itself with `version` (binary: NOOP) before traffic goes out. After a
 * failure nothing is tried until a fully jittered delay has passed; commands fail at once
 * meanwhile. Any byte that no slot asked for closes the connection: `trailing_data`.
 *
 * A mutation whose outcome is unknown is made good in the background (invalidations.ts). Whatever a
 * connection that is given up has not delivered is taken back with it, as far as that can be done.
 *
 * Where commands wait: `depthMax` commands in the queue (then they fail as `queueFull`), and
 * HIGH_WATER_SIZE unsent bytes (then the sessions that want this link stop reading until it
 * drains).
 */
import assert from "node:assert/strict";
import type { Connection } from "../../core/io/connection.ts";
import type { Loop } from "../../core/io/loop.ts";
import { type Connecting, endpointOf } from "../../core/io/wire.ts";
import {
  frameBinaryReply,
  HEADER_SIZE,
  MAGIC_REQUEST,
  Opcode,
} from "../../core/protocol/binary.ts";
import { COMMANDS } from "../../core/protocol/command.ts";
import type { Problem } from "../../core/protocol/problem.ts";
import { Reply } from "../../core/protocol/reply.ts";
import { Verdict } from "../../core/protocol/request.ts";
import { frameTextReply } from "../../core/protocol/textReply.ts";
import type { Random } from "../../core/runtime/random.ts";
import { type ShardLatency, SLOW_MS_MIN } from "./counters.ts";
import { settleFailed } from "./failure.ts";
import type { Gather } from "./gather.ts";
import { type Carrier, Invalidations } from "./invalidations.ts";
import { KeyTrail } from "./keyTrail.ts";
import type { Dialect } from "./replies.ts";
import { SLOT_COUNT_MAX, type Slots } from "./slots.ts";
import type { Sweep } from "./sweep.ts";

/**
 * A command is given up when its shard has said nothing for so long since it was sent: waiting
 * behind large values that are coming in is no failure of the shard. Less where its cache wants that
 * (`LinkOptions.deadline`).
 */
export const DEADLINE_MS = 250;
/** And at the latest so long after it was read. */
const DEADLINE_TOTAL_MS = 1000;
/** A connection on which nothing comes back for so long is given up. */
const STALL_MS = 1000;
const CONNECT_TIMEOUT_MS = 1000;
/**
 * A thousand caches have thousands of connections, most of which carry little. Up to 64 bytes lie in
 * V8's own heap, beside their owner.
 */
const FIFO_LENGTH_START = 16;
/** A connection that nobody has used for so long is closed; the next command opens another. */
const IDLE_MS = 60_000;
const DEPTH_MAX = 16 * 1024;
const RECONNECT_DELAY_MS_MIN = 10;
const RECONNECT_DELAY_MS_MAX = 1000;

export type LinkState =
  | "idle"
  | "connecting"
  | "validating"
  | "ready"
  | "waiting"
  | "ejected"
  | "closed";

/** Why a connection to a shard ended: log field and metric label. */
export const LINK_FAILURES = [
  "refused",
  "reset",
  "closed_by_shard",
  "connect_timeout",
  "unreachable",
  "not_valid",
  "broken_reply",
  "trailing_data",
  "opaque_mismatch",
  "stalled",
  "ejected",
  "retired",
] as const;
export type LinkFailure = (typeof LINK_FAILURES)[number];

const PROBLEM_OF: Record<LinkFailure, Problem> = {
  refused: "noShard",
  reset: "connectionClosed",
  closed_by_shard: "connectionClosed",
  connect_timeout: "noShard",
  unreachable: "noShard",
  not_valid: "brokenReply",
  broken_reply: "brokenReply",
  trailing_data: "brokenReply",
  opaque_mismatch: "brokenReply",
  stalled: "timedOut",
  ejected: "noShard",
  retired: "connectionClosed",
};

/** Waits for a link that took in all it can; called once, when it drained or failed. */
export interface LinkWaiter {
  linkDrained(): void;
}

/** Takes the bytes of a command. */
export interface CommandSink {
  append(bytes: Buffer, from: number, size: number): void;
  /** As `append`; a buffer that is all one large command may be passed on instead of copied. */
  appendCommand(bytes: Buffer, from: number, size: number): void;
}

export interface LinkEvents {
  transition(link: Link, from: LinkState, to: LinkState, reason: string): void;
}

/** The shard that a link leads to. */
export interface LinkOwner {
  /** There is something to look into: a command takes long, or enough were answered. */
  stirred(): void;
  /** A connection has proved that the shard answers. */
  answered(): void;
  linkFailed(reason: LinkFailure): void;
  /** Outcomes of mutations stay unknown: the shard has to be fenced. Told again until it is. */
  outcomesUnknown(): void;
}

export interface LinkOptions {
  loop: Loop;
  slots: Slots;
  random: Random;
  events: LinkEvents;
  sweep: Sweep;
  /** Latency of this shard, shared by both dialects. */
  latency: ShardLatency;
  owner: LinkOwner;
  /** Changes as the route of the link finds fit; DEADLINE_MS at most. */
  deadline: Readonly<{ ms: number }>;
}

const reply = new Reply();

/** An entry of the queue is the slot, and above it whether its key stands in the trail. */
const SLOT_MASK = SLOT_COUNT_MAX - 1;
const NOTED = SLOT_COUNT_MAX;
/** In place of the serial of one. */
const NO_CONNECTION = -1;
/** How often it is told that outcomes stay unknown. */
const UNKNOWN_INTERVAL_MS = 250;

export class Link implements Connecting, Carrier, CommandSink {
  readonly address: string;
  readonly dialect: Dialect;
  readonly failureCounts: Uint32Array = new Uint32Array(LINK_FAILURES.length);
  timedOutCount = 0;
  /** Since the last reply. */
  timeoutsInRow = 0;
  queueFullCount = 0;
  // Not as one object: thousands of links are met cold, each with all that hangs behind it.
  readonly #loop: Loop;
  readonly #slots: Slots;
  readonly #sweep: Sweep;
  readonly #random: Random;
  readonly #events: LinkEvents;
  readonly #latency: ShardLatency;
  readonly #owner: LinkOwner;
  readonly #deadline: Readonly<{ ms: number }>;
  readonly #isBinary: boolean;
  #state: LinkState = "idle";
  #connection: Connection | null = null;
  /** Slots in flight: `#fifo[n & mask]` for n in [#head, #tail). Negative: given up (see below). */
  #fifo: Int32Array = new Int32Array(FIFO_LENGTH_START);
  #head = 0;
  #tail = 0;
  /** Entries before it are given up or answered: the sweep starts here. */
  #expired = 0;
  #progressAtMs = 0;
  #retryAtMs = 0;
  #attempt = 0;
  #connectBeforeMs = 0;
  #waiters: LinkWaiter[] = [];
  readonly #trail = new KeyTrail();
  readonly #unknown: Invalidations;
  #unknownToldAtMs = 0;
  /** Counts connections. */
  serial = 0;
  /** While failures are told: whether what is told of may have gone out. */
  wasSent = true;

  constructor(address: string, dialect: Dialect, options: LinkOptions) {
    this.address = address;
    this.dialect = dialect;
    this.#isBinary = dialect === "binary";
    this.#loop = options.loop;
    this.#slots = options.slots;
    this.#sweep = options.sweep;
    this.#random = options.random;
    this.#events = options.events;
    this.#latency = options.latency;
    this.#owner = options.owner;
    this.#deadline = options.deadline;
    this.#unknown = new Invalidations(this);
  }

  get state(): LinkState {
    return this.#state;
  }

  get depth(): number {
    return this.#tail - this.#head;
  }

  /**
   * Whether a command may be given to this link now: undefined when it may, else why not.
   * Connects if that is due.
   */
  refusal(): Problem | undefined {
    if (this.#state === "ready") {
      if (this.#tail - this.#head < DEPTH_MAX) return undefined;
      this.queueFullCount++;
      return "queueFull";
    }
    if (this.#state === "closed" || this.#state === "ejected") return "noShard";
    if (this.#state === "waiting" && this.#loop.nowMs < this.#retryAtMs) return "noShard";
    if (this.#state === "idle" || this.#state === "waiting") this.#connect();
    return this.#tail - this.#head < DEPTH_MAX ? undefined : "queueFull";
  }

  /** True when unsent bytes are above the high-water mark; `waiter` is told when they are not. */
  isFullFor(waiter: LinkWaiter): boolean {
    if (this.#connection === null || !this.#connection.isFull) return false;
    this.#waiters.push(waiter);
    return true;
  }

  /** The next reply belongs to `slot`. Its request's bytes follow by `append`. */
  expect(slot: number): void {
    if (this.#tail - this.#head === this.#fifo.length) this.#grow();
    if (this.#tail === this.#head) {
      this.#progressAtMs = this.#loop.nowMs;
      this.#sweep.add(this);
    }
    this.#fifo[this.#tail++ & (this.#fifo.length - 1)] = slot;
  }

  /** The same for one that changes the key at `[at, at + size)` as it is stored. */
  expectMutation(slot: number, bytes: Uint8Array, at: number, size: number): void {
    this.#trail.note(bytes, at, size);
    this.expect(slot | NOTED);
  }

  append(bytes: Buffer, from: number, size: number): void {
    this.#connection!.append(bytes, from, size);
  }

  /** As `append`; a buffer that is all one large command is passed on instead of copied. */
  appendCommand(bytes: Buffer, from: number, size: number): void {
    if (size > LARGE_SIZE && size === bytes.length) this.#connection!.adopt(bytes);
    else this.#connection!.append(bytes, from, size);
  }

  // ---- replies ----------------------------------------------------------------------------

  received(bytes: Buffer, from: number, to: number): number {
    const slots = this.#slots;
    const loop = this.#loop;
    let at = from;
    if (this.#state === "validating") {
      at = this.#validated(bytes, from, to);
      if (this.#connection === null) return to;
    }
    while (at < to) {
      if (this.#head === this.#tail) return this.#broken("trailing_data", to);
      const entry = this.#fifo[this.#head & (this.#fifo.length - 1)]!;
      const slot = entry & SLOT_MASK;
      const command = entry >= 0 ? slots.command[slot]! : -1 - entry;
      const verdict = this.#isBinary
        ? frameBinaryReply(reply, bytes, at, to, command)
        : frameTextReply(reply, bytes, at, to, command);
      if (verdict === Verdict.incomplete) {
        this.#connection!.sizeNeeded = reply.sizeNeeded;
        break;
      }
      if (verdict === Verdict.refused) return this.#broken("broken_reply", to);
      this.#head++;
      if (entry >= 0) {
        if (this.#isBinary && reply.opaque !== slots.opaque[slot]) {
          this.#head--;
          return this.#broken("opaque_mismatch", to);
        }
        if (entry >= NOTED) this.#trail.drop();
        this.#latency.observe(loop.nowMs - slots.startedAtMs[slot]!);
        if (!this.#latency.isLittle) this.#owner.stirred();
        this.#settle(slot, bytes, at);
      }
      at += reply.size;
    }
    this.#progressAtMs = loop.nowMs;
    this.timeoutsInRow = 0;
    if (this.#expired < this.#head) this.#expired = this.#head;
    return at;
  }

  #settle(slot: number, bytes: Buffer, at: number): void {
    const slots = this.#slots;
    const queue = slots.queue[slot]!;
    if (queue !== null) {
      const isValues = !this.#isBinary && COMMANDS[slots.command[slot]!]!.shape === "values";
      if (isValues) queue.settleValues(slot, reply.valueCount, bytes, at, reply.size);
      else queue.settle(slot, reply.result, bytes, at, reply.size);
      return;
    }
    const gather = slots.gather[slot]!;
    if (gather !== null) gather.take(slot, reply.valueCount, bytes, at, reply.size, reply.result);
    slots.free(slot);
  }

  #broken(reason: LinkFailure, to: number): number {
    this.fail(reason);
    return to;
  }

  drained(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.linkDrained();
  }

  ended(): void {
    this.fail("closed_by_shard");
  }

  closed(reason: string): void {
    this.fail(failureOf(reason));
  }

  // ---- deadlines --------------------------------------------------------------------------

  /**
   * Answers in the shard's place what is past its deadline. Its reply may still come: the entry
   * stays in the queue as -1 - command, enough to find that reply's end. Returns true while
   * anything is in flight.
   */
  sweep(nowMs: number): boolean {
    if (this.#state === "connecting" || this.#state === "validating") {
      if (nowMs >= this.#connectBeforeMs) this.fail("connect_timeout");
    }
    const slots = this.#slots;
    const deadline = this.#deadline;
    const deadlineMs = deadline.ms;
    while (this.#expired < this.#tail) {
      const index = this.#expired & (this.#fifo.length - 1);
      const entry = this.#fifo[index]!;
      if (entry >= 0) {
        const slot = entry & SLOT_MASK;
        const startedAtMs = slots.startedAtMs[slot]!;
        const silentMs = nowMs - Math.max(startedAtMs, this.#progressAtMs);
        if (nowMs - startedAtMs >= SLOW_MS_MIN) this.#owner.stirred();
        if (silentMs < deadlineMs && nowMs - startedAtMs < DEADLINE_TOTAL_MS) break;
        this.#fifo[index] = -1 - slots.command[slot]!;
        this.timedOutCount++;
        this.timeoutsInRow++;
        if (entry >= NOTED) this.#unknown.add(this.#trail.take(), this.serial, nowMs);
        this.#latency.observe(nowMs - slots.startedAtMs[slot]!);
        this.#settleFailed(slot, "timedOut");
      }
      this.#expired++;
    }
    if (this.#head < this.#tail && nowMs - this.#progressAtMs > STALL_MS) this.fail("stalled");
    const isUnknown = this.#unknown.send(nowMs);
    if (isUnknown) this.#tellUnknown(nowMs);
    if (this.#head < this.#tail || isUnknown) return true;
    return this.#state === "connecting" || this.#state === "validating";
  }

  #tellUnknown(nowMs: number): void {
    if (nowMs - this.#unknownToldAtMs < UNKNOWN_INTERVAL_MS) return;
    if (!this.#unknown.isOverdue(nowMs, this.#sweep.patience)) return;
    this.#unknownToldAtMs = nowMs;
    this.#owner.outcomesUnknown();
  }

  /** The shard has to forget this key, or it is fenced; nobody waits for it. */
  invalidate(key: Buffer): void {
    if (this.#state === "ejected" || this.#state === "closed") return;
    this.#unknown.add(key, NO_CONNECTION, this.#loop.nowMs);
    this.#sweep.add(this);
  }

  /** Keys of mutations whose outcome is unknown. */
  get unknownCount(): number {
    return this.#unknown.count;
  }

  carry(command: number, bytes: Buffer, gather: Gather): boolean {
    const slots = this.#slots;
    const loop = this.#loop;
    if (this.refusal() !== undefined || this.#state !== "ready") return false;
    if (!slots.hasRoom(1) || this.#connection!.isFull) return false;
    const slot = slots.open(null, command, loop.nowMs);
    slots.opaque[slot] = 0;
    slots.gather[slot] = gather;
    this.expect(slot);
    this.#connection!.append(bytes, 0, bytes.length);
    return true;
  }

  #settleFailed(slot: number, problem: Problem): void {
    const slots = this.#slots;
    const queue = slots.queue[slot]!;
    if (queue !== null) return settleFailed(queue, slots, slot, problem);
    slots.gather[slot]?.fail(slot, problem);
    slots.free(slot);
  }

  // ---- the connection ---------------------------------------------------------------------

  #connect(): void {
    const loop = this.#loop;
    this.serial++;
    const connection = loop.connect(endpointOf(this.address), this);
    connection.corked = true;
    this.#connection = connection;
    this.#connectBeforeMs = loop.nowMs + CONNECT_TIMEOUT_MS;
    this.#sweep.add(this);
    this.#owner.stirred();
    this.#transition("connecting", "wanted");
  }

  /** The shard is known to answer: there is nothing to wait for any longer. */
  retryNow(): void {
    this.#retryAtMs = 0;
  }

  opened(): void {
    this.#loop.turn();
    this.#transition("validating", "connected");
    this.#connection!.greet(this.#isBinary ? BINARY_NOOP : TEXT_VERSION);
  }

  #validated(bytes: Buffer, from: number, to: number): number {
    const size = this.#isBinary ? HEADER_SIZE : bytes.subarray(from, to).indexOf(0x0a) + 1;
    if (size === 0 || to - from < size) {
      if (to - from > VALIDATION_SIZE_MAX) return this.#broken("not_valid", to);
      return from;
    }
    const isValid = this.#isBinary
      ? bytes[from] === 0x81 && bytes[from + 1] === Opcode.noop
      : bytes.toString("latin1", from, from + 8) === "VERSION ";
    if (!isValid) return this.#broken("not_valid", to);
    this.#attempt = 0;
    this.#progressAtMs = this.#loop.nowMs;
    this.#transition("ready", "validated");
    this.#connection!.uncork();
    this.#unknown.send(this.#loop.nowMs);
    this.#owner.answered();
    return from + size;
  }

  /** Commands in flight that are waiting for longer than `durationMs`; counts up to `countMax`. */
  waitingCount(durationMs: number, countMax: number): number {
    const slots = this.#slots;
    const loop = this.#loop;
    const beforeMs = loop.nowMs - durationMs;
    let count = 0;
    for (let at = this.#head; at < this.#tail && count < countMax; at++) {
      const entry = this.#fifo[at & (this.#fifo.length - 1)]!;
      // Those that were given up are counted as answered.
      if (entry < 0) continue;
      if (slots.startedAtMs[entry & SLOT_MASK]! > beforeMs) break;
      count++;
    }
    return count;
  }

  /** How long the oldest operation in flight has been waiting; 0 if none is. */
  get oldestMs(): number {
    const slots = this.#slots;
    const loop = this.#loop;
    for (let at = this.#expired; at < this.#tail; at++) {
      const slot = this.#fifo[at & (this.#fifo.length - 1)]!;
      if (slot >= 0) return Math.max(0, loop.nowMs - slots.startedAtMs[slot]!);
    }
    return 0;
  }

  /** Any failure: everything in flight is answered with its problem, then we wait. */
  fail(reason: LinkFailure): void {
    const connection = this.#connection;
    if (connection === null) return;
    this.#connection = null;
    const random = this.#random;
    const loop = this.#loop;
    const sweep = this.#sweep;
    // Nothing goes out before the connection has proved itself: what waited did not happen.
    const wasSent = this.#state === "ready";
    this.failureCounts[LINK_FAILURES.indexOf(reason)]!++;
    const ceilingMs = Math.min(
      RECONNECT_DELAY_MS_MAX,
      RECONNECT_DELAY_MS_MIN * 2 ** this.#attempt++,
    );
    this.#retryAtMs = loop.nowMs + random.next() * ceilingMs;
    this.#transition(STATE_AFTER[reason] ?? "waiting", reason);
    if (this.#head < this.#tail) connection.reset();
    else connection.destroy();
    this.wasSent = wasSent;
    const mask = this.#fifo.length - 1;
    while (this.#head < this.#tail) {
      const entry = this.#fifo[this.#head++ & mask]!;
      if (entry >= NOTED && wasSent) this.#unknown.add(this.#trail.take(), this.serial, loop.nowMs);
      if (entry >= 0) this.#settleFailed(entry & SLOT_MASK, PROBLEM_OF[reason]);
    }
    this.wasSent = true;
    if (!wasSent) this.#unknown.neverSent(this.serial);
    else if (CLOSED_BY_SHARD.has(reason)) this.#unknown.closedByShard(this.serial);
    this.#trail.clear();
    this.#expired = this.#head;
    // One that is out is emptied before it returns, and one that is retired never does.
    if (this.#state !== "waiting") this.#unknown.clear();
    else if (this.#unknown.count > 0) sweep.add(this);
    this.timeoutsInRow = 0;
    this.drained();
    this.#owner.linkFailed(reason);
  }

  /** Nobody has asked for anything for a while. */
  closeIfIdle(nowMs: number): void {
    const connection = this.#connection;
    if (this.#state !== "ready" || connection === null || this.depth > 0) return;
    if (nowMs - this.#progressAtMs < IDLE_MS || this.#unknown.count > 0) return;
    this.#connection = null;
    this.#transition("idle", "unused");
    connection.destroy();
  }

  /** The shard is out of routing: nothing is sent until `readmit`. */
  eject(): void {
    if (this.#connection !== null) this.fail("ejected");
    else if (this.#state !== "closed") this.#transition("ejected", "ejected");
    this.#unknown.clear();
  }

  readmit(): void {
    if (this.#state !== "ejected") return;
    this.#attempt = 0;
    this.#transition("idle", "readmitted");
  }

  /** This shard is no longer part of the cache (or has a new address). */
  retire(): void {
    if (this.#connection === null) this.#transition("closed", "retired");
    else this.fail("retired");
    this.#unknown.clear();
  }

  #transition(to: LinkState, reason: string): void {
    const from = this.#state;
    if (from === to) return;
    assert(from !== "closed", `${this.address}: closed -> ${to}`);
    this.#state = to;
    this.#events.transition(this, from, to, reason);
  }

  #grow(): void {
    const old = this.#fifo;
    this.#fifo = new Int32Array(old.length * 2);
    for (let n = this.#head; n < this.#tail; n++) {
      this.#fifo[n & (this.#fifo.length - 1)] = old[n & (old.length - 1)]!;
    }
  }
}

const CLOSED_BY_SHARD: ReadonlySet<LinkFailure> = new Set(["closed_by_shard", "reset"]);

/** Where a failure leads; the others lead to waiting for the next try. */
const STATE_AFTER: Partial<Record<LinkFailure, LinkState>> = {
  ejected: "ejected",
  retired: "closed",
};
const LARGE_SIZE = 16 * 1024;
const VALIDATION_SIZE_MAX = 256;
const TEXT_VERSION = Buffer.from("version\r\n");
const BINARY_NOOP = Buffer.alloc(HEADER_SIZE);
BINARY_NOOP[0] = MAGIC_REQUEST;
BINARY_NOOP[1] = Opcode.noop;

function failureOf(code: string): LinkFailure {
  switch (code) {
    case "ECONNREFUSED":
    case "ENOENT":
      return "refused";
    case "ECONNRESET":
    case "EPIPE":
      return "reset";
    case "closed":
      return "closed_by_shard";
    default:
      return "unreachable";
  }
}
