/**
 * Replies of a shard in the text dialect (protocol.txt, "Commands" and "Meta Commands").
 *
 *     values   VALUE <key> <flags> <bytes> [<cas unique>]\r\n <data block>\r\n ... END\r\n
 *     meta     VA <bytes> <flags>*\r\n <data block>\r\n, or one line
 *     stats    STAT <name> <value>\r\n ... END\r\n
 *     line     one line
 *
 * Every line has to be one that memcached says to such a command: replies belong to requests by
 * their order alone, so one that cannot be right means that the next ones may be somebody else's.
 */
import { COMMANDS, Command, type ReplyShape, Result } from "./command.ts";
import { VALUE_SIZE_MAX } from "./limits.ts";
import type { Reply } from "./reply.ts";
import { Verdict } from "./request.ts";

const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const ZERO = 0x30;
const NINE = 0x39;

/** Longest line of a reply: a VALUE line with key, flags, size and cas, or a STAT line. */
const LINE_SIZE_MAX = 4096;

/** A line that ends a reply. An open one may have more behind its word, after a blank. */
type Ending = { word: Uint8Array; isOpen: boolean; result: number };
const whole = (word: string, result: number): Ending => {
  return { word: Buffer.from(word), isOpen: false, result };
};
const open = (word: string, result: number): Ending => ({ ...whole(word, result), isOpen: true });

const ERRORS = [
  open("ERROR", Result.clientError),
  open("CLIENT_ERROR", Result.clientError),
  open("SERVER_ERROR", Result.serverError),
];
const ENDINGS: Record<ReplyShape, readonly Ending[]> = {
  values: [whole("END", Result.miss), ...ERRORS],
  meta: [
    ...[open("HD", Result.ok), open("OK", Result.ok), open("ME", Result.ok)],
    ...[open("VA", Result.hit), open("EN", Result.miss), whole("MN", Result.ok)],
    ...[open("NS", Result.notStored), open("EX", Result.exists), open("NF", Result.notFound)],
    ...ERRORS,
  ],
  stats: [
    ...[whole("END", Result.ok), whole("RESET", Result.ok), whole("OK", Result.ok)],
    ...ERRORS,
  ],
  line: [
    ...[whole("STORED", Result.ok), whole("DELETED", Result.ok), whole("TOUCHED", Result.ok)],
    ...[whole("OK", Result.ok), open("VERSION", Result.ok), whole("MN", Result.ok)],
    ...[whole("NOT_STORED", Result.notStored), whole("NOT_FOUND", Result.notFound)],
    ...[whole("EXISTS", Result.exists)],
    ...ERRORS,
  ],
};
/** By command and first byte. */
const ENDINGS_OF: readonly (readonly (readonly Ending[])[])[] = COMMANDS.map(({ shape }) =>
  Array.from({ length: 256 }, (_, first) => ENDINGS[shape].filter(({ word }) => word[0] === first)),
);

const VALUE = Buffer.from("VALUE");
const VA = Buffer.from("VA");
const STAT = Buffer.from("STAT");

/** Frames the reply at `from` to a request of `command`, by the shape of its row. */
export function frameTextReply(
  reply: Reply,
  bytes: Uint8Array,
  from: number,
  to: number,
  command: number,
): Verdict {
  const { shape } = COMMANDS[command]!;
  reply.valueCount = 0;
  let at = from;
  for (;;) {
    let lineEnd = at;
    while (lineEnd < to && bytes[lineEnd] !== LF) lineEnd++;
    if (lineEnd - at > LINE_SIZE_MAX) return Verdict.refused;
    if (lineEnd === to) return reply.incomplete(to - from + 1);
    lineEnd++;
    if (!isLineEnd(bytes, lineEnd)) return Verdict.refused;
    if (shape === "values" && isWord(VALUE, bytes, at, true)) {
      const end = endOfValue(bytes, lineEnd, sizeAt(bytes, at, lineEnd, command));
      if (end < 0) return Verdict.refused;
      if (end > to) return reply.incomplete(end - from);
      if (!isLineEnd(bytes, end)) return Verdict.refused;
      reply.valueCount++;
      at = end;
      continue;
    }
    if (shape === "stats" && isWord(STAT, bytes, at, true)) {
      at = lineEnd;
      continue;
    }
    const result = resultOf(bytes, at, lineEnd, command);
    if (result < 0) return Verdict.refused;
    if (shape === "meta" && isWord(VA, bytes, at, true)) {
      lineEnd = endOfValue(bytes, lineEnd, at + VA.length + 1);
      if (lineEnd < 0) return Verdict.refused;
      if (lineEnd > to) return reply.incomplete(lineEnd - from);
      if (!isLineEnd(bytes, lineEnd)) return Verdict.refused;
    }
    reply.size = lineEnd - from;
    reply.result = reply.valueCount > 0 && result === Result.miss ? Result.hit : result;
    const isGet = command === Command.mg || command === Command.mg_touch;
    if (isGet && result === Result.ok) reply.result = Result.hit;
    return Verdict.framed;
  }
}

/** What the line that ends a reply says; -1 if no such line can end a reply to `command`. */
function resultOf(bytes: Uint8Array, at: number, lineEnd: number, command: number): number {
  for (const { word, isOpen, result } of ENDINGS_OF[command]![bytes[at]!]!) {
    if (isWord(word, bytes, at, isOpen)) return result;
  }
  const isCounter = command === Command.incr || command === Command.decr;
  return isCounter && areDigits(bytes, at, lineEnd - 2) ? Result.ok : -1;
}

/** Behind it the line ends, or, where it is open, a blank follows. */
function isWord(word: Uint8Array, bytes: Uint8Array, at: number, isOpen: boolean): boolean {
  for (let i = 0; i < word.length; i++) if (bytes[at + i] !== word[i]) return false;
  const behind = bytes[at + word.length];
  if (behind === SPACE) return isOpen;
  return behind === CR && bytes[at + word.length + 1] === LF;
}

function areDigits(bytes: Uint8Array, from: number, end: number): boolean {
  for (let at = from; at < end; at++) if (bytes[at]! < ZERO || bytes[at]! > NINE) return false;
  return end > from;
}

const isLineEnd = (bytes: Uint8Array, end: number): boolean =>
  bytes[end - 1] === LF && bytes[end - 2] === CR;

/** `VALUE <key> <flags> <bytes> [<cas unique>]`: where the bytes token starts. */
function sizeAt(bytes: Uint8Array, lineAt: number, lineEnd: number, command: number): number {
  let at = lineEnd;
  let blanks = command === Command.gets || command === Command.gats ? 2 : 1;
  while (at > lineAt) {
    if (bytes[at - 1] === SPACE && --blanks === 0) return at;
    at--;
  }
  return lineEnd;
}

/** Offset behind the data block that follows a line, from its size at `digitsAt`; -1 if none. */
function endOfValue(bytes: Uint8Array, lineEnd: number, digitsAt: number): number {
  let size = 0;
  let at = digitsAt;
  for (; bytes[at]! >= ZERO && bytes[at]! <= NINE; at++) size = size * 10 + bytes[at]! - ZERO;
  if (at === digitsAt || size > VALUE_SIZE_MAX + 1024) return -1;
  return lineEnd + size + 2;
}
