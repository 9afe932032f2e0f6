/**
 * Single-flight: the reads of one cache in one worker that others may join, by the hash of their
 * key. A read may be joined from when it is sent until its answer is there, unless its key changes:
 * who asks after a change was acknowledged must not get what was read before it. So a change ends
 * the joining twice, when it is sent and when it is answered.
 *
 *     read ──────────────────> answer          joined by all who ask the same
 *              change ──────> answer
 *     joined   |   a read of   |  a read of    each of these is one of its own
 *
 * Changes through other workers or proxies are not seen here: then a read is as old as the one it
 * joined, which its deadline bounds.
 */
import type { TrackedRead } from "./trackedRead.ts";

/** Reads of a worker that may be joined; those beyond are read on their own. */
const READ_COUNT_MAX = 16 * 1024;

export class Flights {
  readonly #byHash = new Map<number, TrackedRead>();

  /** The read of exactly these bytes, if it may be joined. */
  find(hash: number, wire: Buffer): TrackedRead | undefined {
    for (let read = this.#byHash.get(hash); read !== undefined; read = read.next) {
      if (read.wire.equals(wire)) return read;
    }
    return undefined;
  }

  add(read: TrackedRead): void {
    if (this.#byHash.size >= READ_COUNT_MAX) return;
    read.next = this.#byHash.get(read.hash);
    this.#byHash.set(read.hash, read);
  }

  /** It has been answered. */
  remove(read: TrackedRead): void {
    let before: TrackedRead | undefined;
    for (let one = this.#byHash.get(read.hash); one !== undefined; before = one, one = one.next) {
      if (one !== read) continue;
      if (before !== undefined) before.next = one.next;
      else if (one.next !== undefined) this.#byHash.set(read.hash, one.next);
      else this.#byHash.delete(read.hash);
      return;
    }
  }

  /** The key of this hash changes, or has changed. */
  keyChanges(hash: number): void {
    this.#byHash.delete(hash);
  }

  /** Any key may change. */
  clear(): void {
    this.#byHash.clear();
  }
}
