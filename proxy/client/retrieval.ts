/**
 * Text retrievals (`get`, `gets`, `gat`, `gats`). One key, or keys of one shard, go out as the
 * client sent them. Keys of several shards are split by shard and gathered in the order asked. A
 * long line is taken in portions, so that no client can have more in flight than the others:
 *
 *     get k1 … k64 | k65 … k128 | …    a gather for each portion, END behind the last
 */
import { SCRATCH_AT } from "../../core/io/arena.ts";
import { COMMANDS, Command, Result } from "../../core/protocol/command.ts";
import { KEY_SIZE_MAX, LINE_SIZE_MAX } from "../../core/protocol/limits.ts";
import type { Problem } from "../../core/protocol/problem.ts";
import { type Request, TOKEN_COUNT_MAX } from "../../core/protocol/request.ts";
import { hasLongToken } from "../../core/protocol/text.ts";
import { settleFailed, textError } from "../routing/failure.ts";
import { GATHER_KEY_COUNT_MAX, KeyGather } from "../routing/gather.ts";
import type { Route, ShardLinks } from "../routing/route.ts";
import { answerProblem } from "./answers.ts";
import { openSlot, WAIT } from "./execute.ts";
import type { Session } from "./session.ts";
import { routedFrom, stamp } from "./storedKey.ts";
import { type AskedKey, retrieveTracked } from "./tracked.ts";

const BLANK = 0x20;
const CR = 0x0d;
const LF = 0x0a;
const LINE_END = Buffer.from("\r\n");
const END = Buffer.from("END\r\n");

/** Bytes of keys in one portion; memcached closes on a longer line that is no plain `get`. */
const PORTION_SIZE_MAX = LINE_SIZE_MAX - 2 * KEY_SIZE_MAX;

/** A line of which keys are still to be asked for. */
export type Retrieval = {
  command: number;
  /** `get`, or `gat <exptime>`: what goes before the keys of each share. */
  head: Buffer;
  /** The line behind all values. */
  end: Buffer;
};

/**
 * The keys of one portion: in which bytes (the line's, or with their prefix in the arena's scratch)
 * they start and end, each behind a blank, and which shard owns each.
 */
let keyBytes: Buffer;
const keyAt = new Int32Array(GATHER_KEY_COUNT_MAX);
const keyEnd = new Int32Array(GATHER_KEY_COUNT_MAX);
const keyOwner = new Int32Array(GATHER_KEY_COUNT_MAX);
let keyCount = 0;

/** Runs the whole line at `at`, or its first portion; returns the bytes consumed, or WAIT. */
export function retrieve(session: Session, request: Request, bytes: Buffer, at: number): number {
  const { queue } = session;
  const { route } = session.tenant!;
  if (request.keySize === 0) {
    queue.answer(request.command, Result.ok, END, 0, END.length);
    return request.size;
  }
  if (session.keyPrefix !== null) {
    return retrievePrefixed(session, session.keyPrefix, request, bytes, at);
  }
  const isShort = request.tokenCount < TOKEN_COUNT_MAX && request.size <= LINE_SIZE_MAX;
  if (isShort && !route.isTracked && request.keyAt + request.keySize === request.lineStop) {
    const owner = route.ownerOfKey(bytes, request.keyAt, request.lineStop);
    return retrieveWhole(session, request, bytes, at, request.size, owner, 1);
  }
  const keysEnd = readKeys(session, bytes, request.keyAt);
  const isAll = keysEnd >= request.lineStop && request.size <= LINE_SIZE_MAX;
  const owner = keyOwner[0]!;
  if (isAll && owner >= 0 && ownsAll(owner) && !isTracked(route, request.command)) {
    return retrieveWhole(session, request, bytes, at, request.size, owner, keyCount);
  }
  const head = keepHead(session, putHead(session, request, bytes));
  const consumed = sendKeys(session, { command: request.command, head, end: END }, bytes, keysEnd);
  return consumed === WAIT ? WAIT : consumed - at;
}

/** The same with the prefix before every key: the line to send is put together in the scratch. */
function retrievePrefixed(
  session: Session,
  prefix: Buffer,
  request: Request,
  bytes: Buffer,
  at: number,
): number {
  const keySizeMax = KEY_SIZE_MAX - prefix.length;
  if (hasLongToken(bytes, request.keyAt, request.lineStop, keySizeMax)) {
    const problem = session.tenant!.isExternal ? "stampedKeyTooLong" : "prefixedKeyTooLong";
    answerProblem(session, request, problem, Result.clientError);
    return request.size;
  }
  const { arena } = session.services.loop;
  const headEnd = putHead(session, request, bytes);
  const keysEnd = readPrefixedKeys(session, prefix, bytes, request.keyAt, headEnd);
  const owner = keyOwner[0]!;
  const isAll = keysEnd >= request.lineStop;
  if (isAll && owner >= 0 && ownsAll(owner) && !isTracked(session.tenant!.route, request.command)) {
    const lineEnd = keyEnd[keyCount - 1]!;
    arena.bytes.set(LINE_END, lineEnd);
    const size = lineEnd + LINE_END.length - SCRATCH_AT;
    return retrieveWhole(session, request, arena.bytes, SCRATCH_AT, size, owner, keyCount);
  }
  const head = keepHead(session, headEnd);
  const consumed = sendKeys(session, { command: request.command, head, end: END }, bytes, keysEnd);
  return consumed === WAIT ? WAIT : consumed - at;
}

/**
 * Puts `get`, or `gat <exptime>`, at SCRATCH_AT; returns where it ends. Put together anew: there may
 * be kilobytes of blanks between its words.
 */
function putHead(session: Session, request: Request, bytes: Buffer): number {
  const { arena } = session.services.loop;
  const touches = request.command === Command.gat || request.command === Command.gats;
  let to = SCRATCH_AT;
  for (let i = 0; i < (touches ? 2 : 1); i++) {
    if (i > 0) arena.bytes[to++] = BLANK;
    const size = request.tokenEnd[i]! - request.tokenAt[i]!;
    arena.move(to, bytes, request.tokenAt[i]!, size);
    to += size;
  }
  return to;
}

/** A head of its own, for lines of which keys are left. */
const keepHead = (session: Session, headEnd: number): Buffer =>
  Buffer.from(session.services.loop.arena.bytes.subarray(SCRATCH_AT, headEnd));

/** Sends the line of `size` bytes at `at`, all of whose keys have one owner. */
function retrieveWhole(
  session: Session,
  request: Request,
  bytes: Buffer,
  at: number,
  size: number,
  owner: number,
  count: number,
): number {
  const { queue } = session;
  const { slots } = queue;
  const link = owner < 0 ? null : session.tenant!.route.shards[owner]!.text;
  const refusal = link === null ? "noShard" : link.refusal();
  if (refusal === undefined && link!.isFullFor(session)) return WAIT;
  const slot = openSlot(session, request);
  slots.keyCount[slot] = count;
  if (session.keyPrefix !== null) slots.prefixSize[slot] = session.keyPrefix.length;
  if (refusal !== undefined) {
    settleFailed(queue, slots, slot, refusal);
  } else {
    link!.expect(slot);
    link!.appendCommand(bytes, at, size);
  }
  return request.size;
}

/**
 * Takes the next portion of a line whose keys go on at `at`; the whole rest of the line is there.
 * Sets `session.retrieval` while keys are left. Returns the bytes consumed, or WAIT.
 */
export function continueRetrieval(
  session: Session,
  retrieval: Retrieval,
  bytes: Buffer,
  at: number,
): number {
  const keysEnd =
    session.keyPrefix === null
      ? readKeys(session, bytes, at)
      : readPrefixedKeys(session, session.keyPrefix, bytes, at, SCRATCH_AT);
  const next = sendKeys(session, retrieval, bytes, keysEnd);
  return next === WAIT ? WAIT : next - at;
}

/** Sends the keys just read, and END when they were the last; returns where to go on, or WAIT. */
function sendKeys(session: Session, retrieval: Retrieval, bytes: Buffer, keysEnd: number): number {
  const { queue, tenant } = session;
  const { shards } = tenant!.route;
  for (const shard of shards) {
    if (shard.text.state === "ready" && shard.text.isFullFor(session)) return WAIT;
  }
  if (shards.length > 0 && isTracked(tenant!.route, retrieval.command)) {
    if (!retrieveTracked(session, retrieval.command, retrieval.head, keysRead())) return WAIT;
  } else if (shards.length > 0) {
    sendPortion(session, retrieval, shards);
  } else {
    queue.counters?.count(retrieval.command, Result.failed, keyCount);
    retrieval.end = queue.policies?.unansweredRead === "error" ? textError("noShard") : END;
  }
  let next = keysEnd;
  while (bytes[next] === BLANK) next++;
  const isDone = bytes[next] === LF || (bytes[next] === CR && bytes[next + 1] === LF);
  session.retrieval = isDone ? null : retrieval;
  // The blank before the next key stays: it is sent with it.
  if (!isDone) return keysEnd;
  queue.tell(retrieval.end, 0, retrieval.end.length);
  return next + (bytes[next] === CR ? 2 : 1);
}

/** Notes up to GATHER_KEY_COUNT_MAX keys from `at`; returns where it stopped. */
function readKeys(session: Session, bytes: Buffer, at: number): number {
  const { route } = session.tenant!;
  let cursor = at;
  keyBytes = bytes;
  keyCount = 0;
  while (keyCount < GATHER_KEY_COUNT_MAX && cursor - at <= PORTION_SIZE_MAX) {
    while (bytes[cursor] === BLANK) cursor++;
    const start = cursor;
    while (bytes[cursor] !== BLANK && bytes[cursor] !== LF) cursor++;
    const end = bytes[cursor] === LF && bytes[cursor - 1] === CR ? cursor - 1 : cursor;
    if (end <= start) return start;
    keyAt[keyCount] = start;
    keyEnd[keyCount] = end;
    keyOwner[keyCount++] = route.ownerOfKey(bytes, start, end);
    if (bytes[cursor] === LF) return end;
  }
  return cursor;
}

/** The same; the keys go to the scratch from `to` on, each with its prefix behind a blank. */
function readPrefixedKeys(
  session: Session,
  prefix: Buffer,
  bytes: Buffer,
  at: number,
  scratchAt: number,
): number {
  const { route, isExternal } = session.tenant!;
  const { arena } = session.services.loop;
  const routed = routedFrom(session);
  let cursor = at;
  let to = scratchAt;
  keyBytes = arena.bytes;
  keyCount = 0;
  while (keyCount < GATHER_KEY_COUNT_MAX && to - scratchAt <= PORTION_SIZE_MAX) {
    while (bytes[cursor] === BLANK) cursor++;
    const start = cursor;
    while (bytes[cursor] !== BLANK && bytes[cursor] !== LF) cursor++;
    const end = bytes[cursor] === LF && bytes[cursor - 1] === CR ? cursor - 1 : cursor;
    if (end <= start) return start;
    if (keyCount > 0) {
      // Blank and prefix from the key before: a third of what taking them from outside costs.
      keyBytes.copyWithin(to, scratchAt, scratchAt + 1 + prefix.length);
    } else {
      keyBytes[to] = BLANK;
      keyBytes.set(prefix, to + 1);
    }
    keyAt[keyCount] = to + 1;
    to += 1 + prefix.length;
    arena.move(to, bytes, start, end - start);
    to += end - start;
    keyEnd[keyCount] = to;
    keyOwner[keyCount] = route.ownerOfKey(keyBytes, keyAt[keyCount]! + routed, to);
    if (isExternal) stamp(session, keyBytes, keyAt[keyCount]!, to - keyAt[keyCount]!);
    keyCount++;
    if (bytes[cursor] === LF) return end;
  }
  return cursor;
}

/** Whether the keys just read are asked for one by one. */
function isTracked(route: Route, command: number): boolean {
  if (!route.isTracked) return false;
  return route.copies === 2 || (keyCount === 1 && !COMMANDS[command]!.mutates);
}

const keysRead = (): AskedKey[] =>
  Array.from({ length: keyCount }, (_, i) => ({ bytes: keyBytes, at: keyAt[i]!, end: keyEnd[i]! }));

function ownsAll(owner: number): boolean {
  for (let i = 1; i < keyCount; i++) if (keyOwner[i] !== owner) return false;
  return true;
}

/** The slot that asks each shard for its share of the portion being sent, or -1. */
const slotOfShard: number[] = [];

function sendPortion(
  session: Session,
  { command, head }: Retrieval,
  shards: readonly ShardLinks[],
): void {
  const { queue, services } = session;
  const { slots } = queue;
  const { nowMs } = services.loop;
  const gather = KeyGather.open(queue, queue.open(command, nowMs), session.keyPrefix?.length ?? 0);
  for (let shard = 0; shard < shards.length; shard++) slotOfShard[shard] = -1;
  for (let i = 0; i < keyCount; i++) {
    const owner = keyOwner[i]!;
    const size = keyEnd[i]! - keyAt[i]!;
    const { text } = shards[owner]!;
    let slot = slotOfShard[owner]!;
    if (slot < 0) {
      slot = slots.open(null, command, nowMs);
      slots.keyCount[slot] = 0;
      slotOfShard[owner] = slot;
      gather.addPart(slot);
      refusals[owner] = text.refusal();
      if (refusals[owner] === undefined) {
        text.expect(slot);
        text.append(head, 0, head.length);
      }
    }
    gather.addKey(keyAt[i]!, size, slot);
    slots.keyCount[slot]!++;
    // With the blank before the key.
    if (refusals[owner] === undefined) text.append(keyBytes, keyAt[i]! - 1, size + 1);
  }
  gather.begin(keyBytes, keyAt[0]!, keyEnd[keyCount - 1]!);
  for (let shard = 0; shard < shards.length; shard++) {
    const slot = slotOfShard[shard]!;
    if (slot < 0) continue;
    const refusal = refusals[shard];
    if (refusal === undefined) {
      shards[shard]!.text.append(LINE_END, 0, LINE_END.length);
    } else {
      gather.fail(slot, refusal);
      slots.free(slot);
    }
  }
}

/** Why the share of a shard could not be sent, by index into the shards. */
const refusals: (Problem | undefined)[] = [];
