/**
 * What a change that the first copy has taken means for the second: the value that was sent, a new
 * time to live, the same counting; and where that cannot be said without asking again, nothing: the
 * second copy is erased. Read from the command alone.
 */
import { Command } from "../../core/protocol/command.ts";
import type { Request } from "../../core/protocol/request.ts";
import type { Effect } from "../routing/follow.ts";

const ERASE: Effect = { kind: "erase", always: false };
const DELETE: Effect = { kind: "erase", always: true };
const NO_VALUE = Buffer.alloc(0);
/** Binary counters: none is made where none is. */
const NO_INITIAL = 0xffff_ffff;

/** Where the second copy gets the value that was sent, the caller puts it into the effect. */
export function effectOf(request: Request, bytes: Buffer, isBinary: boolean): Effect {
  switch (request.command) {
    case Command.set:
    case Command.add:
    case Command.replace:
    case Command.cas:
      return isBinary ? binaryStore(request, bytes) : textStore(request, bytes);
    case Command.incr:
    case Command.decr:
      return isBinary ? binaryCount(request, bytes) : textCount(request, bytes);
    case Command.touch:
      return { kind: "touch", exptime: exptimeOf(request, bytes, isBinary, 2) };
    case Command.gat:
      return { kind: "touch", exptime: exptimeOf(request, bytes, isBinary, 1) };
    case Command.ms:
      return metaStore(request, bytes);
    case Command.ma:
      return metaCount(request, bytes);
    case Command.mg_touch:
      return metaTouch(request, bytes);
    case Command.delete:
    case Command.md:
      return DELETE;
    default:
      return ERASE;
  }
}

const token = (request: Request, bytes: Buffer, index: number): string =>
  bytes.toString("latin1", request.tokenAt[index], request.tokenEnd[index]);

function exptimeOf(request: Request, bytes: Buffer, isBinary: boolean, index: number): number {
  return isBinary ? bytes.readInt32BE(request.extrasAt) : Number(token(request, bytes, index));
}

// ---- text and binary ----------------------------------------------------------------------

function textStore(request: Request, bytes: Buffer): Effect {
  const flags = Number(token(request, bytes, 2));
  const exptime = Number(token(request, bytes, 3));
  return { kind: "store", flags, exptime, value: NO_VALUE };
}

function binaryStore({ extrasAt }: Request, bytes: Buffer): Effect {
  const flags = bytes.readUInt32BE(extrasAt);
  return { kind: "store", flags, exptime: bytes.readInt32BE(extrasAt + 4), value: NO_VALUE };
}

function textCount(request: Request, bytes: Buffer): Effect {
  const isDown = request.command === Command.decr;
  return { kind: "count", isDown, delta: token(request, bytes, 2), initial: null };
}

function binaryCount({ extrasAt, command }: Request, bytes: Buffer): Effect {
  const exptime = bytes.readUInt32BE(extrasAt + 16);
  const value = String(bytes.readBigUInt64BE(extrasAt + 8));
  return {
    kind: "count",
    isDown: command === Command.decr,
    delta: String(bytes.readBigUInt64BE(extrasAt)),
    initial: exptime === NO_INITIAL ? null : { value, exptime: exptime | 0 },
  };
}

// ---- meta ---------------------------------------------------------------------------------

/** Flags by their letter, without those that only shape the reply; null if one is not in `known`. */
function flagsOf(request: Request, bytes: Buffer, from: number, known: string) {
  const flags = new Map<string, string>();
  for (let index = from; index < request.tokenCount; index++) {
    const text = token(request, bytes, index);
    const letter = text[0] ?? "";
    if (REPLY_FLAGS.includes(letter)) continue;
    if (!known.includes(letter)) return null;
    flags.set(letter, text.slice(1));
  }
  return flags;
}

const REPLY_FLAGS = "bkOqcfhlstv";

function metaStore(request: Request, bytes: Buffer): Effect {
  const flags = flagsOf(request, bytes, 3, "FTCEM");
  const mode = (flags?.get("M") ?? "S").toUpperCase();
  if (flags === null || !["S", "E", "R", "SET", "ADD", "REPLACE"].includes(mode)) return ERASE;
  return {
    kind: "store",
    flags: Number(flags.get("F") ?? 0),
    exptime: Number(flags.get("T") ?? 0),
    value: NO_VALUE,
  };
}

function metaCount(request: Request, bytes: Buffer): Effect {
  const flags = flagsOf(request, bytes, 2, "NJDMC");
  if (flags === null) return ERASE;
  const mode = (flags.get("M") ?? "I")[0] ?? "I";
  const lifetime = flags.get("N");
  return {
    kind: "count",
    isDown: "Dd-".includes(mode),
    delta: flags.get("D") ?? "1",
    initial:
      lifetime === undefined ? null : { value: flags.get("J") ?? "0", exptime: Number(lifetime) },
  };
}

function metaTouch(request: Request, bytes: Buffer): Effect {
  const flags = flagsOf(request, bytes, 2, "NTRE");
  if (flags === null) return ERASE;
  const exptime = flags.get("T");
  if (exptime === undefined || flags.has("N") || flags.has("R")) return { kind: "recache" };
  return { kind: "touch", exptime: Number(exptime) };
}
