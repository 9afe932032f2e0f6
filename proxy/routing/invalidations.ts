/**
 * Mutations of one connection to a shard whose outcome nobody knows: no reply came in time, or the
 * connection broke before it. They may have happened, may never happen, or may happen later, over a
 * newer value that somebody has stored by then. So their keys are deleted, again and again until the
 * shard has said that it was done:
 *
 *     set k ... deadline -> delete k         behind it on the same connection: once is enough
 *     set k ... broken   -> delete k         on the next one, where it may be faster than the set,
 *               500 ms later delete k        so it is repeated when that has come or gone (50 ms,
 *                                            where the shard has closed the connection itself)
 *     1 s without any answer               -> the shard has to be fenced
 *
 * The client was told of an error long ago: an old value and none are equally right. How many there
 * are is bounded by what a connection can have in flight.
 */
import { HEADER_SIZE, Header, MAGIC_REQUEST, Opcode } from "../../core/protocol/binary.ts";
import { Command } from "../../core/protocol/command.ts";
import { Status } from "../../core/protocol/problem.ts";
import type { Gather } from "./gather.ts";
import type { Dialect } from "./replies.ts";

/** More than this is not worth the while: the shard is fenced. As many as can be in flight. */
const COUNT_MAX = 16 * 1024;
/** Sent in one sweep, so that commands of clients get between them. */
const BATCH_MAX = 1024;
/** What a connection that is gone has left in networks and queues has come by then, or never will. */
const REPEAT_MS = 500;
/** The same where the shard itself has ended the connection: it had read what there was. */
const REPEAT_CLOSED_MS = 50;
/** After a try that failed. */
const RETRY_MS = 100;
/** So long an outcome may stay unknown. */
const FENCE_AFTER_MS = 1_000;

/** Shared by all connections that have none, which is nearly always nearly all of them. */
const NONE: Map<string, Invalidation> = new Map();

/** The connection that carries them. */
export interface Carrier {
  readonly dialect: Dialect;
  /** Which of the connections to the shard it is now. */
  readonly serial: number;
  /** False when that cannot be sent now. */
  carry(command: number, bytes: Buffer, reply: Gather): boolean;
}

export class Invalidations {
  readonly #carrier: Carrier;
  #unknown: Map<string, Invalidation> = NONE;
  #isOverflown = false;

  constructor(carrier: Carrier) {
    this.#carrier = carrier;
  }

  get count(): number {
    return this.#unknown.size;
  }

  /** The outcome of a mutation of `key` on the connection `serial` is unknown. */
  add(key: Buffer, serial: number, nowMs: number): void {
    const name = key.toString("latin1");
    const before = this.#unknown.get(name);
    if (before === undefined && this.#unknown.size >= COUNT_MAX) {
      this.#isOverflown = true;
      return;
    }
    if (this.#unknown === NONE) this.#unknown = new Map();
    // What is on its way may be before this mutation: its answer says nothing.
    this.#unknown.delete(name);
    const sinceMs = before?.isRepeat === false ? before.sinceMs : nowMs;
    const earlier = before?.serial === serial ? before.earlier : before;
    this.#unknown.set(name, new Invalidation(this, { name, key, serial, earlier, sinceMs, nowMs }));
  }

  /** Nothing went out on that connection: no mutation that waited for it has happened. */
  neverSent(serial: number): void {
    for (const [name, one] of this.#unknown) {
      if (one.serial !== serial) continue;
      if (one.earlier === undefined) this.#unknown.delete(name);
      else this.#unknown.set(name, one.earlier);
    }
  }

  /** The other side has ended that connection. */
  closedByShard(serial: number): void {
    for (const one of this.#unknown.values()) {
      if (one.serial === serial) one.repeatMs = REPEAT_CLOSED_MS;
    }
  }

  /** Sends what is due; true while any outcome is unknown. */
  send(nowMs: number): boolean {
    let left = BATCH_MAX;
    for (const one of this.#unknown.values()) {
      if (one.isUnderWay || one.dueAtMs > nowMs) continue;
      if (left-- === 0 || !one.sendBy(this.#carrier, nowMs)) break;
    }
    return this.#unknown.size > 0 || this.#isOverflown;
  }

  /** What is unknown has been so for too long (times `patience`), or is too much. */
  isOverdue(nowMs: number, patience: number): boolean {
    if (this.#isOverflown) return true;
    const fenceAfterMs = FENCE_AFTER_MS * patience;
    for (const { isRepeat, sinceMs } of this.#unknown.values()) {
      if (!isRepeat && nowMs - sinceMs >= fenceAfterMs) return true;
    }
    return false;
  }

  /** The shard is emptied, or gone: nothing of it will be read again. */
  clear(): void {
    this.#unknown = NONE;
    this.#isOverflown = false;
  }

  /** The shard has deleted it. */
  done(one: Invalidation): void {
    if (this.#unknown.get(one.name) === one) this.#unknown.delete(one.name);
  }
}

type Wanted = {
  name: string;
  key: Buffer;
  serial: number;
  earlier: Invalidation | undefined;
  sinceMs: number;
  nowMs: number;
};

class Invalidation implements Gather {
  readonly name: string;
  readonly sinceMs: number;
  isUnderWay = false;
  /** It was deleted once; what is unknown is whether the mutation came after that. */
  isRepeat = false;
  repeatMs = REPEAT_MS;
  dueAtMs: number;
  readonly #all: Invalidations;
  readonly #key: Buffer;
  /** The connection that the mutation went out on; and what was unknown of the key before it. */
  readonly serial: number;
  readonly earlier: Invalidation | undefined;
  #sentOn = -1;
  #nowMs: number;

  constructor(all: Invalidations, { name, key, serial, earlier, sinceMs, nowMs }: Wanted) {
    this.#all = all;
    this.earlier = earlier;
    this.name = name;
    this.#key = key;
    this.serial = serial;
    this.sinceMs = sinceMs;
    this.dueAtMs = nowMs;
    this.#nowMs = nowMs;
  }

  sendBy(carrier: Carrier, nowMs: number): boolean {
    const { command, bytes } = deletionOf(this.#key, carrier.dialect);
    this.isUnderWay = carrier.carry(command, bytes, this);
    this.#sentOn = carrier.serial;
    this.#nowMs = nowMs;
    return this.isUnderWay;
  }

  take(_slot: number, _valueCount: number, bytes: Buffer, from: number, _size: number): void {
    this.isUnderWay = false;
    if (!isDone(bytes, from)) {
      this.dueAtMs = this.#nowMs + RETRY_MS;
      return;
    }
    if (this.isRepeat || this.#sentOn === this.serial) return this.#all.done(this);
    this.isRepeat = true;
    this.dueAtMs = this.#nowMs + this.repeatMs;
  }

  fail(): void {
    this.isUnderWay = false;
    this.dueAtMs = this.#nowMs + RETRY_MS;
  }

  emit(): void {}
  abandon(): void {}
}

const BLANK = 0x20;
const DELETE_CHARACTER = 0x7f;
const LETTER_D = 0x44;
const LETTER_N = 0x4e;
const LETTER_H = 0x48;

/** `DELETED`, `NOT_FOUND`, `HD`, `NF`; or a packet that says so. */
function isDone(bytes: Buffer, from: number): boolean {
  const first = bytes[from]!;
  if (first === LETTER_D || first === LETTER_N || first === LETTER_H) return true;
  if (first !== MAGIC_REPLY) return false;
  const status = bytes.readUInt16BE(from + Header.status);
  return status === Status.ok || status === Status.notFound;
}

const MAGIC_REPLY = 0x81;

/** The plain command where that can carry the key: not every memcached knows the other. */
function deletionOf(key: Buffer, dialect: Dialect): { command: number; bytes: Buffer } {
  if (dialect === "binary") return { command: Command.delete, bytes: binaryDelete(key) };
  if (key.every((byte) => byte > BLANK && byte !== DELETE_CHARACTER)) {
    const bytes = Buffer.concat([Buffer.from("delete "), key, Buffer.from("\r\n")]);
    return { command: Command.delete, bytes };
  }
  return { command: Command.md, bytes: Buffer.from(`md ${key.toString("base64")} b\r\n`) };
}

/** A DELETE packet with opaque 0. */
export function binaryDelete(key: Uint8Array): Buffer {
  const packet = Buffer.alloc(HEADER_SIZE + key.length);
  packet[Header.magic] = MAGIC_REQUEST;
  packet[Header.opcode] = Opcode.delete;
  packet.writeUInt16BE(key.length, Header.keySize);
  packet.writeUInt32BE(key.length, Header.bodySize);
  packet.set(key, HEADER_SIZE);
  return packet;
}
