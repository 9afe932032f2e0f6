/**
 * Bytes that must outlive the read they came in: replies that overtook an earlier one, parts of a
 * gathered multi-get. Copied one behind the other into slabs of the arena; a slab is free again
 * when the last of its pieces is. Pieces larger than `PIECE_SIZE_MAX` do not belong here.
 *
 *     slab: | piece | piece (released) | piece | fill ->        |    liveCount = 2
 */
import { type Arena, SLAB_SIZE } from "../../core/io/arena.ts";

export const PIECE_SIZE_MAX = SLAB_SIZE / 2;

export class Stash {
  readonly #arena: Arena;
  /** Live pieces by slab, indexed by slab offset / SLAB_SIZE. */
  readonly #liveCounts: Int32Array;
  #slabAt = -1;
  #fill = 0;

  constructor(arena: Arena) {
    this.#arena = arena;
    this.#liveCounts = new Int32Array(Math.ceil(arena.bytes.length / SLAB_SIZE) + 1);
  }

  /** Copies a piece; returns its offset in the arena, or -1 when the arena has no slab left. */
  hold(bytes: Uint8Array, from: number, size: number): number {
    if (this.#slabAt < 0 || this.#fill + size > SLAB_SIZE) {
      if (this.#slabAt >= 0 && this.#liveCounts[(this.#slabAt / SLAB_SIZE) | 0] === 0) {
        this.#arena.give(this.#slabAt);
      }
      this.#slabAt = this.#arena.take();
      this.#fill = 0;
      if (this.#slabAt < 0) return -1;
    }
    const at = this.#slabAt + this.#fill;
    this.#arena.move(at, bytes, from, size);
    this.#fill += size;
    this.#liveCounts[(this.#slabAt / SLAB_SIZE) | 0]!++;
    return at;
  }

  /** Gives the piece at `at` back. The slab in use is rewound as soon as it is empty. */
  release(at: number): void {
    const { slabsAt } = this.#arena;
    const slabAt = slabsAt + (((at - slabsAt) / SLAB_SIZE) | 0) * SLAB_SIZE;
    const left = --this.#liveCounts[(slabAt / SLAB_SIZE) | 0]!;
    if (left > 0) return;
    if (slabAt === this.#slabAt) this.#fill = 0;
    else this.#arena.give(slabAt);
  }
}
