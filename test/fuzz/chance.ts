/** Choices of a fuzzer, all drawn from one seeded source: the same seed makes the same stream. */
import { type Random, seededRandom } from "../../core/runtime/random.ts";

export class Chance {
  readonly #random: Random;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  /** A whole number, `min` and `max` included. */
  integer(min: number, max: number): number {
    return min + Math.floor(this.#random.next() * (max - min + 1));
  }

  /** True once in `count` times. */
  oneIn(count: number): boolean {
    return this.#random.next() * count < 1;
  }

  pick<T>(choices: readonly T[]): T {
    const choice = choices[this.integer(0, choices.length - 1)];
    if (choice === undefined) throw new Error("nothing to choose from");
    return choice;
  }

  /** Each choice as likely as its weight says. */
  weighted<T>(choices: readonly (readonly [weight: number, choice: T])[]): T {
    let left = this.#random.next() * choices.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, choice] of choices) {
      left -= weight;
      if (left < 0) return choice;
    }
    return this.pick(choices)[1];
  }

  list<T>(count: number, make: (index: number) => T): T[] {
    return Array.from({ length: count }, (_, index) => make(index));
  }

  bytes(size: number): Buffer {
    return Buffer.from(this.list(size, () => this.integer(0, 255)));
  }

  /** Offsets inside of `size` bytes at which a stream is cut, in order. */
  cuts(size: number, countMax: number): number[] {
    if (size < 2) return [];
    const cuts = this.list(this.integer(0, countMax), () => this.integer(1, size - 1));
    return [...new Set(cuts)].sort((a, b) => a - b);
  }
}

/** The seed of the `index`-th stream of a campaign. */
export function seedOf(seed: number, index: number): number {
  return (Math.imul(seed, 0x9e3779b1) + Math.imul(index + 1, 0x85ebca6b)) >>> 0;
}
