/**
 * Counters of the hot path: typed arrays that are read at scrape time. One object per cache and
 * one latency histogram per shard.
 */
import { COMMAND_COUNT, Command, RESULT_COUNT, Result } from "../../core/protocol/command.ts";

/** Upper bounds of the latency buckets, seconds; one more counts what is above. */
export const LATENCY_BOUNDS_SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
] as const;
const BOUNDS_MS = Float64Array.from(LATENCY_BOUNDS_SECONDS, (seconds) => seconds * 1000);

export class Histogram {
  readonly counts: Float64Array = new Float64Array(BOUNDS_MS.length + 1);
  sumMs = 0;
  count = 0;

  observe(durationMs: number): void {
    this.sumMs += durationMs;
    this.count++;
    let i = 0;
    while (i < BOUNDS_MS.length && durationMs > BOUNDS_MS[i]!) i++;
    this.counts[i]!++;
  }
}

/** What is slow is at least that slow. */
export const SLOW_MS_MIN = 5;
/** So few operations, all of them quick, may be looked into together with later ones. */
const LITTLE = 30;

/** Of one shard; knows how much has come to it since somebody looked into it. */
export class ShardLatency extends Histogram {
  #lookedCount = 0;
  #lookedSumMs = 0;

  /** Few operations since the last look, quick even if all of their time was that of one. */
  get isLittle(): boolean {
    return this.count - this.#lookedCount < LITTLE && this.sumMs - this.#lookedSumMs < SLOW_MS_MIN;
  }

  looked(): void {
    this.#lookedCount = this.count;
    this.#lookedSumMs = this.sumMs;
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

type CommandName = keyof typeof Command;
type ResultName = keyof typeof Result;

const GETS: CommandName[] = ["get", "gets", "gat", "gats", "mg", "mg_touch"];
const SETS: CommandName[] = ["set", "add", "replace", "append", "prepend", "cas", "ms"];
const DONE: ResultName[] = ["ok", "hit"];
const ABSENT: ResultName[] = ["miss", "notFound"];

/** memcached's names for what a proxy can count by itself. */
const COUNTED: readonly (readonly [string, readonly CommandName[], readonly ResultName[]])[] = [
  ["cmd_get", GETS, ["hit", "miss"]],
  ["get_hits", GETS, ["hit"]],
  ["get_misses", GETS, ["miss"]],
  ["cmd_set", SETS, ["ok", "notStored", "exists", "notFound"]],
  ["cmd_touch", ["touch"], ["ok", "notFound"]],
  ["touch_hits", ["touch"], DONE],
  ["touch_misses", ["touch"], ABSENT],
  ["cmd_delete", ["delete", "md"], [...DONE, ...ABSENT]],
  ["delete_hits", ["delete", "md"], DONE],
  ["delete_misses", ["delete", "md"], ABSENT],
  ["incr_hits", ["incr"], DONE],
  ["incr_misses", ["incr"], ABSENT],
  ["decr_hits", ["decr"], DONE],
  ["decr_misses", ["decr"], ABSENT],
  ["cas_hits", ["cas"], ["ok"]],
  ["cas_misses", ["cas"], ABSENT],
  ["cas_badval", ["cas"], ["exists"]],
  ["cmd_flush", ["flush_all"], ["ok"]],
];

/** What can be told of a cache whose servers count for others, too. */
export function countedStats({ requests }: CacheCounters): [name: string, count: number][] {
  return COUNTED.map(([name, commands, results]) => {
    let sum = 0;
    for (const command of commands) {
      for (const result of results)
        sum += requests[Command[command] * RESULT_COUNT + Result[result]]!;
    }
    return [name, sum];
  });
}
