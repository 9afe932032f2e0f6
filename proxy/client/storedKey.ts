/**
 * Keys as shards store them: with the prefix of the credential before them, the stamp of their shard
 * before that (on servers of others only), and taken out of base64. They are put together in the arena's scratch:
 *
 *     SCRATCH_AT   | stamp | prefix | key |        prefix and key decide about the shard
 *     TOKEN_AT     | all of it in base64 |         what stands on a meta line with the flag b
 */
import { STAMP_SIZE } from "../../core/cluster/external.ts";
import { SCRATCH_AT } from "../../core/io/arena.ts";
import { base64Size, decodeBase64, encodeBase64 } from "../../core/protocol/base64.ts";
import { HEADER_SIZE, Header, loudOpcode } from "../../core/protocol/binary.ts";
import { Command } from "../../core/protocol/command.ts";
import { KEY_SIZE_MAX, LINE_SIZE_MAX } from "../../core/protocol/limits.ts";
import type { Problem } from "../../core/protocol/problem.ts";
import type { Request } from "../../core/protocol/request.ts";
import type { CommandSink } from "../routing/link.ts";
import type { Session } from "./session.ts";

const LINE_FEED = 0x0a;
/** Behind the longest that stands at SCRATCH_AT: a prefix and a key that is too long. */
const TOKEN_AT = SCRATCH_AT + 1024;
/** To memcached no base64 at all: it makes the complaint itself, in its place among others. */
const NO_BASE64 = Buffer.from("!");
const META_DEBUG = Buffer.from("me ");
const LINE_END = Buffer.from("\r\n");
const BASE64_LINE_END = Buffer.from(" b\r\n");

/** Of the key that was taken last: its size when stored, and where it stands for a command. */
export const stored = { size: 0, tokenAt: 0, tokenSize: 0 };

/** Puts the stored key of a command at SCRATCH_AT; returns what is wrong with it. */
export function takeKey(session: Session, request: Request, bytes: Buffer): Problem | undefined {
  const { arena } = session.services.loop;
  const { keyPrefix } = session;
  const prefixSize = keyPrefix === null ? 0 : keyPrefix.length;
  if (keyPrefix !== null) arena.bytes.set(keyPrefix, SCRATCH_AT);
  const at = SCRATCH_AT + prefixSize;
  if (request.keyIsBase64) return takeBase64(session, request, bytes, prefixSize);
  arena.move(at, bytes, request.keyAt, request.keySize);
  stored.size = prefixSize + request.keySize;
  stored.tokenAt = SCRATCH_AT;
  stored.tokenSize = stored.size;
  if (stored.size > KEY_SIZE_MAX) return tooLong(session);
  if (session.tenant!.isExternal) stamp(session, arena.bytes, SCRATCH_AT, stored.size);
  return undefined;
}

const tooLong = (session: Session): Problem =>
  session.tenant!.isExternal ? "stampedKeyTooLong" : "prefixedKeyTooLong";

/** Offset in a stored key of the part that decides about its shard. */
export const routedFrom = (session: Session): number =>
  session.tenant!.isExternal ? STAMP_SIZE : 0;

/** Fills in the stamp of the key at `at`, for which there is room. */
export function stamp(session: Session, bytes: Buffer, at: number, size: number): void {
  const { route } = session.tenant!;
  const owner = route.ownerOfKey(bytes, at + STAMP_SIZE, at + size);
  const letters = owner < 0 ? null : route.shards[owner]!.stamp;
  if (letters !== null) bytes.set(letters, at);
}

/** A base64 key lives where the same key in plain bytes does. */
function takeBase64(
  session: Session,
  request: Request,
  bytes: Buffer,
  prefixSize: number,
): Problem | undefined {
  const scratch = session.services.loop.arena.bytes;
  const at = SCRATCH_AT + prefixSize;
  const size = decodeBase64(bytes, request.keyAt, request.keySize, scratch, at);
  // memcached repeats a key in base64 only if the item was stored so, else raw: a line end in it
  // would end the reply early and shift all that follow.
  if (request.keyIsEchoed && hasLineFeed(scratch, at, at + size)) return "badKeyEncoding";
  stored.size = prefixSize + size;
  stored.tokenAt = TOKEN_AT;
  stored.tokenSize = base64Size(stored.size);
  if (size === 0) {
    scratch.set(NO_BASE64, TOKEN_AT);
    stored.tokenSize = NO_BASE64.length;
    return undefined;
  }
  if (stored.tokenSize > KEY_SIZE_MAX) return tooLong(session);
  if (session.tenant!.isExternal) stamp(session, scratch, SCRATCH_AT, stored.size);
  encodeBase64(scratch, SCRATCH_AT, stored.size, scratch, TOKEN_AT);
  return undefined;
}

function hasLineFeed(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (bytes[at] === LINE_FEED) return true;
  return false;
}

/** Whether the line would be longer with its prefix than shards take for sure. */
export function isTooLongPrefixed(session: Session, request: Request, at: number): boolean {
  if (session.isBinary) return false;
  return request.lineEnd - at + stored.tokenSize - request.keySize > LINE_SIZE_MAX;
}

/**
 * Sends the command at `at` with the key that was taken in place of its own, in its loud form, and
 * notes for `slot` what is to be taken off its reply.
 */
export function sendPrefixed(
  session: Session,
  request: Request,
  bytes: Buffer,
  at: number,
  slot: number,
  link: CommandSink,
): void {
  const { slots, loop } = session.services;
  const prefixSize = session.keyPrefix!.length;
  const scratch = loop.arena.bytes;
  const keyEnd = request.keyAt + request.keySize;
  const end = at + request.size;
  if (session.isBinary || request.keyIsEchoed) {
    slots.prefixSize[slot] = prefixSize;
    slots.keySize[slot] = stored.size;
  }
  if (session.isBinary) {
    bytes[at + Header.opcode] = loudOpcode(request.opcode);
    bytes.writeUInt16BE(stored.size, at + Header.keySize);
    bytes.writeUInt32BE(request.size - HEADER_SIZE + prefixSize, at + Header.bodySize);
  } else if (request.command === Command.me) {
    // Nothing of the line but the key: whatever else a shard may make of it, it is this key.
    link.append(META_DEBUG, 0, META_DEBUG.length);
    link.append(scratch, stored.tokenAt, stored.tokenSize);
    const lineEnd = request.keyIsBase64 ? BASE64_LINE_END : LINE_END;
    return link.append(lineEnd, 0, lineEnd.length);
  }
  link.append(bytes, at, request.keyAt - at);
  link.append(scratch, stored.tokenAt, stored.tokenSize);
  let restAt = keyEnd;
  if (request.quiet && !session.isBinary) {
    link.append(bytes, keyEnd, request.quietAt - keyEnd);
    restAt = request.quietAt + request.quietSize;
  }
  // A buffer that is all one command is passed on instead of copied, but for what stands before.
  if (request.size === bytes.length) link.appendCommand(bytes.subarray(restAt), 0, end - restAt);
  else link.append(bytes, restAt, end - restAt);
}
