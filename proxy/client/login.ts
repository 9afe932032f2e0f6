/**
 * Logins over SASL PLAIN and over the first `set` of a text connection. Each passes the same
 * stations, and may have to wait at three of them; the command stays unread meanwhile and is looked
 * at again when its session is woken, so whatever is behind it keeps its order:
 *
 *     its turn? -> password? -> expired, outside its networks? -> room for one more session?
 *     (admission)  (passwords)  refused like a wrong password     (entrance, limits)
 */
import { Opcode } from "../../core/protocol/binary.ts";
import { Result } from "../../core/protocol/command.ts";
import { LOGIN_SIZE_MAX } from "../../core/protocol/limits.ts";
import {
  type Login as Credentials,
  parseSaslPlain,
  parseTextLogin,
} from "../../core/protocol/login.ts";
import { type Problem, Status } from "../../core/protocol/problem.ts";
import type { Request } from "../../core/protocol/request.ts";
import type { Entrant } from "../tenant/entrance.ts";
import type { Check } from "../tenant/passwords.ts";
import type { Login, Tenant } from "../tenant/tenant.ts";
import type { Applicant } from "./admission.ts";
import { answerBinary, answerProblem, answerText } from "./answers.ts";
import type { LoginOutcome } from "./services.ts";
import type { Session } from "./session.ts";

/** Refused logins on one connection before it is closed. */
export const FAILED_LOGIN_COUNT_MAX = 10;

const STORED = Buffer.from("STORED\r\n");
const AUTHENTICATED = Buffer.from("Authenticated");
const MECHANISM = "PLAIN";
const EMPTY = Buffer.alloc(0);

/** What a client hears. A stranger learns nothing; who has the password learns what is full. */
const PROBLEM_OF = {
  wrong: "loginFailed",
  malformed: "loginFailed",
  disabled: "loginFailed",
  expired: "loginFailed",
  outside_network: "loginFailed",
  too_many_checks: "tooManyLogins",
  too_many_sessions: "tooManySessions",
  too_many_new_sessions: "tooManyNewSessions",
} as const satisfies Record<Exclude<LoginOutcome, "ok">, Problem>;

/** A login on its way in: where it has got to, should it have to wait. */
export class LoginAttempt implements Entrant, Applicant {
  readonly #session: Session;
  isWaiting = false;
  hasTurn = false;
  /** The long check of its password is done, or going on. */
  isChecked = false;
  check: Check | null = null;
  turn: "granted" | "late" | null = null;
  waitsSinceMs = 0;

  constructor(session: Session) {
    this.#session = session;
  }

  get isGone(): boolean {
    return this.#session.attempt !== this;
  }

  proceed(): void {
    this.isWaiting = false;
    this.#session.proceed();
  }

  /** The session has gone. */
  abandon(): void {
    this.check?.leave();
  }
}

/**
 * SASL_AUTH with the whole message, as all clients send it; or without one, and the message follows
 * in a SASL_STEP (RFC 4422, section 3.3: the server asks with an empty challenge). False: it waits.
 */
export function loginBinary(session: Session, request: Request, bytes: Buffer): boolean {
  const mechanism = bytes.toString("latin1", request.keyAt, request.keyAt + request.keySize);
  const isStep = request.opcode === Opcode.saslStep;
  const isAsked = session.awaitsSaslMessage === isStep && mechanism === MECHANISM;
  if (isAsked && !isStep && request.valueSize === 0) {
    session.awaitsSaslMessage = true;
    answerBinary(session, request, EMPTY, Status.authContinue);
    return true;
  }
  const message = bytes.subarray(request.valueAt, request.valueAt + request.valueSize);
  const outcome = attempt(session, isAsked ? parseSaslPlain(message) : null);
  if (outcome === "waiting") return false;
  session.awaitsSaslMessage = false;
  if (outcome === "ok") answerBinary(session, request, AUTHENTICATED);
  else refuse(session, request, outcome);
  return true;
}

/** False: it waits. */
export function loginText(session: Session, request: Request, bytes: Buffer): boolean {
  const { keyAt, keySize, valueAt, valueSize } = request;
  const credentials =
    valueSize > LOGIN_SIZE_MAX
      ? null
      : parseTextLogin(
          bytes.subarray(keyAt, keyAt + keySize),
          bytes.subarray(valueAt, valueAt + valueSize),
        );
  const outcome = attempt(session, credentials);
  if (outcome === "waiting") return false;
  if (outcome === "ok") answerText(session, request, STORED);
  else refuse(session, request, outcome);
  return true;
}

function refuse(session: Session, request: Request, outcome: Exclude<LoginOutcome, "ok">): void {
  answerProblem(session, request, PROBLEM_OF[outcome], Result.refused);
  session.loginFailed();
}

function attempt(session: Session, credentials: Credentials | null): LoginOutcome | "waiting" {
  const { counters, directory } = session.services;
  const login = credentials === null ? undefined : directory.login(credentials.username);
  const outcome =
    credentials === null ? "malformed" : attemptAs(session, login, credentials.password);
  if (outcome === "waiting") return "waiting";
  session.attempt = null;
  counters.countLogin(outcome);
  if (login !== undefined) {
    login.tenant.counters.authCommands++;
    if (outcome !== "ok") login.tenant.counters.authErrors++;
  }
  if (outcome === "ok") session.admit(login!.tenant, login!);
  return outcome;
}

function attemptAs(
  session: Session,
  login: Login | undefined,
  password: Uint8Array,
): LoginOutcome | "waiting" {
  const { admission, passwords, directory } = session.services;
  session.attempt ??= new LoginAttempt(session);
  const attempted = session.attempt;
  if (attempted.isWaiting) return "waiting";
  if (!attempted.hasTurn) {
    attempted.hasTurn = admission.takeTurn(attempted, login?.tenant ?? null);
    if (!attempted.hasTurn) return waits(attempted);
  }
  const isRight = passwords.isRight(login, password);
  const refusal = isRight ? directory.refusalOf(login!, () => session.address) : "wrong";
  if (refusal === null) return findRoom(session, login!.tenant, attempted);
  if (attempted.isChecked || !directory.hasScryptLogins) return refusal;
  attempted.isChecked = true;
  attempted.check = passwords.check(
    // A right password that is refused all the same takes the time of a wrong one.
    isRight ? undefined : login,
    password,
    session.address,
    () => attempted.proceed(),
  );
  return attempted.check === null ? "too_many_checks" : waits(attempted);
}

function findRoom(
  session: Session,
  tenant: Tenant,
  attempted: LoginAttempt,
): LoginOutcome | "waiting" {
  if (session.tenant === tenant) return "ok"; // Logged in again: it has its room.
  const { limits, counters } = tenant;
  if (counters.sessions >= limits.sessionsMax) {
    limits.countRefused("sessions");
    return "too_many_sessions";
  }
  const answer = limits.entrance?.ask(attempted, session.services.loop.nowMs) ?? "enter";
  if (answer === "enter") return "ok";
  if (answer === "wait") return waits(attempted);
  limits.countRefused("new_sessions");
  return "too_many_new_sessions";
}

function waits(attempted: LoginAttempt): "waiting" {
  attempted.isWaiting = true;
  return "waiting";
}
