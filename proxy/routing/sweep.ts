/**
 * One coarse timer for all deadlines: every 10 ms, over the links that have something in flight.
 * No timer per request, and none at all while nothing is in flight.
 */
import type { Loop } from "../../core/io/loop.ts";
import type { Link } from "./link.ts";

export const SWEEP_INTERVAL_MS = 10;

export class Sweep {
  readonly #loop: Loop;
  readonly #links: Set<Link> = new Set();
  #timer: NodeJS.Timeout | null = null;
  readonly #tick = (): void => this.#sweep();

  constructor(loop: Loop) {
    this.#loop = loop;
  }

  /** Watches `link` until its `sweep` says that nothing is in flight. */
  add(link: Link): void {
    this.#links.add(link);
    this.#timer ??= setTimeout(this.#tick, SWEEP_INTERVAL_MS);
  }

  #sweep(): void {
    this.#loop.turn();
    const { nowMs } = this.#loop;
    for (const link of this.#links) if (!link.sweep(nowMs)) this.#links.delete(link);
    this.#timer = this.#links.size > 0 ? setTimeout(this.#tick, SWEEP_INTERVAL_MS) : null;
  }
}
