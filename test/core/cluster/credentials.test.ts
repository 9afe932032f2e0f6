import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  digestOf,
  newCredential,
  PASSWORD_SIZE_MAX,
  scryptDigestOf,
  verify,
  verifyScrypt,
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

describe("a digest of a chosen password", () => {
  test("is one that the state accepts, and verifies its password only", async () => {
    const digest = await scryptDigestOf("hunter2");
    expect(digestRecord.parse(digest)).toEqual(digest);
    expect(await verifyScrypt(digest, bytesOf("hunter2"))).toBe(true);
    expect(await verifyScrypt(digest, bytesOf("hunter3"))).toBe(false);
    expect(await verifyScrypt(undefined, bytesOf("hunter2"))).toBe(false);
    expect(JSON.stringify(digest)).not.toContain("hunter2");
    expect((await scryptDigestOf("hunter2")).hash).not.toBe(digest.hash);
  });

  test("is what any scrypt makes of it (RFC 7914, section 12)", async () => {
    const hash = Buffer.from(
      "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2",
      "hex",
    ).toString("base64");
    const salt = Buffer.from("SodiumChloride").toString("base64");
    const digest = { algorithm: "scrypt", salt, hash, cost: 16_384, blockSize: 8 } as const;
    expect(await verifyScrypt(digest, bytesOf("pleaseletmein"))).toBe(true);
  });

  test("is never taken by the check of generated passwords", async () => {
    expect(verify(await scryptDigestOf("hunter2"), bytesOf("hunter2"))).toBe(false);
  });

  test("refuses passwords that no login could send", async () => {
    const digest = await scryptDigestOf("p".repeat(PASSWORD_SIZE_MAX));
    expect(await verifyScrypt(digest, bytesOf("p".repeat(PASSWORD_SIZE_MAX + 1)))).toBe(false);
  });
});
