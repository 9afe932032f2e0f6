/**
 * What memcached does to items, without its dialects: lookups that count and bump, conditional
 * stores, arithmetic, expiry, flush. `Items` holds them; this class decides. Operations take their
 * arguments in reused objects and answer with an item or an `Outcome`: nothing is made per command.
 *
 * Time comes in by `tick`, in whole seconds as in memcached: an item with one second to live is
 * gone when the next second begins.
 */
import { Counter, newCounters } from "./counters.ts";
import type { Seed } from "./hash.ts";
import { Mark } from "./item.ts";
import { Items } from "./items.ts";
import { parseUint64, writeUint64 } from "./numbers.ts";
import { type Delta, Mode, Outcome, type Write } from "./write.ts";

/** protocol.txt, "Expiration times": above this an exptime is a moment, not a distance. */
const RELATIVE_EXPTIME_MAX = 60 * 60 * 24 * 30;
const EXPIRED = 1;
const UINT32_MAX = 0xffff_ffff;
/** Work of one `tick` that could wait: about a millisecond at most. */
const MAINTAIN_STEPS = 2048;

/**
 * memcached's item limit (`-I 1m`) counts its own head too: 59 bytes besides key and value, and 4
 * more where client flags are kept (measured with 1.6.18; it is what `me` shows as size).
 */
const ITEM_SIZE_MAX = 1024 * 1024;
const ITEM_HEAD_SIZE = 59;
const ITEM_FLAGS_SIZE = 4;
export const itemSize = (keySize: number, valueSize: number, flags: number): number =>
  ITEM_HEAD_SIZE + keySize + valueSize + (flags === 0 ? 0 : ITEM_FLAGS_SIZE);

const SPACE = 32;

/** Whole values on their way through arithmetic and prepend; pages are touched as they are used. */
const scratch = Buffer.from(new ArrayBuffer(ITEM_SIZE_MAX));

export type StoreOptions = {
  /** All memory that the items may take; `Items` tells what counts. */
  bytes: number;
  unixS: number;
  seed: Seed;
  /** Cas uniques grow from here. */
  casStart?: number;
};

export class Store {
  readonly counters: Float64Array = newCounters();
  readonly items: Items;
  /** Cas unique of the item that was stored last. */
  lastCas: number;
  /** The item that was stored last. */
  lastItem = 0;
  readonly #startedAt: number;
  #flushAt = 0;

  constructor({ bytes, unixS, seed, casStart = 0 }: StoreOptions) {
    this.items = new Items({ limit: bytes, seed, counters: this.counters });
    this.items.now = unixS;
    this.#startedAt = unixS;
    this.lastCas = casStart;
  }

  /** Whole seconds since 1970. */
  get now(): number {
    return this.items.now;
  }

  get uptimeS(): number {
    return this.items.now - this.#startedAt;
  }

  /**
   * Brings the time, and does a bounded piece of the work that is not urgent. True while memory is
   * still to be brought in line with the limit: then it should be called again soon.
   */
  tick(unixS: number): boolean {
    this.setTime(unixS);
    return this.items.maintain(MAINTAIN_STEPS);
  }

  /** Only brings the time; it never goes back, so nothing that expired returns. */
  setTime(unixS: number): void {
    if (unixS <= this.items.now) return;
    this.items.now = unixS;
    if (this.#flushAt !== 0 && unixS >= this.#flushAt) this.#flushNow();
  }

  /** When an item with this exptime expires: unix seconds, 0 for never. */
  expiryOf(exptime: number): number {
    if (exptime === 0) return 0;
    if (exptime < 0) return EXPIRED;
    return Math.min(exptime > RELATIVE_EXPTIME_MAX ? exptime : this.now + exptime, UINT32_MAX);
  }

  // ---- reading -----------------------------------------------------------------------------

  /** The living item of a key, or 0. Does not count as a use. */
  find(bytes: Buffer, at: number, size: number): number {
    const item = this.items.find(bytes, at, size);
    if (item === 0 || !this.items.isExpired(item)) return item;
    this.counters[Counter.get_expired]!++;
    if ((this.items.marks(item) & Mark.fetched) === 0) this.counters[Counter.expired_unfetched]!++;
    this.items.remove(item);
    return 0;
  }

  get(bytes: Buffer, at: number, size: number): number {
    const item = this.find(bytes, at, size);
    this.countGet(item);
    if (item !== 0) this.fetched(item);
    return item;
  }

  /** Get and touch: the item gets a new time to live. */
  touch(bytes: Buffer, at: number, size: number, expiresAt: number): number {
    const item = this.find(bytes, at, size);
    this.countTouch(item);
    if (item === 0) return 0;
    this.items.setExpiresAt(item, expiresAt);
    this.fetched(item);
    return item;
  }

  countGet(item: number): void {
    this.counters[Counter.cmd_get]!++;
    this.counters[item === 0 ? Counter.get_misses : Counter.get_hits]!++;
  }

  countTouch(item: number): void {
    this.counters[Counter.cmd_touch]!++;
    this.counters[item === 0 ? Counter.touch_misses : Counter.touch_hits]!++;
  }

  /** It was read: this counts as a use. */
  fetched(item: number): void {
    const marks = this.items.marks(item);
    if ((marks & Mark.fetched) === 0) this.items.setMarks(item, marks | Mark.fetched);
    this.items.used(item);
  }

  // ---- storing -----------------------------------------------------------------------------

  /** Stores a value on its condition; then `lastItem` and `lastCas` are the item's. */
  write(write: Write): Outcome {
    this.counters[Counter.cmd_set]!++;
    return this.put(write);
  }

  /** The same for values that we make ourselves; not a `cmd_set`. */
  put(write: Write): Outcome {
    if (itemSize(write.keySize, write.valueSize, write.flags) > ITEM_SIZE_MAX) {
      return this.refuse(write, Outcome.tooLarge);
    }
    if (!this.items.couldHold(write.keySize + write.valueSize)) {
      return this.refuse(write, Outcome.noMemory);
    }
    const item = this.find(write.keyBytes, write.keyAt, write.keySize);
    return item === 0 ? this.#create(write) : this.#update(item, write);
  }

  /** A value that can not be kept. Whoever wanted to replace a value must not read the old one. */
  refuse(write: Write, outcome: Outcome): Outcome {
    const counter =
      outcome === Outcome.tooLarge ? Counter.store_too_large : Counter.store_no_memory;
    this.counters[counter]!++;
    if (write.dropsOld) {
      const item = this.find(write.keyBytes, write.keyAt, write.keySize);
      if (item !== 0) this.items.remove(item);
    }
    return outcome;
  }

  #create(write: Write): Outcome {
    if (write.mode === Mode.cas) {
      this.counters[Counter.cas_misses]!++;
      return Outcome.notFound;
    }
    if (write.mode !== Mode.set && write.mode !== Mode.add) return Outcome.notStored;
    const { keyBytes, keyAt, keySize } = write;
    this.#fill(this.items.create(keyBytes, keyAt, keySize, write.valueSize), write, 0);
    return Outcome.done;
  }

  #update(item: number, write: Write): Outcome {
    switch (write.mode) {
      case Mode.add:
        this.items.used(item);
        return Outcome.notStored;
      case Mode.cas:
        return this.#compareAndSwap(item, write);
      case Mode.append:
      case Mode.prepend:
        if (write.cas !== 0 && write.cas !== this.items.cas(item)) return Outcome.exists;
        return this.#extend(item, write);
      default:
        this.#replace(item, write, 0);
        return Outcome.done;
    }
  }

  #compareAndSwap(item: number, write: Write): Outcome {
    const current = this.items.cas(item);
    if (write.cas === current) {
      this.counters[Counter.cas_hits]!++;
      this.#replace(item, write, 0);
      return Outcome.done;
    }
    if (write.allowStale && write.cas !== 0 && write.cas < current) {
      // protocol.txt, "Meta Set", flag I: the value is kept as stale, under the old time to live,
      // and whoever was told to recache it still is.
      write.expiresAt = this.items.expiresAt(item);
      this.#replace(item, write, Mark.stale | (this.items.marks(item) & Mark.won));
      return Outcome.done;
    }
    this.counters[Counter.cas_badval]!++;
    return Outcome.exists;
  }

  #replace(item: number, write: Write, marks: number): void {
    const { keyBytes, keyAt, valueSize } = write;
    this.#fill(this.items.resize(item, keyBytes, keyAt, valueSize), write, marks);
  }

  #fill(item: number, write: Write, marks: number): void {
    this.items.writeValue(item, 0, write.valueBytes, write.valueAt, write.valueSize);
    this.items.setFlags(item, write.flags);
    this.items.setExpiresAt(item, write.expiresAt);
    this.#stored(item, marks | (write.binaryKey ? Mark.binaryKey : 0));
  }

  /** Append and prepend leave flags and time to live alone (protocol.txt, "Storage commands"). */
  #extend(item: number, write: Write): Outcome {
    const oldSize = this.items.valueSize(item);
    const newSize = oldSize + write.valueSize;
    const { keySize } = write;
    if (itemSize(keySize, newSize, this.items.flags(item)) > ITEM_SIZE_MAX)
      return Outcome.notStored;
    if (!this.items.couldHold(keySize + newSize)) return Outcome.notStored;
    const flags = this.items.flags(item);
    const expiresAt = this.items.expiresAt(item);
    this.items.readValue(item, 0, scratch, 0, oldSize);
    const grown = this.items.resize(item, write.keyBytes, write.keyAt, newSize);
    const prepends = write.mode === Mode.prepend;
    const { valueBytes, valueAt, valueSize } = write;
    this.items.writeValue(grown, prepends ? valueSize : 0, scratch, 0, oldSize);
    this.items.writeValue(grown, prepends ? 0 : oldSize, valueBytes, valueAt, valueSize);
    this.items.setFlags(grown, flags);
    this.items.setExpiresAt(grown, expiresAt);
    this.#stored(grown, 0);
    return Outcome.done;
  }

  #stored(item: number, marks: number): void {
    this.items.setMarks(item, marks);
    this.items.used(item);
    this.items.setCas(item, this.#nextCas());
    this.lastItem = item;
    this.counters[Counter.total_items]!++;
  }

  #nextCas(): number {
    this.lastCas++;
    return this.lastCas;
  }

  /**
   * Adds to or subtracts from a decimal number (protocol.txt, "Increment/Decrement"). A result that
   * fits keeps the length of the old value, padded with blanks, as memcached does.
   */
  count(delta: Delta): Outcome {
    const item = this.find(delta.keyBytes, delta.keyAt, delta.keySize);
    if (item === 0) {
      this.counters[delta.decrements ? Counter.decr_misses : Counter.incr_misses]!++;
      return Outcome.notFound;
    }
    const oldSize = this.items.valueSize(item);
    if (oldSize === 0) return Outcome.nonNumeric;
    if (delta.cas !== 0 && delta.cas !== this.items.cas(item)) return Outcome.exists;
    this.items.readValue(item, 0, scratch, 0, oldSize);
    const { result } = delta;
    if (!parseUint64(scratch, 0, oldSize, result)) return Outcome.nonNumeric;
    this.counters[delta.decrements ? Counter.decr_hits : Counter.incr_hits]!++;
    if (delta.decrements) result.subtract(delta.amount);
    else result.add(delta.amount);
    const size = writeUint64(scratch, 0, result);
    if (size > oldSize) {
      const flags = this.items.flags(item);
      const expiresAt = this.items.expiresAt(item);
      const grown = this.items.resize(item, delta.keyBytes, delta.keyAt, size);
      this.items.writeValue(grown, 0, scratch, 0, size);
      this.items.setFlags(grown, flags);
      this.items.setExpiresAt(grown, expiresAt);
      this.#stored(grown, 0);
      return Outcome.done;
    }
    scratch.fill(SPACE, size, oldSize);
    this.items.writeValue(item, 0, scratch, 0, oldSize);
    this.items.used(item);
    this.items.setCas(item, this.#nextCas());
    this.lastItem = item;
    return Outcome.done;
  }

  // ---- removing ----------------------------------------------------------------------------

  /** Deletes, if `cas` is 0 or the item's. */
  delete(bytes: Buffer, at: number, size: number, cas: number): Outcome {
    const item = this.find(bytes, at, size);
    if (item === 0) {
      this.counters[Counter.delete_misses]!++;
      return Outcome.notFound;
    }
    if (cas !== 0 && cas !== this.items.cas(item)) return Outcome.exists;
    this.counters[Counter.delete_hits]!++;
    this.items.remove(item);
    return Outcome.done;
  }

  /** Keeps an item, but as stale: the next client that can tell wins the right to recache it. */
  invalidate(item: number): void {
    const marks = this.items.marks(item);
    this.items.setMarks(item, (marks | Mark.stale) & ~Mark.won);
    this.items.setCas(item, this.#nextCas());
  }

  /**
   * Empties the shard, now or later. A delay counts in begun seconds, as in memcached: an exptime
   * of 1 is now. A later flush replaces one that is still to come.
   */
  flush(exptime: number): void {
    this.counters[Counter.cmd_flush]!++;
    const dueAt = exptime > 0 ? this.expiryOf(exptime) - 1 : 0;
    this.#flushAt = 0;
    if (dueAt > this.now) this.#flushAt = dueAt;
    else this.#flushNow();
  }

  #flushNow(): void {
    this.#flushAt = 0;
    this.#nextCas();
    this.items.clear();
  }
}
