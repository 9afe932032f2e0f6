import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  digestOf,
  newCredential,
  PASSWORD_SIZE_MAX,
  verify,
} from "../../../core/cluster/credentials.ts";
import { digestRecord } from "../../../core/cluster/records.ts";

const bytesOf = (text: string): Uint8Array => Buffer.from(text);

describe("a new credential", () => {
  test("has a username and a password that need no quoting anywhere", () => {
    const { username, password } = newCredential();
    expect(username).toMatch(/^[a-km-np-z2-9]{12}$/);
    expect(password).toMatch(/^[a-km-np-z2-9]{32}$/);
    expect(encodeURIComponent(username + password)).toBe(username + password);
  });

  test("carries a digest that the state accepts, and that verifies its password only", () => {
    const { username, password, digest } = newCredential();
    expect(digestRecord.parse(digest)).toEqual(digest);
    expect(verify(digest, bytesOf(password))).toBe(true);
    expect(verify(digest, bytesOf(username))).toBe(false);
    expect(JSON.stringify(digest)).not.toContain(password);
  });

  test("never repeats one before it", () => {
    const made = Array.from({ length: 2_000 }, () => newCredential());
    expect(new Set(made.map((one) => one.username)).size).toBe(2_000);
    expect(new Set(made.map((one) => one.password)).size).toBe(2_000);
    expect(new Set(made.map((one) => one.digest.salt)).size).toBe(2_000);
  });

  test("uses 60 random bits for the username and 160 for the password, evenly", () => {
    const asked: number[] = [];
    const counting = (size: number): Uint8Array => {
      asked.push(size);
      return Uint8Array.from({ length: size }, (_, index) => index * 37);
    };
    const { username, password } = newCredential(counting);
    expect(asked).toEqual([12, 32, 16]);
    // 37 is odd, so 32 bytes that far apart show each of the 32 symbols once.
    expect(new Set(password).size).toBe(32);
    expect(password.startsWith(username)).toBe(true);
  });
});

describe("a digest", () => {
  test("is SHA-256 over salt followed by the password, as the record promises", () => {
    const salt = Buffer.from("0123456789abcdef");
    const digest = digestOf("s3cret", () => salt);
    const hash = createHash("sha256").update(salt).update("s3cret").digest("base64");
    expect(digest).toEqual({ algorithm: "sha256", salt: salt.toString("base64"), hash });
  });

  // sha256sum: printf 'abcdefghijklmnopcorrect horse' | sha256sum | xxd -r -p | base64
  test("made elsewhere verifies here", () => {
    const digest = {
      algorithm: "sha256",
      salt: Buffer.from("abcdefghijklmnop").toString("base64"),
      hash: "W37n8uThDxKKccEYsF9n5BME81+F85O8Y4T8K9Rr5yM=",
    } as const;
    expect(verify(digest, bytesOf("correct horse"))).toBe(true);
    expect(verify(digest, bytesOf("correct horsf"))).toBe(false);
  });

  test("verifies its password and nothing else, also of strange bytes and none at all", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(..."aé漢💾 \0") }),
        fc.uint8Array(),
        (password, other) => {
          const digest = digestOf(password);
          const isSame = Buffer.compare(other, bytesOf(password)) === 0;
          expect(verify(digest, bytesOf(password))).toBe(true);
          expect(verify(digest, other)).toBe(isSame);
        },
      ),
    );
  });

  test("that does not exist verifies nothing", () => {
    expect(verify(undefined, bytesOf(""))).toBe(false);
    expect(verify(undefined, bytesOf("anything"))).toBe(false);
  });

  test("that was cut short verifies nothing and breaks nothing", () => {
    const digest = digestOf("password");
    const short = { ...digest, hash: digest.hash.slice(0, 8) };
    expect(verify(short, bytesOf("password"))).toBe(false);
    expect(verify({ ...digest, hash: "" }, bytesOf("password"))).toBe(false);
  });

  test("of a password that no login could match is not made", () => {
    const longest = "x".repeat(PASSWORD_SIZE_MAX);
    expect(verify(digestOf(longest), bytesOf(longest))).toBe(true);
    expect(() => digestOf(`${longest}x`)).toThrow();
    expect(verify(digestOf(longest), bytesOf(`${longest}x`))).toBe(false);
  });
});
