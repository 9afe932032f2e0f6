/**
 * Whether the machine had no CPU for a process when it should have answered: the kernel counts how
 * long a thread that could run had to wait (Linux, /proc/PID/schedstat). Tells a busy machine from
 * a fault of ours; elsewhere nothing is ever excused.
 */
import { readFileSync } from "node:fs";

const SAMPLE_INTERVAL_MS = 100;
/** An error is looked at a moment after what made it. */
const SAMPLE_COUNT_MAX = 12;
/** Of the 250 ms that a shard may be silent. */
const WAITED_MS_MAX = 50;

export class Starvation {
  readonly #pids: () => readonly number[];
  readonly #timer: NodeJS.Timeout;
  /** Waiting time of each process, newest last. */
  #samples: Map<number, number>[] = [];

  constructor(pids: () => readonly number[]) {
    this.#pids = pids;
    this.#timer = setInterval(() => this.#sample(), SAMPLE_INTERVAL_MS);
  }

  /** Some process waited for a CPU, some time in the last second or so. */
  wasSeen(): boolean {
    this.#sample();
    return this.#samples.some((sample, index) => {
      const next = this.#samples[index + 1];
      return [...sample].some(([pid, waitedMs]) => {
        return (next?.get(pid) ?? waitedMs) - waitedMs > WAITED_MS_MAX;
      });
    });
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    const sample = new Map(this.#pids().map((pid) => [pid, waitedMs(pid)]));
    this.#samples = [...this.#samples, sample].slice(-SAMPLE_COUNT_MAX);
  }
}

function waitedMs(pid: number): number {
  try {
    const [, waitedNs = "0"] = readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ");
    return Number(waitedNs) / 1e6;
  } catch {
    return 0; // It has ended, or this is not Linux.
  }
}
