/**
 * Finds items by the hash of their key: linear hashing (Litwin 1980) over buckets in pages, items
 * of a bucket chained through their heads. An insertion adds at most one bucket, a removal takes a
 * few, so no operation ever waits for a rehash and the memory follows the number of items.
 *
 *     buckets 0 … split-1 and round … round+split-1 are addressed by one bit more of the hash,
 *     buckets split … round-1 not yet.
 */
import { Field } from "./item.ts";
import type { Units } from "./units.ts";

const PAGE_SHIFT = 10;
const PAGE_BUCKETS = 1 << PAGE_SHIFT;
const PAGE_SIZE = PAGE_BUCKETS * 4;
/** Emptier than one item in so many buckets, the table shrinks. */
const SPARSE = 4;

export class KeyIndex {
  itemCount = 0;
  /** How many walk over all buckets and must not miss an item: no merging meanwhile. */
  walkerCount = 0;
  readonly #units: Units;
  readonly #pages: Int32Array[] = [new Int32Array(PAGE_BUCKETS)];
  /** Buckets at the begin of this doubling; a power of two. */
  #round = PAGE_BUCKETS;
  /** Buckets of this doubling that are split already. */
  #split = 0;

  constructor(units: Units) {
    this.#units = units;
  }

  get bucketCount(): number {
    return this.#round + this.#split;
  }

  /** Bytes of memory that the buckets take. */
  get size(): number {
    return this.#pages.length * PAGE_SIZE;
  }

  /** First item of a bucket, 0 if it is empty. */
  head(bucket: number): number {
    return this.#pages[bucket >>> PAGE_SHIFT]![bucket & (PAGE_BUCKETS - 1)]!;
  }

  #setHead(bucket: number, item: number): void {
    this.#pages[bucket >>> PAGE_SHIFT]![bucket & (PAGE_BUCKETS - 1)] = item;
  }

  bucketOf(hash: number): number {
    const bucket = hash & (this.#round - 1);
    return bucket < this.#split ? hash & (2 * this.#round - 1) : bucket;
  }

  insert(item: number, hash: number): void {
    const bucket = this.bucketOf(hash);
    this.#units.setWord(item, Field.hash, hash);
    this.#units.setWord(item, Field.chain, this.head(bucket));
    this.#setHead(bucket, item);
    this.itemCount++;
    if (this.itemCount > this.bucketCount) this.#grow();
  }

  remove(item: number): void {
    this.replace(item, this.#units.word(item, Field.chain));
    this.itemCount--;
    if (this.walkerCount > 0) return;
    for (let step = 0; step <= SPARSE && this.#isSparse; step++) this.#shrink();
  }

  /** Makes whoever points at `item` in its bucket point at `other`. */
  replace(item: number, other: number): void {
    const bucket = this.bucketOf(this.#units.word(item, Field.hash));
    let here = this.head(bucket);
    if (here === item) return this.#setHead(bucket, other);
    for (;;) {
      const next = this.#units.word(here, Field.chain);
      if (next === item) return this.#units.setWord(here, Field.chain, other);
      here = next;
    }
  }

  clear(): void {
    this.#pages.length = 1;
    this.#pages[0]!.fill(0);
    this.#round = PAGE_BUCKETS;
    this.#split = 0;
    this.itemCount = 0;
  }

  /** Splits the next bucket: half of its items, on average, move to a new last bucket. */
  #grow(): void {
    const from = this.#split;
    const to = this.#round + this.#split;
    if (to >>> PAGE_SHIFT === this.#pages.length) this.#pages.push(new Int32Array(PAGE_BUCKETS));
    let stay = 0;
    let move = 0;
    let next = 0;
    for (let item = this.head(from); item !== 0; item = next) {
      next = this.#units.word(item, Field.chain);
      const moves = (this.#units.word(item, Field.hash) & this.#round) !== 0;
      this.#units.setWord(item, Field.chain, moves ? move : stay);
      if (moves) move = item;
      else stay = item;
    }
    this.#setHead(from, stay);
    this.#setHead(to, move);
    this.#split++;
    if (this.#split === this.#round) {
      this.#round *= 2;
      this.#split = 0;
    }
  }

  get #isSparse(): boolean {
    return this.itemCount * SPARSE < this.bucketCount && this.bucketCount > PAGE_BUCKETS;
  }

  /** Undoes the last split: the last bucket is emptied into the one that it came from. */
  #shrink(): void {
    if (this.#split === 0) {
      this.#round /= 2;
      this.#split = this.#round;
    }
    this.#split--;
    const to = this.#split;
    const from = this.#round + this.#split;
    let next = 0;
    for (let item = this.head(from); item !== 0; item = next) {
      next = this.#units.word(item, Field.chain);
      this.#units.setWord(item, Field.chain, this.head(to));
      this.#setHead(to, item);
    }
    this.#setHead(from, 0);
    // One page is kept, so that a table at the border does not give and take it for ever.
    this.#pages.length = Math.min(this.#pages.length, Math.ceil(from / PAGE_BUCKETS) + 1);
  }
}
