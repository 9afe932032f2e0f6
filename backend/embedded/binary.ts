/**
 * Executes framed binary requests (core/protocol/binary.ts has the drawing) on a shard. Statuses,
 * texts and what quiet opcodes keep to themselves are memcached 1.6.18's.
 */
import { HEADER_SIZE, Header, MAGIC_REPLY, Opcode } from "../../core/protocol/binary.ts";
import { Command } from "../../core/protocol/command.ts";
import { MEMCACHED_VERSION } from "../../core/protocol/limits.ts";
import { PROBLEMS, Status } from "../../core/protocol/problem.ts";
import type { Request } from "../../core/protocol/request.ts";
import { Uint64, writeUint64 } from "./numbers.ts";
import type { Output } from "./output.ts";
import type { Shard } from "./shard.ts";
import { resetStats, statsOf } from "./stats.ts";
import { Mode, Outcome } from "./write.ts";

const FLAGS_SIZE = 4;
const NUMBER_SIZE = 8;
/** Exptime of an increment that must not create its item. */
const NO_CREATION = 0xffff_ffff;
const EMPTY = Buffer.alloc(0);
const VERSION = Buffer.from(MEMCACHED_VERSION);
const digits = Buffer.alloc(20);
const cas = new Uint64();
const initial = new Uint64();

/** Offsets in the extras of a request. */
const StoreExtras = { flags: 0, exptime: 4 } as const;
const CountExtras = { delta: 0, initial: 8, exptime: 16 } as const;

type Failure = { status: number; text: Buffer };
const failure = (status: number, text: string): Failure => ({ status, text: Buffer.from(text) });
const NOT_FOUND = failure(Status.notFound, "Not found");
const EXISTS = failure(Status.exists, "Data exists for key.");
const NOT_STORED = failure(Status.notStored, "Not stored.");
const FAILURES: Partial<Record<Outcome, Failure>> = {
  [Outcome.notStored]: NOT_STORED,
  [Outcome.exists]: EXISTS,
  [Outcome.notFound]: NOT_FOUND,
  [Outcome.tooLarge]: failure(Status.tooLarge, "Too large."),
  [Outcome.noMemory]: failure(Status.outOfMemory, "Out of memory allocating item"),
  [Outcome.nonNumeric]: failure(
    Status.nonNumeric,
    "Non-numeric server-side value for incr or decr",
  ),
};
/** What a condition that was not met is called depends on the condition. */
const NOT_STORED_OF: Partial<Record<Mode, Failure>> = {
  [Mode.add]: EXISTS,
  [Mode.replace]: NOT_FOUND,
};

const readUint32 = (bytes: Buffer, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;

function readUint64(bytes: Buffer, at: number, out: Uint64): void {
  out.set(readUint32(bytes, at), readUint32(bytes, at + 4));
}

/** The cas unique of the request's header; 0 is none. */
function readCas(request: Request, bytes: Buffer): number {
  readUint64(bytes, request.extrasAt - HEADER_SIZE + Header.cas, cas);
  return cas.exact;
}

// ---- packets ------------------------------------------------------------------------------------

/** Sizes of the parts that follow; reused, as every reply has some. */
const body = { extrasSize: 0, keySize: 0, valueSize: 0 };
function sizes(extrasSize: number, keySize: number, valueSize: number): typeof body {
  body.extrasSize = extrasSize;
  body.keySize = keySize;
  body.valueSize = valueSize;
  return body;
}

function header(
  output: Output,
  request: Request,
  status: number,
  { extrasSize, keySize, valueSize }: typeof body,
  cas: number,
): void {
  output.byte(MAGIC_REPLY);
  output.byte(request.opcode);
  output.uint16(keySize);
  output.byte(extrasSize);
  output.byte(0);
  output.uint16(status);
  output.uint32(extrasSize + keySize + valueSize);
  output.uint32(request.opaque);
  output.uint32(Math.floor(cas / 4294967296));
  output.uint32(cas);
}

/** Errors are told to quiet commands too. */
function fail(shard: Shard, request: Request, { status, text }: Failure): void {
  header(shard.output, request, status, sizes(0, 0, text.length), 0);
  shard.output.text(text);
}

function succeed(shard: Shard, request: Request, cas: number): void {
  if (!request.quiet) header(shard.output, request, Status.ok, sizes(0, 0, 0), cas);
}

export function answerBinaryProblem(shard: Shard, request: Request, bytes: Buffer): void {
  const { problem } = request;
  // Not even a header came: there is no opcode to answer to.
  if (problem === "badMagic") return;
  if (problem === "tooLarge" && request.command === Command.set) {
    const { write } = shard;
    write.begin(Mode.set, bytes, request.keyAt, request.keySize);
    write.dropsOld = true;
    shard.store.refuse(write, Outcome.tooLarge);
  }
  const { status, statusText } = PROBLEMS[problem];
  fail(shard, request, failure(status, statusText));
}

// ---- reading ------------------------------------------------------------------------------------

const withKey = (opcode: number): boolean =>
  opcode === Opcode.getk ||
  opcode === Opcode.getkq ||
  opcode === Opcode.gatk ||
  opcode === Opcode.gatkq;

function get(shard: Shard, request: Request, bytes: Buffer): void {
  const item = shard.store.get(bytes, request.keyAt, request.keySize);
  answerValue(shard, request, bytes, item);
}

function getAndTouch(shard: Shard, request: Request, bytes: Buffer): void {
  const expiresAt = shard.store.expiryOf(readUint32(bytes, request.extrasAt));
  const item = shard.store.touch(bytes, request.keyAt, request.keySize, expiresAt);
  answerValue(shard, request, bytes, item);
}

function answerValue(shard: Shard, request: Request, bytes: Buffer, item: number): void {
  const { output } = shard;
  const { items } = shard.store;
  const keySize = withKey(request.opcode) ? request.keySize : 0;
  if (item === 0) {
    if (request.quiet) return;
    if (keySize === 0) return fail(shard, request, NOT_FOUND);
    header(output, request, Status.notFound, sizes(0, keySize, 0), 0);
    return output.copy(bytes, request.keyAt, keySize);
  }
  const valueSize = items.valueSize(item);
  header(output, request, Status.ok, sizes(FLAGS_SIZE, keySize, valueSize), items.cas(item));
  output.uint32(items.flags(item));
  output.copy(bytes, request.keyAt, keySize);
  output.value(items, item, valueSize);
}

function touch(shard: Shard, request: Request, bytes: Buffer): void {
  const { store, output } = shard;
  const expiresAt = store.expiryOf(readUint32(bytes, request.extrasAt));
  const item = store.touch(bytes, request.keyAt, request.keySize, expiresAt);
  if (item === 0) return fail(shard, request, NOT_FOUND);
  header(output, request, Status.ok, sizes(FLAGS_SIZE, 0, 0), store.items.cas(item));
  output.uint32(store.items.flags(item));
}

// ---- writing ------------------------------------------------------------------------------------

type Execute = (shard: Shard, request: Request, bytes: Buffer) => void;

const store =
  (mode: Mode): Execute =>
  (shard, request, bytes) => {
    const { write } = shard;
    write.begin(mode, bytes, request.keyAt, request.keySize);
    write.value(bytes, request.valueAt, request.valueSize);
    write.cas = readCas(request, bytes);
    write.dropsOld = mode === Mode.set;
    if (mode !== Mode.append && mode !== Mode.prepend) {
      if (write.cas !== 0) write.mode = Mode.cas;
      write.flags = readUint32(bytes, request.extrasAt + StoreExtras.flags);
      const exptime = readUint32(bytes, request.extrasAt + StoreExtras.exptime);
      write.expiresAt = shard.store.expiryOf(exptime);
    }
    const outcome = shard.store.write(write);
    if (outcome === Outcome.done) return succeed(shard, request, shard.store.lastCas);
    const unmet = outcome === Outcome.notStored ? NOT_STORED_OF[mode] : undefined;
    fail(shard, request, unmet ?? FAILURES[outcome] ?? NOT_STORED);
  };

const count =
  (decrements: boolean): Execute =>
  (shard, request, bytes) => {
    const { delta, output } = shard;
    delta.begin(decrements, bytes, request.keyAt, request.keySize);
    readUint64(bytes, request.extrasAt + CountExtras.delta, delta.amount);
    delta.cas = readCas(request, bytes);
    const exptime = readUint32(bytes, request.extrasAt + CountExtras.exptime);
    const creates =
      exptime !== NO_CREATION && shard.store.find(bytes, request.keyAt, request.keySize) === 0;
    const outcome = creates ? create(shard, request, bytes, exptime) : shard.store.count(delta);
    if (outcome !== Outcome.done) return fail(shard, request, FAILURES[outcome] ?? NOT_STORED);
    if (request.quiet) return;
    header(output, request, Status.ok, sizes(0, 0, NUMBER_SIZE), shard.store.lastCas);
    output.uint32(delta.result.high);
    output.uint32(delta.result.low);
  };

/** The item of a counter that is not there begins with the initial value of the request. */
function create(shard: Shard, request: Request, bytes: Buffer, exptime: number): Outcome {
  const { write, delta } = shard;
  readUint64(bytes, request.extrasAt + CountExtras.initial, initial);
  delta.result.set(initial.high, initial.low);
  write.begin(Mode.add, bytes, request.keyAt, request.keySize);
  write.value(digits, 0, writeUint64(digits, 0, initial));
  write.expiresAt = shard.store.expiryOf(exptime);
  return shard.store.put(write);
}

function remove(shard: Shard, request: Request, bytes: Buffer): void {
  const { keyAt, keySize } = request;
  const outcome = shard.store.delete(bytes, keyAt, keySize, readCas(request, bytes));
  if (outcome === Outcome.done) succeed(shard, request, 0);
  else fail(shard, request, FAILURES[outcome] ?? NOT_FOUND);
}

function flush(shard: Shard, request: Request, bytes: Buffer): void {
  shard.store.flush(request.extrasSize === 0 ? 0 : readUint32(bytes, request.extrasAt));
  succeed(shard, request, 0);
}

// ---- the rest -----------------------------------------------------------------------------------

/** One packet for each row, then an empty one. */
function stats(shard: Shard, request: Request, bytes: Buffer): void {
  const { output } = shard;
  const subject = bytes.toString("latin1", request.keyAt, request.keyAt + request.keySize);
  if (subject === "reset") resetStats(shard);
  const rows = subject === "reset" ? [] : statsOf(shard, subject);
  if (rows === undefined) return fail(shard, request, NOT_FOUND);
  for (const [name, value] of rows) {
    const nameBytes = Buffer.from(name);
    const valueBytes = Buffer.from(String(value));
    output.begin();
    header(output, request, Status.ok, sizes(0, nameBytes.length, valueBytes.length), 0);
    output.text(nameBytes);
    output.text(valueBytes);
  }
  output.begin();
  header(output, request, Status.ok, sizes(0, 0, 0), 0);
}

const answer =
  (text: Buffer): Execute =>
  (shard, request) => {
    if (request.quiet) return;
    header(shard.output, request, Status.ok, sizes(0, 0, text.length), 0);
    shard.output.text(text);
  };

/** A shard has no logins: whoever may connect to its endpoint may use it. */
function refuseLogin(shard: Shard, request: Request): void {
  const { status, statusText } = PROBLEMS.error;
  fail(shard, request, failure(status, statusText));
}

export const BINARY_COMMANDS: readonly (Execute | undefined)[] = (() => {
  const table: (Execute | undefined)[] = [];
  table[Command.get] = get;
  table[Command.gat] = getAndTouch;
  table[Command.touch] = touch;
  table[Command.set] = store(Mode.set);
  table[Command.add] = store(Mode.add);
  table[Command.replace] = store(Mode.replace);
  table[Command.append] = store(Mode.append);
  table[Command.prepend] = store(Mode.prepend);
  table[Command.incr] = count(false);
  table[Command.decr] = count(true);
  table[Command.delete] = remove;
  table[Command.flush_all] = flush;
  table[Command.stats] = stats;
  table[Command.noop] = answer(EMPTY);
  table[Command.verbosity] = answer(EMPTY);
  table[Command.quit] = answer(EMPTY);
  table[Command.version] = answer(VERSION);
  table[Command.login] = refuseLogin;
  table[Command.mechanisms] = refuseLogin;
  return table;
})();
