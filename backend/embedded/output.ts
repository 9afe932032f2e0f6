/**
 * Replies of one shard on their way to one connection. They are put together in a slab of the
 * arena, many commands at a time, and handed over with one `append`, at the end of a read or when
 * the slab is full. What a command has written so far can be taken back (`rewind`), which is how
 * quiet commands keep quiet.
 */
import assert from "node:assert/strict";
import { SLAB_SIZE } from "../../core/io/arena.ts";
import type { Connection } from "../../core/io/connection.ts";
import type { Loop } from "../../core/io/loop.ts";
import type { Items } from "./items.ts";
import { type Uint64, writeDecimal, writeUint64 } from "./numbers.ts";

/** Longer pieces are moved by a copy call, shorter ones byte by byte, which is faster there. */
const LOOP_SIZE_MAX = 24;
/** What a command may write besides a value: a key in base64, an opaque, a few numbers. */
const HEAD_SIZE_MAX = 1024;

export class Output {
  /** The arena. */
  readonly bytes: Buffer;
  /** Where the next byte goes. */
  at: number;
  /** Bytes handed over, to all connections. */
  sentSize = 0;
  readonly #start: number;
  readonly #end: number;
  #connection: Connection | undefined;

  constructor(loop: Loop) {
    this.bytes = loop.arena.bytes;
    this.#start = loop.arena.take();
    assert(this.#start >= 0, "an arena without a slab for output");
    this.#end = this.#start + SLAB_SIZE;
    this.at = this.#start;
  }

  /** What follows is for this connection. */
  open(connection: Connection): void {
    this.#connection = connection;
  }

  /** Hands over what was written. */
  send(): void {
    if (this.at === this.#start) return;
    const size = this.at - this.#start;
    this.#connection?.append(this.bytes, this.#start, size);
    this.sentSize += size;
    this.at = this.#start;
  }

  /** Room for the reply to one command, without its value. Before it, nothing is taken back. */
  begin(): number {
    if (this.#end - this.at < HEAD_SIZE_MAX) this.send();
    return this.at;
  }

  /** Takes back what was written since `begin`. */
  rewind(begin: number): void {
    this.at = begin;
  }

  byte(byte: number): void {
    this.bytes[this.at++] = byte;
  }

  copy(source: Buffer, from: number, size: number): void {
    const { bytes } = this;
    if (size <= LOOP_SIZE_MAX) {
      for (let i = 0; i < size; i++) bytes[this.at + i] = source[from + i]!;
    } else if (source === bytes) {
      bytes.copyWithin(this.at, from, from + size);
    } else {
      source.copy(bytes, this.at, from, from + size);
    }
    this.at += size;
  }

  text(text: Buffer): void {
    this.copy(text, 0, text.length);
  }

  decimal(value: number): void {
    this.at = writeDecimal(this.bytes, this.at, value);
  }

  uint64(value: Uint64): void {
    this.at = writeUint64(this.bytes, this.at, value);
  }

  uint16(value: number): void {
    this.bytes[this.at++] = value >>> 8;
    this.bytes[this.at++] = value;
  }

  uint32(value: number): void {
    this.bytes[this.at++] = value >>> 24;
    this.bytes[this.at++] = value >>> 16;
    this.bytes[this.at++] = value >>> 8;
    this.bytes[this.at++] = value;
  }

  /** The value of an item, however long. After it, nothing before it can be taken back. */
  value(items: Items, item: number, size: number): void {
    let done = 0;
    while (size - done > this.#end - this.at) {
      const part = this.#end - this.at;
      items.readValue(item, done, this.bytes, this.at, part);
      this.at += part;
      done += part;
      this.send();
    }
    items.readValue(item, done, this.bytes, this.at, size - done);
    this.at += size - done;
  }

  /** Room behind a value for what ends it. */
  reserve(size: number): void {
    if (this.#end - this.at < size) this.send();
  }
}
