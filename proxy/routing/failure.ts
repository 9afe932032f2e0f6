/**
 * What a client is told when a shard did not answer. A read becomes a miss, or an error if its
 * cache prefers that; a write or delete that may not have happened is always an error: never
 * claim what is not known.
 */
import { HEADER_SIZE, Opcode, writeBinaryReply } from "../../core/protocol/binary.ts";
import { COMMANDS, Result } from "../../core/protocol/command.ts";
import { PROBLEMS, type Problem, Status } from "../../core/protocol/problem.ts";
import type { ReplyQueue } from "./replies.ts";
import { Quiet, type Slots } from "./slots.ts";

/** How a cache behaves where there is a choice; changed in place, so that all see it at once. */
export interface CachePolicies {
  /** What a read gets that no shard answered. */
  unansweredRead: "miss" | "error";
}

const TEXT_MISS = Buffer.from("END\r\n");
const META_MISS = Buffer.from("EN\r\n");
const NOT_FOUND = Buffer.from("Not found");

const TEXT_ERRORS = Object.fromEntries(
  Object.entries(PROBLEMS).map(([name, row]) => [name, Buffer.from(`${row.text}\r\n`)]),
) as Record<Problem, Buffer>;

/** The error line of a problem in the text and meta dialects; shared, not to be changed. */
export const textError = (problem: Problem): Buffer => TEXT_ERRORS[problem];

/** The error packet of a problem in the binary dialect. */
export function binaryError(problem: Problem, opcode: number, opaque: number): Buffer {
  const { status, statusText } = PROBLEMS[problem];
  const value = Buffer.from(statusText);
  const packet = Buffer.allocUnsafe(HEADER_SIZE + value.length);
  writeBinaryReply(packet, 0, { opcode, status, opaque, value });
  return packet;
}

/** Settles `slot`, which its shard did not answer. */
export function settleFailed(
  queue: ReplyQueue,
  slots: Slots,
  slot: number,
  problem: Problem,
): void {
  const row = COMMANDS[slots.command[slot]!]!;
  const isMiss =
    !row.mutates && row.access.includes("read") && queue.policies?.unansweredRead !== "error";
  let answer: Buffer;
  if (isMiss) answer = missOf(queue, slots, slot);
  else if (queue.dialect === "text") answer = TEXT_ERRORS[problem];
  else answer = binaryError(problem, slots.opcode[slot]!, slots.opaque[slot]!);
  queue.settleLocally(slot, Result.failed, answer);
}

/** Settles a read whose shard has no value; `isPart`: of a text multi-get, which has its own END. */
export function settleMiss(queue: ReplyQueue, slots: Slots, slot: number, isPart: boolean): void {
  queue.settleLocally(slot, Result.miss, isPart ? EMPTY : missOf(queue, slots, slot));
}

function missOf(queue: ReplyQueue, slots: Slots, slot: number): Buffer {
  const isSilent = slots.quiet[slot] !== Quiet.no;
  if (queue.dialect === "text") {
    if (COMMANDS[slots.command[slot]!]!.shape === "values") return TEXT_MISS;
    return isSilent ? EMPTY : META_MISS;
  }
  return isSilent ? EMPTY : binaryMiss(slots.opcode[slot]!, slots.opaque[slot]!);
}

const EMPTY = Buffer.alloc(0);

/** As memcached: GETK and GATK repeat the key in a miss, which we no longer have: without it. */
function binaryMiss(opcode: number, opaque: number): Buffer {
  const isKeyed = opcode === Opcode.getk || opcode === Opcode.gatk;
  const packet = Buffer.allocUnsafe(HEADER_SIZE + (isKeyed ? 0 : NOT_FOUND.length));
  const common = { opcode, status: Status.notFound, opaque };
  writeBinaryReply(packet, 0, isKeyed ? common : { ...common, value: NOT_FOUND });
  return packet;
}
