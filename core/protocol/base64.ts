/**
 * Keys in base64 (meta flag b), as memcached reads them: bytes outside the alphabet are passed
 * over, the rest must come in fours. (Node's decoder forgives more, and wants a string.)
 */

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PADDING = 0x3d;
const FOREIGN = 0xff;
const SIX_BITS = new Uint8Array(256).fill(FOREIGN);
for (let i = 0; i < ALPHABET.length; i++) SIX_BITS[ALPHABET.charCodeAt(i)] = i;
SIX_BITS[PADDING] = 0;

/** Writes the decoded bytes to `target` at `targetAt`; their number, or 0 if it is no base64. */
export function decodeBase64(
  bytes: Uint8Array,
  at: number,
  size: number,
  target: Buffer,
  targetAt: number,
): number {
  let word = 0;
  let count = 0;
  let paddingCount = 0;
  let end = targetAt;
  let isEnded = false;
  for (let i = at; i < at + size; i++) {
    const bits = SIX_BITS[bytes[i]!]!;
    if (bits === FOREIGN) continue;
    count++;
    if (isEnded) continue;
    if (bytes[i] === PADDING) paddingCount++;
    word = (word << 6) | bits;
    if (count % 4 !== 0) continue;
    target[end++] = word >>> 16;
    target[end++] = word >>> 8;
    target[end++] = word;
    if (paddingCount > 2) return 0;
    end -= paddingCount;
    isEnded = paddingCount > 0;
  }
  return count === 0 || count % 4 !== 0 ? 0 : end - targetAt;
}

/** What `size` bytes take as base64. */
export const base64Size = (size: number): number => 4 * Math.ceil(size / 3);

/** Writes `size` bytes as base64 to `target` and returns the offset behind them. */
export function encodeBase64(
  bytes: Uint8Array,
  at: number,
  size: number,
  target: Buffer,
  targetAt: number,
): number {
  let to = targetAt;
  const end = at + size;
  for (let i = at; i < end; i += 3) {
    const word = (bytes[i]! << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    const here = Math.min(3, end - i);
    const masked = here === 3 ? word : here === 2 ? word & 0xffff00 : word & 0xff0000;
    for (let digit = 0; digit < 4; digit++) {
      const code = ALPHABET.charCodeAt((masked >>> (18 - 6 * digit)) & 63);
      target[to++] = digit <= here ? code : PADDING;
    }
  }
  return to;
}
