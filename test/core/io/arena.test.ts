/** Slabs are handed out once each, come back, and end where they end. */
import { describe, expect, test } from "vitest";
import { Arena, READ_AT, READ_SIZE, SLAB_SIZE } from "../../../core/io/arena.ts";

describe("an arena of three slabs", () => {
  test("hands out three that overlap neither each other nor the read region", () => {
    const arena = new Arena({ slabCount: 3 });
    const slabs = [arena.take(), arena.take(), arena.take()].sort((a, b) => a - b);
    expect(arena.usedCount).toBe(3);
    let end = READ_AT + READ_SIZE;
    for (const slabAt of slabs) {
      expect(slabAt).toBeGreaterThanOrEqual(end);
      end = slabAt + SLAB_SIZE;
    }
    expect(arena.bytes.length).toBeGreaterThanOrEqual(end);
  });

  test("has no fourth, and goes on when one came back", () => {
    const arena = new Arena({ slabCount: 3 });
    const [first] = [arena.take(), arena.take(), arena.take()];
    expect(arena.take()).toBe(-1);
    expect(arena.take()).toBe(-1);
    expect(arena.usedCount).toBe(3);
    arena.give(first ?? -1);
    expect(arena.usedCount).toBe(2);
    expect(arena.take()).toBe(first);
    expect(arena.take()).toBe(-1);
  });

  test("gives the warmest slab first", () => {
    const arena = new Arena({ slabCount: 3 });
    const [a, b] = [arena.take(), arena.take()];
    arena.give(a);
    arena.give(b);
    expect([arena.take(), arena.take()]).toEqual([b, a]);
    expect(arena.usedCount).toBe(2);
  });
});

test("bytes are moved within the arena even where they overlap", () => {
  const arena = new Arena({ slabCount: 1 });
  const at = arena.take();
  arena.bytes.write("abcdefgh", at);
  arena.move(at + 2, arena.bytes, at, 6);
  expect(arena.bytes.toString("latin1", at, at + 8)).toBe("ababcdef");
  arena.move(at, arena.bytes.subarray(at + 1, at + 4), 0, 3);
  expect(arena.bytes.toString("latin1", at, at + 8)).toBe("babbcdef");
});

test("bytes are moved into the arena from anywhere in a buffer", () => {
  const arena = new Arena({ slabCount: 1 });
  const at = arena.take();
  arena.move(at, Buffer.from("0123456789"), 3, 4);
  expect(arena.bytes.toString("latin1", at, at + 5)).toBe("3456\0");
});
