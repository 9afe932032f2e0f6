/**
 * Who watches the monitors: every role does. A monitor's record goes with its process and changes
 * every half minute while it looks around; one that is gone, or stands still, is silent. Roles say
 * so on /metrics, monitors make an incident of it.
 */
import { type Clock, every, clock as systemClock, type Timer } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import { type MetricTable, type Registry, registerMetrics } from "../runtime/metrics.ts";
import type { ClusterState, Watch } from "./state.ts";

/** Its record is written anew three times in so long. */
export const SILENT_AFTER_MS = 90_000;
/** Names of monitors that are gone are kept for so long; then they were taken away on purpose. */
const GONE_MS_MAX = 24 * 60 * 60_000;
const NAME_COUNT_MAX = 64;
const RETRY_INTERVAL_MS = 5_000;

export const MONITOR_WATCH_METRICS = {
  monitors: {
    name: "memward_monitors",
    kind: "gauge",
    labels: ["state"],
    help: "Monitors that this process knows: alive, or silent (gone or standing still).",
  },
  silent: {
    name: "memward_monitor_silent",
    kind: "gauge",
    labels: ["monitor"],
    help: "Whether a monitor that was here has gone silent: 1 or 0.",
  },
} as const satisfies MetricTable;

interface Sight {
  isThere: boolean;
  /** By our own clock: when its record changed last, or went. */
  changedAtMs: number;
  /** Its silence was logged. */
  isTold: boolean;
}

export class MonitorWatch {
  readonly #state: Pick<ClusterState, "list" | "watch">;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #seen = new Map<string, Sight>();
  #watch: Watch | undefined;
  #timer: Timer | undefined;
  #isStarting = false;

  constructor(it: { state: Pick<ClusterState, "list" | "watch">; log: Logger; clock?: Clock }) {
    this.#state = it.state;
    this.#log = it.log;
    this.#clock = it.clock ?? systemClock;
  }

  /** Begins in the background, and again while the state is away. */
  start(): void {
    void this.#begin();
    this.#timer = every(RETRY_INTERVAL_MS, () => {
      void this.#begin();
      this.#tellSilence();
    });
  }

  close(): void {
    this.#timer?.stop();
    this.#watch?.close();
  }

  /** Names of monitors that were here and say nothing any more, with since when, by `nowMs`. */
  silent(): { name: string; silentMs: number }[] {
    const nowMs = this.#clock.nowMs();
    return [...this.#seen]
      .filter(([, sight]) => this.#isSilent(sight))
      .map(([name, { changedAtMs }]) => ({ name, silentMs: nowMs - changedAtMs }));
  }

  get aliveCount(): number {
    return [...this.#seen.values()].filter((sight) => !this.#isSilent(sight)).length;
  }

  registerMetrics(registry: Registry): void {
    registerMetrics(registry, MONITOR_WATCH_METRICS, {
      monitors: (emit) => {
        emit(this.aliveCount, "alive");
        emit(this.#seen.size - this.aliveCount, "silent");
      },
      silent: (emit) => {
        for (const [name, sight] of this.#seen) emit(this.#isSilent(sight) ? 1 : 0, name);
      },
    });
  }

  #isSilent({ isThere, changedAtMs }: Sight): boolean {
    return !isThere || this.#clock.nowMs() - changedAtMs > SILENT_AFTER_MS;
  }

  async #begin(): Promise<void> {
    if (this.#watch !== undefined || this.#isStarting) return;
    this.#isStarting = true;
    try {
      const { entries, revision } = await this.#state.list("monitor");
      for (const { id } of entries) this.#see(id, true);
      this.#watch = this.#state.watch(revision, {
        changed: (seen) => {
          for (const one of seen) if (one.kind === "monitor") this.#see(one.id, one.value !== null);
        },
        // Those that still live are told again at once.
        reset: () => {
          for (const sight of this.#seen.values()) sight.isThere = false;
        },
      });
    } catch (error) {
      this.#log.debug({ err: error }, "monitors cannot be followed yet");
    } finally {
      this.#isStarting = false;
    }
  }

  #see(name: string, isThere: boolean): void {
    const nowMs = this.#clock.nowMs();
    const before = this.#seen.get(name);
    if (before === undefined && (!isThere || this.#seen.size >= NAME_COUNT_MAX)) return;
    if (isThere && before?.isTold) this.#log.info({ monitor: name }, "the monitor is back");
    this.#seen.set(name, { isThere, changedAtMs: nowMs, isTold: false });
  }

  #tellSilence(): void {
    for (const [name, sight] of this.#seen) {
      if (!this.#isSilent(sight)) continue;
      if (this.#clock.nowMs() - sight.changedAtMs > GONE_MS_MAX) this.#seen.delete(name);
      else if (!sight.isTold) this.#log.warn({ monitor: name }, "a monitor is silent");
      sight.isTold = true;
    }
  }
}
