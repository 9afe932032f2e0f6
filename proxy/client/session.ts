/**
 * One client connection: what it speaks, who it is, and the loop that takes its commands one
 * after another. Each command passes the same stations:
 *
 *     framed -> logged in? -> allowed? -> room to go on? -> executed (execute.ts)
 *
 * Nothing is read from a client while its replies pile up: more commands in flight than its queue
 * allows, more unsent output than the high-water mark, a full slot table, a shard connection that
 * takes no more, or no operations left that its cache may run now. Whoever was full wakes the
 * session again. A login that has to wait stays unread in the same way.
 */
import assert from "node:assert/strict";
import type { Connection } from "../../core/io/connection.ts";
import type { Receiver } from "../../core/io/wire.ts";
import { frameBinary } from "../../core/protocol/binary.ts";
import { COMMANDS, Command, Result } from "../../core/protocol/command.ts";
import { detectDialect } from "../../core/protocol/detect.ts";
import { LOGIN_SIZE_MAX } from "../../core/protocol/limits.ts";
import { PROBLEMS, type Problem } from "../../core/protocol/problem.ts";
import { Request, Verdict } from "../../core/protocol/request.ts";
import { frameText } from "../../core/protocol/text.ts";
import { NOWHERE, type Place } from "../../core/runtime/roster.ts";
import { textError } from "../routing/failure.ts";
import { GATHER_KEY_COUNT_MAX } from "../routing/gather.ts";
import type { LinkWaiter } from "../routing/link.ts";
import { type QueueOwner, ReplyQueue } from "../routing/replies.ts";
import type { ChangeSender } from "../routing/trackedChange.ts";
import type { CacheLimits } from "../tenant/limits.ts";
import type { Paced } from "../tenant/pace.ts";
import { ALL_RIGHTS, mayRun, refusalOf } from "../tenant/rights.ts";
import type { Login, Member, RevokeReason, Tenant } from "../tenant/tenant.ts";
import { answerProblem } from "./answers.ts";
import { dropOldValue, execute, WAIT } from "./execute.ts";
import type { Flushing } from "./external.ts";
import { FAILED_LOGIN_COUNT_MAX, type LoginAttempt } from "./login.ts";
import type { Retrieval } from "./retrieval.ts";
import { continueRetrieval } from "./retrieval.ts";
import type { CloseReason, Services } from "./services.ts";
import { type TurnTaker, UNBOUNDED } from "./turns.ts";

export type SessionState = "detecting" | "authenticating" | "serving" | "draining" | "closed";

const NEXT_STATES: Record<SessionState, readonly SessionState[]> = {
  detecting: ["authenticating", "serving", "draining", "closed"],
  authenticating: ["serving", "draining", "closed"],
  serving: ["serving", "draining", "closed"],
  draining: ["closed"],
  closed: [],
};

/** Slots that one step of the loop may open: a portion of a multi-get, and its end. */
const STEP_SLOT_COUNT = GATHER_KEY_COUNT_MAX + 2;

const EMPTY = Buffer.alloc(0);
const BLANK = 0x20;
/** How long a session that has to end waits for a client that does not read its replies. */
const DRAIN_WAIT_MS = 2000;

/** All sessions are framed one command at a time, so one object serves all of them. */
const request = new Request();

export class Session
  implements Receiver, QueueOwner, LinkWaiter, ChangeSender, Member, Paced, TurnTaker
{
  readonly services: Services;
  readonly connection: Connection;
  readonly queue: ReplyQueue;
  readonly openedAtMs: number;
  tenant: Tenant | null = null;
  login: Login | null = null;
  rights = 0;
  /** Put before every key, and taken off every key that is answered. */
  keyPrefix: Buffer | null = null;
  isBinary = false;
  failedLoginCount = 0;
  /** A login that is on its way in. */
  attempt: LoginAttempt | null = null;
  operationsGranted = 0;
  isPaced = false;
  isBehind = false;
  /** SASL_AUTH came without its message: SASL_STEP has to bring it. */
  awaitsSaslMessage = false;
  /** Changes that are still to be sent to the shard that decides. */
  unsentChangeCount = 0;
  /** To be told when there are none. */
  waitsForChange = false;
  /** A flush of its cache on servers of others, for which it waits. */
  flushing: Flushing | null = null;
  /** A retrieval line of which some keys are still to be asked for. */
  retrieval: Retrieval | null = null;
  #state: SessionState = "detecting";
  /** Announced bytes of a refused command that are still to be dropped. */
  #skipSize = 0;
  #scannedSize = 0;
  /** What it had read when its use was noted last. */
  notedReadSize = -1;
  #address: string | null = null;
  /** Where it stands in the rosters of the worker, of its tenant and of its login. */
  #place: Place;
  #placeInTenant: Place = NOWHERE;
  #placeInLogin: Place = NOWHERE;
  #isServing = false;
  /** Commands it may still run before others have their turn. */
  #granted = UNBOUNDED;
  #closeReason: CloseReason = "client_closed";
  /** Why to drain when the input that was read is used up. */
  #drainReason: CloseReason | null = null;

  constructor(services: Services, connect: (session: Session) => Connection) {
    this.services = services;
    this.connection = connect(this);
    this.queue = new ReplyQueue(services.slots, services.stash, this.connection, this);
    this.openedAtMs = services.loop.nowMs;
    services.counters.accepted++;
    this.#place = services.anonymous.add(this);
  }

  get state(): SessionState {
    return this.#state;
  }

  get address(): string {
    this.#address ??= this.connection.remoteAddress;
    return this.#address;
  }

  // ---- input ------------------------------------------------------------------------------

  received(bytes: Buffer, from: number, to: number): number {
    const { tenant } = this;
    const { turns } = this.services;
    const granted = tenant === null ? turns.strangerCame() : turns.grant(this, tenant);
    this.#granted = granted;
    const at = this.#process(bytes, from, to);
    if (granted !== UNBOUNDED) turns.spend(tenant!, granted - this.#granted);
    if (this.#drainReason !== null && !this.connection.paused) this.drain(this.#drainReason);
    return at;
  }

  #process(bytes: Buffer, from: number, to: number): number {
    if (this.#state === "detecting" && !this.#detect(bytes[from]!)) return to;
    let at = from;
    while (at < to) {
      if (this.#state === "draining" || this.#state === "closed") return to;
      if (this.#skipSize > 0) {
        const size = Math.min(this.#skipSize, to - at);
        this.#skipSize -= size;
        at += size;
        continue;
      }
      if (this.#granted-- <= 0) return this.#waitForTurn(at);
      if (this.#mustWait()) return this.#wait(at);
      if (this.retrieval !== null) {
        const size = continueRetrieval(this, this.retrieval, bytes, at);
        if (size === WAIT) return this.#wait(at);
        this.tenant?.commandLimits?.pace?.charge(this, wordCount(bytes, at, at + size));
        at += size;
        continue;
      }
      request.scannedSize = this.#scannedSize;
      const verdict = this.isBinary
        ? frameBinary(request, bytes, at, to)
        : frameText(request, bytes, at, to);
      this.#scannedSize = request.scannedSize;
      if (verdict === Verdict.incomplete) {
        if (this.tenant === null && this.#isTooLargeForStranger(to - at)) continue;
        this.connection.sizeNeeded = request.sizeNeeded;
        return at;
      }
      if (verdict === Verdict.refused) {
        this.#refuse(bytes, request.problem);
        this.#skipSize = request.size;
        continue;
      }
      if (!this.#isAllowed()) {
        at += request.size;
        continue;
      }
      const limits = this.tenant === null ? null : this.tenant.commandLimits;
      if (limits !== null && request.valueSize > limits.valueSizeMax) {
        limits.countRefused("value_size");
        this.#refuse(bytes, "tooLarge");
        at += request.size;
        continue;
      }
      const size = execute(this, request, bytes, at);
      if (size === WAIT) return this.#wait(at);
      if (limits !== null) this.#charge(limits, bytes, at, size);
      at += size;
    }
    return at;
  }

  /** Takes the operations of the command that was just run from what its cache may do. */
  #charge(limits: CacheLimits, bytes: Buffer, at: number, size: number): void {
    const { target } = COMMANDS[request.command]!;
    if (limits.pace === null || target === "local") return;
    const isLine = target === "keys" && !this.isBinary;
    const count = isLine ? keyCountOf(request.command, bytes, at, at + size) : 1;
    limits.pace.charge(this, count);
  }

  /** A stranger may not make us keep more than a login. Its announced bytes are skipped. */
  #isTooLargeForStranger(size: number): boolean {
    if (Math.max(request.sizeNeeded, size) <= LOGIN_SIZE_MAX * 2) return false;
    if (this.#scannedSize > 0) {
      // A line without an end: nobody can say how much to skip.
      this.#refuse(EMPTY, "lineTooLong");
    } else {
      this.#answerStranger();
      this.#skipSize = request.sizeNeeded;
    }
    return true;
  }

  #isAllowed(): boolean {
    const { command } = request;
    if (this.tenant === null) {
      const isOpen =
        command === Command.login ||
        command === Command.mechanisms ||
        command === Command.version ||
        command === Command.quit ||
        (command === Command.set && !this.isBinary);
      if (!isOpen) this.#answerStranger();
      return isOpen;
    }
    if (mayRun(this.rights, command)) return true;
    answerProblem(this, request, refusalOf(this.rights, command), Result.refused);
    return false;
  }

  #answerStranger(): void {
    this.services.counters.unauthenticated++;
    answerProblem(this, request, "unauthenticated", Result.refused);
  }

  #refuse(bytes: Buffer, problem: Problem): void {
    const isStranger = this.tenant === null;
    if (isStranger && !PROBLEMS[problem].closes && request.command !== Command.invalid) {
      if (request.command !== Command.login) return this.#answerStranger();
    }
    if (problem === "tooLarge" && !isStranger && mayRun(this.rights, request.command)) {
      dropOldValue(this, request, bytes);
    }
    answerProblem(
      this,
      request,
      problem,
      PROBLEMS[problem].status >= 0x80 ? Result.serverError : Result.clientError,
    );
    if (PROBLEMS[problem].closes) this.drain("protocol_error");
  }

  #detect(firstByte: number): boolean {
    const detected = detectDialect(firstByte);
    this.isBinary = detected === "binary";
    this.queue.dialect = this.isBinary ? "binary" : "text";
    this.#transition(this.tenant === null ? "authenticating" : "serving");
    if (detected !== "tls") return true;
    answerProblem(this, request, "tlsUnavailable", Result.clientError);
    this.drain("protocol_error");
    return false;
  }

  // ---- waiting ----------------------------------------------------------------------------

  #mustWait(): boolean {
    if (this.connection.isFull) return true;
    if (this.queue.isFull) {
      this.queue.isHeldBack = true;
      return true;
    }
    if (!this.services.slots.hasRoom(STEP_SLOT_COUNT)) {
      this.services.retryLater(this);
      return true;
    }
    const limits = this.tenant === null ? null : this.tenant.commandLimits;
    return limits !== null && limits.pace?.mayGo(this, this.services.loop.nowMs) === false;
  }

  #wait(at: number): number {
    this.connection.pause();
    return at;
  }

  /** Other caches come first; a stranger's commands are not looked at in turns. */
  #waitForTurn(at: number): number {
    if (this.tenant !== null) this.services.turns.wait(this, this.tenant);
    return this.#wait(at);
  }

  /** Whoever made us wait has room again. */
  proceed(): void {
    this.queue.isHeldBack = false;
    this.connection.resume();
  }

  mayProceed(): void {
    // Called in the middle of a shard's replies: go on when they are done.
    this.queue.isHeldBack = false;
    setImmediate(() => this.proceed());
  }

  drained(): void {
    this.proceed();
  }

  linkDrained(): void {
    this.proceed();
  }

  changeSent(): void {
    this.unsentChangeCount--;
    if (this.unsentChangeCount > 0 || !this.waitsForChange) return;
    this.waitsForChange = false;
    // Called in the middle of a shard's replies: go on when they are done.
    setImmediate(() => this.proceed());
  }

  // ---- login ------------------------------------------------------------------------------

  /** The session works on `tenant` from now on. */
  admit(tenant: Tenant, login: Login | null): void {
    this.#leaveTenant();
    this.tenant = tenant;
    this.login = login;
    this.rights = login?.rights ?? ALL_RIGHTS;
    this.keyPrefix = tenant.prefixFor(login);
    this.queue.counters = tenant.counters;
    this.queue.policies = tenant.policies;
    tenant.counters.sessions++;
    tenant.counters.sessionsTotal++;
    this.#placeInTenant = tenant.members.add(this);
    this.connection.joinGroup(tenant.group);
    this.#placeInLogin = login?.join(this) ?? NOWHERE;
    if (login !== null) this.services.loginsChanged.add(login);
    this.#leaveRoster();
    this.#place = this.services.serving.add(this);
    this.#isServing = true;
    if (this.#state !== "detecting") this.#transition("serving");
  }

  loginFailed(): void {
    this.failedLoginCount++;
    if (this.failedLoginCount < FAILED_LOGIN_COUNT_MAX) return;
    this.drain("too_many_failed_logins");
  }

  /** Nobody needs to log in where it came from, but the cache may have room for no more. */
  admitUnnamed(tenant: Tenant): void {
    const { counters, limits } = tenant;
    if (counters.sessions < limits.sessionsMax) return this.admit(tenant, null);
    limits.countRefused("sessions");
    const line = textError("tooManySessions");
    this.queue.tell(line, 0, line.length);
    this.drain("too_many_sessions");
  }

  revoked(reason: RevokeReason): void {
    this.drain(reason);
  }

  #leaveTenant(): void {
    const { tenant } = this;
    if (tenant === null) return;
    tenant.counters.sessions--;
    tenant.counters.bytesRead += this.connection.readSize;
    tenant.counters.bytesWritten += this.connection.writtenSize;
    this.connection.readSize = 0;
    this.connection.writtenSize = 0;
    tenant.members.remove(this.#placeInTenant);
    this.login?.leave(this.#placeInLogin);
    if (this.login !== null) this.services.loginsChanged.add(this.login);
    this.tenant = null;
  }

  // ---- the end ----------------------------------------------------------------------------

  /** Answers what was read, then closes. */
  drain(reason: CloseReason): void {
    if (this.#state === "draining" || this.#state === "closed") return;
    if (this.connection.paused && this.connection.keptSize > 0) {
      // Commands that were read wait for room: they come first, if the client reads at all.
      if (this.#drainReason === null) setTimeout(() => this.#stopWaiting(), DRAIN_WAIT_MS).unref();
      this.#drainReason = reason;
      return;
    }
    this.#closeReason = reason;
    this.#transition("draining");
    this.queue.whenEmpty(() => this.connection.end());
  }

  #stopWaiting(): void {
    if (this.#state === "draining" || this.#state === "closed") return;
    this.#closeReason = this.#drainReason ?? "drained";
    this.#transition("draining");
    this.connection.end();
  }

  ended(): void {
    this.drain("client_closed");
  }

  /** Closes now, answered or not. */
  destroy(reason: CloseReason): void {
    this.#closeReason = reason;
    this.connection.destroy();
  }

  closed(reason: string): void {
    if (this.#closeReason === "client_closed" && reason !== "closed") {
      this.#closeReason = "client_reset";
    }
    this.#transition("closed");
    this.queue.abandon();
    this.attempt?.abandon();
    this.attempt = null;
    this.#leaveTenant();
    this.#leaveRoster();
    this.services.counters.countClosed(this.#closeReason);
  }

  #leaveRoster(): void {
    const { anonymous, serving } = this.services;
    (this.#isServing ? serving : anonymous).remove(this.#place);
  }

  #transition(to: SessionState): void {
    assert(NEXT_STATES[this.#state].includes(to), `session: ${this.#state} -> ${to}`);
    this.#state = to;
  }
}

/** Keys in the part `[from, to)` of a retrieval line that begins with its verb. */
function keyCountOf(command: number, bytes: Buffer, from: number, to: number): number {
  const touches = command === Command.gat || command === Command.gats;
  return Math.max(1, wordCount(bytes, from, to) - (touches ? 2 : 1));
}

function wordCount(bytes: Buffer, from: number, to: number): number {
  let count = 0;
  for (let at = from; at < to; at++) {
    const isStart = bytes[at]! > BLANK && (at === from || bytes[at - 1]! <= BLANK);
    if (isStart) count++;
  }
  return count;
}
