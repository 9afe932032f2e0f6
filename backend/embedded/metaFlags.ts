/**
 * The flags of one meta command (protocol.txt, "Meta Commands"), read as memcached 1.6.18 reads
 * them: each at most once, whichever the command, and with the same complaint about the same
 * mistake. What they do is in meta.ts.
 */

import { decodeBase64 } from "../../core/protocol/base64.ts";
import { PROBLEMS } from "../../core/protocol/problem.ts";
import type { Request } from "../../core/protocol/request.ts";
import { parseExptime, parseFlags, parseUint64, Uint64 } from "./numbers.ts";
import type { Shard } from "./shard.ts";
import { line } from "./text.ts";

const BAD_FORMAT = line(PROBLEMS.badFormat.text);
const BAD_TOKEN = line("CLIENT_ERROR bad token in command line format");
const BAD_KEY = line("CLIENT_ERROR error decoding key");
const DUPLICATE_FLAG = line("CLIENT_ERROR duplicate flag");
const INVALID_FLAG = line("CLIENT_ERROR invalid flag");
const BAD_MODE_LENGTH = line("CLIENT_ERROR incorrect length for M token");
const BAD_INITIAL = line("CLIENT_ERROR invalid numeric initial value");
const BAD_DELTA = line("CLIENT_ERROR invalid numeric delta value");

const OPAQUE_SIZE_MAX = 32;

export const letter = (name: string): number => name.charCodeAt(0);
export const Flag = {
  b: letter("b"),
  c: letter("c"),
  f: letter("f"),
  h: letter("h"),
  k: letter("k"),
  l: letter("l"),
  q: letter("q"),
  s: letter("s"),
  t: letter("t"),
  u: letter("u"),
  v: letter("v"),
  C: letter("C"),
  D: letter("D"),
  F: letter("F"),
  I: letter("I"),
  J: letter("J"),
  L: letter("L"),
  M: letter("M"),
  N: letter("N"),
  O: letter("O"),
  P: letter("P"),
  R: letter("R"),
  T: letter("T"),
} as const;

const keyScratch = Buffer.alloc(256);
const number = new Uint64();

/** The flags of one command; filled again and again. */
export class Flags {
  quiet = false;
  keepsUse = false;
  value = false;
  invalidates = false;
  vivifies = false;
  setsTime = false;
  hasCas = false;
  binaryKey = false;
  opaqueIsTooLong = false;
  mode = 0;
  expiresAt = 0;
  vivifiedUntil = 0;
  recacheBefore = 0;
  clientFlags = 0;
  cas = 0;
  readonly delta = new Uint64();
  readonly initial = new Uint64();
  keyBytes: Buffer = keyScratch;
  keyAt = 0;
  keySize = 0;

  /** Null, or what is wrong with them. */
  parse(shard: Shard, request: Request, bytes: Buffer, first: number): Buffer | null {
    this.quiet = false;
    this.keepsUse = false;
    this.value = false;
    this.invalidates = false;
    this.vivifies = false;
    this.setsTime = false;
    this.hasCas = false;
    this.binaryKey = false;
    this.opaqueIsTooLong = false;
    this.mode = 0;
    this.expiresAt = 0;
    this.vivifiedUntil = 0;
    this.recacheBefore = 0;
    this.clientFlags = 0;
    this.cas = 0;
    this.delta.set(0, 1);
    this.initial.set(0, 0);
    this.keyBytes = bytes;
    this.keyAt = request.keyAt;
    this.keySize = request.keySize;
    const { tokenAt, tokenEnd, tokenCount } = request;
    let problem: Buffer | null = null;
    for (let i = first; i < tokenCount; i++) {
      if (isRepeated(request, bytes, first, i)) return DUPLICATE_FLAG;
      const wrong = this.#read(shard, bytes, tokenAt[i]!, tokenEnd[i]!);
      // An unknown flag ends it; of other problems memcached tells the last.
      if (wrong === INVALID_FLAG) return wrong;
      problem = wrong ?? problem;
    }
    return problem;
  }

  #read(shard: Shard, bytes: Buffer, at: number, end: number): Buffer | null {
    switch (bytes[at]) {
      case Flag.b:
        this.binaryKey = true;
        this.keySize = decodeBase64(bytes, this.keyAt, this.keySize, keyScratch, 0);
        this.keyBytes = keyScratch;
        this.keyAt = 0;
        return this.keySize === 0 ? BAD_KEY : null;
      case Flag.N:
        this.vivifies = true;
        this.vivifiedUntil = expiry(shard, bytes, at, end);
        return Number.isNaN(this.vivifiedUntil) ? BAD_TOKEN : null;
      case Flag.T:
        this.setsTime = true;
        this.expiresAt = expiry(shard, bytes, at, end);
        return Number.isNaN(this.expiresAt) ? BAD_TOKEN : null;
      case Flag.R:
        this.recacheBefore = expiry(shard, bytes, at, end);
        return Number.isNaN(this.recacheBefore) ? BAD_TOKEN : null;
      case Flag.F:
        this.clientFlags = parseFlags(bytes, at + 1, end);
        return this.clientFlags < 0 ? BAD_FORMAT : null;
      case Flag.C:
        this.hasCas = parseUint64(bytes, at + 1, end, number);
        this.cas = number.exact;
        return this.hasCas ? null : BAD_TOKEN;
      case Flag.M:
        this.mode = bytes[at + 1]!;
        return end - at === 2 ? null : BAD_MODE_LENGTH;
      case Flag.J:
        return parseUint64(bytes, at + 1, end, this.initial) ? null : BAD_INITIAL;
      case Flag.D:
        return parseUint64(bytes, at + 1, end, this.delta) ? null : BAD_DELTA;
      case Flag.I:
        this.invalidates = true;
        return null;
      case Flag.q:
        this.quiet = true;
        return null;
      case Flag.u:
        this.keepsUse = true;
        return null;
      case Flag.v:
        this.value = true;
        return null;
      case Flag.O:
        this.opaqueIsTooLong = end - at > OPAQUE_SIZE_MAX;
        return null;
      case Flag.P:
      case Flag.L:
      case Flag.k:
      case Flag.s:
      case Flag.t:
      case Flag.c:
      case Flag.f:
      case Flag.l:
      case Flag.h:
        return null;
      default:
        return INVALID_FLAG;
    }
  }
}
const expiry = (shard: Shard, bytes: Buffer, at: number, end: number): number =>
  shard.store.expiryOf(parseExptime(bytes, at + 1, end));

/** No flag may come twice, and none is outside of ASCII. */
function isRepeated(request: Request, bytes: Buffer, first: number, index: number): boolean {
  const flag = bytes[request.tokenAt[index]!]!;
  if (flag >= 127) return true;
  for (let i = first; i < index; i++) if (bytes[request.tokenAt[i]!] === flag) return true;
  return false;
}
