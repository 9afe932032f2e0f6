/**
 * Whether this machine has less CPU than its processes want. Then everything is late, healthy or
 * not, and whoever judges others by their lateness has to be patient. Two signs: how late we are
 * called ourselves, and what the kernel says (pressure stall information, where it has that).
 */
import { readFileSync } from "node:fs";

const PRESSURE_FILE = "/proc/pressure/cpu";
/** Part of the time in which some process waited for a CPU. Two busy processes on a core make 0.5. */
const PRESSURE_MAX = 0.75;
const PRESSURE_INTERVAL_MS = 1_000;
/** Called so much later than asked for. */
const LATE_MS_MAX = 50;
/** One bad moment counts for so long. */
const STARVED_MS = 2_000;

export interface StarvationParts {
  /** Microseconds in which some process waited for a CPU since the start; undefined if unknown. */
  readStalledUs?: () => number | undefined;
  nowMs: number;
}

export class Starvation {
  readonly #readStalledUs: () => number | undefined;
  #starvedUntilMs = 0;
  #isStarved = false;
  #calledAtMs: number;
  #readAtMs: number;
  #stalledUs: number | undefined;

  constructor({ readStalledUs = readPressure, nowMs }: StarvationParts) {
    this.#readStalledUs = readStalledUs;
    this.#calledAtMs = nowMs;
    this.#readAtMs = nowMs;
    this.#stalledUs = readStalledUs();
  }

  /** As of the last call of `tick`. */
  get isStarved(): boolean {
    return this.#isStarved;
  }

  /** To be called every `intervalMs`, as well as that goes. */
  tick(nowMs: number, intervalMs: number): void {
    const lateMs = nowMs - this.#calledAtMs - intervalMs;
    this.#calledAtMs = nowMs;
    if (lateMs > LATE_MS_MAX || this.#isUnderPressure(nowMs)) {
      this.#starvedUntilMs = nowMs + STARVED_MS;
    }
    this.#isStarved = nowMs < this.#starvedUntilMs;
  }

  #isUnderPressure(nowMs: number): boolean {
    const passedMs = nowMs - this.#readAtMs;
    if (this.#stalledUs === undefined || passedMs < PRESSURE_INTERVAL_MS) return false;
    const before = this.#stalledUs;
    this.#stalledUs = this.#readStalledUs();
    this.#readAtMs = nowMs;
    return ((this.#stalledUs ?? before) - before) / (passedMs * 1_000) > PRESSURE_MAX;
  }
}

/** The total of the line `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. */
function readPressure(): number | undefined {
  try {
    const found = /^some .*total=(\d+)/.exec(readFileSync(PRESSURE_FILE, "latin1"));
    return found === null ? undefined : Number(found[1]);
  } catch {
    return undefined; // Another system, or a kernel without it: our own lateness has to do.
  }
}
