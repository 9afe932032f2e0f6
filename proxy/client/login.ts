/** Logins over SASL PLAIN and over the first `set` of a text connection. */
import { Opcode } from "../../core/protocol/binary.ts";
import { Result } from "../../core/protocol/command.ts";
import { LOGIN_SIZE_MAX } from "../../core/protocol/limits.ts";
import { type Login, parseSaslPlain, parseTextLogin } from "../../core/protocol/login.ts";
import { Status } from "../../core/protocol/problem.ts";
import type { Request } from "../../core/protocol/request.ts";
import { answerBinary, answerProblem, answerText } from "./answers.ts";
import type { Session } from "./session.ts";

/** Wrong passwords on one connection before it is closed. */
export const FAILED_LOGIN_COUNT_MAX = 10;

const STORED = Buffer.from("STORED\r\n");
const AUTHENTICATED = Buffer.from("Authenticated");
const MECHANISM = "PLAIN";
const EMPTY = Buffer.alloc(0);

/**
 * SASL_AUTH with the whole message, as all clients send it; or without one, and the message follows
 * in a SASL_STEP (RFC 4422, section 3.3: the server asks with an empty challenge).
 */
export function loginBinary(session: Session, request: Request, bytes: Buffer): void {
  const mechanism = bytes.toString("latin1", request.keyAt, request.keyAt + request.keySize);
  const isStep = request.opcode === Opcode.saslStep;
  const isAsked = session.awaitsSaslMessage === isStep && mechanism === MECHANISM;
  session.awaitsSaslMessage = !isStep && isAsked && request.valueSize === 0;
  if (session.awaitsSaslMessage) return answerBinary(session, request, EMPTY, Status.authContinue);
  const message = bytes.subarray(request.valueAt, request.valueAt + request.valueSize);
  const login = isAsked ? parseSaslPlain(message) : null;
  if (attempt(session, login)) answerBinary(session, request, AUTHENTICATED);
  else fail(session, request);
}

export function loginText(session: Session, request: Request, bytes: Buffer): void {
  const { keyAt, keySize, valueAt, valueSize } = request;
  const login =
    valueSize > LOGIN_SIZE_MAX
      ? null
      : parseTextLogin(
          bytes.subarray(keyAt, keyAt + keySize),
          bytes.subarray(valueAt, valueAt + valueSize),
        );
  if (attempt(session, login)) answerText(session, request, STORED);
  else fail(session, request);
}

function attempt(session: Session, login: Login | null): boolean {
  const { directory, counters } = session.services;
  if (login === null) {
    counters.countLogin("malformed");
    return false;
  }
  const known = directory.authenticate(login.username, login.password);
  counters.countLogin(known === null ? "wrong" : "ok");
  if (known === null) return false;
  session.admit(known.tenant, known);
  return true;
}

function fail(session: Session, request: Request): void {
  answerProblem(session, request, "loginFailed", Result.refused);
  session.loginFailed();
}
