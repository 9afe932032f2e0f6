/**
 * Counters of the hot path: typed arrays that are read at scrape time. One object per cache and
 * one latency histogram per shard.
 */
import { COMMAND_COUNT, RESULT_COUNT } from "../../core/protocol/command.ts";

/** Upper bounds of the latency buckets, seconds; one more counts what is above. */
export const LATENCY_BOUNDS_SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
] as const;
const BOUNDS_MS = Float64Array.from(LATENCY_BOUNDS_SECONDS, (seconds) => seconds * 1000);

export class Histogram {
  readonly counts: Float64Array = new Float64Array(BOUNDS_MS.length + 1);
  sumMs = 0;

  observe(durationMs: number): void {
    this.sumMs += durationMs;
    let i = 0;
    while (i < BOUNDS_MS.length && durationMs > BOUNDS_MS[i]!) i++;
    this.counts[i]!++;
  }
}

export class CacheCounters {
  /** Keys by command and result: `requests[command * RESULT_COUNT + result]`. */
  readonly requests: Float64Array = new Float64Array(COMMAND_COUNT * RESULT_COUNT);
  bytesRead = 0;
  bytesWritten = 0;
  sessions = 0;
  sessionsTotal = 0;
  /** Logins with a username of this cache, and those of them that were refused. */
  authCommands = 0;
  authErrors = 0;

  count(command: number, result: number, keyCount: number): void {
    this.requests[command * RESULT_COUNT + result]! += keyCount;
  }
}
