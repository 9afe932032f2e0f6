/**
 * New sessions per second of one cache. A login over the limit waits its turn, in the order they
 * came, for about a second; then it is told that there are too many. Asked only after the
 * password was right, so a stranger cannot use up what the owners of a cache may have.
 */
import { TokenBucket } from "./bucket.ts";

/** A login that may have to wait. */
export interface Entrant {
  /** Its session is gone: it needs no turn. */
  readonly isGone: boolean;
  /** What came of waiting; null while there was none, or it goes on. */
  turn: "granted" | "late" | null;
  waitsSinceMs: number;
  proceed(): void;
}

const WAIT_MS_MAX = 1_000;
export const ENTRANTS_WAITING_MAX = 1_024;

export class Entrance {
  readonly #bucket: TokenBucket;
  /** Asks for `wake` calls until it says that nobody waits. */
  readonly #waits: (entrance: Entrance) => void;
  #waiting: Entrant[] = [];
  delayedCount = 0;

  constructor(perSecond: number, nowMs: number, waits: (entrance: Entrance) => void) {
    this.#bucket = new TokenBucket(perSecond, nowMs);
    this.#waits = waits;
  }

  setRate(perSecond: number, nowMs: number): void {
    this.#bucket.setRate(perSecond, nowMs);
  }

  /** "wait": `proceed` will be called, then ask again. */
  ask(entrant: Entrant, nowMs: number): "enter" | "wait" | "refused" {
    if (entrant.turn === "granted") return "enter";
    if (entrant.turn === "late") return "refused";
    if (this.#waiting.length === 0 && this.#bucket.available(nowMs) > 0) {
      this.#bucket.take(1);
      return "enter";
    }
    if (this.#waiting.length >= ENTRANTS_WAITING_MAX) return "refused";
    if (this.#waiting.length === 0) this.#waits(this);
    entrant.waitsSinceMs = nowMs;
    this.#waiting.push(entrant);
    this.delayedCount++;
    return "wait";
  }

  /** Lets in whom it is the turn of, and turns away who waited too long; false: nobody waits. */
  wake(nowMs: number): boolean {
    let servedCount = 0;
    for (const entrant of this.#waiting) {
      const isLate = nowMs - entrant.waitsSinceMs > WAIT_MS_MAX;
      if (!entrant.isGone && !isLate) {
        if (this.#bucket.available(nowMs) <= 0) break;
        this.#bucket.take(1);
      }
      servedCount++;
      this.#let(entrant, isLate ? "late" : "granted");
    }
    this.#waiting.splice(0, servedCount);
    return this.#waiting.length > 0;
  }

  /** There is no limit any more. */
  open(): void {
    const all = this.#waiting;
    this.#waiting = [];
    for (const entrant of all) this.#let(entrant, "granted");
  }

  #let(entrant: Entrant, turn: "granted" | "late"): void {
    entrant.turn = turn;
    if (!entrant.isGone) entrant.proceed();
  }
}
