/**
 * The meta dialect (protocol.txt, "Meta commands"): `mg`, `ms`, `md`, `ma`, `me` as
 * `<cm> <key> [<data size>] <flag>*`, each flag one letter with an optional argument. Flags are
 * passed on as they came; only q (quiet) and b (base64 key) matter to whoever frames.
 */
import { Command, Result } from "./command.ts";
import { KEY_SIZE_MAX, SKIP_SIZE_MAX } from "./limits.ts";
import { type Request, TOKEN_COUNT_MAX, Verdict } from "./request.ts";
import { frameData, parseSize } from "./text.ts";

const FLAG_Q = 0x71;
const FLAG_B = 0x62;

export function frameMeta(request: Request, bytes: Uint8Array, from: number, to: number): Verdict {
  const { command, tokenAt, tokenEnd, tokenCount } = request;
  const stores = command === Command.ms;
  if (tokenCount < (stores ? 3 : 2)) {
    const problem = tokenCount < 2 ? "error" : "badFormat";
    return request.refuse(command, problem, request.size);
  }
  request.keyAt = tokenAt[1]!;
  request.keySize = tokenEnd[1]! - request.keyAt;
  if (tokenCount === TOKEN_COUNT_MAX) return request.refuse(command, "badFormat", request.size);
  const valueSize = stores ? parseSize(bytes, tokenAt[2]!, tokenEnd[2]!) : 0;
  if (valueSize < 0) return request.refuse(command, "badFormat", request.size);
  if (stores) {
    request.size += valueSize + 2;
    if (request.size > SKIP_SIZE_MAX) return request.refuse(command, "absurdSize", to - from);
  }
  if (request.keySize > KEY_SIZE_MAX) return request.refuse(command, "badFormat", request.size);
  for (let i = stores ? 3 : 2; i < tokenCount; i++) {
    const size = tokenEnd[i]! - tokenAt[i]!;
    const flag = bytes[tokenAt[i]!];
    if (flag === FLAG_B) request.keyIsBase64 = true;
    else if (flag === FLAG_Q && command !== Command.me) {
      request.quiet = true;
      request.quietAt = tokenAt[i]! - 1;
      request.quietSize = size + 1;
    }
  }
  return stores ? frameData(request, bytes, from, to, valueSize) : Verdict.framed;
}

/**
 * Whether a quiet meta command keeps this result to itself: a miss of mg; success of the others
 * (measured on memcached 1.6.18: NF, NS, EX and errors are always told).
 */
export function isQuietMetaResult(command: number, result: number): boolean {
  if (command === Command.mg) return result === Result.miss;
  return result === Result.ok || result === Result.hit;
}
