/** One framed reply of a shard; filled again and again like `Request`. */
import { Result } from "./command.ts";
import { Verdict } from "./request.ts";

export class Reply {
  size = 0;
  sizeNeeded = 0;
  /** Index into `RESULTS`. */
  result: number = Result.ok;
  /** Text retrievals: how many values it holds. */
  valueCount = 0;
  // Binary only.
  status = 0;
  opcode = 0;
  opaque = 0;

  incomplete(sizeNeeded: number): Verdict {
    this.sizeNeeded = sizeNeeded;
    return Verdict.incomplete;
  }
}
