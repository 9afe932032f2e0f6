/**
 * Fairness between caches within a turn of the event loop. Everything that is read in a turn is
 * answered after it, so whoever brings a thousand commands makes all others wait for them. While
 * more than one cache is active, each may bring so much work to a turn; sessions that have more keep
 * it unread, and go on in the turns that follow, one after another. While a cache is alone, as
 * nearly always, there is no bound, and it costs a comparison for each read.
 *
 *     turn 1:  quiet: get    storm: 3 of 50 sessions     | flush
 *     turn 2:  (read)        storm: the next 3 of 50     | flush
 */
import type { Loop } from "../../core/io/loop.ts";
import type { Tenant } from "../tenant/tenant.ts";

/** Work of one turn, in commands: of all caches that are behind, and of each at least. */
const TURN_WORK_MAX = 32;
const CACHE_WORK_MIN = 16;
/** What reading a session and writing to it costs, in commands. */
const READ_WORK = 8;
/** Sessions of a cache that are read in a turn, and of all strangers, where the layer can do that. */
const READS_PER_TURN_MAX = 8;
/** So long after another cache was active a cache counts as alone. */
const CONTENDED_MS = 100;
/** A login is over sooner: one now and then is no reason to hold a busy cache back. */
const STRANGER_MS = 10;
/** More than one read can bring. */
export const UNBOUNDED = 1 << 30;

export interface TurnTaker {
  /** It has work that was left by an earlier turn. */
  isBehind: boolean;
  proceed(): void;
}

export class Turns {
  readonly #loop: Loop;
  /** The caches that are behind, with the sessions that wait. */
  readonly #behind: Map<Tenant, TurnTaker[]> = new Map();
  readonly #serveLater = (): void => this.#serve();
  /** The cache whose session was read last. */
  #last: Tenant | null = null;
  #isLimited = false;
  #contendedUntilMs = 0;
  #isScheduled = false;

  constructor(loop: Loop) {
    this.#loop = loop;
  }

  /** Commands that a session of `tenant` may run now; 0 or less if it has to wait. */
  grant(session: TurnTaker, tenant: Tenant): number {
    const { nowMs } = this.#loop;
    if (tenant !== this.#last) {
      this.#last = tenant;
      this.#contend(CONTENDED_MS);
    }
    if (session.isBehind) return 0;
    if (nowMs >= this.#contendedUntilMs) return this.#alone();
    const { work } = tenant;
    if (work.turnAtMs !== nowMs) {
      work.turnAtMs = nowMs;
      work.left = this.#share;
    }
    if (work.left > 0) work.left -= READ_WORK;
    return work.left;
  }

  /** Logins are bounded by their own turns (admission.ts), and so is what strangers may send. */
  strangerCame(): number {
    this.#contend(STRANGER_MS);
    return UNBOUNDED;
  }

  #contend(forMs: number): void {
    this.#contendedUntilMs = Math.max(this.#contendedUntilMs, this.#loop.nowMs + forMs);
    if (!this.#isLimited) this.#limit(true);
  }

  #alone(): number {
    if (this.#isLimited) this.#limit(false);
    return UNBOUNDED;
  }

  #limit(isLimited: boolean): void {
    this.#isLimited = isLimited;
    this.#loop.limitReads(isLimited ? READS_PER_TURN_MAX : 0);
  }

  /** It has run so many commands of those that it was granted. */
  spend(tenant: Tenant, count: number): void {
    tenant.work.left -= count;
  }

  /** The session is told to proceed in a later turn. */
  wait(session: TurnTaker, tenant: Tenant): void {
    if (session.isBehind) return;
    session.isBehind = true;
    const queue = this.#behind.get(tenant);
    if (queue === undefined) this.#behind.set(tenant, [session]);
    else queue.push(session);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#serveLater);
  }

  get #share(): number {
    return Math.max(CACHE_WORK_MIN, TURN_WORK_MAX / Math.max(1, this.#behind.size));
  }

  /** A turn begins with what is left of earlier ones; what is read in it comes after. */
  #serve(): void {
    this.#isScheduled = false;
    this.#loop.turn();
    const { nowMs } = this.#loop;
    const share = this.#share;
    for (const [tenant, queue] of [...this.#behind]) {
      tenant.work.turnAtMs = nowMs;
      tenant.work.left = share;
      let servedCount = 0;
      while (servedCount < queue.length && tenant.work.left > 0) {
        const session = queue[servedCount++]!;
        session.isBehind = false;
        session.proceed();
      }
      queue.splice(0, servedCount);
      if (queue.length === 0) this.#behind.delete(tenant);
    }
    if (this.#behind.size === 0 || this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#serveLater);
  }
}
