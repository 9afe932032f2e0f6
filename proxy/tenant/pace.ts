/**
 * Operations per second of one cache: its sessions take tokens for the commands they run, and while
 * there are none they are not read. Those that wait are woken in the order they came, each with
 * an equal grant of what is there, so a session that pipelines gets no more than one that asks
 * once. Other caches are not concerned: nobody waits for anything of theirs here.
 */
import { TokenBucket } from "./bucket.ts";

/** A session, as the pace of its cache sees it. */
export interface Paced {
  /** Operations it may still run of what it was woken for. */
  operationsGranted: number;
  /** It stands in the queue. */
  isPaced: boolean;
  /** Reads on. */
  proceed(): void;
}

export class Pace {
  readonly #bucket: TokenBucket;
  /** Asks for `wake` calls until it says that nobody waits. */
  readonly #waits: (pace: Pace) => void;
  #waiting: Paced[] = [];
  /** How often a session was made to wait. */
  delayedCount = 0;

  constructor(perSecond: number, nowMs: number, waits: (pace: Pace) => void) {
    this.#bucket = new TokenBucket(perSecond, nowMs);
    this.#waits = waits;
  }

  setRate(perSecond: number, nowMs: number): void {
    this.#bucket.setRate(perSecond, nowMs);
  }

  /** Whether `session` may run one more command; if not, it is woken when it may. */
  mayGo(session: Paced, nowMs: number): boolean {
    if (session.isPaced) return false;
    if (session.operationsGranted > 0) return true;
    if (this.#waiting.length === 0 && this.#bucket.available(nowMs) > 0) return true;
    if (this.#waiting.length === 0) this.#waits(this);
    this.#waiting.push(session);
    session.isPaced = true;
    this.delayedCount++;
    return false;
  }

  /** It ran so many operations; a multi-get is only counted when it is done, and may leave debt. */
  charge(session: Paced, count: number): void {
    this.#bucket.take(count);
    if (session.operationsGranted > 0) {
      session.operationsGranted = Math.max(0, session.operationsGranted - count);
    }
  }

  /** Lets those that wait have what has come in; false when nobody waits any more. */
  wake(nowMs: number): boolean {
    for (;;) {
      const tokenCount = this.#bucket.available(nowMs);
      const round = this.#waiting;
      if (tokenCount <= 0 || round.length === 0) break;
      this.#waiting = [];
      const grant = Math.ceil(tokenCount / round.length);
      for (let i = 0; i < round.length; i++) {
        if (this.#bucket.available(nowMs) <= 0) {
          // The rest keep their places, before those that have just had theirs.
          this.#waiting = [...round.slice(i), ...this.#waiting];
          break;
        }
        this.#let(round[i]!, grant);
      }
    }
    return this.#waiting.length > 0;
  }

  /** There is no limit any more. */
  open(): void {
    const all = this.#waiting;
    this.#waiting = [];
    for (const session of all) this.#let(session, 0);
  }

  #let(session: Paced, grant: number): void {
    session.isPaced = false;
    session.operationsGranted = grant;
    session.proceed();
    session.operationsGranted = 0;
  }
}
