/**
 * The text dialect (protocol.txt, "Commands"): framing of command lines. Meta commands share
 * the lines and are framed in meta.ts, replies in textReply.ts.
 *
 * A line is framed only when we are certain where its command ends: what memcached would answer
 * with one error line is refused here with the same words, so that a malformed line never reaches
 * a shard and can never shift replies. Where memcached would go on to read the data block of a
 * refused storage command as commands, its announced bytes are skipped instead.
 */
import { Command } from "./command.ts";
import {
  DIGITS_MAX,
  KEY_SIZE_MAX,
  LINE_SIZE_MAX,
  RETRIEVAL_LINE_SIZE_MAX,
  SKIP_SIZE_MAX,
  VALUE_SIZE_MAX,
} from "./limits.ts";
import { frameMeta } from "./meta.ts";
import { type Request, TOKEN_COUNT_MAX, Verdict } from "./request.ts";

const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const LETTER_A = 0x61;
const LETTER_E = 0x65;
const LETTER_G = 0x67;
const ZERO = 0x30;
const NINE = 0x39;

type Verb = {
  command: number;
  frame(request: Request, bytes: Uint8Array, from: number, to: number): Verdict;
};

/** How the line of each verb is read. Tokens include the verb itself. */
const VERBS: ReadonlyMap<string, Verb> = new Map([
  ["get", { command: Command.get, frame: frameRetrieval }],
  ["gets", { command: Command.gets, frame: frameRetrieval }],
  ["gat", { command: Command.gat, frame: frameRetrieval }],
  ["gats", { command: Command.gats, frame: frameRetrieval }],
  ["set", { command: Command.set, frame: frameStorage }],
  ["add", { command: Command.add, frame: frameStorage }],
  ["replace", { command: Command.replace, frame: frameStorage }],
  ["append", { command: Command.append, frame: frameStorage }],
  ["prepend", { command: Command.prepend, frame: frameStorage }],
  ["cas", { command: Command.cas, frame: frameStorage }],
  ["delete", { command: Command.delete, frame: frameKeyLine(2) }],
  ["incr", { command: Command.incr, frame: frameKeyLine(3) }],
  ["decr", { command: Command.decr, frame: frameKeyLine(3) }],
  ["touch", { command: Command.touch, frame: frameKeyLine(3) }],
  ["mg", { command: Command.mg, frame: frameMeta }],
  ["ms", { command: Command.ms, frame: frameMeta }],
  ["md", { command: Command.md, frame: frameMeta }],
  ["ma", { command: Command.ma, frame: frameMeta }],
  ["me", { command: Command.me, frame: frameMeta }],
  ["mn", { command: Command.mn, frame: frameLine(1, TOKEN_COUNT_MAX) }],
  ["flush_all", { command: Command.flush_all, frame: frameFlush }],
  ["stats", { command: Command.stats, frame: frameLine(1, TOKEN_COUNT_MAX) }],
  ["version", { command: Command.version, frame: frameLine(1, TOKEN_COUNT_MAX) }],
  ["verbosity", { command: Command.verbosity, frame: frameVerbosity }],
  ["quit", { command: Command.quit, frame: frameLine(1, TOKEN_COUNT_MAX) }],
]);
const VERB_SIZE_MAX = 9;

// Verbs by their first bytes and size, so that a request needs no string. One slot per verb.
const VERB_TABLE: (Verb & { name: string })[][] = Array.from({ length: 256 }, () => []);
const verbHash = (first: number, last: number, size: number): number =>
  (first + last * 3 + size * 7) & 255;
for (const [name, verb] of VERBS) {
  const hash = verbHash(name.charCodeAt(0), name.charCodeAt(name.length - 1), name.length);
  VERB_TABLE[hash]!.push({ name, ...verb });
}

function findVerb(bytes: Uint8Array, at: number, end: number): Verb | undefined {
  const size = end - at;
  if (size < 2 || size > VERB_SIZE_MAX) return undefined;
  const candidates = VERB_TABLE[verbHash(bytes[at]!, bytes[end - 1]!, size)]!;
  for (let c = 0; c < candidates.length; c++) {
    const verb = candidates[c]!;
    let i = 0;
    while (i < size && verb.name.charCodeAt(i) === bytes[at + i]) i++;
    if (i === size && verb.name.length === size) return verb;
  }
  return undefined;
}

/** Frames the command line at `from`, and its data block where it has one. */
export function frameText(request: Request, bytes: Uint8Array, from: number, to: number): Verdict {
  request.command = Command.invalid;
  request.quiet = false;
  request.quietSize = 0;
  let at = from + request.scannedSize;
  while (at < to && bytes[at] !== LF) at++;
  if (isTooLong(bytes, from, at)) {
    request.scannedSize = 0;
    return request.refuse(Command.invalid, "lineTooLong", to - from);
  }
  if (at === to) {
    request.scannedSize = to - from;
    request.sizeNeeded = request.scannedSize + 1;
    return Verdict.incomplete;
  }
  request.scannedSize = 0;
  request.lineEnd = at + 1;
  // memcached leaves the CR of an otherwise empty line in place: both are answered ERROR.
  request.lineStop = at > from && bytes[at - 1] === CR ? at - 1 : at;
  request.size = request.lineEnd - from;
  request.keyIsBase64 = false;
  request.keyIsEchoed = false;
  request.valueSize = 0;
  tokenize(request, bytes, from, request.lineStop);
  const verb =
    request.tokenCount === 0
      ? undefined
      : findVerb(bytes, request.tokenAt[0]!, request.tokenEnd[0]!);
  if (verb === undefined) return request.refuse(Command.invalid, "error", request.size);
  request.command = verb.command;
  const verdict = verb.frame(request, bytes, from, to);
  // memcached ends a line at a NUL and would see another command than we do.
  const isLineFine = verdict !== Verdict.refused || request.problem === "badChunk";
  return isLineFine && request.hasNul ? badFormat(request) : verdict;
}

/** Only a retrieval may be long: thousands of keys. Anything else of that size is garbage. */
function isTooLong(bytes: Uint8Array, from: number, end: number): boolean {
  const size = end - from;
  if (size <= LINE_SIZE_MAX) return false;
  let at = from;
  while (at < end && bytes[at] === SPACE) at++;
  const isRetrieval =
    bytes[at] === LETTER_G && (bytes[at + 1] === LETTER_E || bytes[at + 1] === LETTER_A);
  return !isRetrieval || size > RETRIEVAL_LINE_SIZE_MAX;
}

function tokenize(request: Request, bytes: Uint8Array, from: number, stop: number): void {
  let count = 0;
  let at = from;
  let hasNul = false;
  while (count < TOKEN_COUNT_MAX) {
    while (at < stop && bytes[at] === SPACE) at++;
    if (at === stop) break;
    request.tokenAt[count] = at;
    for (; at < stop && bytes[at] !== SPACE; at++) if (bytes[at] === 0) hasNul = true;
    request.tokenEnd[count++] = at;
  }
  for (; at < stop; at++) if (bytes[at] === 0) hasNul = true;
  request.hasNul = hasNul;
  request.tokenCount = count;
}

// ---- the shapes of lines ------------------------------------------------------------------

/** `get <key>+`, `gat <exptime> <key>+`: keys from `keyAt` to `lineStop`, `keySize` the first. */
function frameRetrieval(request: Request, bytes: Uint8Array, from: number): Verdict {
  const touches = request.command === Command.gat || request.command === Command.gats;
  const first = touches ? 2 : 1;
  if (request.tokenCount < 2) return request.refuse(request.command, "error", request.size);
  if (touches && !isSigned64(bytes, request.tokenAt[1]!, request.tokenEnd[1]!)) {
    return request.refuse(request.command, "badExptime", request.size);
  }
  if (request.tokenCount === first) {
    request.keyAt = request.lineStop;
    request.keySize = 0;
    return Verdict.framed;
  }
  request.keyAt = request.tokenAt[first]!;
  request.keySize = request.tokenEnd[first]! - request.keyAt;
  for (let i = first; i < request.tokenCount; i++) {
    if (request.tokenEnd[i]! - request.tokenAt[i]! > KEY_SIZE_MAX) return badFormat(request);
  }
  if (request.tokenCount === TOKEN_COUNT_MAX) {
    const last = request.tokenEnd[TOKEN_COUNT_MAX - 1]!;
    if (hasLongToken(bytes, last, request.lineStop, KEY_SIZE_MAX)) return badFormat(request);
  }
  return request.size === request.lineEnd - from ? Verdict.framed : badFormat(request);
}

/** Whether a word in `[from, stop)` of a line is longer than `sizeMax`. */
export function hasLongToken(
  bytes: Uint8Array,
  from: number,
  stop: number,
  sizeMax: number,
): boolean {
  let start = from;
  for (let at = from; at < stop; at++) {
    if (bytes[at] === SPACE) start = at + 1;
    else if (at - start >= sizeMax) return true;
  }
  return false;
}

/** `set <key> <flags> <exptime> <bytes> [noreply]`, `cas` with `<cas unique>` before noreply. */
function frameStorage(request: Request, bytes: Uint8Array, from: number, to: number): Verdict {
  const needed = request.command === Command.cas ? 6 : 5;
  const { tokenAt, tokenEnd, tokenCount } = request;
  if (tokenCount !== needed && tokenCount !== needed + 1) {
    return request.refuse(request.command, "error", request.size);
  }
  noteNoreply(request, bytes);
  const valueSize = parseSize(bytes, tokenAt[4]!, tokenEnd[4]!);
  if (valueSize < 0) return badFormat(request);
  const size = request.lineEnd - from + valueSize + 2;
  if (size > SKIP_SIZE_MAX) return request.refuse(request.command, "absurdSize", to - from);
  request.size = size;
  request.keyAt = tokenAt[1]!;
  request.keySize = tokenEnd[1]! - request.keyAt;
  let isNumeric =
    isUnsigned64(bytes, tokenAt[2]!, tokenEnd[2]!) && isSigned64(bytes, tokenAt[3]!, tokenEnd[3]!);
  if (needed === 6) isNumeric &&= isUnsigned64(bytes, tokenAt[5]!, tokenEnd[5]!);
  if (request.keySize > KEY_SIZE_MAX || !isNumeric) return badFormat(request);
  return frameData(request, bytes, from, to, valueSize);
}

/** The data block behind a line: `valueSize` bytes and a line end. */
export function frameData(
  request: Request,
  bytes: Uint8Array,
  from: number,
  to: number,
  valueSize: number,
): Verdict {
  request.valueAt = request.lineEnd;
  request.valueSize = valueSize;
  if (valueSize > VALUE_SIZE_MAX) return request.refuse(request.command, "tooLarge", request.size);
  if (to - from < request.size) {
    request.sizeNeeded = request.size;
    return Verdict.incomplete;
  }
  const end = request.valueAt + valueSize;
  if (bytes[end] !== CR || bytes[end + 1] !== LF) {
    return request.refuse(request.command, "badChunk", request.size);
  }
  return Verdict.framed;
}

/** Most words of a line with a key and nothing behind it: `delete <key> 0 noreply`. */
const KEY_LINE_TOKEN_COUNT_MAX = 4;

/**
 * A line with a key and nothing behind it, of at least `min` words. memcached takes noreply from
 * the last word whatever the count, and is then quiet about everything that is wrong: what would
 * be left of such a line without its noreply has to be a line that is answered.
 */
function frameKeyLine(min: number): Verb["frame"] {
  return (request, bytes) => {
    const { tokenCount } = request;
    if (tokenCount < min || tokenCount > KEY_LINE_TOKEN_COUNT_MAX) {
      return request.refuse(request.command, "error", request.size);
    }
    request.keyAt = request.tokenAt[1]!;
    request.keySize = request.tokenEnd[1]! - request.keyAt;
    if (tokenCount > 2) noteNoreply(request, bytes);
    if (request.quiet) {
      if (tokenCount - 1 < min) return badFormat(request);
      if (tokenCount > 3 && isNoreply(request, bytes, tokenCount - 2)) return badFormat(request);
    }
    return request.keySize > KEY_SIZE_MAX ? badFormat(request) : Verdict.framed;
  };
}

/** A line without a key. */
function frameLine(min: number, max: number): Verb["frame"] {
  return (request) => {
    const { tokenCount } = request;
    if (tokenCount < min || tokenCount > max) {
      return request.refuse(request.command, "error", request.size);
    }
    return Verdict.framed;
  };
}

/** `verbosity <level> [noreply]`; a lone noreply stands where the level should, and is quiet. */
function frameVerbosity(request: Request, bytes: Uint8Array): Verdict {
  const { tokenCount, tokenAt, tokenEnd } = request;
  if (tokenCount < 2 || tokenCount > 3)
    return request.refuse(request.command, "error", request.size);
  noteNoreply(request, bytes);
  if (request.quiet || isNumber(bytes, tokenAt[1]!, tokenEnd[1]!)) return Verdict.framed;
  return badFormat(request);
}

/** `flush_all [delay] [noreply]`. */
function frameFlush(request: Request, bytes: Uint8Array): Verdict {
  const { tokenCount, tokenAt, tokenEnd } = request;
  if (tokenCount > 3) return request.refuse(request.command, "error", request.size);
  noteNoreply(request, bytes);
  const argumentCount = tokenCount - 1 - (request.quiet ? 1 : 0);
  if (argumentCount > 0 && !isNumber(bytes, tokenAt[1]!, tokenEnd[1]!)) {
    return request.refuse(request.command, "badExptime", request.size);
  }
  return Verdict.framed;
}

const badFormat = (request: Request): Verdict =>
  request.refuse(request.command, "badFormat", request.size);

const NOREPLY = Buffer.from("noreply");

function isNoreply(request: Request, bytes: Uint8Array, token: number): boolean {
  const at = request.tokenAt[token]!;
  if (request.tokenEnd[token]! - at !== NOREPLY.length) return false;
  for (let i = 0; i < NOREPLY.length; i++) if (bytes[at + i] !== NOREPLY[i]) return false;
  return true;
}

function noteNoreply(request: Request, bytes: Uint8Array): void {
  const last = request.tokenCount - 1;
  if (last === 0 || !isNoreply(request, bytes, last)) return;
  request.quiet = true;
  request.quietAt = request.tokenAt[last]! - 1;
  request.quietSize = NOREPLY.length + 1;
}

// ---- numbers ------------------------------------------------------------------------------

const PLUS = 0x2b;
const MINUS = 0x2d;

/** Digits, with a sign or without: what safe_strtol of memcached takes, if it is not too large. */
export function isNumber(bytes: Uint8Array, from: number, end: number): boolean {
  let at = bytes[from] === MINUS || bytes[from] === PLUS ? from + 1 : from;
  if (at === end || end - at > DIGITS_MAX) return false;
  for (; at < end; at++) if (bytes[at]! < ZERO || bytes[at]! > NINE) return false;
  return true;
}

function isUnsigned64(bytes: Uint8Array, at: number, end: number): boolean {
  if (!isNumber(bytes, at, end) || bytes[at] === MINUS) return false;
  return end - at < DIGITS_MAX || toBigInt(bytes, at, end) < 1n << 64n;
}

function isSigned64(bytes: Uint8Array, at: number, end: number): boolean {
  if (!isNumber(bytes, at, end)) return false;
  return (
    end - at < DIGITS_MAX - 1 ||
    BigInt.asIntN(64, toBigInt(bytes, at, end)) === toBigInt(bytes, at, end)
  );
}

function toBigInt(bytes: Uint8Array, at: number, end: number): bigint {
  const isNegative = bytes[at] === MINUS;
  const digitsAt = isNegative || bytes[at] === PLUS ? at + 1 : at;
  const magnitude = BigInt(Buffer.from(bytes.subarray(digitsAt, end)).toString("latin1"));
  return isNegative ? -magnitude : magnitude;
}

/** Digits as a size in bytes; -1 when it is none, or with a line end more than 32 bits signed. */
export function parseSize(bytes: Uint8Array, from: number, end: number): number {
  let at = bytes[from] === PLUS ? from + 1 : from;
  if (at === end || end - at > DIGITS_MAX) return -1;
  let size = 0;
  for (; at < end; at++) {
    const digit = bytes[at]! - ZERO;
    if (digit < 0 || digit > 9) return -1;
    size = size * 10 + digit;
  }
  return size > 0x7fffffff - 2 ? -1 : size;
}
