/**
 * What a fuzzer sends: commands one behind the other, cut into chunks anywhere. A piece is one
 * command; where Memward answers better than memcached on purpose, the piece says what memcached
 * is sent instead, so that the replies of both must be equal to the byte.
 *
 * Keys carry TAG, which each sending replaces by something new of the same size: no stream meets
 * what an earlier one has stored, and a stream can be sent again while it is made smaller.
 */
import type { Chance } from "./chance.ts";

export type StreamDialect = "text" | "binary";

export type Piece = {
  bytes: Buffer;
  /** What memcached is sent in its place; the same bytes if absent. */
  reference?: Buffer;
  /** Binary: the packet we answer where memcached answers the reference (found by its opaque). */
  answer?: Buffer;
};

export type Stream = {
  dialect: StreamDialect;
  pieces: Piece[];
  /** Where to cut; offsets behind the end are ignored. */
  cuts: number[];
};

export const TAG = "TAGTAGTA";
/** Stand for the base64 of TAG with `a` or `\xff` behind it: the meta flag b. */
export const BASE64_TAGS = { VEFHYUFHVEFB: "a", VEFHZkFHVEFB: "\xff" } as const;

let sendingCount = 0;

/** A new value for TAG. The first one of a stream comes from its seed, so a seed repeats a run. */
export function newTag(seed?: number): string {
  const text = seed === undefined ? `n${(sendingCount++).toString(36)}` : `s${seed.toString(36)}`;
  return text.padEnd(TAG.length, "0").slice(0, TAG.length);
}

export function withTag(bytes: Buffer, tag: string): Buffer {
  let text = bytes.toString("latin1").replaceAll(TAG, tag);
  for (const [base64Tag, tail] of Object.entries(BASE64_TAGS)) {
    text = text.replaceAll(base64Tag, Buffer.from(tag + tail, "latin1").toString("base64"));
  }
  return Buffer.from(text, "latin1");
}

export const joined = (pieces: readonly Piece[]): Buffer =>
  Buffer.concat(pieces.map(({ bytes }) => bytes));

export const referenceOf = (pieces: readonly Piece[]): Buffer =>
  Buffer.concat(pieces.map(({ bytes, reference }) => reference ?? bytes));

/** Words at which parsers have to decide something. */
const INTERESTING = [
  " noreply",
  " q",
  " b",
  "\0",
  "\r",
  "\n",
  "\r\n",
  " ",
  "-",
  "+",
  "0",
  "9",
  "4294967296",
  "99999999999999999999",
  "\x80",
  "\x81",
  "\xff\xff",
  "\0\0\0\x01",
  "set ",
  "get ",
  "ms ",
  "VALUE ",
  "END\r\n",
];

/** Damages bytes in a few places: changed, lost, doubled, put in, moved. */
export function mutated(bytes: Buffer, chance: Chance): Buffer {
  let result = bytes;
  for (let count = chance.integer(1, 4); count > 0; count--) result = mutatedOnce(result, chance);
  return result;
}

function mutatedOnce(bytes: Buffer, chance: Chance): Buffer {
  const at = chance.integer(0, bytes.length);
  const size = chance.oneIn(3) ? chance.integer(0, 40) : chance.integer(0, 2);
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
  const word = Buffer.from(chance.pick(INTERESTING), "latin1");
  switch (chance.integer(0, 5)) {
    case 0: // Changed.
      return Buffer.concat([
        before,
        chance.bytes(Math.min(size, after.length)),
        after.subarray(size),
      ]);
    case 1: // Lost.
      return Buffer.concat([before, after.subarray(size)]);
    case 2: // Doubled.
      return Buffer.concat([before, after.subarray(0, size), after]);
    case 3: // A word put in.
      return Buffer.concat([before, word, after]);
    case 4: // A word put over.
      return Buffer.concat([before, word, after.subarray(word.length)]);
    default: // One bit.
      return flipped(bytes, Math.min(at, bytes.length - 1), 1 << chance.integer(0, 7));
  }
}

function flipped(bytes: Buffer, at: number, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  if (at >= 0) copy[at] = (copy[at] ?? 0) ^ bit;
  return copy;
}

type StoredPiece = { bytes: string; reference?: string; answer?: string };
export type StoredStream = { dialect: StreamDialect; pieces: StoredPiece[]; cuts: number[] };

/** As JSON holds it: each byte a character. */
export function stored({ dialect, pieces, cuts }: Stream): StoredStream {
  const text = (bytes: Buffer): string => bytes.toString("latin1");
  const storedPieces = pieces.map(({ bytes, reference, answer }) => ({
    bytes: text(bytes),
    ...(reference && { reference: text(reference) }),
    ...(answer && { answer: text(answer) }),
  }));
  return { dialect, pieces: storedPieces, cuts };
}

export function restored({ dialect, pieces, cuts }: StoredStream): Stream {
  const bytes = (text: string): Buffer => Buffer.from(text, "latin1");
  const restoredPieces = pieces.map((piece) => ({
    bytes: bytes(piece.bytes),
    ...(piece.reference !== undefined && { reference: bytes(piece.reference) }),
    ...(piece.answer !== undefined && { answer: bytes(piece.answer) }),
  }));
  return { dialect, pieces: restoredPieces, cuts };
}
