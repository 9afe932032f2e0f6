/**
 * What an item looks like in its units. Its number is the number of its first unit:
 *
 *     first unit   | ten words of head | 24 bytes of data |
 *     more units   | 64 bytes of data  | …
 *
 * The data is the key, then the value, without anything between or behind them.
 */
import { UNIT_SIZE } from "./units.ts";

/** Words of the head. */
export const Field = {
  hash: 0,
  /** Next item of the same bucket. */
  chain: 1,
  /** Neighbours in the order of use. */
  older: 2,
  newer: 3,
  /** valueSize << 12 | marks << 8 | keySize: an item is at most 1 MB, a key 250 bytes. */
  sizes: 4,
  flags: 5,
  /** Unix seconds; 0 is never. */
  expiresAt: 6,
  accessedAt: 7,
  casLow: 8,
  casHigh: 9,
} as const;

export const HEAD_SIZE = 40;
/** Bytes of data in the first unit. */
export const FIRST_SIZE = UNIT_SIZE - HEAD_SIZE;

export const MARKS_SHIFT = 8;
export const VALUE_SHIFT = 12;

/** Properties of an item that are one bit each. */
export const Mark = {
  /** It was fetched since it was stored (meta flag h, `fetch=yes`). */
  fetched: 1,
  /** Invalidated, but still served to whoever can tell (meta X). */
  stale: 2,
  /** Somebody was told to recache it (meta W, then Z). */
  won: 4,
  /** The key came in base64 and is shown so (meta b). */
  binaryKey: 8,
} as const;

export const unitsFor = (dataSize: number): number =>
  1 + Math.max(0, Math.ceil((dataSize - FIRST_SIZE) / UNIT_SIZE));
