/**
 * Binary commands for the fuzzer, after protocol_binary.h: every opcode that works on keys, quiet
 * and loud, and packets of the wrong shape. Of those memcached closes the connection or loses the
 * framing; we answer and skip their body, so memcached is sent a NOOP with their opaque instead
 * and its answer is exchanged for ours.
 */
import { OPCODE, type PacketFields, packet } from "../harness/wire.ts";
import type { Chance } from "./chance.ts";
import { type Piece, TAG } from "./stream.ts";
import { anyValue } from "./text.ts";

type Name = keyof typeof OPCODE;

const KEYS = [
  ...["a", "b", "c", "d"].map((name) => `${TAG}${name}`),
  TAG.padEnd(250, "x"),
  `${TAG}\0 \r\n\xff`,
];
/** Hold numbers and nothing else, see text.ts. */
const COUNTERS = [`${TAG}n`, `${TAG}m`];
const NO_CREATION = 0xffff_ffff;
const EXPIRIES = [0, 0, 0, 100_000, 0xffff_ffff];
const CAS_OF_NOBODY = [0n, 0n, 0n, 0xffff_ffff_ffff_ffffn];

const uint32 = (...numbers: number[]): Buffer => {
  const bytes = Buffer.alloc(numbers.length * 4);
  numbers.forEach((number, index) => bytes.writeUInt32BE(number, index * 4));
  return bytes;
};

/** Opaques count upwards, so that each packet of a stream has its own. */
type Maker = (chance: Chance, opaque: number) => Piece;

const made = (fields: PacketFields): Piece => ({ bytes: packet(fields) });
const common = (chance: Chance, opaque: number): Pick<PacketFields, "key" | "opaque"> => ({
  key: chance.oneIn(5) ? chance.pick(COUNTERS) : chance.pick(KEYS),
  opaque,
});

const retrieval: Maker = (chance, opaque) =>
  made({
    ...common(chance, opaque),
    opcode: chance.pick<Name>(["get", "getk", "getq", "getkq", "getkq", "delete", "deleteq"]),
  });

const storage: Maker = (chance, opaque) =>
  made({
    key: chance.pick(KEYS),
    opaque,
    opcode: chance.pick<Name>(["set", "set", "setq", "add", "addq", "replace", "replaceq"]),
    extras: uint32(chance.pick([0, 7, 0xffff_ffff]), chance.pick(EXPIRIES)),
    value: anyValue(chance),
    cas: chance.pick(CAS_OF_NOBODY),
  });

const concatenation: Maker = (chance, opaque) =>
  made({
    key: chance.pick(KEYS),
    opaque,
    opcode: chance.pick<Name>(["append", "appendq", "prepend", "prependq"]),
    value: anyValue(chance).subarray(0, 500),
    cas: chance.pick(CAS_OF_NOBODY),
  });

const counting: Maker = (chance, opaque) => {
  const extras = Buffer.alloc(20);
  const opcode = chance.pick<Name>([
    "increment",
    "increment",
    "incrementq",
    "decrement",
    "decrementq",
  ]);
  // Counters never become shorter, see text.ts.
  const delta = opcode.startsWith("increment") ? chance.pick([1n, 0n, 5n]) : 0n;
  extras.writeBigUInt64BE(delta, 0);
  extras.writeBigUInt64BE(chance.pick([0n, 40n, 0x7fff_ffff_ffff_fff0n]), 8);
  extras.writeUInt32BE(chance.pick([0, NO_CREATION]), 16);
  return made({ ...common(chance, opaque), opcode, extras });
};

const touching: Maker = (chance, opaque) =>
  made({
    ...common(chance, opaque),
    opcode: chance.pick<Name>(["touch", "gat", "gatq", "gatk", "gatkq"]),
    extras: uint32(chance.pick(EXPIRIES)),
  });

const others: Maker = (chance, opaque) =>
  made({ opcode: chance.pick<Name>(["noop", "noop", "version"]), opaque });

const flushing: Maker = (chance, opaque) =>
  made({ opcode: chance.pick<Name>(["flush", "flushq"]), opaque });

const UNKNOWN_OPCODES = [0x1f, 0x25, 0x30, 0x50, 0x7f, 0x80, 0xff];

/** An answer as protocol_binary.h lays it out; the words are memcached's. */
function refusal(opcode: number, opaque: number, status: number, text: string): Buffer {
  const bytes = packet({ magic: 0x81, opcode, opaque, value: text });
  bytes.writeUInt16BE(status, 6);
  return bytes;
}

const misshapen: Maker = (chance, opaque) => {
  const key = TAG;
  const fields = chance.pick<PacketFields & { opcode: Name }>([
    { opcode: "get" },
    { opcode: "getkq", key, value: Buffer.concat([anyValue(chance), Buffer.from(key)]) },
    { opcode: "getq", key, extras: uint32(1) },
    { opcode: "set", key, value: anyValue(chance) },
    { opcode: "setq", key, value: "x", extras: uint32(1) },
    { opcode: "add", extras: uint32(0, 0), value: anyValue(chance) },
    { opcode: "replaceq", key: TAG.padEnd(251, "x"), extras: uint32(0, 0), value: "x" },
    { opcode: "append", key, value: "x", extras: uint32(0, 0) },
    { opcode: "delete", key: TAG.padEnd(3_000, "x") },
    { opcode: "increment", key, extras: uint32(0, 1) },
    { opcode: "decrementq", key },
    { opcode: "touch", key },
    { opcode: "gatk", extras: uint32(0) },
    { opcode: "noop", value: "x" },
    { opcode: "version", key },
    { opcode: "flush", extras: uint32(0, 0) },
  ]);
  const answer = refusal(OPCODE[fields.opcode], opaque, 0x04, "Invalid arguments");
  return {
    bytes: packet({ ...fields, opaque }),
    reference: packet({ opcode: "noop", opaque }),
    answer,
  };
};

const unknown: Maker = (chance, opaque) => {
  const opcode = chance.pick(UNKNOWN_OPCODES);
  const answer = refusal(opcode, opaque, 0x81, "Unknown command");
  const bytes = packet({ opcode, opaque, key: TAG, value: anyValue(chance) });
  return { bytes, reference: packet({ opcode: "noop", opaque }), answer };
};

const tooLarge: Maker = (chance, opaque) =>
  made({
    key: chance.pick(KEYS),
    opaque,
    opcode: chance.pick<Name>(["set", "setq"]),
    extras: uint32(0, 0),
    value: Buffer.alloc(1024 * 1024 + chance.integer(1, 5_000), "x"),
  });

const MAKERS: readonly (readonly [number, Maker])[] = [
  [120, retrieval],
  [100, storage],
  [30, concatenation],
  [40, counting],
  [40, touching],
  [20, others],
  [4, flushing],
  [20, misshapen],
  [6, unknown],
  [0.2, tooLarge],
];

export function binaryPieces(chance: Chance): Piece[] {
  const count = chance.weighted([
    [6, chance.integer(1, 12)],
    [3, chance.integer(13, 80)],
    [1, 600],
  ]);
  return chance.list(count, (index) => binaryPiece(chance, 0x1000 + index));
}

export const binaryPiece: Maker = (chance, opaque) => chance.weighted(MAKERS)(chance, opaque);
