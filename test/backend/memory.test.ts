/** How much used memory a node tells of. */
import { expect, test } from "vitest";
import { toldShare } from "../../backend/memory.ts";
import { memoryUsed } from "../../core/runtime/memory.ts";

test("little is not told; much is told in steps, and stays told until it is a step away", () => {
  expect(toldShare(0.5, null)).toBe(null);
  expect(toldShare(0.79, null)).toBe(null);
  expect(toldShare(0.815, null)).toBeCloseTo(0.8);
  expect(toldShare(0.83, 0.82)).toBe(0.82);
  expect(toldShare(0.79, 0.8)).toBe(0.8);
  expect(toldShare(0.77, 0.8)).toBe(null);
  expect(toldShare(0.999, 0.9)).toBeCloseTo(0.98);
});

test("this machine has used some of its memory, and not all", () => {
  expect(memoryUsed()).toBeGreaterThan(0);
  expect(memoryUsed()).toBeLessThan(1);
});
