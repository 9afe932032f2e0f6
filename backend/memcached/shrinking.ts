/**
 * Memory that a smaller plan takes away. `cache_memlimit` alone only stops memcached from taking
 * more: its pages stay with their slab classes. Each page that is reassigned to class 0, the pool
 * of free pages, goes back to the machine at once while there is more than the limit, and what it
 * held is kept where there is room, or evicted. A class keeps its last page, so a shard with values
 * of all sizes does not get below one megabyte for each class (about 40).
 */
import { sleep } from "../../core/runtime/clock.ts";
import { statsOf, type Until } from "./control.ts";

const PAGE_SIZE = 1 << 20;
const BUSY_MS = 2;
/** A page that is never done must not be waited for without end. */
const BUSY_COUNT_MAX = 5_000;

export class Shrinking {
  readonly #limit: number;
  readonly #ask: (command: string, until: Until) => Promise<string>;
  #isStopped = false;

  constructor(limit: number, ask: (command: string, until: Until) => Promise<string>) {
    this.#limit = limit;
    this.#ask = ask;
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** Resolves when no more can be given back; never rejects. */
  async run(): Promise<{ pagesMoved: number; outcome: string }> {
    let pagesMoved = 0;
    let busyCount = 0;
    try {
      let pagesOver = await this.#pagesOver();
      while (pagesOver > 0 && !this.#isStopped && busyCount < BUSY_COUNT_MAX) {
        const reply = await this.#ask("slabs reassign -1 0", "line");
        if (reply === "OK") {
          pagesMoved++;
          pagesOver--;
        } else if (reply.startsWith("BUSY")) {
          busyCount++;
          await sleep(BUSY_MS);
        } else {
          return { pagesMoved, outcome: reply }; // Each class has its last page.
        }
        if (pagesOver === 0) pagesOver = await this.#pagesOver();
      }
      return { pagesMoved, outcome: this.#isStopped ? "stopped" : "done" };
    } catch (error) {
      return { pagesMoved, outcome: (error as Error).message };
    }
  }

  async #pagesOver(): Promise<number> {
    const slabs = statsOf(await this.#ask("stats slabs", "END"));
    return Math.ceil((Number(slabs.get("total_malloced")) - this.#limit) / PAGE_SIZE);
  }
}
