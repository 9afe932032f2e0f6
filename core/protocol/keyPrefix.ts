/**
 * Takes a key prefix off replies, in place. What stands before the key moves up to it, so that a
 * value stays where it is and the reply begins later:
 *
 *     VALUE app:user 0 5\r\nvalue\r\nEND\r\n
 *         VALUE user 0 5\r\nvalue\r\nEND\r\n
 */
import { base64Size, decodeBase64, encodeBase64 } from "./base64.ts";
import { HEADER_SIZE, Header } from "./binary.ts";

const LF = 0x0a;
const CR = 0x0d;
const BLANK = 0x20;
const LETTER_UPPER_M = 0x4d;
const LETTER_K = 0x6b;
export const VALUE_WORD_SIZE = "VALUE ".length;
/** `HD`, `VA`, `EN`, … are followed by a blank where flags follow; words of errors are longer. */
const META_CODE_SIZE = 2;

const decoded = Buffer.alloc(256);

/**
 * The reply at `from` to a binary command. Returns by how many bytes it begins later: the size of
 * the prefix, or 0 when it repeats no key.
 */
export function cutBinaryKey(bytes: Buffer, from: number, prefixSize: number): number {
  const keySize = bytes.readUInt16BE(from + Header.keySize);
  if (keySize < prefixSize) return 0;
  bytes.writeUInt16BE(keySize - prefixSize, from + Header.keySize);
  const bodySize = bytes.readUInt32BE(from + Header.bodySize);
  bytes.writeUInt32BE(bodySize - prefixSize, from + Header.bodySize);
  const keyAt = from + HEADER_SIZE + bytes[from + Header.extrasSize]!;
  bytes.copyWithin(from + prefixSize, from, keyAt);
  return prefixSize;
}

/**
 * The reply `[from, to)` to a meta command whose key is `keySize` bytes with its prefix. memcached
 * repeats a key as it is or in base64, by how the item was stored and not by how it was asked for;
 * base64 is longer, so whether the key ends where it should tells which. Returns by how many
 * bytes the reply begins later.
 */
export function cutMetaKey(
  bytes: Buffer,
  from: number,
  to: number,
  prefixSize: number,
  keySize: number,
): number {
  const keyAt = metaKeyAt(bytes, from);
  if (keyAt < 0) return 0;
  const end = keyAt + keySize;
  let cut = prefixSize;
  if (bytes[end] !== BLANK && bytes[end] !== CR) {
    const size = base64Size(keySize);
    if (keyAt + size >= to) return 0;
    if (decodeBase64(bytes, keyAt, size, decoded, 0) !== keySize) return 0;
    cut = size - base64Size(keySize - prefixSize);
    encodeBase64(decoded, prefixSize, keySize - prefixSize, bytes, keyAt + cut);
  }
  if (keyAt + cut >= to) return 0;
  bytes.copyWithin(from + cut, from, keyAt);
  return cut;
}

/** Where the key stands in `ME <key> …` or behind the flag k; -1 if nowhere. */
function metaKeyAt(bytes: Buffer, from: number): number {
  let at = from + META_CODE_SIZE;
  if (bytes[at] !== BLANK) return -1;
  if (bytes[from] === LETTER_UPPER_M) return at + 1;
  for (; bytes[at] !== LF; at++) {
    if (bytes[at] === BLANK && bytes[at + 1] === LETTER_K) return at + 2;
  }
  return -1;
}

/**
 * The reply `[from, to)` to a text retrieval, of `valueCount` values: returns where it ends now.
 * With any value it begins at `from + prefixSize`, else where it did.
 */
export function cutValueKeys(
  bytes: Buffer,
  from: number,
  to: number,
  prefixSize: number,
  valueCount: number,
): number {
  let at = from;
  let end = from;
  for (let n = 0; n < valueCount; n++) {
    let keyEnd = at + VALUE_WORD_SIZE + prefixSize;
    while (bytes[keyEnd] !== BLANK) keyEnd++;
    const blockEnd = endOfBlock(bytes, keyEnd + 1);
    if (n === 0) {
      bytes.copyWithin(from + prefixSize, from, from + VALUE_WORD_SIZE);
      end = blockEnd;
    } else {
      bytes.copyWithin(end, at, at + VALUE_WORD_SIZE);
      bytes.copyWithin(end + VALUE_WORD_SIZE, at + VALUE_WORD_SIZE + prefixSize, blockEnd);
      end += blockEnd - at - prefixSize;
    }
    at = blockEnd;
  }
  if (end < at) bytes.copyWithin(end, at, to);
  return end + (to - at);
}

/** Offset behind a block whose flags start at `at`: `<flags> <bytes>[ <cas>]\r\n<data>\r\n`. */
export function endOfBlock(bytes: Buffer, at: number): number {
  let cursor = at;
  while (bytes[cursor] !== BLANK) cursor++;
  let size = 0;
  for (cursor++; bytes[cursor]! > BLANK; cursor++) size = size * 10 + bytes[cursor]! - 0x30;
  while (bytes[cursor] !== LF) cursor++;
  return cursor + 1 + size + 2;
}
