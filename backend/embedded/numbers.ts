/**
 * Decimal numbers as bytes, read the way memcached reads them (C's strtoull and strtoll, then its
 * own checks), because clients see the differences: blanks and a sign may lead, a blank or NUL
 * ends. 64-bit numbers are two halves of 32 bits, so that no command makes a BigInt; results stand
 * in the object that the caller brings.
 */

const TWO_32 = 4294967296;
const ZERO = 48;
const MINUS = 45;
const PLUS = 43;
/** Below this a number is exact as a plain number. */
const HIGH_EXACT = 1 << 21;

/** An unsigned 64-bit number. */
export class Uint64 {
  high = 0;
  low = 0;

  set(high: number, low: number): void {
    this.high = high >>> 0;
    this.low = low >>> 0;
  }

  /** As a plain number; infinite where that would not be exact. No cas unique gets so large. */
  get exact(): number {
    return this.high < HIGH_EXACT ? this.high * TWO_32 + this.low : Number.POSITIVE_INFINITY;
  }

  /** Wraps around at 2^64, as protocol.txt ("Increment/Decrement") says. */
  add(other: Uint64): void {
    const low = this.low + other.low;
    this.set((this.high + other.high + (low >= TWO_32 ? 1 : 0)) % TWO_32, low % TWO_32);
  }

  /** Stops at 0 (same section). */
  subtract(other: Uint64): void {
    const low = this.low - other.low;
    const high = this.high - other.high - (low < 0 ? 1 : 0);
    if (high < 0) this.set(0, 0);
    else this.set(high, low);
  }

  /** False when the digit did not fit. */
  pushDigit(digit: number): boolean {
    const low = this.low * 10 + digit;
    const high = this.high * 10 + Math.floor(low / TWO_32);
    this.low = low % TWO_32;
    this.high = high;
    return high < TWO_32;
  }
}

const isSpace = (byte: number): boolean => byte === 32 || (byte >= 9 && byte <= 13);

/**
 * Reads the digits at the begin of `bytes[from..to)` into `out`: 1 or -1 is their sign, 0 means
 * that there is no number, that something but a blank or NUL follows it, or that it is too large.
 */
function parseDigits(bytes: Uint8Array, from: number, to: number, out: Uint64): 1 | 0 | -1 {
  let at = from;
  while (at < to && isSpace(bytes[at]!)) at++;
  const negative = bytes[at] === MINUS;
  if (at < to && (negative || bytes[at] === PLUS)) at++;
  out.set(0, 0);
  const firstAt = at;
  for (; at < to; at++) {
    const digit = bytes[at]! - ZERO;
    if (digit < 0 || digit > 9) break;
    if (!out.pushDigit(digit)) return 0;
  }
  if (at === firstAt) return 0;
  if (at < to && !isSpace(bytes[at]!) && bytes[at] !== 0) return 0;
  return negative ? -1 : 1;
}

/** An unsigned 64-bit number; a negative one counts only if it wraps into the lower half, as in C. */
export function parseUint64(bytes: Uint8Array, from: number, to: number, out: Uint64): boolean {
  const sign = parseDigits(bytes, from, to, out);
  if (sign < 0) {
    const { high, low } = out;
    out.set(~high + (low === 0 ? 1 : 0), -low);
    return out.high < 0x8000_0000;
  }
  return sign > 0;
}

const scratch = new Uint64();

/** Client flags: memcached 1.6 reads 64 bits and keeps the lower half. -1 if it is no number. */
export function parseFlags(bytes: Uint8Array, from: number, to: number): number {
  return parseUint64(bytes, from, to, scratch) ? scratch.low : -1;
}

/**
 * An exptime: memcached 1.6 reads a signed 64-bit number and keeps the lower 32 bits, so that
 * 2147483648 is negative and expires at once. NaN if it is no number.
 */
export function parseExptime(bytes: Uint8Array, from: number, to: number): number {
  const sign = parseDigits(bytes, from, to, scratch);
  const fits =
    scratch.high < 0x8000_0000 || (sign < 0 && scratch.high === 0x8000_0000 && scratch.low === 0);
  if (sign === 0 || !fits) return Number.NaN;
  return sign < 0 ? -scratch.low | 0 : scratch.low | 0;
}

/** Writes `value` (exact, not negative) in decimal and returns the offset behind it. */
export function writeDecimal(target: Uint8Array, at: number, value: number): number {
  if (value < 10) {
    target[at] = ZERO + value;
    return at + 1;
  }
  let end = at + 1;
  for (let limit = 10; limit <= value; limit *= 10) end++;
  let rest = value;
  for (let here = end - 1; here >= at; here--) {
    const tenth = Math.floor(rest / 10);
    target[here] = ZERO + (rest - tenth * 10);
    rest = tenth;
  }
  return end;
}

/** The same for 64 bits. */
export function writeUint64(target: Buffer, at: number, value: Uint64): number {
  if (value.high < HIGH_EXACT) return writeDecimal(target, at, value.exact);
  const digits = (BigInt(value.high) * BigInt(TWO_32) + BigInt(value.low)).toString();
  return at + target.write(digits, at, "latin1");
}
