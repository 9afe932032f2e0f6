/** One shard as its executors see it: its store, where replies go, and objects that are reused. */
import { newCounters } from "./counters.ts";
import type { Output } from "./output.ts";
import { Store, type StoreOptions } from "./store.ts";
import { Delta, Write } from "./write.ts";

export type ShardOptions = Omit<StoreOptions, "unixS"> & {
  /** Monotonic milliseconds now, and what must be added to them for milliseconds since 1970. */
  nowMs: number;
  clockOffsetMs: number;
};

export class Shard {
  readonly store: Store;
  /** All shards of a process answer one command at a time, so one output serves them all. */
  readonly output: Output;
  readonly write: Write = new Write();
  readonly delta: Delta = new Delta();
  connectionCount = 0;
  /** The counters as they were at the last `stats reset`; those of the store never go back. */
  readonly countersBefore: Float64Array = newCounters();
  /** Items live by a clock that never steps, even when the machine's owner sets the other one. */
  readonly #clockOffsetMs: number;

  constructor(output: Output, options: ShardOptions) {
    this.output = output;
    this.#clockOffsetMs = options.clockOffsetMs;
    this.store = new Store({ ...options, unixS: this.#seconds(options.nowMs) });
  }

  /** Before each command: time passes while nothing ticks. */
  setTime(nowMs: number): void {
    this.store.setTime(this.#seconds(nowMs));
  }

  /** As of the store. */
  tick(nowMs: number): boolean {
    return this.store.tick(this.#seconds(nowMs));
  }

  #seconds(nowMs: number): number {
    return Math.floor((nowMs + this.#clockOffsetMs) / 1000);
  }
}
