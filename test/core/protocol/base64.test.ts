/** Keys in base64, with RFC 4648's own vectors and what memcached 1.6.18 makes of odd ones. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { base64Size, decodeBase64, encodeBase64 } from "../../../core/protocol/base64.ts";

function decoded(text: string): string {
  const bytes = Buffer.from(`??${text}??`, "latin1");
  const target = Buffer.alloc(300, "#");
  const size = decodeBase64(bytes, 2, text.length, target, 5);
  expect(String(target.subarray(0, 5))).toBe("#####");
  return target.toString("latin1", 5, 5 + size);
}

/** RFC 4648, section 10. */
const VECTORS: [plain: string, coded: string][] = [
  ["f", "Zg=="],
  ["fo", "Zm8="],
  ["foo", "Zm9v"],
  ["foob", "Zm9vYg=="],
  ["fooba", "Zm9vYmE="],
  ["foobar", "Zm9vYmFy"],
];

describe("base64", () => {
  test.each(VECTORS)("of %j is %j", (plain, coded) => {
    expect(decoded(coded)).toBe(plain);
    const target = Buffer.alloc(20, "#");
    const end = encodeBase64(Buffer.from(`?${plain}?`), 1, plain.length, target, 3);
    expect(target.toString("latin1", 0, end + 1)).toBe(`###${coded}#`);
    expect(end - 3).toBe(base64Size(plain.length));
  });

  test.each([
    // Bytes outside of the alphabet are passed over, those of URLs among them.
    ["Z*m-9_v", "foo"],
    [" Zm9v", "foo"],
    // What is left of the last byte is ignored, and what follows the padding.
    ["Zm9vYh==", "foob"],
    // A padding that stands where a digit should counts as one.
    ["=m9v", "\x02o"],
    // Not in fours, or nothing at all.
    ["Zm9", ""],
    ["Zm9vY", ""],
    ["=", ""],
    ["====", ""],
    ["!", ""],
    ["", ""],
  ])("%j is read as %j", (coded, plain) => {
    expect(decoded(coded)).toBe(plain);
  });

  test("comes back as it went", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 187 }), (plain) => {
        const coded = Buffer.alloc(300);
        const end = encodeBase64(plain, 0, plain.length, coded, 0);
        expect(coded.toString("latin1", 0, end)).toBe(Buffer.from(plain).toString("base64"));
        expect(decoded(coded.toString("latin1", 0, end))).toBe(
          Buffer.from(plain).toString("latin1"),
        );
      }),
    );
  });
});
