/**
 * What must hold for the framers whatever bytes they are given: they never throw, they never look
 * behind the bytes at hand, an incomplete message asks for more than there is and for no more than
 * it turns out to need, and the same bytes mean the same commands however they were cut.
 */
import { frameBinary, frameBinaryReply } from "../../core/protocol/binary.ts";
import { COMMAND_COUNT, COMMANDS } from "../../core/protocol/command.ts";
import { KEY_SIZE_MAX, SKIP_SIZE_MAX, VALUE_SIZE_MAX } from "../../core/protocol/limits.ts";
import { PROBLEMS } from "../../core/protocol/problem.ts";
import { Reply } from "../../core/protocol/reply.ts";
import { Request, Verdict } from "../../core/protocol/request.ts";
import { frameText } from "../../core/protocol/text.ts";
import { frameTextReply } from "../../core/protocol/textReply.ts";
import type { Chance } from "./chance.ts";
import type { StreamDialect } from "./stream.ts";

export type Framers = {
  text: typeof frameText;
  binary: typeof frameBinary;
  textReply: typeof frameTextReply;
  binaryReply: typeof frameBinaryReply;
};

export const FRAMERS: Framers = {
  text: frameText,
  binary: frameBinary,
  textReply: frameTextReply,
  binaryReply: frameBinaryReply,
};

/** A framer broke its promise. */
export class Broken extends Error {}

function hold(isTrue: boolean, promise: string): void {
  if (!isTrue) throw new Broken(promise);
}

/** Where the bytes stand: not at 0, and with line ends behind them for whoever reads too far. */
const PADDING_SIZE = 7;
function padded(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.alloc(PADDING_SIZE, "\n"), bytes, Buffer.alloc(64, "\n")]);
}

/** One line for each command, as a session would meet them when chunks end at `ends`. */
export function commandsIn(
  framers: Framers,
  dialect: StreamDialect,
  bytes: Buffer,
  ends: readonly number[],
): string[] {
  const frame = dialect === "text" ? framers.text : framers.binary;
  const whole = padded(bytes);
  const request = new Request();
  const commands: string[] = [];
  let at = PADDING_SIZE;
  let sizeNeededMax = 0;
  for (const end of [...ends, bytes.length]) {
    const to = PADDING_SIZE + end;
    while (at < to) {
      const verdict = frame(request, whole, at, to);
      if (verdict === Verdict.incomplete) {
        hold(request.sizeNeeded > to - at, `asks for ${request.sizeNeeded} of ${to - at} bytes`);
        hold(request.sizeNeeded <= SKIP_SIZE_MAX, `asks for ${request.sizeNeeded} bytes`);
        sizeNeededMax = Math.max(sizeNeededMax, request.sizeNeeded);
        break;
      }
      if (verdict === Verdict.refused && PROBLEMS[request.problem].closes) {
        return [...commands, `closed: ${request.problem}`];
      }
      hold(request.size >= sizeNeededMax, `needed ${sizeNeededMax} bytes, took ${request.size}`);
      sizeNeededMax = 0;
      commands.push(described(request, verdict, whole, { at, to, dialect }));
      at += request.size;
    }
  }
  return commands;
}

function described(
  request: Request,
  verdict: Verdict,
  bytes: Buffer,
  { at, to, dialect }: { at: number; to: number; dialect: StreamDialect },
): string {
  const { command, problem, size, keyAt, keySize, valueAt, valueSize } = request;
  const name = COMMANDS[command]?.name ?? "no such command";
  hold(size > 0 && size <= SKIP_SIZE_MAX + HEAD_SIZE_MAX, `size ${size}`);
  if (verdict === Verdict.refused) return `refused ${name} ${problem} ${size}`;
  hold(verdict === Verdict.framed, `verdict ${verdict}`);
  hold(size <= to - at, `frames ${size} of ${to - at} bytes`);
  const parts = [`${name} ${size}${request.quiet ? " quiet" : ""}`];
  const { target } = COMMANDS[command] ?? { target: "local" };
  if (target === "key" || target === "keys") {
    hold(keyAt >= at && keyAt + keySize <= at + size, "key outside of its command");
    hold(keySize <= KEY_SIZE_MAX, `key of ${keySize} bytes`);
    parts.push(`key ${bytes.toString("latin1", keyAt, keyAt + keySize)}`);
  }
  if (valueSize > 0 && target === "key") {
    hold(valueAt >= at && valueAt + valueSize <= at + size, "value outside of its command");
    hold(valueSize <= VALUE_SIZE_MAX, `value of ${valueSize} bytes`);
    parts.push(`value ${valueAt - at}+${valueSize}`);
  }
  if (dialect === "text" && request.quiet) {
    const { quietAt, quietSize } = request;
    hold(quietAt >= at && quietAt + quietSize <= at + size, "quiet word outside of its command");
    parts.push(bytes.toString("latin1", quietAt, quietAt + quietSize));
  }
  return parts.join(" ");
}

/** A line, or a header with key and extras, before the largest body. */
const HEAD_SIZE_MAX = 2 * 1024 * 1024;

/** Frames `bytes` whole and cut; throws `Broken` when the two are not the same commands. */
export function checkRequests(
  framers: Framers,
  dialect: StreamDialect,
  bytes: Buffer,
  chance: Chance,
): void {
  const whole = commandsIn(framers, dialect, bytes, []);
  const isShort = bytes.length <= BYTE_BY_BYTE_SIZE_MAX;
  const cuts = isShort ? [...bytes.keys()].slice(1) : chance.cuts(bytes.length, 30);
  const cut = commandsIn(framers, dialect, bytes, cuts);
  const size = Math.max(whole.length, cut.length);
  for (let index = 0; index < size; index++) {
    hold(whole[index] === cut[index], `whole: ${whole[index]}\n  cut: ${cut[index]}`);
  }
}

const BYTE_BY_BYTE_SIZE_MAX = 1_500;

/** Whatever a prefix of `bytes` is taken for, the whole must be taken for the same. */
export function checkReply(
  framers: Framers,
  dialect: StreamDialect,
  bytes: Buffer,
  chance: Chance,
): void {
  const whole = padded(bytes);
  const commands = Array.from({ length: COMMAND_COUNT }, (_, command) => command);
  // Most commands refuse a reply that is to another one, and there is little to look at.
  const fitting = commands.filter((command) => {
    return replyOf(framers, dialect, whole, bytes.length, command) !== "refused";
  });
  const command = chance.pick(fitting.length === 0 || chance.oneIn(4) ? commands : fitting);
  const isShort = bytes.length <= BYTE_BY_BYTE_SIZE_MAX;
  const prefixes = isShort ? bytes.keys() : chance.cuts(bytes.length, 30);
  const expected = replyOf(framers, dialect, whole, bytes.length, command);
  for (const size of prefixes) {
    const seen = replyOf(framers, dialect, whole, size, command);
    if (seen === "incomplete") continue;
    hold(seen === expected, `of ${size} bytes: ${seen}\n  of ${bytes.length}: ${expected}`);
  }
}

function replyOf(
  framers: Framers,
  dialect: StreamDialect,
  bytes: Buffer,
  size: number,
  command: number,
): string {
  const frame = dialect === "text" ? framers.textReply : framers.binaryReply;
  const reply = new Reply();
  const verdict = frame(reply, bytes, PADDING_SIZE, PADDING_SIZE + size, command);
  if (verdict === Verdict.incomplete) {
    hold(reply.sizeNeeded > size, `asks for ${reply.sizeNeeded} of ${size} bytes`);
    return "incomplete";
  }
  if (verdict === Verdict.refused) return "refused";
  hold(reply.size > 0 && reply.size <= size, `frames ${reply.size} of ${size} bytes`);
  return `${reply.size} result ${reply.result} values ${reply.valueCount}`;
}
