/**
 * The arguments and outcomes of the operations of a store. The objects are filled again and again
 * by whoever executes commands: none is made per command.
 */
import { Uint64 } from "./numbers.ts";

/** On which condition, and how, a value is stored. */
export const Mode = { set: 0, add: 1, replace: 2, append: 3, prepend: 4, cas: 5 } as const;
export type Mode = (typeof Mode)[keyof typeof Mode];

export const Outcome = {
  /** Stored, deleted, counted: it is done. */
  done: 0,
  notStored: 1,
  exists: 2,
  notFound: 3,
  /** Larger than memcached's item limit (`-I 1m`). */
  tooLarge: 4,
  /** It fits the item limit, but not the memory of this shard. */
  noMemory: 5,
  nonNumeric: 6,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

const NO_BYTES = Buffer.alloc(0);

/** A value on its way in. */
export class Write {
  mode: Mode = Mode.set;
  keyBytes: Buffer = NO_BYTES;
  keyAt = 0;
  keySize = 0;
  valueBytes: Buffer = NO_BYTES;
  valueAt = 0;
  valueSize = 0;
  flags = 0;
  /** Unix seconds, 0 for never: see `Store.expiryOf`. */
  expiresAt = 0;
  /** The cas unique to compare with, 0 for none. */
  cas = 0;
  /** A cas older than the item's stores it all the same, marked stale (meta flag I). */
  allowStale = false;
  binaryKey = false;
  /** What was there goes even if this can not be stored, so that nobody reads an old value. */
  dropsOld = false;

  /** Forgets the last value; what the command does not set stays as it is here. */
  begin(mode: Mode, bytes: Buffer, keyAt: number, keySize: number): void {
    this.mode = mode;
    this.keyBytes = bytes;
    this.keyAt = keyAt;
    this.keySize = keySize;
    this.valueSize = 0;
    this.flags = 0;
    this.expiresAt = 0;
    this.cas = 0;
    this.allowStale = false;
    this.binaryKey = false;
    this.dropsOld = false;
  }

  value(bytes: Buffer, at: number, size: number): void {
    this.valueBytes = bytes;
    this.valueAt = at;
    this.valueSize = size;
  }
}

/** An increment or decrement. */
export class Delta {
  keyBytes: Buffer = NO_BYTES;
  keyAt = 0;
  keySize = 0;
  decrements = false;
  readonly amount: Uint64 = new Uint64();
  /** The cas unique to compare with, 0 for none. */
  cas = 0;
  /** The number after it. */
  readonly result: Uint64 = new Uint64();

  /** The amount is set by itself. */
  begin(decrements: boolean, bytes: Buffer, keyAt: number, keySize: number): void {
    this.decrements = decrements;
    this.keyBytes = bytes;
    this.keyAt = keyAt;
    this.keySize = keySize;
    this.cas = 0;
  }
}
