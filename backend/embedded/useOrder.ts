/**
 * The order in which the items of a shard were used last, as a list through their heads. Exact
 * over all items: whoever is at its end is the one that nobody wanted for the longest time.
 */
import { Field } from "./item.ts";
import type { Units } from "./units.ts";

export class UseOrder {
  newest = 0;
  oldest = 0;
  readonly #units: Units;

  constructor(units: Units) {
    this.#units = units;
  }

  add(item: number): void {
    const units = this.#units;
    units.setWord(item, Field.newer, 0);
    units.setWord(item, Field.older, this.newest);
    if (this.newest === 0) this.oldest = item;
    else units.setWord(this.newest, Field.newer, item);
    this.newest = item;
  }

  remove(item: number): void {
    const units = this.#units;
    this.#join(units.word(item, Field.older), units.word(item, Field.newer));
  }

  /** Makes two items, or the ends, neighbours. */
  #join(older: number, newer: number): void {
    if (newer === 0) this.newest = older;
    else this.#units.setWord(newer, Field.older, older);
    if (older === 0) this.oldest = newer;
    else this.#units.setWord(older, Field.newer, newer);
  }

  used(item: number): void {
    if (item === this.newest) return;
    this.remove(item);
    this.add(item);
  }

  /** `moved` is a copy of the item that its neighbours still know under another number. */
  moved(moved: number): void {
    const units = this.#units;
    const older = units.word(moved, Field.older);
    const newer = units.word(moved, Field.newer);
    this.#join(older, moved);
    this.#join(moved, newer);
  }

  clear(): void {
    this.newest = 0;
    this.oldest = 0;
  }
}
