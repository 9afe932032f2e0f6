/**
 * Keys of one cache that are being changed in both of their copies, by hash, and who waits to change
 * them next: one change at a time in a worker, so that none finds its token gone because of ours.
 */
import type { LinkWaiter } from "./link.ts";

export class BusyKeys {
  readonly #byHash = new Map<number, { count: number; waiters: LinkWaiter[] }>();

  /** True while the key of `hash` is being changed; `waiter` is told when it is not. */
  isBusyFor(waiter: LinkWaiter, hash: number): boolean {
    const busy = this.#byHash.get(hash);
    if (busy === undefined) return false;
    busy.waiters.push(waiter);
    return true;
  }

  begin(hash: number): void {
    const busy = this.#byHash.get(hash);
    if (busy === undefined) this.#byHash.set(hash, { count: 1, waiters: [] });
    else busy.count++;
  }

  end(hash: number): void {
    const busy = this.#byHash.get(hash);
    if (busy === undefined || --busy.count > 0) return;
    this.#byHash.delete(hash);
    if (busy.waiters.length === 0) return;
    // In the middle of a shard's replies: go on when they are done.
    setImmediate(() => this.#wake(hash, busy.waiters));
  }

  /** One after the other, until one changes the key: the rest waits for that. */
  #wake(hash: number, waiters: readonly LinkWaiter[]): void {
    for (const [index, waiter] of waiters.entries()) {
      const busy = this.#byHash.get(hash);
      if (busy !== undefined) {
        busy.waiters = [...waiters.slice(index), ...busy.waiters];
        return;
      }
      waiter.linkDrained();
    }
  }
}
