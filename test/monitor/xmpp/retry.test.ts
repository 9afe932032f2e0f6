/** The pause between attempts. */
import { expect, test } from "vitest";
import { seededRandom } from "../../../core/runtime/random.ts";
import { retryDelayMs } from "../../../monitor/xmpp/client.ts";
import type { DownReason } from "../../../monitor/xmpp/link.ts";

const longest = { next: () => 0.999_999 };
const shortest = { next: () => 0 };

test("it doubles from a tenth of a second, and at least half of it is kept", () => {
  const pauses = [0, 1, 2, 3].map((attempt) => [
    retryDelayMs(attempt, "closed", shortest),
    Math.ceil(retryDelayMs(attempt, "closed", longest) / 10) * 10,
  ]);
  expect(pauses).toEqual([
    [50, 100],
    [100, 200],
    [200, 400],
    [400, 800],
  ]);
});

test.each<[DownReason, number]>([
  ["closed", 5_000],
  ["timed_out", 5_000],
  ["certificate", 5_000],
  ["unreachable", 800],
  ["not_authorized", 30_000],
  ["no_mechanism", 30_000],
])("after many attempts that ended as %s it is at most %d ms", (reason, ceilingMs) => {
  const random = seededRandom(7);
  for (const attempt of [20, 1_000, 1e9]) {
    const pauseMs = retryDelayMs(attempt, reason, random);
    expect(pauseMs).toBeGreaterThanOrEqual(ceilingMs / 2);
    expect(pauseMs).toBeLessThanOrEqual(ceilingMs);
  }
});
