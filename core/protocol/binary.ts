/**
 * The binary dialect (memcached's BinaryProtocolRevamped): framing of requests and replies.
 *
 *     byte      0       1       2     3      4        5         6        7
 *            +-------+--------+------------+--------+----------+------------------+
 *            | magic | opcode | key size   | extras | datatype | vbucket / status |
 *            +-------+--------+------------+--------+----------+------------------+
 *      8     | body size (extras + key + value)    | 12: opaque                   |
 *     16     | cas unique                                                         |
 *     24     | extras | key | value                                               |
 */
import { Command, Result } from "./command.ts";
import { KEY_SIZE_MAX, LOGIN_SIZE_MAX, SKIP_SIZE_MAX, VALUE_SIZE_MAX } from "./limits.ts";
import { Status } from "./problem.ts";
import type { Reply } from "./reply.ts";
import { type Request, Verdict } from "./request.ts";

export const MAGIC_REQUEST = 0x80;
export const MAGIC_REPLY = 0x81;
export const HEADER_SIZE = 24;
export const Header = {
  magic: 0,
  opcode: 1,
  keySize: 2,
  extrasSize: 4,
  dataType: 5,
  status: 6,
  bodySize: 8,
  opaque: 12,
  cas: 16,
} as const;

export const Opcode = {
  get: 0x00,
  set: 0x01,
  add: 0x02,
  replace: 0x03,
  delete: 0x04,
  increment: 0x05,
  decrement: 0x06,
  quit: 0x07,
  flush: 0x08,
  getq: 0x09,
  noop: 0x0a,
  version: 0x0b,
  getk: 0x0c,
  getkq: 0x0d,
  append: 0x0e,
  prepend: 0x0f,
  stat: 0x10,
  setq: 0x11,
  addq: 0x12,
  replaceq: 0x13,
  deleteq: 0x14,
  incrementq: 0x15,
  decrementq: 0x16,
  quitq: 0x17,
  flushq: 0x18,
  appendq: 0x19,
  prependq: 0x1a,
  verbosity: 0x1b,
  touch: 0x1c,
  gat: 0x1d,
  gatq: 0x1e,
  saslListMechs: 0x20,
  saslAuth: 0x21,
  saslStep: 0x22,
  gatk: 0x23,
  gatkq: 0x24,
} as const;

/** `key` and `value` say whether the request must (true), or must not (false), carry one. */
type OpcodeRow = {
  command: number;
  /** The loud form; itself when it is loud. */
  loud: number;
  extrasSizes: readonly number[];
  key: boolean | "optional";
  value: boolean | "optional";
};

const OPCODES: (OpcodeRow | undefined)[] = new Array(256).fill(undefined);
const rows = (
  command: number,
  opcodes: readonly [loud: number, ...quiet: number[]],
  shape: Omit<OpcodeRow, "command" | "loud">,
): void => {
  for (const opcode of opcodes) OPCODES[opcode] = { command, loud: opcodes[0], ...shape };
};
const NO = { extrasSizes: [0], key: false, value: false } as const;
const KEY = { extrasSizes: [0], key: true, value: false } as const;
const STORE = { extrasSizes: [8], key: true, value: "optional" } as const;
const CONCAT = { extrasSizes: [0], key: true, value: "optional" } as const;
const COUNT = { extrasSizes: [20], key: true, value: false } as const;
const TOUCH = { extrasSizes: [4], key: true, value: false } as const;
const SASL = { extrasSizes: [0], key: "optional", value: "optional" } as const;
rows(Command.get, [Opcode.get, Opcode.getq], KEY);
rows(Command.get, [Opcode.getk, Opcode.getkq], KEY);
rows(Command.set, [Opcode.set, Opcode.setq], STORE);
rows(Command.add, [Opcode.add, Opcode.addq], STORE);
rows(Command.replace, [Opcode.replace, Opcode.replaceq], STORE);
rows(Command.delete, [Opcode.delete, Opcode.deleteq], KEY);
rows(Command.incr, [Opcode.increment, Opcode.incrementq], COUNT);
rows(Command.decr, [Opcode.decrement, Opcode.decrementq], COUNT);
rows(Command.append, [Opcode.append, Opcode.appendq], CONCAT);
rows(Command.prepend, [Opcode.prepend, Opcode.prependq], CONCAT);
rows(Command.touch, [Opcode.touch], TOUCH);
rows(Command.gat, [Opcode.gat, Opcode.gatq], TOUCH);
rows(Command.gat, [Opcode.gatk, Opcode.gatkq], TOUCH);
rows(Command.flush_all, [Opcode.flush, Opcode.flushq], { ...NO, extrasSizes: [0, 4] });
rows(Command.stats, [Opcode.stat], { extrasSizes: [0], key: "optional", value: false });
rows(Command.quit, [Opcode.quit, Opcode.quitq], NO);
rows(Command.noop, [Opcode.noop], NO);
rows(Command.version, [Opcode.version], NO);
rows(Command.verbosity, [Opcode.verbosity], { ...NO, extrasSizes: [4] });
rows(Command.mechanisms, [Opcode.saslListMechs], SASL);
rows(Command.login, [Opcode.saslAuth], SASL);
rows(Command.login, [Opcode.saslStep], SASL);

/** The loud form of a quiet opcode: it always answers, so replies can be matched one to one. */
export function loudOpcode(opcode: number): number {
  return OPCODES[opcode]?.loud ?? opcode;
}

const readUInt16 = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
const readUInt32 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;

/**
 * Frames the request at `from`. A body that is larger than anything we carry is skipped by its
 * announced size, except where the size can only be garbage: then the connection is closed.
 */
export function frameBinary(
  request: Request,
  bytes: Uint8Array,
  from: number,
  to: number,
): Verdict {
  if (from < to && bytes[from] !== MAGIC_REQUEST) {
    request.opcode = 0;
    request.opaque = 0;
    return request.refuse(Command.invalid, "badMagic", to - from);
  }
  if (to - from < HEADER_SIZE) {
    request.sizeNeeded = HEADER_SIZE;
    return Verdict.incomplete;
  }
  const keySize = readUInt16(bytes, from + Header.keySize);
  const extrasSize = bytes[from + Header.extrasSize]!;
  const bodySize = readUInt32(bytes, from + Header.bodySize);
  const size = HEADER_SIZE + bodySize;
  const opcode = bytes[from + Header.opcode]!;
  const row = OPCODES[opcode];
  request.opcode = opcode;
  request.opaque = readUInt32(bytes, from + Header.opaque);
  request.quiet = row !== undefined && row.loud !== opcode;
  request.size = size;
  request.keyIsBase64 = false;
  if (keySize + extrasSize > bodySize) {
    return request.refuse(row?.command ?? Command.invalid, "badLengths", to - from);
  }
  if (bodySize > SKIP_SIZE_MAX) {
    const problem = row?.value === "optional" ? "absurdSize" : "badLengths";
    return request.refuse(row?.command ?? Command.invalid, problem, to - from);
  }
  if (row === undefined) return request.refuse(Command.invalid, "error", size);
  request.command = row.command;
  const valueSize = bodySize - extrasSize - keySize;
  if (
    keySize > KEY_SIZE_MAX ||
    !row.extrasSizes.includes(extrasSize) ||
    (row.key !== "optional" && row.key !== keySize > 0) ||
    (row.value === false && valueSize > 0)
  ) {
    return request.refuse(row.command, "badFormat", size);
  }
  request.extrasAt = from + HEADER_SIZE;
  request.extrasSize = extrasSize;
  request.keyAt = request.extrasAt + extrasSize;
  request.keySize = keySize;
  request.valueAt = request.keyAt + keySize;
  request.valueSize = valueSize;
  if (valueSize > (row.command === Command.login ? LOGIN_SIZE_MAX : VALUE_SIZE_MAX)) {
    // The key may not have come yet: it is needed to drop the old value, as memcached does.
    if (to < request.valueAt) {
      request.sizeNeeded = request.valueAt - from;
      return Verdict.incomplete;
    }
    return request.refuse(row.command, "tooLarge", size);
  }
  if (to - from < size) {
    request.sizeNeeded = size;
    return Verdict.incomplete;
  }
  return Verdict.framed;
}

/**
 * Frames the reply at `from` to a request of `command`. A STAT is answered by many packets of
 * which an empty one is the last; all of them are one reply here.
 */
export function frameBinaryReply(
  reply: Reply,
  bytes: Uint8Array,
  from: number,
  to: number,
  command: number,
): Verdict {
  let at = from;
  for (;;) {
    if (to - at < HEADER_SIZE) return reply.incomplete(at - from + HEADER_SIZE);
    if (bytes[at] !== MAGIC_REPLY) return Verdict.refused;
    const keySize = readUInt16(bytes, at + Header.keySize);
    const bodySize = readUInt32(bytes, at + Header.bodySize);
    const status = readUInt16(bytes, at + Header.status);
    if (bodySize > REPLY_BODY_SIZE_MAX || keySize > bodySize) return Verdict.refused;
    const end = at + HEADER_SIZE + bodySize;
    if (end > to) return reply.incomplete(end - from);
    reply.status = status;
    reply.opcode = bytes[at + Header.opcode]!;
    reply.opaque = readUInt32(bytes, at + Header.opaque);
    at = end;
    if (command !== Command.stats || status !== Status.ok || keySize === 0) break;
  }
  reply.size = at - from;
  reply.result = binaryResult(command, reply.status);
  return Verdict.framed;
}

/** A value, its key, extras, and an error text of some length. */
const REPLY_BODY_SIZE_MAX = VALUE_SIZE_MAX + 64 * 1024;

function binaryResult(command: number, status: number): number {
  const isGet = command === Command.get || command === Command.gat;
  switch (status) {
    case Status.ok:
      return isGet ? Result.hit : Result.ok;
    case Status.notFound:
      return isGet ? Result.miss : Result.notFound;
    case Status.exists:
      return command === Command.add ? Result.notStored : Result.exists;
    case Status.notStored:
      return Result.notStored;
    case Status.tooLarge:
    case Status.invalidArguments:
    case Status.nonNumeric:
    case Status.unknownCommand:
      return Result.clientError;
    default:
      return Result.serverError;
  }
}

/**
 * Writes a reply packet (no cas) and returns its size. `key` and `value` are copied.
 * Layout as in the drawing above; datatype is always 0.
 */
export function writeBinaryReply(
  bytes: Buffer,
  at: number,
  packet: { opcode: number; status: number; opaque: number; key?: Uint8Array; value?: Uint8Array },
): number {
  const keySize = packet.key?.length ?? 0;
  const valueSize = packet.value?.length ?? 0;
  bytes.fill(0, at, at + HEADER_SIZE);
  bytes[at] = MAGIC_REPLY;
  bytes[at + Header.opcode] = packet.opcode;
  bytes.writeUInt16BE(keySize, at + Header.keySize);
  bytes.writeUInt16BE(packet.status, at + Header.status);
  bytes.writeUInt32BE(keySize + valueSize, at + Header.bodySize);
  bytes.writeUInt32BE(packet.opaque, at + Header.opaque);
  if (packet.key !== undefined) bytes.set(packet.key, at + HEADER_SIZE);
  if (packet.value !== undefined) bytes.set(packet.value, at + HEADER_SIZE + keySize);
  return HEADER_SIZE + keySize + valueSize;
}
