/**
 * The meta dialect (protocol.txt, "Meta commands"): `mg`, `ms`, `md`, `ma`, `me` as
 * `<cm> <key> [<data size>] <flag>*`, each flag one letter with an optional argument. Flags are
 * passed on as they came; only q (quiet) and b (base64 key) matter to whoever frames.
 */
import { Command, Result } from "./command.ts";
import { KEY_SIZE_MAX, META_TOKEN_COUNT_MAX, SKIP_SIZE_MAX } from "./limits.ts";
import { type Request, Verdict } from "./request.ts";
import { frameData, parseSize } from "./text.ts";

const FLAG_B = 0x62;
const FLAG_K = 0x6b;
const FLAG_N = 0x4e;
const FLAG_Q = 0x71;
const FLAG_T = 0x54;

export function frameMeta(request: Request, bytes: Uint8Array, from: number, to: number): Verdict {
  const { command, tokenAt, tokenEnd, tokenCount } = request;
  const stores = command === Command.ms;
  if (tokenCount < (stores ? 3 : 2)) {
    const problem = tokenCount < 2 && command !== Command.me ? "error" : "badFormat";
    return request.refuse(command, problem, request.size);
  }
  request.keyAt = tokenAt[1]!;
  request.keySize = tokenEnd[1]! - request.keyAt;
  const valueSize = stores ? parseSize(bytes, tokenAt[2]!, tokenEnd[2]!) : 0;
  if (valueSize < 0) return request.refuse(command, "badFormat", request.size);
  if (stores) {
    request.size += valueSize + 2;
    if (request.size > SKIP_SIZE_MAX) return request.refuse(command, "absurdSize", to - from);
  }
  if (tokenCount > META_TOKEN_COUNT_MAX) {
    const problem = command === Command.mg ? "flagsAreTooLong" : "flagsTooLong";
    return request.refuse(command, problem, request.size);
  }
  if (request.keySize > KEY_SIZE_MAX) return request.refuse(command, "badFormat", request.size);
  if (command === Command.me) request.keyIsEchoed = true;
  for (let i = stores ? 3 : 2; i < tokenCount; i++) {
    const at = tokenAt[i]!;
    switch (bytes[at]) {
      case FLAG_B:
        // me takes it at once behind the key and nowhere else.
        if (command !== Command.me || (i === 2 && tokenEnd[i] === at + 1))
          request.keyIsBase64 = true;
        break;
      case FLAG_K:
        request.keyIsEchoed = true;
        break;
      case FLAG_N:
      case FLAG_T:
        if (command === Command.mg) request.command = Command.mg_touch;
        break;
      case FLAG_Q:
        // me knows no q. Of two, the shard would obey the one that is not left out.
        if (command === Command.me) break;
        if (request.quiet) return refuseTwice(request, command);
        request.quiet = true;
        request.quietAt = at - 1;
        request.quietSize = tokenEnd[i]! - at + 1;
        break;
    }
  }
  return stores ? frameData(request, bytes, from, to, valueSize) : Verdict.framed;
}

function refuseTwice(request: Request, command: number): Verdict {
  const isTold = command === Command.md || command === Command.ma;
  request.quiet = false;
  const problem = isTold ? "invalidOrDuplicateFlag" : "duplicateFlag";
  return request.refuse(command, problem, request.size);
}

/**
 * Whether a quiet meta command keeps this result to itself: a miss of mg; success of the others
 * (measured on memcached 1.6.18: NF, NS, EX and errors are always told).
 */
export function isQuietMetaResult(command: number, result: number): boolean {
  if (command === Command.mg || command === Command.mg_touch) return result === Result.miss;
  return result === Result.ok || result === Result.hit;
}
