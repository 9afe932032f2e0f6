/**
 * Logins: made once, shown once, and kept only as digests. A password of ours is 160 random bits,
 * so one SHA-256 over salt and password is enough: there is nothing to guess that a slow hash
 * would slow down, and a proxy can check thousands of logins per second in passing. A password
 * that somebody chose is kept as scrypt, which takes its time and is checked off the event loop.
 */
import assert from "node:assert/strict";
import { hash as hashOnce, scrypt, timingSafeEqual } from "node:crypto";
import type { z } from "zod";
import { type SecureBytes, secureBytes } from "../runtime/random.ts";
import type { digestRecord } from "./records.ts";

export type Digest = z.infer<typeof digestRecord>;
export type ScryptDigest = Extract<Digest, { algorithm: "scrypt" }>;

export interface NewCredential {
  readonly username: string;
  /** Shown to its owner now and never again. */
  readonly password: string;
  readonly digest: Digest;
}

/** 32 symbols, 5 bits each: safe in URLs, shells and speech (no l, o, 0, 1). */
const ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789";

/** 60 bits: the first collision is expected after a billion usernames. */
const USERNAME_LENGTH = 12;
/** 160 bits. */
const PASSWORD_LENGTH = 32;
const SALT_SIZE = 16;
const HASH_SIZE = 32;

/** 16 MB and some 50 ms of one core for each guess (OWASP's 2^14 with r = 8). */
const SCRYPT_COST = 16_384;
const SCRYPT_BLOCK_SIZE = 8;

/** Longer ones cannot be ours, and hashing megabytes for a stranger would be a gift to him. */
export const PASSWORD_SIZE_MAX = 1024;

export function newCredential(random: SecureBytes = secureBytes): NewCredential {
  const username = letters(USERNAME_LENGTH, random);
  const password = letters(PASSWORD_LENGTH, random);
  return { username, password, digest: digestOf(password, random) };
}

export function digestOf(password: string, random: SecureBytes = secureBytes): Digest {
  const bytes = Buffer.from(password);
  assert(bytes.length <= PASSWORD_SIZE_MAX, "a password no login could match");
  const salt = Buffer.from(random(SALT_SIZE));
  return {
    algorithm: "sha256",
    salt: salt.toString("base64"),
    hash: saltedHash(salt, bytes).toString("base64"),
  };
}

/** For a password that is not ours; takes as long as every later check of it will. */
export async function scryptDigestOf(
  password: string,
  random: SecureBytes = secureBytes,
): Promise<ScryptDigest> {
  const bytes = Buffer.from(password);
  assert(bytes.length <= PASSWORD_SIZE_MAX, "a password no login could match");
  const salt = Buffer.from(random(SALT_SIZE)).toString("base64");
  const work = { salt, cost: SCRYPT_COST, blockSize: SCRYPT_BLOCK_SIZE };
  const hash = (await scryptHash(work, bytes)).toString("base64");
  return { algorithm: "scrypt", ...work, hash };
}

/**
 * Whether the password is the one behind a scrypt digest; the work is done in a thread of libuv's
 * pool, and whoever asks has to bound how much of it. Without a digest the same work is done for
 * nothing.
 */
export async function verifyScrypt(
  digest: ScryptDigest | undefined,
  passwordBytes: Uint8Array,
): Promise<boolean> {
  if (passwordBytes.length > PASSWORD_SIZE_MAX) return false;
  const { hash, ...work } = digest ?? NOBODY_SCRYPT;
  const expected = Buffer.from(hash, "base64");
  const actual = await scryptHash(work, passwordBytes);
  if (expected.length !== HASH_SIZE) return false;
  return timingSafeEqual(actual, expected) && digest !== undefined;
}

/**
 * Whether the password is the one behind the digest, in a time that does not tell how nearly.
 * Without a digest (no such username) the same work is done and the answer is no, so a stranger
 * cannot find out by the clock which usernames exist. A scrypt digest is answered no: see
 * `verifyScrypt`.
 */
export function verify(digest: Digest | undefined, passwordBytes: Uint8Array): boolean {
  if (passwordBytes.length > PASSWORD_SIZE_MAX) return false;
  const { salt, hash } = digest?.algorithm === "sha256" ? digest : NOBODY;
  const expected = Buffer.from(hash, "base64");
  const actual = saltedHash(Buffer.from(salt, "base64"), passwordBytes);
  if (expected.length !== HASH_SIZE) return false;
  return timingSafeEqual(actual, expected);
}

/** Hash of a password that was thrown away, to compare with when there is no digest. */
const NOBODY = digestOf(letters(PASSWORD_LENGTH, secureBytes));
const NOBODY_SCRYPT: Omit<ScryptDigest, "algorithm"> = {
  salt: Buffer.alloc(SALT_SIZE).toString("base64"),
  hash: Buffer.alloc(HASH_SIZE).toString("base64"),
  cost: SCRYPT_COST,
  blockSize: SCRYPT_BLOCK_SIZE,
};

type ScryptWork = Pick<ScryptDigest, "salt" | "cost" | "blockSize">;

function scryptHash({ salt, cost, blockSize }: ScryptWork, password: Uint8Array): Promise<Buffer> {
  // Node refuses to use more than `maxmem`; the algorithm needs 128 * N * r and a little.
  const options = { N: cost, r: blockSize, p: 1, maxmem: 256 * cost * blockSize };
  return new Promise((resolve, reject) => {
    scrypt(password, Buffer.from(salt, "base64"), HASH_SIZE, options, (error, hash) => {
      if (error === null) resolve(hash);
      else reject(error);
    });
  });
}

function saltedHash(salt: Uint8Array, password: Uint8Array): Buffer {
  const salted = Buffer.allocUnsafe(salt.length + password.length);
  salted.set(salt, 0);
  salted.set(password, salt.length);
  const hash = hashOnce("sha256", salted, "buffer");
  salted.fill(0); // The buffer came from a pool that others share.
  return hash;
}

function letters(count: number, random: SecureBytes): string {
  return lettersOf(random(count));
}

/** A letter of a password for each byte; 5 bits of it count. */
export function lettersOf(bytes: Uint8Array): string {
  // 256 is a multiple of 32, so the low bits of a byte choose without bias.
  return Array.from(bytes, (byte) => ALPHABET[byte % ALPHABET.length]).join("");
}
