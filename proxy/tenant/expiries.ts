/**
 * Which credentials expire when: a heap by moment, and one timer for the earliest. A change of an
 * expiry only adds an entry; those that no longer say the truth are dropped when they come up, or
 * all at once when they are the most.
 */
import type { Clock } from "../../core/runtime/clock.ts";

/** What expires: once `expiresAtMs` (since 1970) has passed; Infinity for never. */
export interface Expiring {
  expiresAtMs: number;
}

type Entry<T> = { atMs: number; item: T };

/** The owner may set the clock, so nobody sleeps longer than this. */
const SLEEP_MS_MAX = 10_000;
const STALE_COUNT_MIN = 64;

export class Expiries<T extends Expiring> {
  readonly #clock: Pick<Clock, "unixMs">;
  readonly #expired: (item: T) => void;
  readonly #heap: Entry<T>[] = [];
  #timer: NodeJS.Timeout | null = null;
  #staleCount = 0;

  constructor(clock: Pick<Clock, "unixMs">, expired: (item: T) => void) {
    this.#clock = clock;
    this.#expired = expired;
  }

  /** Entries held, for a look at the bound. */
  get size(): number {
    return this.#heap.length;
  }

  /** Sets when `item` expires; a moment that has passed is told within the next timer. */
  set(item: T, expiresAtMs: number): void {
    if (item.expiresAtMs === expiresAtMs) return;
    this.forget(item);
    item.expiresAtMs = expiresAtMs;
    if (expiresAtMs === Number.POSITIVE_INFINITY) return;
    this.#push({ atMs: expiresAtMs, item });
    if (this.#heap[0]?.item === item) this.#arm();
  }

  /** It is gone, or never expires now. */
  forget(item: T): void {
    if (item.expiresAtMs === Number.POSITIVE_INFINITY) return;
    item.expiresAtMs = Number.POSITIVE_INFINITY;
    if (++this.#staleCount > STALE_COUNT_MIN && this.#staleCount * 2 > this.#heap.length) {
      this.#dropStale();
    }
  }

  /** Tells what has expired; called by the timer, and by tests. */
  check(): void {
    const nowMs = this.#clock.unixMs();
    for (let first = this.#heap[0]; first !== undefined; first = this.#heap[0]) {
      const isStale = first.item.expiresAtMs !== first.atMs;
      if (!isStale && first.atMs > nowMs) break;
      this.#pop();
      if (isStale) this.#staleCount = Math.max(0, this.#staleCount - 1);
      else this.#expired(first.item);
    }
    this.#arm();
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#heap.length = 0;
    this.#staleCount = 0;
  }

  #arm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const first = this.#heap[0];
    if (first === undefined) return;
    const delayMs = Math.min(Math.max(first.atMs - this.#clock.unixMs(), 0), SLEEP_MS_MAX);
    this.#timer = setTimeout(() => this.check(), delayMs);
    this.#timer.unref();
  }

  #dropStale(): void {
    const living = this.#heap.filter(({ atMs, item }) => item.expiresAtMs === atMs);
    this.#heap.length = 0;
    this.#staleCount = 0;
    for (const entry of living) this.#push(entry);
  }

  #push(entry: Entry<T>): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]!.atMs <= entry.atMs) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.atMs < heap[child]!.atMs) child++;
      if (heap[child]!.atMs >= last.atMs) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}
