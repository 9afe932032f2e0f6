/** Logins over SASL PLAIN and over the first `set` of a text connection. */
import { Result } from "../../core/protocol/command.ts";
import { LOGIN_SIZE_MAX } from "../../core/protocol/limits.ts";
import { type Login, parseSaslPlain, parseTextLogin } from "../../core/protocol/login.ts";
import type { Request } from "../../core/protocol/request.ts";
import { answerBinary, answerProblem, answerText } from "./answers.ts";
import type { Session } from "./session.ts";

/** Wrong passwords on one connection before it is closed. */
export const FAILED_LOGIN_COUNT_MAX = 10;

const STORED = Buffer.from("STORED\r\n");
const AUTHENTICATED = Buffer.from("Authenticated");
const MECHANISM = "PLAIN";

/** SASL_AUTH, or a SASL_STEP that repeats the whole message: PLAIN has one step only. */
export function loginBinary(session: Session, request: Request, bytes: Buffer): void {
  const mechanism = bytes.toString("latin1", request.keyAt, request.keyAt + request.keySize);
  const message = bytes.subarray(request.valueAt, request.valueAt + request.valueSize);
  const login = mechanism === MECHANISM ? parseSaslPlain(message) : null;
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
