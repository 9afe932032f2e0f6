/**
 * HalfSipHash-1-3 against a plain implementation with any number of rounds, which is itself held
 * against vectors of the authors (vectors.h of the SipHash repository: HalfSipHash-2-4, key bytes
 * 00..07, messages 00, 0001, 000102, …).
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hashKey } from "../../../backend/embedded/hash.ts";

const VECTORS_2_4 = ["a9359f5b", "27475ab8", "fa62a603", "8afee704"];

function halfSipHash(key: Uint8Array, message: Uint8Array, rounds: number, finals: number): number {
  const word = (bytes: Uint8Array, at: number) =>
    new DataView(bytes.buffer, bytes.byteOffset).getInt32(at, true);
  const rotate = (value: number, by: number) => (value << by) | (value >>> (32 - by));
  const k0 = word(key, 0);
  const k1 = word(key, 4);
  let [v0, v1, v2, v3] = [k0, k1, 0x6c796765 ^ k0, 0x74656462 ^ k1];
  const turn = () => {
    v0 = (v0 + v1) | 0;
    v1 = rotate(v1, 5) ^ v0;
    v0 = rotate(v0, 16);
    v2 = (v2 + v3) | 0;
    v3 = rotate(v3, 8) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = rotate(v3, 7) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = rotate(v1, 13) ^ v2;
    v2 = rotate(v2, 16);
  };
  const padded = new Uint8Array((message.length & ~3) + 4);
  padded.set(message);
  padded[padded.length - 1] = message.length;
  for (let at = 0; at < padded.length; at += 4) {
    const m = word(padded, at);
    v3 ^= m;
    for (let i = 0; i < rounds; i++) turn();
    v0 ^= m;
  }
  v2 ^= 0xff;
  for (let i = 0; i < finals; i++) turn();
  return v1 ^ v3;
}

describe("hash of a key", () => {
  test("the plain implementation agrees with the authors' vectors", () => {
    const key = Uint8Array.from({ length: 8 }, (_, i) => i);
    for (const [size, expected] of VECTORS_2_4.entries()) {
      const message = Uint8Array.from({ length: size }, (_, i) => i);
      const hash = Buffer.alloc(4);
      hash.writeInt32LE(halfSipHash(key, message, 2, 4));
      expect(hash.toString("hex")).toBe(expected);
    }
  });

  test("ours is the same function with 1 and 3 rounds, wherever the key stands", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 8, maxLength: 8 }),
        fc.uint8Array({ minLength: 1, maxLength: 250 }),
        fc.nat(7),
        (secret, key, at) => {
          const view = new DataView(secret.buffer);
          const seed = [view.getInt32(0, true), view.getInt32(4, true)] as const;
          const around = Buffer.alloc(key.length + 16, 0xee);
          around.set(key, at);
          expect(hashKey(seed, around, at, key.length)).toBe(halfSipHash(secret, key, 1, 3));
        },
      ),
    );
  });

  test("another seed spreads the same keys differently", () => {
    const key = Buffer.from("same key");
    const hashes = new Set([1, 2, 3, 4].map((k) => hashKey([k, 0], key, 0, key.length)));
    expect(hashes.size).toBe(4);
  });
});
