/** Numbers as memcached 1.6.18 reads them: the rows were answered so by it. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  parseExptime,
  parseFlags,
  parseUint64,
  Uint64,
  writeDecimal,
  writeUint64,
} from "../../../backend/embedded/numbers.ts";

const TWO_64 = 1n << 64n;
const uint64 = fc.oneof(
  fc.bigInt({ min: 0n, max: TWO_64 - 1n }),
  fc.integer({ min: 0, max: 64 }).map((bits) => (1n << BigInt(bits)) - 1n),
  fc.integer({ min: 0, max: 19 }).map((zeros) => 10n ** BigInt(zeros)),
);
const parse = (text: string): bigint | undefined => {
  const bytes = Buffer.from(`#${text}#`, "latin1");
  const out = new Uint64();
  return parseUint64(bytes, 1, bytes.length - 1, out) ? toBig(out) : undefined;
};
const toBig = (value: Uint64): bigint => (BigInt(value.high) << 32n) | BigInt(value.low);
const fromBig = (value: bigint): Uint64 => {
  const out = new Uint64();
  out.set(Number(value >> 32n), Number(value & 0xffff_ffffn));
  return out;
};
const at = <T>(text: string, read: (bytes: Buffer, from: number, to: number) => T): T => {
  const bytes = Buffer.from(`9${text}9`, "latin1");
  return read(bytes, 1, bytes.length - 1);
};

describe("64-bit numbers", () => {
  test.each([
    ["0", 0n],
    ["18446744073709551615", TWO_64 - 1n],
    ["18446744073709551616", undefined],
    ["99999999999999999999999", undefined],
    ["00000000000000000000000000000007", 7n],
    ["+5", 5n],
    ["-0", 0n],
    ["-1", undefined],
    ["-9223372036854775808", undefined],
    // strtoull wraps, and memcached looks for the sign only where the result is huge.
    ["-18446744073709551615", 1n],
    [" \t\r\n12 x", 12n],
    ["12\0x", 12n],
    ["12x", undefined],
    ["", undefined],
    ["-", undefined],
    [" ", undefined],
    ["x", undefined],
  ])("%j is read as %s", (text, value) => {
    expect(parse(text)).toBe(value);
  });

  test("what is written is read back, and is what BigInt writes", () => {
    fc.assert(
      fc.property(uint64, (value) => {
        const target = Buffer.alloc(24, 0x23);
        const end = writeUint64(target, 2, fromBig(value));
        const written = target.toString("latin1", 2, end);
        expect(written).toBe(value.toString());
        expect(parse(written)).toBe(value);
        expect(target[end]).toBe(0x23);
      }),
    );
  });

  test("adding wraps at 2^64, subtracting stops at 0", () => {
    fc.assert(
      fc.property(uint64, uint64, (a, b) => {
        const sum = fromBig(a);
        sum.add(fromBig(b));
        expect(toBig(sum)).toBe((a + b) % TWO_64);
        const difference = fromBig(a);
        difference.subtract(fromBig(b));
        expect(toBig(difference)).toBe(a > b ? a - b : 0n);
      }),
    );
  });

  test("a plain number is exact or infinite", () => {
    expect(fromBig(2n ** 53n - 1n).exact).toBe(Number.MAX_SAFE_INTEGER);
    expect(fromBig(2n ** 53n).exact).toBe(Number.POSITIVE_INFINITY);
  });

  test("plain numbers are written in decimal", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const target = Buffer.alloc(20);
        expect(target.toString("latin1", 0, writeDecimal(target, 0, value))).toBe(String(value));
      }),
    );
  });
});

describe("client flags", () => {
  test.each([
    ["0", 0],
    ["4294967295", 0xffff_ffff],
    ["4294967296", 0],
    ["5000000000", 705032704],
    ["18446744073709551616", -1],
    ["-1", -1],
    ["1x", -1],
    ["abc", -1],
  ])("%j are read as %i", (text, flags) => {
    expect(at(text, parseFlags)).toBe(flags);
  });
});

describe("exptime", () => {
  test.each([
    ["0", 0],
    ["-1", -1],
    ["2592000", 2592000],
    ["2147483647", 2147483647],
    ["2147483648", -2147483648],
    ["4294967295", -1],
    ["4294967296", 0],
    ["9223372036854775807", -1],
    ["-9223372036854775808", 0],
    ["9223372036854775808", Number.NaN],
    ["-9223372036854775809", Number.NaN],
    ["1x", Number.NaN],
    ["", Number.NaN],
  ])("%j is read as %d", (text, exptime) => {
    const read = at(text, parseExptime);
    expect(Object.is(read, -0) ? 0 : read).toBe(exptime);
  });
});
