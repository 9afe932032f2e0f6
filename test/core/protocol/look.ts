/**
 * Looks at bytes through a framer as a careful reader would: in the middle of other bytes, whole,
 * and cut at every place. What a cut hides must never be guessed.
 */
import assert from "node:assert/strict";
import { frameBinary, frameBinaryReply } from "../../../core/protocol/binary.ts";
import { COMMANDS } from "../../../core/protocol/command.ts";
import type { Problem } from "../../../core/protocol/problem.ts";
import { Reply } from "../../../core/protocol/reply.ts";
import { Request, Verdict } from "../../../core/protocol/request.ts";
import { frameText } from "../../../core/protocol/text.ts";
import { frameTextReply } from "../../../core/protocol/textReply.ts";

export type Dialect = "text" | "binary";

export type Seen =
  | { verdict: "incomplete"; sizeNeeded: number }
  | { verdict: "refused"; command: string; problem: Problem; size: number; quiet: boolean }
  | {
      verdict: "framed";
      command: string;
      size: number;
      quiet: boolean;
      key: string;
      value: string;
    };

export const bytesOf = (raw: string): Buffer => Buffer.from(raw, "latin1");

/** Other bytes before; behind the bytes at hand stand line ends, for a framer that reads on. */
const BEFORE = Buffer.from("get before\r\n\x80");
const BEHIND = Buffer.from("\n\r\n\n\r\nEND\r\n".repeat(8));

/** One look at the first `size` bytes of `raw`, in the middle of others. */
export function look(
  dialect: Dialect,
  raw: Buffer,
  size = raw.length,
  request = new Request(),
): Seen {
  const bytes = Buffer.concat([BEFORE, raw, BEHIND]);
  const from = BEFORE.length;
  const frame = dialect === "text" ? frameText : frameBinary;
  const verdict = frame(request, bytes, from, from + size);
  if (verdict === Verdict.incomplete) {
    return { verdict: "incomplete", sizeNeeded: request.sizeNeeded };
  }
  const { problem, quiet } = request;
  const common = { command: COMMANDS[request.command]?.name ?? "none", size: request.size, quiet };
  if (verdict === Verdict.refused) return { verdict: "refused", problem, ...common };
  const text = (at: number, length: number): string => bytes.toString("latin1", at, at + length);
  const { target } = COMMANDS[request.command] ?? { target: "local" };
  const hasKey = target === "key" || target === "keys" || request.command === LOGIN;
  return {
    verdict: "framed",
    ...common,
    key: hasKey ? text(request.keyAt, request.keySize) : "",
    value: text(request.valueAt, request.valueSize),
  };
}
const LOGIN = COMMANDS.findIndex(({ name }) => name === "login");

/**
 * Looks at every prefix of `raw`, once as if it had come in one piece and once as if byte after
 * byte, and asserts that none is taken for something other than `whole`.
 */
export function lookAtEveryCut(dialect: Dialect, raw: Buffer, whole: Seen): void {
  assert(whole.verdict !== "incomplete", "the whole is not incomplete");
  const going = new Request();
  let isOver = false;
  for (let size = 0; size < raw.length; size++) {
    const fresh = look(dialect, raw, size);
    checkPrefix(fresh, whole, size);
    if (isOver) continue;
    const grown = look(dialect, raw, size, going);
    checkPrefix(grown, whole, size);
    isOver = grown.verdict !== "incomplete";
  }
  if (!isOver) assert.deepEqual(look(dialect, raw, raw.length, going), whole);
}

function checkPrefix(seen: Seen, whole: Seen, size: number): void {
  assert(whole.verdict !== "incomplete");
  if (seen.verdict === "incomplete") {
    assert(seen.sizeNeeded > size, `asked for ${seen.sizeNeeded} bytes at ${size}`);
    assert(seen.sizeNeeded <= whole.size, `asked for ${seen.sizeNeeded} of ${whole.size} bytes`);
  } else {
    // Refused before all has come: nothing that still comes may change it.
    assert(seen.verdict === "refused", `framed at ${size} of ${whole.size} bytes`);
    assert.deepEqual(seen, whole);
  }
}

export type SeenReply =
  | { verdict: "incomplete"; sizeNeeded: number }
  | { verdict: "refused" }
  | { verdict: "framed"; size: number; result: number; valueCount: number };

export function lookAtReply(
  dialect: Dialect,
  command: number,
  raw: Buffer,
  size = raw.length,
): SeenReply {
  const bytes = Buffer.concat([BEFORE, raw, BEHIND]);
  const from = BEFORE.length;
  const reply = new Reply();
  const frame = dialect === "text" ? frameTextReply : frameBinaryReply;
  const verdict = frame(reply, bytes, from, from + size, command);
  if (verdict === Verdict.incomplete) {
    return { verdict: "incomplete", sizeNeeded: reply.sizeNeeded };
  }
  if (verdict === Verdict.refused) return { verdict: "refused" };
  const { result, valueCount } = reply;
  return { verdict: "framed", size: reply.size, result, valueCount };
}

/** Every prefix of a whole reply is incomplete, and asks for more than it is and no more than all. */
export function lookAtEveryCutOfReply(dialect: Dialect, command: number, raw: Buffer): void {
  const stride = Math.max(1, Math.floor(raw.length / 200));
  for (let size = 0; size < raw.length; size += size > LONG_SIZE ? stride : 1) {
    const seen = lookAtReply(dialect, command, raw, size);
    assert(seen.verdict === "incomplete", `${seen.verdict} at ${size} of ${raw.length} bytes`);
    assert(seen.sizeNeeded > size, `asked for ${seen.sizeNeeded} bytes at ${size}`);
    assert(seen.sizeNeeded <= raw.length, `asked for ${seen.sizeNeeded} of ${raw.length} bytes`);
  }
}
/** Every byte up to here, then samples: the rest of a long value is all the same. */
const LONG_SIZE = 3_000;
