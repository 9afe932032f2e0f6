/** The memory of a shard: nothing handed out twice, nothing lost, and long values in few pieces. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SEGMENT_UNITS, UNIT_SIZE, Units } from "../../../backend/embedded/units.ts";
import { type Random, seededRandom } from "../../../core/runtime/random.ts";

const chainOf = (units: Units, first: number): number[] => {
  const chain: number[] = [];
  for (let unit = first; unit !== 0; unit = units.link(unit)) chain.push(unit);
  return chain;
};
const runsOf = (chain: number[]): number =>
  chain.filter((unit, i) => i === 0 || unit !== (chain[i - 1] ?? 0) + 1).length;

/** Different bytes for each seed, from one random pool. */
const POOL = Buffer.from(Array.from({ length: 1 << 20 }, randomByte(seededRandom(1))));
function randomByte(random: Random): () => number {
  return () => Math.floor(random.next() * 256);
}
function filled(size: number, seed: number): Buffer {
  const from = (seed * 7919) % (POOL.length - size);
  return Buffer.from(POOL.subarray(from, from + size));
}

/** Takes and gives chains, and knows what each should hold. */
class Owner {
  readonly units = new Units();
  readonly chains = new Map<number, Buffer>();
  #seed = 0;

  constructor(capacity: number) {
    this.units.capacity = capacity;
  }

  take(count: number): number {
    const first = this.units.take(count);
    const content = filled(count * UNIT_SIZE, ++this.#seed);
    this.units.write(first, 0, content, 0, content.length);
    this.chains.set(first, content);
    return first;
  }

  give(first: number): void {
    this.units.give(first);
    this.chains.delete(first);
  }

  check(): void {
    const seen = new Set<number>([0]);
    let usedCount = 0;
    for (const [first, content] of this.chains) {
      const chain = chainOf(this.units, first);
      for (const unit of chain) {
        if (seen.has(unit)) throw new Error(`unit ${unit} is in two chains`);
        seen.add(unit);
      }
      usedCount += chain.length;
      expect(chain.length * UNIT_SIZE).toBe(content.length);
      const read = Buffer.alloc(content.length + 2, 0x23);
      this.units.read(first, 0, read, 1, content.length);
      expect(read.subarray(1, -1).equals(content)).toBe(true);
      expect([read[0], read.at(-1)]).toEqual([0x23, 0x23]);
    }
    expect(this.units.usedCount).toBe(usedCount);
  }
}

describe("units", () => {
  test("a fresh chain lies in a row, except where a segment ends", () => {
    const { units } = new Owner(3 * SEGMENT_UNITS);
    units.capacity = 3 * SEGMENT_UNITS;
    const chain = chainOf(units, units.take(2 * SEGMENT_UNITS));
    expect(chain.length).toBe(2 * SEGMENT_UNITS);
    expect(chain.map((unit, i) => unit - i)).toEqual(chain.map(() => chain[0]));
  });

  test("free neighbours melt, so that a longer chain fits in a row", () => {
    const owner = new Owner(40);
    const chains = Array.from({ length: 10 }, () => owner.take(4));
    for (const index of [2, 4, 3, 5, 1]) owner.give(chains[index] as number);
    expect(runsOf(chainOf(owner.units, owner.take(20)))).toBe(1);
    owner.check();
  });

  test("without a gap of the right length a chain is made of several", () => {
    const owner = new Owner(40);
    const chains = Array.from({ length: 10 }, () => owner.take(4));
    for (const index of [0, 2, 4, 6]) owner.give(chains[index] as number);
    const chain = chainOf(owner.units, owner.take(15));
    expect(runsOf(chain)).toBe(4);
    owner.check();
  });

  test("parts of a chain are read and written at any offset", () => {
    const owner = new Owner(100);
    const scattered = Array.from({ length: 30 }, () => owner.take(1));
    for (const unit of scattered.filter((_, i) => i % 2 === 0)) owner.give(unit);
    owner.units.capacity = owner.units.carvedCount - 1;
    const first = owner.take(12);
    const content = owner.chains.get(first) as Buffer;
    for (let from = 0; from < content.length; from += 37) {
      for (const size of [0, 1, 63, 64, 65, 200]) {
        if (from + size > content.length || from >= UNIT_SIZE) continue;
        const patch = filled(size, from + size);
        owner.units.write(first, from, patch, 0, size);
        patch.copy(content, from);
        const read = Buffer.alloc(size);
        owner.units.read(first, from, read, 0, size);
        expect(read.equals(patch)).toBe(true);
        expect(owner.units.equals(first, from, patch, 0, size)).toBe(true);
        if (size === 0) continue;
        patch[size - 1] = (patch[size - 1] ?? 0) ^ 1;
        expect(owner.units.equals(first, from, patch, 0, size)).toBe(false);
      }
    }
    owner.check();
  });

  test("any sequence keeps every chain whole and uses no more than the capacity", () => {
    const capacity = 2 * SEGMENT_UNITS;
    const step = fc.oneof(
      fc.record({
        take: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 500, max: 5000 })),
      }),
      fc.record({ give: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(step, { size: "large", maxLength: 400 }), (steps) => {
        const owner = new Owner(capacity);
        for (const one of steps) {
          const chains = [...owner.chains.keys()];
          if ("take" in one) {
            if (owner.units.usedCount + one.take <= capacity) owner.take(one.take);
          } else if (chains.length > 0) {
            owner.give(chains[one.give % chains.length] as number);
          }
          expect(owner.units.carvedCount).toBeLessThanOrEqual(capacity + 1);
        }
        owner.check();
        // When all is given back, all of it is there again, in a row.
        for (const first of [...owner.chains.keys()]) owner.give(first);
        const chain = chainOf(owner.units, owner.take(capacity));
        expect(chain.length).toBe(capacity);
        expect(runsOf(chain)).toBeLessThanOrEqual(3);
      }),
      { numRuns: 40 },
    );
  });

  test("mixed sizes for a long time leave long values in few pieces", () => {
    const random = seededRandom(7);
    const capacity = 4 * SEGMENT_UNITS;
    const owner = new Owner(capacity);
    const { units } = owner;
    const queue: number[] = [];
    let pieces = 0;
    let longCount = 0;
    for (let i = 0; i < 20_000; i++) {
      const count = Math.ceil(120 ** random.next());
      while (units.usedCount + count > capacity * (31 / 32)) units.give(queue.shift() as number);
      const first = units.take(count);
      // Not all live equally long: some are used again.
      if (random.next() < 0.3) queue.splice(Math.floor(random.next() * queue.length), 0, first);
      else queue.push(first);
      if (i < 10_000 || count < 60) continue;
      pieces += runsOf(chainOf(units, first));
      longCount++;
    }
    expect(longCount).toBeGreaterThan(500);
    expect(pieces / longCount).toBeLessThan(4);
  });

  test("withdrawn segments are left and then dropped, and everything else is untouched", () => {
    const owner = new Owner(4 * SEGMENT_UNITS - 1);
    while (owner.units.usedCount + 7 <= 4 * SEGMENT_UNITS - 1) owner.take(7);
    const random = seededRandom(3);
    for (const first of [...owner.chains.keys()]) if (random.next() < 0.7) owner.give(first);
    const { units } = owner;
    units.capacity = 2 * SEGMENT_UNITS - 1;
    while (units.segmentCount > 2) units.withdraw();
    for (const [first, content] of [...owner.chains]) {
      if (!chainOf(units, first).some((unit) => units.mustLeave(unit))) continue;
      owner.give(first);
      const moved = units.take(content.length / UNIT_SIZE);
      units.write(moved, 0, content, 0, content.length);
      owner.chains.set(moved, content);
      expect(chainOf(units, moved).some((unit) => units.mustLeave(unit))).toBe(false);
    }
    units.cut();
    expect(units.carvedCount).toBe(2 * SEGMENT_UNITS);
    owner.check();
    while (units.usedCount < units.capacity) owner.take(1);
    owner.check();
  });
});
