/**
 * What stands on the second copy of a key while its first value is on its way: an empty item that
 * only its token is wanted of, with flags that nobody uses. Readers take it for a miss.
 */
import { HEADER_SIZE, Header } from "../../core/protocol/binary.ts";

export const PLACEHOLDER_FLAGS = 0xffff_fffe;
/** It goes by itself, where nobody takes it away: longer than a change may be under way. */
export const PLACEHOLDER_SECONDS = 2;

const VALUES = / 4294967294 0(?: \d+)?\r\n\r\nEND\r\n$/;
/** A key, the words around it, and a cas. */
const SIZE_MAX = 320;

/** Whether the reply to a read of one key shows a placeholder. Meta: any value without bytes. */
export function isPlaceholder(
  bytes: Buffer,
  from: number,
  size: number,
  isBinary: boolean,
): boolean {
  if (size > SIZE_MAX) return false;
  if (isBinary) {
    const extrasSize = bytes[from + Header.extrasSize]!;
    const rest = size - HEADER_SIZE - extrasSize - bytes.readUInt16BE(from + Header.keySize);
    if (rest !== 0 || extrasSize !== 4) return false;
    return bytes.readUInt32BE(from + HEADER_SIZE) === PLACEHOLDER_FLAGS;
  }
  const text = bytes.toString("latin1", from, from + size);
  return text.startsWith("VALUE ") ? VALUES.test(text) : /^VA 0[ \r]/.test(text);
}
