/** Tokens: never more than the rate and one second's worth give, never less. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TokenBucket } from "../../../proxy/tenant/bucket.ts";

/** Moments in order, with what is wanted at each. */
const wishes = fc.array(
  fc.record({
    afterMs: fc.integer({ min: 0, max: 3_000 }),
    count: fc.integer({ min: 1, max: 64 }),
  }),
  { maxLength: 200 },
);
/** Of a bucket that is looked at before it is full. */
const fastRates = fc.double({ min: 2, max: 100_000, noNaN: true });
const rates = fc.double({ min: 0.1, max: 100_000, noNaN: true });

describe("a token bucket", () => {
  test("starts with a second's worth and fills up to no more", () => {
    const bucket = new TokenBucket(10, 0);
    expect(bucket.available(0)).toBe(10);
    bucket.take(10);
    expect([0, 99, 101, 550].map((ms) => bucket.available(ms))).toEqual([0, 0, 1, 5]);
    expect(bucket.available(60_000)).toBe(10);
  });

  test("has room for one token at the slowest rate", () => {
    const bucket = new TokenBucket(0.5, 0);
    expect(bucket.available(0)).toBe(1);
    bucket.take(1);
    expect(bucket.available(1_999)).toBe(0);
    expect(bucket.available(2_001)).toBe(1);
  });

  test("pays its debt before it gives anything", () => {
    const bucket = new TokenBucket(10, 0);
    bucket.take(64);
    expect(bucket.available(5_000)).toBeLessThanOrEqual(0);
    expect(bucket.available(5_600)).toBe(2);
  });

  test("changes its rate without forgetting what was taken", () => {
    const bucket = new TokenBucket(10, 0);
    bucket.take(10);
    bucket.setRate(1_000, 0);
    expect(bucket.available(0)).toBe(0);
    expect(bucket.available(100)).toBe(100);
    bucket.setRate(5, 100);
    expect(bucket.available(100)).toBe(5);
  });

  test("does not care about time that runs backwards", () => {
    const bucket = new TokenBucket(10, 1_000);
    bucket.take(5);
    expect(bucket.available(0)).toBe(5);
    expect(bucket.available(1_100)).toBe(6);
  });

  test("lets no more through than rate times time and one burst, whoever asks when", () => {
    fc.assert(
      fc.property(rates, wishes, (rate, asked) => {
        const bucket = new TokenBucket(rate, 0);
        let nowMs = 0;
        let taken = 0;
        for (const { afterMs, count } of asked) {
          nowMs += afterMs;
          const granted = Math.min(count, Math.max(0, bucket.available(nowMs)));
          bucket.take(granted);
          taken += granted;
          expect(taken).toBeLessThanOrEqual(
            (rate * nowMs) / 1000 + Math.max(1, rate) + 1e-6 * taken,
          );
        }
      }),
    );
  });

  test("lets all of it through to somebody who takes whatever is there", () => {
    fc.assert(
      fc.property(fastRates, fc.integer({ min: 1, max: 500 }), (rate, stepMs) => {
        const bucket = new TokenBucket(rate, 0);
        let taken = 0;
        const endMs = 20_000;
        for (let nowMs = 0; nowMs <= endMs; nowMs += stepMs) {
          const granted = Math.max(0, bucket.available(nowMs));
          bucket.take(granted);
          taken += granted;
        }
        expect(taken).toBeGreaterThanOrEqual((rate * (endMs - stepMs)) / 1000 - 2);
      }),
    );
  });
});
