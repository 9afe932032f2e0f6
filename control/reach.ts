/** Whether the cluster state can be reached: asked every second, so that reads can say how old. */
import { type ClusterState, StateUnavailable } from "../core/cluster/state.ts";
import { type Clock, every, type Timer } from "../core/runtime/clock.ts";
import type { Logger } from "../core/runtime/log.ts";

const INTERVAL_MS = 1_000;

export class Reach {
  readonly #parts: { state: ClusterState; clock: Clock; log: Logger };
  #lastReachedMs: number;
  #isAway = false;
  #isAsking = false;
  #timer: Timer | undefined;

  constructor(parts: { state: ClusterState; clock: Clock; log: Logger }) {
    this.#parts = parts;
    this.#lastReachedMs = parts.clock.nowMs();
  }

  start(): void {
    this.#timer = every(INTERVAL_MS, () => void this.ask());
  }

  close(): void {
    this.#timer?.stop();
  }

  /** How old what we show may be; undefined while the state can be reached. */
  awayMs(): number | undefined {
    return this.#isAway ? this.#parts.clock.nowMs() - this.#lastReachedMs : undefined;
  }

  async ask(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    const { state, clock, log } = this.#parts;
    try {
      await state.get("cacheName", "none");
      if (this.#isAway) log.info({ awayMs: this.awayMs() }, "cluster state is back");
      this.#isAway = false;
      this.#lastReachedMs = clock.nowMs();
    } catch (error) {
      if (!this.#isAway) log.warn({ err: error }, "cluster state is away; changes are refused");
      this.#isAway = true;
      // Anything else is a bug, but not one that should end the API: it is in the log.
      if (!(error instanceof StateUnavailable))
        log.error({ err: error }, "asking the state failed");
    } finally {
      this.#isAsking = false;
    }
  }
}
