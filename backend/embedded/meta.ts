/**
 * Executes framed meta commands (protocol.txt, "Meta Get" to "Meta Arithmetic") on a shard. The
 * order in which flags act and what is answered to bad ones are memcached 1.6.18's.
 */

import { decodeBase64, encodeBase64 } from "../../core/protocol/base64.ts";
import { Command } from "../../core/protocol/command.ts";
import { PROBLEMS } from "../../core/protocol/problem.ts";
import type { Request } from "../../core/protocol/request.ts";
import { Counter } from "./counters.ts";
import { Mark } from "./item.ts";
import { Flag, Flags, letter } from "./metaFlags.ts";
import { writeUint64 } from "./numbers.ts";
import type { Output } from "./output.ts";
import type { Shard } from "./shard.ts";
import { itemSize } from "./store.ts";
import { CRLF, line, NO_MEMORY, NON_NUMERIC, SPACE, TOO_LARGE } from "./text.ts";
import { Mode, Outcome } from "./write.ts";

const BAD_FORMAT = line(PROBLEMS.badFormat.text);
const INVALID_OR_DUPLICATE = line("CLIENT_ERROR invalid or duplicate flag");
const BAD_STORE_MODE = line("CLIENT_ERROR invalid mode for ms M token");
const BAD_COUNT_MODE = line("CLIENT_ERROR invalid mode for ma M token");
const OPAQUE_TOO_LONG = line("CLIENT_ERROR opaque token too long");
const TOO_MANY_TO_GET = line("CLIENT_ERROR options flags are too long");
const TOO_MANY = line("CLIENT_ERROR options flags too long");

const code = (letters: string): Buffer => Buffer.from(letters, "latin1");
const HD = code("HD");
const EN = code("EN");
const NF = code("NF");
const NS = code("NS");
const EX = code("EX");
const VA = code("VA ");
const ME = code("ME ");
const OUTCOME_CODES: Partial<Record<Outcome, Buffer>> = {
  [Outcome.done]: HD,
  [Outcome.notStored]: NS,
  [Outcome.exists]: EX,
  [Outcome.notFound]: NF,
};

/** Tokens of a line from which on memcached gives up: command, key and 18 flags. */
const TOKEN_COUNT_END = 20;
const FIRST_FLAG = 2;
const UNLIMITED = code("-1");

/** One command is executed at a time. */
const flags = new Flags();
const keyScratch = Buffer.alloc(256);
const digits = Buffer.alloc(20);

// ---- what all of them answer --------------------------------------------------------------------

/** ` O<opaque>` as it came. */
function opaque(output: Output, request: Request, bytes: Buffer, index: number): void {
  const at = request.tokenAt[index]!;
  output.byte(SPACE);
  output.copy(bytes, at, request.tokenEnd[index]! - at);
}

/** ` k<key>`, in base64 and followed by ` b` if it is shown so. */
function key(output: Output, bytes: Buffer, at: number, size: number, binary: boolean): void {
  flag(output, Flag.k);
  if (!binary) return output.copy(bytes, at, size);
  output.at = encodeBase64(bytes, at, size, output.bytes, output.at);
  flag(output, Flag.b);
}

function flag(output: Output, letter: number): void {
  output.byte(SPACE);
  output.byte(letter);
}

function timeToLive(output: Output, expiresAt: number, now: number): void {
  flag(output, Flag.t);
  if (expiresAt === 0) output.text(UNLIMITED);
  // As memcached: 32 bits, so that what expired long ago shows as far in the future.
  else output.decimal((expiresAt - now) >>> 0);
}

/** Flags O and k of a reply without an item. */
function echo(output: Output, request: Request, bytes: Buffer): void {
  for (let i = FIRST_FLAG; i < request.tokenCount; i++) {
    const letter = bytes[request.tokenAt[i]!];
    if (letter === Flag.O) opaque(output, request, bytes, i);
    if (letter === Flag.k) key(output, flags.keyBytes, flags.keyAt, flags.keySize, flags.binaryKey);
  }
}

// ---- mg -----------------------------------------------------------------------------------------

function get(shard: Shard, request: Request, bytes: Buffer): void {
  const { store, output } = shard;
  const { items } = store;
  if (request.tokenCount >= TOKEN_COUNT_END) return output.text(TOO_MANY_TO_GET);
  const problem = flags.parse(shard, request, bytes, FIRST_FLAG);
  if (problem !== null) return output.text(problem);
  if (flags.opaqueIsTooLong) return output.text(OPAQUE_TOO_LONG);
  let item = store.find(flags.keyBytes, flags.keyAt, flags.keySize);
  const isCreated = item === 0 && flags.vivifies;
  if (isCreated) item = vivify(shard, 0);
  if (item === 0) {
    store.countGet(0);
    if (flags.quiet) return;
    output.text(EN);
    echo(output, request, bytes);
    return output.text(CRLF);
  }
  const size = items.valueSize(item);
  output.text(flags.value ? VA : HD);
  if (flags.value) output.decimal(size);
  let wins = isCreated;
  for (let i = FIRST_FLAG; i < request.tokenCount; i++) {
    switch (bytes[request.tokenAt[i]!]) {
      case Flag.T:
        items.setExpiresAt(item, flags.expiresAt);
        break;
      case Flag.N:
        if (isCreated) items.setExpiresAt(item, flags.vivifiedUntil);
        break;
      case Flag.R:
        wins ||= mustRecache(shard, item);
        break;
      case Flag.s:
        flag(output, Flag.s);
        output.decimal(size);
        break;
      case Flag.t:
        timeToLive(output, items.expiresAt(item), store.now);
        break;
      case Flag.c:
        flag(output, Flag.c);
        output.decimal(items.cas(item));
        break;
      case Flag.f:
        flag(output, Flag.f);
        output.decimal(items.flags(item));
        break;
      case Flag.l:
        flag(output, Flag.l);
        output.decimal(store.now - items.accessedAt(item));
        break;
      case Flag.h:
        flag(output, Flag.h);
        output.decimal(items.marks(item) & Mark.fetched ? 1 : 0);
        break;
      case Flag.O:
        opaque(output, request, bytes, i);
        break;
      case Flag.k: {
        const isBinary = (items.marks(item) & Mark.binaryKey) !== 0;
        key(output, flags.keyBytes, flags.keyAt, flags.keySize, isBinary);
        break;
      }
    }
  }
  tellRecaching(shard, item, wins);
  output.text(CRLF);
  if (flags.setsTime) store.countTouch(item);
  else store.countGet(item);
  if (!flags.keepsUse) store.fetched(item);
  if (!flags.value) return;
  output.value(items, item, size);
  output.reserve(CRLF.length);
  output.text(CRLF);
}

/** An item with `size` bytes of `digits`, that a lookup that missed leaves behind; 0 if it cannot. */
function vivify(shard: Shard, size: number): number {
  const { write, store } = shard;
  write.begin(Mode.add, flags.keyBytes, flags.keyAt, flags.keySize);
  write.value(digits, 0, size);
  return store.put(write) === Outcome.done ? store.lastItem : 0;
}

/** Flag R: it expires before the given time, and nobody else was told to recache it. */
function mustRecache(shard: Shard, item: number): boolean {
  const { items } = shard.store;
  const expiresAt = items.expiresAt(item);
  const isWon = (items.marks(item) & Mark.won) !== 0;
  return !isWon && expiresAt !== 0 && expiresAt < flags.recacheBefore;
}

/** Z: another client recaches. X: stale; then, and where `wins` says so, W: this client should. */
function tellRecaching(shard: Shard, item: number, wins: boolean): void {
  const { store, output } = shard;
  const marks = store.items.marks(item);
  const isWon = (marks & Mark.won) !== 0;
  const isStale = (marks & Mark.stale) !== 0;
  if (isWon) flag(output, letter("Z"));
  if (isStale) flag(output, letter("X"));
  if (!wins && !(isStale && !isWon)) return;
  flag(output, letter("W"));
  store.items.setMarks(item, marks | Mark.won);
}

// ---- ms -----------------------------------------------------------------------------------------

const MODES: Record<number, Mode | undefined> = {
  0: Mode.set,
  [letter("S")]: Mode.set,
  [letter("E")]: Mode.add,
  [letter("A")]: Mode.append,
  [letter("P")]: Mode.prepend,
  [letter("R")]: Mode.replace,
};

function set(shard: Shard, request: Request, bytes: Buffer): void {
  const { store, output, write } = shard;
  if (request.tokenCount >= TOKEN_COUNT_END) return output.text(TOO_MANY);
  const problem = flags.parse(shard, request, bytes, FIRST_FLAG + 1);
  if (problem !== null) return output.text(problem);
  const mode = MODES[flags.mode];
  if (mode === undefined) return output.text(BAD_STORE_MODE);
  if (flags.opaqueIsTooLong) return output.text(OPAQUE_TOO_LONG);
  const replaces = mode === Mode.set || mode === Mode.replace;
  const { keyBytes, keyAt, keySize } = flags;
  write.begin(flags.hasCas && replaces ? Mode.cas : mode, keyBytes, keyAt, keySize);
  write.value(bytes, request.valueAt, request.valueSize);
  write.flags = flags.clientFlags;
  write.expiresAt = flags.expiresAt;
  write.cas = flags.cas;
  write.allowStale = flags.invalidates;
  write.binaryKey = flags.binaryKey;
  write.dropsOld = true;
  const outcome = store.write(write);
  const code = OUTCOME_CODES[outcome];
  if (code === undefined) return output.text(outcome === Outcome.tooLarge ? TOO_LARGE : NO_MEMORY);
  const isDone = outcome === Outcome.done;
  if (isDone && flags.quiet) return;
  output.text(code);
  echoStored(shard, request, bytes, isDone ? store.lastCas : 0);
  output.text(CRLF);
}

/** Flags O, k and c of the reply to ms. */
function echoStored(shard: Shard, request: Request, bytes: Buffer, cas: number): void {
  const { output } = shard;
  for (let i = FIRST_FLAG + 1; i < request.tokenCount; i++) {
    switch (bytes[request.tokenAt[i]!]) {
      case Flag.O:
        opaque(output, request, bytes, i);
        break;
      case Flag.k:
        key(output, flags.keyBytes, flags.keyAt, flags.keySize, flags.binaryKey);
        break;
      case Flag.c:
        flag(output, Flag.c);
        output.decimal(cas);
        break;
    }
  }
}

// ---- md -----------------------------------------------------------------------------------------

function remove(shard: Shard, request: Request, bytes: Buffer): void {
  const { output } = shard;
  if (request.tokenCount >= TOKEN_COUNT_END) return output.text(TOO_MANY);
  if (flags.parse(shard, request, bytes, FIRST_FLAG) !== null) {
    return output.text(INVALID_OR_DUPLICATE);
  }
  if (flags.opaqueIsTooLong) return output.text(OPAQUE_TOO_LONG);
  const outcome = flags.invalidates ? invalidate(shard) : deleteItem(shard);
  if (outcome === Outcome.done && flags.quiet) return;
  output.text(OUTCOME_CODES[outcome] ?? NF);
  echo(output, request, bytes);
  output.text(CRLF);
}

function deleteItem(shard: Shard): Outcome {
  const { keyBytes, keyAt, keySize, cas } = flags;
  const { store } = shard;
  const outcome = store.delete(keyBytes, keyAt, keySize, flags.hasCas ? cas || NO_CAS : 0);
  if (outcome === Outcome.exists) store.counters[Counter.delete_misses]!++;
  return outcome;
}

/** C0 was asked for, which no item has; a 0 would ask for none. */
const NO_CAS = Number.POSITIVE_INFINITY;

function invalidate(shard: Shard): Outcome {
  const { store } = shard;
  const item = store.find(flags.keyBytes, flags.keyAt, flags.keySize);
  if (item === 0 || (flags.hasCas && flags.cas !== store.items.cas(item))) {
    store.counters[Counter.delete_misses]!++;
    return item === 0 ? Outcome.notFound : Outcome.exists;
  }
  if (flags.setsTime) store.items.setExpiresAt(item, flags.expiresAt);
  store.invalidate(item);
  return Outcome.done;
}

// ---- ma -----------------------------------------------------------------------------------------

const DECREMENTS: Record<number, boolean | undefined> = {
  0: false,
  [letter("I")]: false,
  [letter("+")]: false,
  [letter("D")]: true,
  [letter("-")]: true,
};

function count(shard: Shard, request: Request, bytes: Buffer): void {
  const { store, output, delta } = shard;
  const begin = output.at;
  if (request.tokenCount >= TOKEN_COUNT_END) return output.text(TOO_MANY);
  if (flags.parse(shard, request, bytes, FIRST_FLAG) !== null) {
    return output.text(INVALID_OR_DUPLICATE);
  }
  const decrements = DECREMENTS[flags.mode];
  if (decrements === undefined) return output.text(BAD_COUNT_MODE);
  if (flags.opaqueIsTooLong) return output.text(OPAQUE_TOO_LONG);
  delta.begin(decrements, flags.keyBytes, flags.keyAt, flags.keySize);
  delta.amount.set(flags.delta.high, flags.delta.low);
  // As memcached: C0 compares with nothing here.
  delta.cas = flags.cas;
  const outcome = flags.vivifies && isMissing(shard) ? Outcome.notFound : store.count(delta);
  if (outcome === Outcome.nonNumeric) return output.text(NON_NUMERIC);
  let isCreated = false;
  if (outcome === Outcome.notFound && flags.vivifies) {
    delta.result.set(flags.initial.high, flags.initial.low);
    isCreated = vivify(shard, writeUint64(digits, 0, flags.initial)) !== 0;
    if (!isCreated) return output.text(NO_MEMORY_TO_CREATE);
  }
  if (outcome !== Outcome.done && !isCreated) {
    output.text(OUTCOME_CODES[outcome] ?? NF);
    echo(output, request, bytes);
    return output.text(CRLF);
  }
  answerCount(shard, request, bytes, isCreated);
  if (flags.quiet) output.rewind(begin);
}

const NO_MEMORY_TO_CREATE = line("SERVER_ERROR Out of memory allocating new item");

/** A miss that creates its item is not counted as one. */
const isMissing = (shard: Shard): boolean =>
  shard.store.find(flags.keyBytes, flags.keyAt, flags.keySize) === 0;

function answerCount(shard: Shard, request: Request, bytes: Buffer, isCreated: boolean): void {
  const { store, output, delta } = shard;
  const { items } = store;
  const item = store.lastItem;
  const size = writeUint64(digits, 0, delta.result);
  output.text(flags.value ? VA : HD);
  if (flags.value) output.decimal(size);
  for (let i = FIRST_FLAG; i < request.tokenCount; i++) {
    switch (bytes[request.tokenAt[i]!]) {
      case Flag.c:
        flag(output, Flag.c);
        output.decimal(items.cas(item));
        break;
      case Flag.t:
        timeToLive(output, items.expiresAt(item), store.now);
        break;
      case Flag.T:
        items.setExpiresAt(item, flags.expiresAt);
        break;
      case Flag.N:
        if (isCreated) items.setExpiresAt(item, flags.vivifiedUntil);
        break;
      case Flag.O:
        opaque(output, request, bytes, i);
        break;
      case Flag.k:
        key(output, flags.keyBytes, flags.keyAt, flags.keySize, flags.binaryKey);
        break;
    }
  }
  output.text(CRLF);
  if (!flags.value) return;
  output.copy(digits, 0, size);
  output.text(CRLF);
}

// ---- me -----------------------------------------------------------------------------------------

/** For people: `ME <key> <name>=<value>*`, as memcached 1.6.18 prints it, wrong sign included. */
function describe(shard: Shard, request: Request, bytes: Buffer): void {
  const { store, output } = shard;
  const { items } = store;
  store.counters[Counter.cmd_meta]!++;
  let keyBytes = bytes;
  let { keyAt, keySize } = request;
  const { tokenAt, tokenEnd, tokenCount } = request;
  if (
    tokenCount > FIRST_FLAG &&
    tokenEnd[2]! - tokenAt[2]! === 1 &&
    bytes[tokenAt[2]!] === Flag.b
  ) {
    keySize = decodeBase64(bytes, keyAt, keySize, keyScratch, 0);
    keyBytes = keyScratch;
    keyAt = 0;
    if (keySize === 0) return output.text(BAD_FORMAT);
  }
  const item = store.find(keyBytes, keyAt, keySize);
  if (item === 0) {
    output.text(EN);
    return output.text(CRLF);
  }
  const marks = items.marks(item);
  output.text(ME);
  if ((marks & Mark.binaryKey) === 0) output.copy(keyBytes, keyAt, keySize);
  else output.at = encodeBase64(keyBytes, keyAt, keySize, output.bytes, output.at);
  const expiresAt = items.expiresAt(item);
  const facts = [
    `exp=${expiresAt === 0 ? -1 : store.now - expiresAt}`,
    `la=${store.now - items.accessedAt(item)}`,
    `cas=${items.cas(item)}`,
    `fetch=${marks & Mark.fetched ? "yes" : "no"}`,
    "cls=1",
    `size=${itemSize(keySize, items.valueSize(item), items.flags(item))}`,
  ];
  output.text(line(` ${facts.join(" ")}`));
}

type Execute = (shard: Shard, request: Request, bytes: Buffer) => void;

export const META_COMMANDS: readonly (Execute | undefined)[] = (() => {
  const table: (Execute | undefined)[] = [];
  table[Command.mg] = get;
  table[Command.mg_touch] = get;
  table[Command.ms] = set;
  table[Command.md] = remove;
  table[Command.ma] = count;
  table[Command.me] = describe;
  return table;
})();
