/** Local replies: what the proxy answers itself, in the dialect of the session. */
import { HEADER_SIZE, writeBinaryReply } from "../../core/protocol/binary.ts";
import { COMMANDS, Result } from "../../core/protocol/command.ts";
import { type Problem, Status } from "../../core/protocol/problem.ts";
import type { Request } from "../../core/protocol/request.ts";
import { binaryError, textError } from "../routing/failure.ts";
import type { Session } from "./session.ts";

/** An error. Text noreply and meta quiet commands get theirs too, as from memcached. */
export function answerProblem(
  session: Session,
  request: Request,
  problem: Problem,
  result: number,
): void {
  const bytes = session.isBinary
    ? binaryError(problem, request.opcode, request.opaque)
    : textError(problem);
  const isUnheard =
    !session.isBinary && request.quiet && COMMANDS[request.command]!.shape !== "meta";
  session.queue.answer(request.command, result, bytes, 0, isUnheard ? 0 : bytes.length);
}

/** A line of the text dialect. */
export function answerText(session: Session, request: Request, line: Buffer): void {
  session.queue.answer(request.command, Result.ok, line, 0, request.quiet ? 0 : line.length);
}

/** A packet that is no error. A quiet command (QUITQ, FLUSHQ) gets none. */
export function answerBinary(
  session: Session,
  request: Request,
  value?: Uint8Array,
  status: number = Status.ok,
): void {
  const { opcode, opaque, command } = request;
  const packet = Buffer.allocUnsafe(HEADER_SIZE + (value?.length ?? 0));
  writeBinaryReply(packet, 0, { opcode, opaque, status, ...(value && { value }) });
  session.queue.answer(command, Result.ok, packet, 0, request.quiet ? 0 : packet.length);
}
