/**
 * One framed command: where it ends, which key, which value. A single object is filled again and
 * again (an object per command would cost more than the parsing). All offsets are absolute in the
 * bytes that were framed and valid as long as those are.
 */
import { Command } from "./command.ts";
import type { Problem } from "./problem.ts";

/** What a framer says about the bytes at hand. */
export const Verdict = {
  /** Not all there. `sizeNeeded` bytes from the start make another look worthwhile. */
  incomplete: 0,
  /** A whole command of `size` bytes. */
  framed: 1,
  /** Answer `problem` and skip `size` bytes, of which not all may have come yet. */
  refused: 2,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** Tokens that are noted of a line, as memcached does; a retrieval may have more keys. */
export const TOKEN_COUNT_MAX = 24;

export class Request {
  /** Bytes of the whole command, from its first byte to the last of its value. */
  size = 0;
  sizeNeeded = 0;
  /** Index into `COMMANDS`. */
  command: number = Command.invalid;
  /** Why it was refused. */
  problem: Problem = "none";
  keyAt = 0;
  keySize = 0;
  /** Data block without its line end. */
  valueAt = 0;
  valueSize = 0;
  /** The usual reply is not wanted: binary quiet opcodes, text `noreply`, meta `q`. */
  quiet = false;

  // Binary only (offsets of the 24-byte header are in binary.ts).
  opcode = 0;
  opaque = 0;
  extrasAt = 0;
  extrasSize = 0;

  // Text and meta only.
  /**
   * Of a line that has not ended: bytes looked at so far, so that none is looked at twice. The
   * only field that is read before it is written: one Request shared by many connections must
   * have it set to 0, or to what the connection's last incomplete look left, before framing.
   */
  scannedSize = 0;
  /** Offset behind the line's content (before its \r\n or \n), and behind its line end. */
  lineStop = 0;
  lineEnd = 0;
  /** Where the noreply word or q flag stands, with the blank before it; size 0 if nowhere. */
  quietAt = 0;
  quietSize = 0;
  /** A NUL stands on the line. */
  hasNul = false;
  /** The meta flag b: the key is base64. False in binary. */
  keyIsBase64 = false;
  /** Meta: the reply repeats the key (flag k, and always me). */
  keyIsEchoed = false;
  tokenCount = 0;
  readonly tokenAt: Int32Array = new Int32Array(TOKEN_COUNT_MAX);
  readonly tokenEnd: Int32Array = new Int32Array(TOKEN_COUNT_MAX);

  /** For framers: a verdict with its reason. */
  refuse(command: number, problem: Problem, size: number): Verdict {
    this.command = command;
    this.problem = problem;
    this.size = size;
    return Verdict.refused;
  }
}
