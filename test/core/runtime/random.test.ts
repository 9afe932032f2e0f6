import { describe, expect, test } from "vitest";
import { random, secureBytes, seededRandom } from "../../../core/runtime/random.ts";

function take(count: number, next: () => number): number[] {
  return Array.from({ length: count }, next);
}

describe("random", () => {
  test.each([
    ["the system's", random],
    ["a seeded one", seededRandom(1)],
  ])("%s stays in 0 <= n < 1 and fills the range evenly", (_name, source) => {
    const buckets = new Uint32Array(16);
    for (const n of take(16_000, () => source.next())) {
      expect(n).toBeGreaterThanOrEqual(0);
      expect(n).toBeLessThan(1);
      const bucket = Math.floor(n * 16);
      buckets[bucket] = (buckets[bucket] ?? 0) + 1;
    }
    // 1,000 expected, standard deviation 31; eight of them is out of reach for a fair source.
    for (const count of buckets) expect(Math.abs(count - 1_000)).toBeLessThan(248);
  });

  // Vectors of mulberry32 from its C form, compiled and run with these seeds.
  test.each([
    [0, [1144304738, 1416247, 958946056, 627933444, 2007157716]],
    [0xdeadbeef, [4043151706, 1147597007, 3315858022, 1538288752, 2042435954]],
  ])("seed %i gives the numbers of mulberry32", (seed, expected) => {
    const source = seededRandom(seed);
    expect(take(5, () => source.next() * 2 ** 32)).toEqual(expected);
  });

  test("two seeds do not repeat each other", () => {
    const [first, second] = [seededRandom(1), seededRandom(2)];
    expect(take(10, () => first.next())).not.toEqual(take(10, () => second.next()));
  });

  test("secure bytes have the asked size and do not repeat", () => {
    expect(secureBytes(0)).toHaveLength(0);
    expect(secureBytes(32)).toHaveLength(32);
    expect(Buffer.compare(secureBytes(32), secureBytes(32))).not.toBe(0);
  });
});
