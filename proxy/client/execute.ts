/**
 * What happens to a command that was framed and allowed: answered here, or sent to its shard with
 * its bytes unchanged. Two changes are made on the way, so that every command has exactly one
 * reply: a quiet binary opcode becomes its loud form, and noreply (meta: q) is left out. The reply
 * queue keeps quiet what the client did not want to hear. A credential with a key prefix has it put
 * before the key here (storedKey.ts) and taken off the reply by the queue.
 */
import { SCRATCH_AT } from "../../core/io/arena.ts";
import { Header, loudOpcode } from "../../core/protocol/binary.ts";
import { COMMANDS, Command, Result } from "../../core/protocol/command.ts";
import { MEMCACHED_VERSION } from "../../core/protocol/limits.ts";
import type { Problem } from "../../core/protocol/problem.ts";
import type { Request } from "../../core/protocol/request.ts";
import { settleFailed } from "../routing/failure.ts";
import { binaryDelete } from "../routing/invalidations.ts";
import type { Link } from "../routing/link.ts";
import { Quiet } from "../routing/slots.ts";
import { answerBinary, answerProblem, answerText } from "./answers.ts";
import { flushAll, stats } from "./everywhere.ts";
import { executeExternal } from "./external.ts";
import { loginBinary, loginText } from "./login.ts";
import { retrieve } from "./retrieval.ts";
import type { Session } from "./session.ts";
import { isTooLongPrefixed, routedFrom, sendPrefixed, stored, takeKey } from "./storedKey.ts";
import { dropTracked, executeTracked, isBehindChange } from "./tracked.ts";

/** Instead of a size: the command stays unread until the session is woken. */
export const WAIT = -1;

const TEXT_VERSION = Buffer.from(`VERSION ${MEMCACHED_VERSION}\r\n`);
const BINARY_VERSION = Buffer.from(MEMCACHED_VERSION);
const OK = Buffer.from("OK\r\n");
const META_NOOP = Buffer.from("MN\r\n");
const MECHANISMS = Buffer.from("PLAIN");

/** Runs the command at `at`; returns how many bytes it consumed, or WAIT. */
export function execute(session: Session, request: Request, bytes: Buffer, at: number): number {
  switch (COMMANDS[request.command]!.target) {
    case "key":
      if (session.tenant === null) return executeLogin(session, request, bytes);
      return executeKey(session, request, bytes, at);
    case "keys":
      if (session.isBinary) return executeKey(session, request, bytes, at);
      return retrieve(session, request, bytes, at);
    case "all":
      if (session.tenant!.isExternal) return executeExternal(session, request, bytes);
      if (isBehindChange(session)) return WAIT;
      if (request.command === Command.flush_all) return flushAll(session, request, bytes);
      return stats(session, request, bytes);
    case "local":
      if (request.command === Command.login) return executeLogin(session, request, bytes);
      executeLocal(session, request, bytes, at);
      return request.size;
  }
}

function executeLogin(session: Session, request: Request, bytes: Buffer): number {
  const login = session.isBinary ? loginBinary : loginText;
  return login(session, request, bytes) ? request.size : WAIT;
}

// ---- one key, one shard -------------------------------------------------------------------

function executeKey(session: Session, request: Request, bytes: Buffer, at: number): number {
  const { queue, keyPrefix } = session;
  let problem: Problem | undefined;
  const isAsItStands = keyPrefix === null && !request.keyIsBase64;
  if (!isAsItStands) problem = takeKey(session, request, bytes);
  if (keyPrefix !== null && isTooLongPrefixed(session, request, at)) problem ??= "lineTooLong";
  if (problem !== undefined) {
    answerProblem(session, request, problem, Result.clientError);
    return request.size;
  }
  if (session.tenant!.route.isTracked) return executeTracked(session, request, bytes, at);
  const link = isAsItStands
    ? linkOfKey(session, bytes, request.keyAt, request.keySize)
    : linkOfStored(session);
  const refusal = link === null ? "noShard" : link.refusal();
  if (refusal === undefined && link!.isFullFor(session)) return WAIT;
  const slot = openSlot(session, request);
  if (refusal !== undefined) {
    settleFailed(queue, queue.slots, slot, refusal);
    return request.size;
  }
  if (!COMMANDS[request.command]!.mutates) link!.expect(slot);
  else if (isAsItStands) link!.expectMutation(slot, bytes, request.keyAt, request.keySize);
  else link!.expectMutation(slot, session.services.loop.arena.bytes, SCRATCH_AT, stored.size);
  if (keyPrefix !== null) {
    sendPrefixed(session, request, bytes, at, slot, link!);
  } else if (!request.quiet) {
    link!.appendCommand(bytes, at, request.size);
  } else if (session.isBinary) {
    bytes[at + Header.opcode] = loudOpcode(request.opcode);
    link!.appendCommand(bytes, at, request.size);
  } else {
    const restAt = request.quietAt + request.quietSize;
    link!.append(bytes, at, request.quietAt - at);
    link!.append(bytes, restAt, at + request.size - restAt);
  }
  return request.size;
}

/** Opens the slot of a command and notes what its reply will need. */
export function openSlot(session: Session, request: Request): number {
  const { queue } = session;
  const { slots } = queue;
  const slot = queue.open(request.command, session.services.loop.nowMs);
  if (session.isBinary) {
    slots.opcode[slot] = request.opcode;
    slots.opaque[slot] = request.opaque;
    if (request.quiet) slots.quiet[slot] = Quiet.binary;
  } else if (request.quiet) {
    const isMeta = COMMANDS[request.command]!.shape === "meta";
    slots.quiet[slot] = isMeta ? Quiet.meta : Quiet.all;
  }
  return slot;
}

/** That of the key which was taken last. */
function linkOfStored(session: Session): Link | null {
  const from = routedFrom(session);
  const { bytes } = session.services.loop.arena;
  return linkOfKey(session, bytes, SCRATCH_AT + from, stored.size - from);
}

function linkOfKey(session: Session, bytes: Buffer, keyAt: number, keySize: number): Link | null {
  const { route } = session.tenant!;
  const owner = route.ownerOfKey(bytes, keyAt, keyAt + keySize);
  if (owner < 0) return null;
  const shard = route.shards[owner]!;
  return session.isBinary ? shard.binary : shard.text;
}

/**
 * memcached drops the old value of a key whose new one is too large for `set` (and `ms`): so does
 * this delete; nobody waits for its answer.
 */
export function dropOldValue(session: Session, request: Request, bytes: Buffer): void {
  if (request.command !== Command.set && request.command !== Command.ms) return;
  if (takeKey(session, request, bytes) !== undefined) return;
  const { slots, loop } = session.services;
  const key = loop.arena.bytes.subarray(stored.tokenAt, stored.tokenAt + stored.tokenSize);
  const bytesToSend = session.isBinary ? binaryDelete(key) : metaDelete(key, request.keyIsBase64);
  if (session.tenant!.route.isTracked) {
    const storedKey = loop.arena.bytes.subarray(SCRATCH_AT, SCRATCH_AT + stored.size);
    return dropTracked(session, Buffer.from(storedKey), bytesToSend);
  }
  const link = linkOfStored(session);
  if (link === null || link.refusal() !== undefined) return;
  const slot = slots.open(null, session.isBinary ? Command.delete : Command.md, loop.nowMs);
  slots.opaque[slot] = 0;
  link.expect(slot);
  link.append(bytesToSend, 0, bytesToSend.length);
}

function metaDelete(key: Buffer, isBase64: boolean): Buffer {
  const flag = isBase64 ? " b" : "";
  return Buffer.concat([Buffer.from("md "), key, Buffer.from(`${flag}\r\n`)]);
}

// ---- local replies ------------------------------------------------------------------------

function executeLocal(session: Session, request: Request, bytes: Buffer, at: number): void {
  switch (request.command) {
    case Command.mechanisms:
      return answerBinary(session, request, MECHANISMS);
    case Command.quit:
      if (session.isBinary) answerBinary(session, request);
      return session.drain("quit");
    case Command.version:
    case Command.noop:
      return answerAlive(session, request, bytes, at);
    case Command.mn:
      return answerText(session, request, META_NOOP);
    case Command.verbosity:
      // Verbosity is the operator's; memcached answers OK whatever it does with it.
      return session.isBinary ? answerBinary(session, request) : answerText(session, request, OK);
    default:
      return answerProblem(session, request, "error", Result.clientError);
  }
}

/**
 * Clients take these as a sign of life: they must not hide that the cache has no live shard. While
 * no connection to a shard is ready, one that can be tried gets the command itself.
 */
function answerAlive(session: Session, request: Request, bytes: Buffer, at: number): void {
  const { tenant, isBinary, queue } = session;
  const links = tenant?.route.shards.map((shard) => shard[queue.dialect]) ?? [];
  if (tenant === null || links.some((link) => link.state === "ready")) {
    if (!isBinary) return answerText(session, request, TEXT_VERSION);
    const isVersion = request.command === Command.version;
    return answerBinary(session, request, isVersion ? BINARY_VERSION : undefined);
  }
  const link = links.find((one) => one.refusal() === undefined);
  if (link === undefined) return answerProblem(session, request, "noShard", Result.failed);
  link.expect(openSlot(session, request));
  link.appendCommand(bytes, at, request.size);
}
