/**
 * Logins in turn: hashing passwords for a storm of them would keep the event loop from everybody
 * else, so a turn of the loop handles a few, and the caches whose logins wait take turns. Logins
 * with usernames that nobody has wait in a queue of their own.
 */
import type { Tenant } from "../tenant/tenant.ts";

/** A login costs some 20 us of this thread: all of a turn's together are not felt. */
export const LOGINS_PER_TURN_MAX = 4;

export interface Applicant {
  /** Its session is gone. */
  readonly isGone: boolean;
  hasTurn: boolean;
  proceed(): void;
}

export class Admission {
  /** Who waits, by cache, and the caches in the order of their turns. */
  readonly #waiting: Map<Tenant | null, Applicant[]> = new Map();
  readonly #order: (Tenant | null)[] = [];
  #handledCount = 0;
  #isScheduled = false;
  readonly #nextTurn = (): void => this.#serve();

  /** Whether it may be handled now; if not, it is told to proceed when it may. */
  takeTurn(applicant: Applicant, tenant: Tenant | null): boolean {
    this.#schedule();
    if (this.#order.length === 0 && this.#handledCount < LOGINS_PER_TURN_MAX) {
      this.#handledCount++;
      return true;
    }
    const queue = this.#waiting.get(tenant);
    if (queue !== undefined) {
      queue.push(applicant);
    } else {
      this.#waiting.set(tenant, [applicant]);
      this.#order.push(tenant);
    }
    return false;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#nextTurn);
  }

  #serve(): void {
    this.#isScheduled = false;
    this.#handledCount = 0;
    while (this.#order.length > 0 && this.#handledCount < LOGINS_PER_TURN_MAX) {
      const tenant = this.#order.shift() ?? null;
      const queue = this.#waiting.get(tenant)!;
      const applicant = nextPresent(queue);
      if (queue.length > 0) this.#order.push(tenant);
      else this.#waiting.delete(tenant);
      if (applicant === undefined) continue;
      this.#handledCount++;
      applicant.hasTurn = true;
      applicant.proceed();
    }
    if (this.#order.length > 0) this.#schedule();
  }
}

function nextPresent(queue: Applicant[]): Applicant | undefined {
  let next = queue.shift();
  while (next?.isGone) next = queue.shift();
  return next;
}
