/**
 * The memory of one shard: units of 64 bytes, in segments that are allocated as they are first
 * needed. Everything a shard stores is a chain of units, so memory that one item leaves serves any
 * other item, whatever its size: there are no size classes that could calcify. Units in a row are
 * one extent; free neighbours melt into one, and a chain is made of as few extents as can be, since
 * a value scattered over the memory costs ten times the time of one in a row (cache misses).
 *
 *     segment = | unit | unit | unit | … 16,384 … | link of each unit |
 *
 *     link of a used unit        number of the next unit of its chain, 0 at the end of the chain
 *     link of a free extent      at its first and last unit: minus the number of its units
 *     first unit of a free one   holds the next and the previous extent of about the same length
 *
 * Unit 0 is never handed out. Invariant: each unit is in one chain, in one free extent, or not
 * below `carvedCount`; no two free extents are neighbours.
 */

export const UNIT_SIZE = 64;
/** What a unit takes of the memory: itself and its link. */
export const UNIT_COST = UNIT_SIZE + 4;
const UNIT_WORDS = UNIT_SIZE / 4;
const SEGMENT_SHIFT = 14;
export const SEGMENT_UNITS = 1 << SEGMENT_SHIFT;
const UNIT_MASK = SEGMENT_UNITS - 1;

/** Free extents are listed by length: 1 … 16 exactly, then by powers of two up to a segment. */
const EXACT_MAX = 16;
const LIST_COUNT = EXACT_MAX + SEGMENT_SHIFT - 4 + 1;
const listOf = (length: number): number =>
  length <= EXACT_MAX ? length - 1 : EXACT_MAX + 31 - Math.clz32(length) - 4;
/** Extents of one list that are looked at for the right length. */
const LOOKS_MAX = 8;

/** Words of the first unit of a free extent. */
const Free = { next: 0, previous: 1 } as const;

export class Units {
  usedCount = 0;
  /** Units from this number on were never handed out. */
  carvedCount = 1;
  /** How many units may be carved; beyond, what is free must do. */
  capacity = 0;
  readonly #words: Int32Array[] = [];
  readonly #bytes: Buffer[] = [];
  readonly #links: Int32Array[] = [];
  /** First extent of each list, 0 if it is empty, and a bit for each that is not. */
  readonly #firsts = new Int32Array(LIST_COUNT);
  #listed = 0;
  /** While vacating: units from here on are not handed out. */
  #end = Number.POSITIVE_INFINITY;

  /** Word `field` of a unit. */
  word(unit: number, field: number): number {
    return this.#words[unit >>> SEGMENT_SHIFT]![(unit & UNIT_MASK) * UNIT_WORDS + field]!;
  }

  setWord(unit: number, field: number, value: number): void {
    this.#words[unit >>> SEGMENT_SHIFT]![(unit & UNIT_MASK) * UNIT_WORDS + field] = value;
  }

  link(unit: number): number {
    return this.#links[unit >>> SEGMENT_SHIFT]![unit & UNIT_MASK]!;
  }

  setLink(unit: number, next: number): void {
    this.#links[unit >>> SEGMENT_SHIFT]![unit & UNIT_MASK] = next;
  }

  // ---- handing out -----------------------------------------------------------------------------

  /** A chain of `count` units; the caller knows that so many are free. */
  take(count: number): number {
    this.usedCount += count;
    let first = 0;
    let last = 0;
    for (let left = count; left > 0; ) {
      const unit = this.#takeExtent(left);
      const length = this.#taken;
      if (last === 0) first = unit;
      else this.setLink(last, unit);
      last = unit + length - 1;
      for (let here = unit; here < last; here++) this.setLink(here, here + 1);
      left -= length;
    }
    this.setLink(last, 0);
    return first;
  }

  /** Up to `count` units in a row; `#taken` tells how many. */
  #takeExtent(count: number): number {
    const wanted = Math.min(count, SEGMENT_UNITS);
    const fitting = this.#fittingExtent(wanted);
    if (fitting !== 0) return this.#split(fitting, wanted);
    if (this.carvedCount <= this.capacity) return this.#carve(wanted);
    // Nothing is long enough: the longest there is, give or take a power of two.
    return this.#split(this.#firsts[31 - Math.clz32(this.#listed)]!, wanted);
  }
  #taken = 0;

  /** A free extent of at least `count` units, as short as a quick look finds; 0 if there is none. */
  #fittingExtent(count: number): number {
    const list = listOf(count);
    let extent = this.#firsts[list]!;
    for (let looks = 0; looks < LOOKS_MAX && extent !== 0; looks++) {
      if (-this.link(extent) >= count) return extent;
      extent = this.word(extent, Free.next);
    }
    const longer = this.#listed & (-2 << list);
    return longer === 0 ? 0 : this.#firsts[31 - Math.clz32(longer & -longer)]!;
  }

  #split(extent: number, count: number): number {
    const length = -this.link(extent);
    this.#unlist(extent, length);
    this.#taken = Math.min(length, count);
    if (length > count) this.#list(extent + count, length - count);
    return extent;
  }

  #carve(count: number): number {
    const unit = this.carvedCount;
    if (unit >>> SEGMENT_SHIFT === this.#words.length) this.#addSegment();
    const untilEnd = SEGMENT_UNITS - (unit & UNIT_MASK);
    this.#taken = Math.min(count, untilEnd, this.capacity - unit + 1);
    this.carvedCount += this.#taken;
    return unit;
  }

  #addSegment(): void {
    // Zero pages until they are written: resident memory follows use.
    const memory = new ArrayBuffer(SEGMENT_UNITS * UNIT_COST);
    this.#words.push(new Int32Array(memory, 0, SEGMENT_UNITS * UNIT_WORDS));
    this.#bytes.push(Buffer.from(memory, 0, SEGMENT_UNITS * UNIT_SIZE));
    this.#links.push(new Int32Array(memory, SEGMENT_UNITS * UNIT_SIZE, SEGMENT_UNITS));
  }

  // ---- taking back -----------------------------------------------------------------------------

  /** Takes back a whole chain. */
  give(first: number): void {
    for (let unit = first; unit !== 0; ) {
      const start = unit;
      let last = unit;
      unit = this.link(last);
      while (unit === last + 1 && (unit & UNIT_MASK) !== 0) {
        last = unit;
        unit = this.link(last);
      }
      this.usedCount -= last - start + 1;
      this.#melt(start, last - start + 1);
    }
  }

  /** Makes an extent free, together with its free neighbours. */
  #melt(extent: number, length: number): void {
    let start = extent;
    let end = extent + length;
    const before = (start & UNIT_MASK) === 0 ? 0 : this.link(start - 1);
    if (before < 0) {
      start += before;
      this.#unlist(start, -before);
    }
    const after = (end & UNIT_MASK) === 0 || end >= this.carvedCount ? 0 : this.link(end);
    if (after < 0) {
      this.#unlist(end, -after);
      end -= after;
    }
    this.#list(start, end - start);
  }

  #list(extent: number, length: number): void {
    this.setLink(extent, -length);
    this.setLink(extent + length - 1, -length);
    if (extent >= this.#end) return;
    const list = listOf(length);
    const next = this.#firsts[list]!;
    this.setWord(extent, Free.next, next);
    this.setWord(extent, Free.previous, 0);
    if (next !== 0) this.setWord(next, Free.previous, extent);
    this.#firsts[list] = extent;
    this.#listed |= 1 << list;
  }

  #unlist(extent: number, length: number): void {
    if (extent >= this.#end) return;
    const list = listOf(length);
    const next = this.word(extent, Free.next);
    const previous = this.word(extent, Free.previous);
    if (next !== 0) this.setWord(next, Free.previous, previous);
    if (previous !== 0) {
      this.setWord(previous, Free.next, next);
    } else {
      this.#firsts[list] = next;
      if (next === 0) this.#listed &= ~(1 << list);
    }
  }

  /** Forgets every chain, at once; `trim` gives the memory back. */
  clear(): void {
    this.usedCount = 0;
    this.carvedCount = 1;
    this.#firsts.fill(0);
    this.#listed = 0;
    this.#end = Number.POSITIVE_INFINITY;
  }

  // ---- giving memory back to the machine ---------------------------------------------------------

  get isVacating(): boolean {
    return this.#end !== Number.POSITIVE_INFINITY;
  }

  /** True for units that their owner must move away. */
  mustLeave(unit: number): boolean {
    return unit >= this.#end;
  }

  /** Segments of which units are handed out. */
  get segmentCount(): number {
    return (
      Math.min(this.#end, Math.ceil(this.carvedCount / SEGMENT_UNITS) * SEGMENT_UNITS) /
      SEGMENT_UNITS
    );
  }

  /** From now on no unit of the last such segment is handed out. */
  withdraw(): void {
    const end = (this.segmentCount - 1) * SEGMENT_UNITS;
    for (let unit = end; unit < Math.min(this.carvedCount, end + SEGMENT_UNITS); ) {
      const link = this.link(unit);
      if (link < 0) this.#unlist(unit, -link);
      unit += link < 0 ? -link : 1;
    }
    this.#end = end;
  }

  /** Undoes `withdraw` for the first segment that was withdrawn. */
  readmit(): void {
    const start = this.#end;
    this.#end = start + SEGMENT_UNITS;
    const behind = Math.min(this.carvedCount, this.#end);
    for (let unit = start; unit < behind; ) {
      const link = this.link(unit);
      if (link < 0) this.#list(unit, -link);
      unit += link < 0 ? -link : 1;
    }
    if (this.#end >= this.carvedCount) this.#end = Number.POSITIVE_INFINITY;
  }

  /** The segments that were vacated are no longer ours; nothing may be left in them. */
  cut(): void {
    this.carvedCount = Math.min(this.carvedCount, this.#end);
    this.#end = Number.POSITIVE_INFINITY;
  }

  /**
   * Gives up to `count` segments without units back to the machine, now and not when the collector
   * comes by. (Up to 0.3 ms for each: unmapping is slow.) True when there are no more.
   */
  trim(count: number): boolean {
    const needed = this.carvedCount === 1 ? 0 : Math.ceil(this.carvedCount / SEGMENT_UNITS);
    const kept = Math.max(needed, this.#bytes.length - count);
    for (const segment of this.#bytes.slice(kept)) (segment.buffer as ArrayBuffer).transfer(0);
    for (const views of [this.#words, this.#bytes, this.#links]) {
      views.length = Math.min(views.length, kept);
    }
    return kept === needed;
  }

  // ---- bytes -----------------------------------------------------------------------------------

  /**
   * How many of `sizeWanted` bytes from offset `at` of `unit` lie in a row; `#runEnd` is then the
   * unit behind the run. Segments are separate memory, so a run ends at their border.
   */
  #run(unit: number, at: number, sizeWanted: number): number {
    let last = unit;
    let size = UNIT_SIZE - at;
    let next = this.link(last);
    while (size < sizeWanted && next === last + 1 && (next & UNIT_MASK) !== 0) {
      last = next;
      size += UNIT_SIZE;
      next = this.link(last);
    }
    this.#runEnd = next;
    return size < sizeWanted ? size : sizeWanted;
  }
  #runEnd = 0;

  /** Copies `size` bytes of a chain, from offset `at` of `unit` on, to `target`. */
  read(unit: number, at: number, target: Buffer, targetAt: number, size: number): void {
    let from = unit;
    let fromAt = at;
    let to = targetAt;
    let left = size;
    while (left > 0) {
      const part = this.#run(from, fromAt, left);
      const start = (from & UNIT_MASK) * UNIT_SIZE + fromAt;
      this.#bytes[from >>> SEGMENT_SHIFT]!.copy(target, to, start, start + part);
      to += part;
      left -= part;
      from = this.#runEnd;
      fromAt = 0;
    }
  }

  /** Copies `size` bytes of `source` into a chain, from offset `at` of `unit` on. */
  write(unit: number, at: number, source: Buffer, sourceAt: number, size: number): void {
    let to = unit;
    let toAt = at;
    let from = sourceAt;
    let left = size;
    while (left > 0) {
      const part = this.#run(to, toAt, left);
      const start = (to & UNIT_MASK) * UNIT_SIZE + toAt;
      source.copy(this.#bytes[to >>> SEGMENT_SHIFT]!, start, from, from + part);
      from += part;
      left -= part;
      to = this.#runEnd;
      toAt = 0;
    }
  }

  /** Whether a chain holds these bytes from offset `at` of `unit` on. */
  equals(unit: number, at: number, other: Buffer, otherAt: number, size: number): boolean {
    let here = unit;
    let hereAt = at;
    let there = otherAt;
    let left = size;
    while (left > 0) {
      const part = Math.min(left, UNIT_SIZE - hereAt);
      const bytes = this.#bytes[here >>> SEGMENT_SHIFT]!;
      const start = (here & UNIT_MASK) * UNIT_SIZE + hereAt;
      for (let i = 0; i < part; i++) if (bytes[start + i] !== other[there + i]) return false;
      there += part;
      left -= part;
      here = this.link(here);
      hereAt = 0;
    }
    return true;
  }
}
