/** How long whoever failed waits before the next attempt. */
import { expect, test } from "vitest";
import { restartDelayMs } from "../../../core/runtime/backoff.ts";

test("restart delays grow to a ceiling and are spread below it", () => {
  const almostOne = { next: () => 0.999_999 };
  const ceilings = [0, 1, 2, 5, 20, 1_000].map((attempt) => restartDelayMs(attempt, almostOne));
  expect(ceilings).toEqual([99, 199, 399, 3_199, 4_999, 4_999]);
  expect(restartDelayMs(20, { next: () => 0 })).toBe(50);
});
