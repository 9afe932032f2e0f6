/**
 * Where the items of a shard live: their memory, the way to them by key, the order in which they
 * were used, and the limit of it all. Nothing is an object per item; an item is a number that is
 * valid until the next operation that stores or removes something.
 *
 * What counts towards the limit: the units of all items, 68 bytes each, and the pages of the index,
 * 4 bytes per bucket. An item takes 40 bytes of head, its key and its value, rounded up to units.
 * Nothing else grows with items, so the limit is what the shard takes.
 *
 * When the memory is full, the item that was used longest ago goes, whatever its size, until there
 * is room. Work that would take long is done in steps by `maintain`.
 */
import { Counter } from "./counters.ts";
import { hashKey, type Seed } from "./hash.ts";
import { FIRST_SIZE, Field, HEAD_SIZE, MARKS_SHIFT, Mark, unitsFor, VALUE_SHIFT } from "./item.ts";
import { KeyIndex } from "./keyIndex.ts";
import { SEGMENT_UNITS, UNIT_COST, UNIT_SIZE, Units } from "./units.ts";
import { UseOrder } from "./useOrder.ts";

const TWO_32 = 4294967296;
const KEY_MASK = 0xff;
const MARKS_MASK = 0xf;
/** Fewer units than this are not worth a compaction (1.1 MB). */
const SURPLUS_MIN = 16_384;
/** A sweep of all buckets takes at least so many turns: a small shard is not worth more work. */
const SWEEP_TURNS_MIN = 64;
/** Work that costs as much as one step, in units that are copied or looked at. */
const UNITS_PER_STEP = 64;
const stepsFor = (unitCount: number): number => Math.floor(unitCount / UNITS_PER_STEP);
const SEGMENT_STEPS = stepsFor(SEGMENT_UNITS);
/** Given back to the machine in one turn: 4 MB, which takes about a millisecond. */
const TRIM_SEGMENTS = 4;
/**
 * The rest stays free, so that a value finds a place in a row. Measured with sizes from 20 to 8,000
 * bytes until each was replaced many times: a value of 5 KB lies in 35 pieces if nothing is kept
 * free, in 3 with this, and is read five times as fast.
 */
const FILL_MAX = 31 / 32;

const segmentsFor = (capacity: number): number => Math.ceil((capacity + 1) / SEGMENT_UNITS);

/** An item on its way to another place. */
const wholeItem = Buffer.from(new ArrayBuffer(HEAD_SIZE + 256 + (1 << 20)));

export class Items {
  /** Seconds since 1970, as of the last tick. */
  now = 0;
  readonly #units = new Units();
  readonly #index = new KeyIndex(this.#units);
  readonly #order = new UseOrder(this.#units);
  readonly #seed: Seed;
  readonly #counters: Float64Array;
  #limit: number;
  #unitsMax = 0;
  /** Size of the index that `#unitsMax` was reckoned with. */
  #indexSize = 0;
  #hash = 0;
  #sweptBucket = 0;
  /** While shrinking: how many segments will be left, and the buckets that are done. */
  #keptSegments = -1;
  #shrunkBucket = 0;

  constructor({ limit, seed, counters }: { limit: number; seed: Seed; counters: Float64Array }) {
    this.#seed = seed;
    this.#counters = counters;
    this.#limit = limit;
    this.#plan();
  }

  // ---- memory ------------------------------------------------------------------------------

  get count(): number {
    return this.#index.itemCount;
  }

  get limit(): number {
    return this.#limit;
  }

  get unitCount(): number {
    return this.#units.usedCount;
  }

  /** How long ago the item was used that would be evicted next. */
  get oldestAgeS(): number {
    const { oldest } = this.#order;
    return oldest === 0 ? 0 : this.now - this.accessedAt(oldest);
  }

  /** Bytes in use, as they count towards the limit. */
  get size(): number {
    return this.#units.usedCount * UNIT_COST + this.#index.size;
  }

  set limit(bytes: number) {
    this.#limit = bytes;
    this.#plan();
  }

  #plan(): void {
    this.#indexSize = this.#index.size;
    const kept = this.#keptSegments * SEGMENT_UNITS - 1;
    this.#units.capacity =
      this.#keptSegments < 0 ? this.#affordable : Math.min(this.#affordable, kept);
    this.#unitsMax = Math.floor(this.#units.capacity * FILL_MAX);
  }

  get #affordable(): number {
    return Math.max(0, Math.floor((this.#limit - this.#indexSize) / UNIT_COST));
  }

  /** Whether an item of this size could be kept if all others went. */
  couldHold(dataSize: number): boolean {
    return unitsFor(dataSize) <= this.#unitsMax;
  }

  /**
   * Evicts until `count` more units may be taken. While the limit is lower than what is in use
   * nothing grows here, and `maintain` shrinks step by step.
   */
  #makeRoom(count: number): void {
    const ceiling = Math.max(this.#unitsMax, this.#units.usedCount) - count;
    while (this.#units.usedCount > ceiling && this.#order.oldest !== 0) this.#evictOldest();
  }

  #evictOldest(): void {
    const item = this.#order.oldest;
    const fetched = (this.marks(item) & Mark.fetched) !== 0;
    if (this.isExpired(item)) {
      this.#counters[Counter.reclaimed]!++;
      if (!fetched) this.#counters[Counter.expired_unfetched]!++;
    } else {
      this.#counters[Counter.evictions]!++;
      if (!fetched) this.#counters[Counter.evicted_unfetched]!++;
    }
    this.remove(item);
  }

  // ---- items -------------------------------------------------------------------------------

  /** The item of a key, expired or not; 0 if there is none. */
  find(bytes: Buffer, at: number, size: number): number {
    const units = this.#units;
    const hash = hashKey(this.#seed, bytes, at, size);
    this.#hash = hash;
    let item = this.#index.head(this.#index.bucketOf(hash));
    while (item !== 0) {
      if (
        units.word(item, Field.hash) === hash &&
        this.keySize(item) === size &&
        units.equals(item, HEAD_SIZE, bytes, at, size)
      ) {
        break;
      }
      item = units.word(item, Field.chain);
    }
    return item;
  }

  /** A new item for the key that `find` just missed; its value and head are yet to be written. */
  create(bytes: Buffer, at: number, keySize: number, valueSize: number): number {
    const units = this.#units;
    const count = unitsFor(keySize + valueSize);
    this.#makeRoom(count);
    const item = units.take(count);
    units.setWord(item, Field.sizes, (valueSize << VALUE_SHIFT) | keySize);
    units.write(item, HEAD_SIZE, bytes, at, keySize);
    this.#index.insert(item, this.#hash);
    this.#order.add(item);
    if (this.#index.size !== this.#indexSize) this.#plan();
    return item;
  }

  /**
   * Makes the item of a key ready for another value: the item with that value yet to be written.
   * A value that is longer gets other units, so that it lies in a row; the old one is gone then.
   */
  resize(item: number, bytes: Buffer, at: number, valueSize: number): number {
    const units = this.#units;
    const keySize = this.keySize(item);
    const have = unitsFor(keySize + this.valueSize(item));
    const want = unitsFor(keySize + valueSize);
    if (want > have) {
      this.#hash = units.word(item, Field.hash);
      this.remove(item);
      return this.create(bytes, at, keySize, valueSize);
    }
    if (want < have) {
      const last = this.#unitAt(item, want - 1);
      units.give(units.link(last));
      units.setLink(last, 0);
    }
    units.setWord(item, Field.sizes, (valueSize << VALUE_SHIFT) | keySize);
    return item;
  }

  #unitAt(item: number, index: number): number {
    let unit = item;
    for (let i = 0; i < index; i++) unit = this.#units.link(unit);
    return unit;
  }

  remove(item: number): void {
    this.#index.remove(item);
    this.#order.remove(item);
    this.#units.give(item);
    if (this.#index.size !== this.#indexSize) this.#plan();
  }

  /** It was used just now: it will be the last to be evicted. */
  used(item: number): void {
    this.#order.used(item);
    this.#units.setWord(item, Field.accessedAt, this.now);
  }

  /** Removes all at once; the memory goes in turns. */
  clear(): void {
    this.#endShrinking();
    this.#index.clear();
    this.#order.clear();
    this.#units.clear();
    this.#plan();
  }

  // ---- what an item holds ------------------------------------------------------------------

  keySize(item: number): number {
    return this.#units.word(item, Field.sizes) & KEY_MASK;
  }

  valueSize(item: number): number {
    return this.#units.word(item, Field.sizes) >>> VALUE_SHIFT;
  }

  marks(item: number): number {
    return (this.#units.word(item, Field.sizes) >>> MARKS_SHIFT) & MARKS_MASK;
  }

  setMarks(item: number, marks: number): void {
    const sizes = this.#units.word(item, Field.sizes) & ~(MARKS_MASK << MARKS_SHIFT);
    this.#units.setWord(item, Field.sizes, sizes | (marks << MARKS_SHIFT));
  }

  flags(item: number): number {
    return this.#units.word(item, Field.flags) >>> 0;
  }

  setFlags(item: number, flags: number): void {
    this.#units.setWord(item, Field.flags, flags);
  }

  /** Unix seconds; 0 is never. */
  expiresAt(item: number): number {
    return this.#units.word(item, Field.expiresAt) >>> 0;
  }

  setExpiresAt(item: number, unixS: number): void {
    this.#units.setWord(item, Field.expiresAt, unixS);
  }

  isExpired(item: number): boolean {
    const expiresAt = this.expiresAt(item);
    return expiresAt !== 0 && expiresAt <= this.now;
  }

  accessedAt(item: number): number {
    return this.#units.word(item, Field.accessedAt) >>> 0;
  }

  cas(item: number): number {
    const high = this.#units.word(item, Field.casHigh);
    return high * TWO_32 + (this.#units.word(item, Field.casLow) >>> 0);
  }

  setCas(item: number, cas: number): void {
    this.#units.setWord(item, Field.casLow, cas);
    this.#units.setWord(item, Field.casHigh, Math.floor(cas / TWO_32));
  }

  readKey(item: number, target: Buffer, at: number): void {
    this.#units.read(item, HEAD_SIZE, target, at, this.keySize(item));
  }

  /** Copies `size` bytes of the value from offset `from` on. */
  readValue(item: number, from: number, target: Buffer, at: number, size: number): void {
    this.#locate(this.keySize(item) + from, item);
    this.#units.read(this.#unit, this.#offset, target, at, size);
  }

  /** Overwrites `size` bytes of the value from offset `to` on. */
  writeValue(item: number, to: number, source: Buffer, at: number, size: number): void {
    this.#locate(this.keySize(item) + to, item);
    this.#units.write(this.#unit, this.#offset, source, at, size);
  }

  /** Finds the unit and the offset in it of byte `position` of the data of an item. */
  #locate(position: number, item: number): void {
    if (position < FIRST_SIZE) {
      this.#unit = item;
      this.#offset = HEAD_SIZE + position;
      return;
    }
    const beyond = position - FIRST_SIZE;
    this.#unit = this.#unitAt(item, 1 + Math.floor(beyond / UNIT_SIZE));
    this.#offset = beyond % UNIT_SIZE;
  }
  #unit = 0;
  #offset = 0;

  // ---- in steps ----------------------------------------------------------------------------

  /**
   * A bounded piece of the work that is not urgent: removes expired items, and brings the memory
   * in line with the limit. True while there is more of the latter.
   */
  maintain(steps: number): boolean {
    this.#sweep(steps);
    for (let left = steps; left > 0 && this.#isOverfull; left--) {
      const before = this.#units.usedCount;
      this.#evictOldest();
      left -= stepsFor(before - this.#units.usedCount);
    }
    if (this.#keptSegments >= 0) this.#shrink(steps);
    else if (this.#units.carvedCount > this.#units.capacity + SURPLUS_MIN) this.#startShrinking();
    const isTrimmed = this.trim();
    return this.#isOverfull || this.#keptSegments >= 0 || !isTrimmed;
  }

  get #isOverfull(): boolean {
    return this.#units.usedCount > this.#unitsMax && this.#order.oldest !== 0;
  }

  /** Gives memory that is no longer used back; true when there is no more of it. */
  trim(): boolean {
    return this.#units.trim(TRIM_SEGMENTS);
  }

  #sweep(steps: number): void {
    if (this.#index.itemCount === 0) return;
    let next = 0;
    const share = Math.ceil(this.#index.bucketCount / SWEEP_TURNS_MIN);
    for (let left = Math.min(steps, share); left > 0; left--) {
      if (this.#sweptBucket >= this.#index.bucketCount) this.#sweptBucket = 0;
      for (let item = this.#index.head(this.#sweptBucket); item !== 0; item = next) {
        next = this.#units.word(item, Field.chain);
        this.#counters[Counter.crawler_items_checked]!++;
        if (!this.isExpired(item)) continue;
        this.#counters[Counter.crawler_reclaimed]!++;
        if ((this.marks(item) & Mark.fetched) === 0) this.#counters[Counter.expired_unfetched]!++;
        this.remove(item);
      }
      this.#sweptBucket++;
    }
  }

  /**
   * Removes the items whose key `keeps` refuses, those of so many buckets at a time: goes on with
   * each call until it returns how many. Items that are stored meanwhile may or may not be met.
   */
  purge(
    keeps: (key: Buffer, from: number, to: number) => boolean,
  ): (steps: number) => number | null {
    let bucket = 0;
    let removedCount = 0;
    this.#index.walkerCount++;
    return (steps) => {
      let next = 0;
      for (let left = steps; left > 0 && bucket < this.#index.bucketCount; left--) {
        for (let item = this.#index.head(bucket); item !== 0; item = next) {
          next = this.#units.word(item, Field.chain);
          const size = this.keySize(item);
          this.readKey(item, wholeItem, 0);
          if (keeps(wholeItem, 0, size)) continue;
          removedCount++;
          this.remove(item);
        }
        bucket++;
      }
      if (bucket < this.#index.bucketCount) return null;
      this.#index.walkerCount--;
      return removedCount;
    };
  }

  #startShrinking(): void {
    if (this.#units.usedCount > this.#unitsMax) return;
    this.#keptSegments = segmentsFor(this.#units.capacity);
    this.#shrunkBucket = 0;
    this.#index.walkerCount++;
    this.#plan();
  }

  /**
   * Makes memory that can be given back: takes the last segments out of use, and moves the items
   * that have units in them. A limit that was raised meanwhile ends it.
   */
  #shrink(steps: number): void {
    if (segmentsFor(this.#affordable) > this.#keptSegments) return this.#growAgain(steps);
    const units = this.#units;
    let left = steps;
    for (; left > 0 && units.segmentCount > this.#keptSegments; left -= SEGMENT_STEPS) {
      units.withdraw();
    }
    if (units.segmentCount > this.#keptSegments) return;
    let next = 0;
    for (; left > 0 && this.#shrunkBucket < this.#index.bucketCount; left--) {
      for (let item = this.#index.head(this.#shrunkBucket); item !== 0; item = next) {
        next = units.word(item, Field.chain);
        left -= stepsFor(unitsFor(this.keySize(item) + this.valueSize(item)));
        if (this.#mustLeave(item)) this.#moveAway(item);
      }
      this.#shrunkBucket++;
    }
    if (this.#shrunkBucket < this.#index.bucketCount) return;
    units.cut();
    this.#endShrinking();
    this.#plan();
  }

  /** What was taken out of use comes back, segment by segment. */
  #growAgain(steps: number): void {
    for (let left = steps; left > 0 && this.#units.isVacating; left -= SEGMENT_STEPS) {
      this.#units.readmit();
    }
    if (this.#units.isVacating) return;
    this.#endShrinking();
    this.#plan();
  }

  #endShrinking(): void {
    if (this.#keptSegments >= 0) this.#index.walkerCount--;
    this.#keptSegments = -1;
  }

  #mustLeave(item: number): boolean {
    for (let unit = item; unit !== 0; unit = this.#units.link(unit)) {
      if (this.#units.mustLeave(unit)) return true;
    }
    return false;
  }

  #moveAway(item: number): void {
    const units = this.#units;
    const size = HEAD_SIZE + this.keySize(item) + this.valueSize(item);
    units.read(item, 0, wholeItem, 0, size);
    const count = unitsFor(size - HEAD_SIZE);
    // Both copies must fit; only an item that is large for its shard is lost here.
    if (units.usedCount + count > units.capacity) return this.remove(item);
    const moved = units.take(count);
    units.write(moved, 0, wholeItem, 0, size);
    this.#index.replace(item, moved);
    this.#order.moved(moved);
    units.give(item);
  }
}
