/** The stash: pieces stay what they are while they are held, and every slab comes back. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Arena, SLAB_SIZE } from "../../../core/io/arena.ts";
import { PIECE_SIZE_MAX, Stash } from "../../../proxy/routing/stash.ts";

/** The stash keeps the slab it fills; all others are free when no piece is held. */
const OWN_SLAB_COUNT = 1;

const pieceOf = (size: number, seed: number): Buffer =>
  Buffer.from(Array.from({ length: size }, (_, index) => (index + seed * 53) & 0xff));

describe("a stash", () => {
  test("gives a slab back with the last of its pieces, in any order", () => {
    const arena = new Arena({ slabCount: 8 });
    const stash = new Stash(arena);
    const size = SLAB_SIZE / 4;
    const held = Array.from({ length: 16 }, () => stash.hold(Buffer.alloc(size), 0, size));
    expect(new Set(held).size).toBe(16);
    expect(arena.usedCount).toBe(4);
    for (const at of held.slice(0, 3)) stash.release(at);
    expect(arena.usedCount).toBe(4);
    stash.release(held[3] ?? -1);
    expect(arena.usedCount).toBe(3);
    for (const at of held.slice(4).reverse()) stash.release(at);
    expect(arena.usedCount).toBe(OWN_SLAB_COUNT);
  });

  test("fills the slab in use again as soon as it is empty", () => {
    const arena = new Arena({ slabCount: 2 });
    const stash = new Stash(arena);
    for (let round = 0; round < 1_000; round++) {
      const at = stash.hold(Buffer.alloc(PIECE_SIZE_MAX), 0, PIECE_SIZE_MAX);
      expect(at).toBeGreaterThanOrEqual(0);
      stash.release(at);
    }
    expect(arena.usedCount).toBe(OWN_SLAB_COUNT);
  });

  test("says no when the arena has no slab, and goes on when it has", () => {
    const arena = new Arena({ slabCount: 2 });
    const stash = new Stash(arena);
    const others = [arena.take(), arena.take()];
    expect(stash.hold(Buffer.alloc(10), 0, 10)).toBe(-1);
    expect(stash.hold(Buffer.alloc(10), 0, 10)).toBe(-1);
    for (const slab of others) arena.give(slab);
    const at = stash.hold(Buffer.from("0123456789"), 3, 4);
    expect(arena.bytes.toString("latin1", at, at + 4)).toBe("3456");
    stash.release(at);
    expect(arena.usedCount).toBe(OWN_SLAB_COUNT);
  });

  test("refuses and keeps pieces as the arena fills and empties", () => {
    const step = fc.record({
      size: fc.integer({ min: 1, max: PIECE_SIZE_MAX }),
      drops: fc.nat(5),
      which: fc.nat(),
    });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 120 }),
        fc.integer({ min: 1, max: 6 }),
        (steps, slabCount) => {
          const arena = new Arena({ slabCount });
          const stash = new Stash(arena);
          const held: { at: number; piece: Buffer }[] = [];
          for (const [index, { size, drops, which }] of steps.entries()) {
            const piece = pieceOf(size, index);
            const at = stash.hold(Buffer.concat([Buffer.from("before"), piece]), 6, size);
            if (at >= 0) held.push({ at, piece });
            else expect(arena.usedCount).toBe(slabCount);
            for (let count = 0; count < drops && held.length > 0; count++) {
              const [dropped] = held.splice(which % held.length, 1);
              stash.release(dropped?.at ?? -1);
            }
            for (const { at: heldAt, piece: expected } of held) {
              expect(arena.bytes.subarray(heldAt, heldAt + expected.length).equals(expected)).toBe(
                true,
              );
            }
          }
          for (const { at } of held) stash.release(at);
          expect(arena.usedCount).toBeLessThanOrEqual(OWN_SLAB_COUNT);
        },
      ),
    );
  });
});
