/**
 * Executes framed commands of the text dialect (protocol.txt, "Commands") on a shard. Answers and
 * the order of checks are memcached 1.6.18's: clients see both. A quiet command is executed like
 * any other, and its reply is taken back by the session.
 */
import { Command } from "../../core/protocol/command.ts";
import { MEMCACHED_VERSION } from "../../core/protocol/limits.ts";
import { PROBLEMS, type Problem } from "../../core/protocol/problem.ts";
import type { Request } from "../../core/protocol/request.ts";
import { parseExptime, parseFlags, parseUint64, Uint64 } from "./numbers.ts";
import type { Shard } from "./shard.ts";
import { resetStats, statsOf } from "./stats.ts";
import { Mode, Outcome } from "./write.ts";

export const SPACE = 0x20;
const CR = 0x0d;
const LF = 0x0a;

export const line = (text: string): Buffer => Buffer.from(`${text}\r\n`, "latin1");
export const CRLF = line("");
const VALUE = Buffer.from("VALUE ");
const END = line("END");
const BAD_EXPTIME = line(PROBLEMS.badExptime.text);
const BAD_FORMAT = line(PROBLEMS.badFormat.text);
const BAD_DELTA = line("CLIENT_ERROR invalid numeric delta argument");
const BAD_DELETE = line("CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]");
const OK = line("OK");

export const TOO_LARGE = line("SERVER_ERROR object too large for cache");
export const NO_MEMORY = line("SERVER_ERROR out of memory storing object");
export const NON_NUMERIC = line("CLIENT_ERROR cannot increment or decrement non-numeric value");
const STORE_REPLIES: Record<Outcome, Buffer> = {
  [Outcome.done]: line("STORED"),
  [Outcome.notStored]: line("NOT_STORED"),
  [Outcome.exists]: line("EXISTS"),
  [Outcome.notFound]: line("NOT_FOUND"),
  [Outcome.tooLarge]: TOO_LARGE,
  [Outcome.noMemory]: NO_MEMORY,
  [Outcome.nonNumeric]: NON_NUMERIC,
};
const REPLY_NOT_FOUND = STORE_REPLIES[Outcome.notFound];
const DELETED = line("DELETED");
const TOUCHED = line("TOUCHED");

const PROBLEM_LINES = Object.fromEntries(
  Object.entries(PROBLEMS).map(([problem, { text }]) => [problem, line(text)]),
) as Record<Problem, Buffer>;

type Execute = (shard: Shard, request: Request, bytes: Buffer) => void;
const number = new Uint64();

export function answerTextProblem(shard: Shard, request: Request, bytes: Buffer): void {
  if (request.problem === "tooLarge") refuseTooLarge(shard, request, bytes);
  shard.output.text(PROBLEM_LINES[request.problem]);
}

/** A value that is larger than what is framed at all; as with any other, the old one is dropped. */
function refuseTooLarge(shard: Shard, request: Request, bytes: Buffer): void {
  const { write } = shard;
  write.begin(Mode.set, bytes, request.keyAt, request.keySize);
  write.dropsOld = request.command === Command.set || request.command === Command.ms;
  shard.store.refuse(write, Outcome.tooLarge);
}

// ---- retrieval ----------------------------------------------------------------------------------

/** What a retrieval line asks for each of its keys. */
export class Retrieval {
  /** False when there is no such line, or it is done. */
  isOpen = false;
  #withCas = false;
  #touches = false;
  #expiresAt = 0;

  /** The line is framed; false when it was answered with an error. */
  open(shard: Shard, request: Request, bytes: Buffer): boolean {
    const { command } = request;
    this.#withCas = command === Command.gets || command === Command.gats;
    this.#touches = command === Command.gat || command === Command.gats;
    if (this.#touches) {
      const exptime = parseExptime(bytes, request.tokenAt[1]!, request.tokenEnd[1]!);
      if (Number.isNaN(exptime)) {
        shard.output.text(BAD_EXPTIME);
        return false;
      }
      this.#expiresAt = shard.store.expiryOf(exptime);
    }
    this.isOpen = true;
    return true;
  }

  /** Answers the next key at `at` of the line, or its end, and returns the offset behind it. */
  step(shard: Shard, bytes: Buffer, at: number): number {
    let keyAt = at;
    while (bytes[keyAt] === SPACE) keyAt++;
    let end = keyAt;
    while (bytes[end] !== SPACE && bytes[end] !== LF) end++;
    if (bytes[end] === LF && bytes[end - 1] === CR && end > keyAt) end--;
    if (end > keyAt) {
      this.#answer(shard, bytes, keyAt, end - keyAt);
      return end;
    }
    this.isOpen = false;
    shard.output.text(END);
    return bytes[end] === CR ? end + 2 : end + 1;
  }

  #answer(shard: Shard, bytes: Buffer, keyAt: number, keySize: number): void {
    const { store, output } = shard;
    const { items } = store;
    const item = this.#touches
      ? store.touch(bytes, keyAt, keySize, this.#expiresAt)
      : store.get(bytes, keyAt, keySize);
    if (item === 0) return;
    const size = items.valueSize(item);
    output.text(VALUE);
    output.copy(bytes, keyAt, keySize);
    output.byte(SPACE);
    output.decimal(items.flags(item));
    output.byte(SPACE);
    output.decimal(size);
    if (this.#withCas) {
      output.byte(SPACE);
      output.decimal(items.cas(item));
    }
    output.text(CRLF);
    output.value(items, item, size);
    output.reserve(2);
    output.text(CRLF);
  }
}

// ---- storage ------------------------------------------------------------------------------------

const store =
  (mode: Mode): Execute =>
  (shard, request, bytes) => {
    const { output, write } = shard;
    const { tokenAt, tokenEnd } = request;
    const flags = parseFlags(bytes, tokenAt[2]!, tokenEnd[2]!);
    const exptime = parseExptime(bytes, tokenAt[3]!, tokenEnd[3]!);
    if (flags < 0 || Number.isNaN(exptime)) return output.text(BAD_FORMAT);
    write.begin(mode, bytes, request.keyAt, request.keySize);
    if (mode === Mode.cas) {
      if (!parseUint64(bytes, tokenAt[5]!, tokenEnd[5]!, number)) return output.text(BAD_FORMAT);
      write.cas = number.exact;
    }
    write.value(bytes, request.valueAt, request.valueSize);
    write.flags = flags;
    write.expiresAt = shard.store.expiryOf(exptime);
    write.dropsOld = mode === Mode.set;
    output.text(STORE_REPLIES[shard.store.write(write)]);
  };

const count =
  (decrements: boolean): Execute =>
  (shard, request, bytes) => {
    const { output, delta } = shard;
    if (!parseUint64(bytes, request.tokenAt[2]!, request.tokenEnd[2]!, delta.amount)) {
      return output.text(BAD_DELTA);
    }
    delta.begin(decrements, bytes, request.keyAt, request.keySize);
    const outcome = shard.store.count(delta);
    if (outcome !== Outcome.done) return output.text(STORE_REPLIES[outcome]);
    output.uint64(delta.result);
    output.text(CRLF);
  };

// ---- the rest -----------------------------------------------------------------------------------

/** `delete <key> [0] [noreply]`: the 0 is a delay of old clients. */
function remove(shard: Shard, request: Request, bytes: Buffer): void {
  const { output } = shard;
  const { tokenAt, tokenEnd, tokenCount, keyAt, keySize } = request;
  if (tokenCount > 2) {
    const isZero = tokenEnd[2]! - tokenAt[2]! === 1 && bytes[tokenAt[2]!] === 0x30;
    const isValid = tokenCount === 3 ? isZero || request.quiet : isZero && request.quiet;
    if (!isValid) return output.text(BAD_DELETE);
  }
  const outcome = shard.store.delete(bytes, keyAt, keySize, 0);
  output.text(outcome === Outcome.done ? DELETED : REPLY_NOT_FOUND);
}

function touch(shard: Shard, request: Request, bytes: Buffer): void {
  const { store, output } = shard;
  const exptime = parseExptime(bytes, request.tokenAt[2]!, request.tokenEnd[2]!);
  if (Number.isNaN(exptime)) return output.text(BAD_EXPTIME);
  const item = store.touch(bytes, request.keyAt, request.keySize, store.expiryOf(exptime));
  output.text(item === 0 ? REPLY_NOT_FOUND : TOUCHED);
}

function flushAll(shard: Shard, request: Request, bytes: Buffer): void {
  let exptime = 0;
  if (request.tokenCount - (request.quiet ? 1 : 0) > 1) {
    exptime = parseExptime(bytes, request.tokenAt[1]!, request.tokenEnd[1]!);
    if (Number.isNaN(exptime)) return shard.output.text(BAD_EXPTIME);
  }
  shard.store.flush(exptime);
  shard.output.text(OK);
}

function stats(shard: Shard, request: Request, bytes: Buffer): void {
  const { output } = shard;
  const subject =
    request.tokenCount > 1
      ? bytes.toString("latin1", request.tokenAt[1]!, request.tokenEnd[1]!)
      : "";
  if (subject === "reset") {
    resetStats(shard);
    return output.text(line("RESET"));
  }
  const rows = statsOf(shard, subject);
  if (rows === undefined) return output.text(PROBLEM_LINES.error);
  for (const [name, value] of rows) {
    output.begin();
    output.text(line(`STAT ${name} ${value}`));
  }
  output.text(END);
}

const answer =
  (text: string): Execute =>
  (shard) =>
    shard.output.text(line(text));

/** Retrievals and meta commands stand elsewhere; what is not here is not framed as text. */
export const TEXT_COMMANDS: readonly (Execute | undefined)[] = (() => {
  const table: (Execute | undefined)[] = [];
  table[Command.set] = store(Mode.set);
  table[Command.add] = store(Mode.add);
  table[Command.replace] = store(Mode.replace);
  table[Command.append] = store(Mode.append);
  table[Command.prepend] = store(Mode.prepend);
  table[Command.cas] = store(Mode.cas);
  table[Command.delete] = remove;
  table[Command.incr] = count(false);
  table[Command.decr] = count(true);
  table[Command.touch] = touch;
  table[Command.flush_all] = flushAll;
  table[Command.stats] = stats;
  table[Command.verbosity] = answer("OK");
  table[Command.version] = answer(`VERSION ${MEMCACHED_VERSION}`);
  table[Command.mn] = answer("MN");
  return table;
})();
