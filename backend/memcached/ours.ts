/**
 * Which processes are ours, also after the agent that started them was killed. Each is started
 * with a mark as its first argument: `-P <directory>/<node>.<shard>.<started at>`. That is the name
 * of a pid file, which memcached only writes together with `-d`, so it means nothing to it; to us
 * it says whose process this is, and no other process has it. So there is no file that could be
 * stale, and a pid that was given away again is never taken for ours. Linux only: without /proc
 * nothing is found, and a socket that is still served is refused.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Mark {
  /** The directory that the agent has claimed. */
  readonly home: string;
  readonly node: string;
  /** As `fileNameOf` tells it. */
  readonly shard: string;
  readonly startedAtMs: number;
}

/** A process that bears a mark of ours. */
export interface Marked {
  readonly pid: number;
  readonly mark: Mark;
  /** What stands behind the mark on its command line. */
  readonly args: readonly string[];
}

export function markArguments({ home, node, shard, startedAtMs }: Mark): string[] {
  return ["-P", join(home, `${node}.${shard}.${startedAtMs}`)];
}

/** All that bear a mark of this directory; those of one node, if it is given. */
export function findMarked(home: string, node?: string): Marked[] {
  const found = pids().map((pid) => markedAs(pid, home));
  return found.filter(
    (one): one is Marked => one !== undefined && (node === undefined || one.mark.node === node),
  );
}

/** Whether the process lives and is still the one that bears this mark. */
export function isStill(pid: number, mark: Mark): boolean {
  const [, flag, value] = argumentsOf(pid);
  const [wantedFlag, wanted] = markArguments(mark);
  return flag === wantedFlag && value === wanted;
}

/** Bytes of its memory that are resident; undefined where that cannot be told. */
export function residentBytesOf(pid: number): number | undefined {
  const pages = Number(readText(`/proc/${pid}/statm`).split(" ")[1]);
  return Number.isNaN(pages) ? undefined : pages * PAGE_SIZE;
}
const PAGE_SIZE = 4096;

function markedAs(pid: number, home: string): Marked | undefined {
  const [, flag, value = "", ...args] = argumentsOf(pid);
  if (flag !== "-P" || !value.startsWith(`${home}/`)) return undefined;
  const match = /^([a-z0-9-]+)\.([0-9a-f]+)\.(\d+)$/.exec(value.slice(home.length + 1));
  if (match === null) return undefined;
  const [, node = "", shard = "", startedAtMs = ""] = match;
  return { pid, mark: { home, node, shard, startedAtMs: Number(startedAtMs) }, args };
}

function pids(): number[] {
  try {
    return readdirSync("/proc").filter(isNumber).map(Number);
  } catch {
    return []; // Another system: see above.
  }
}
const isNumber = (name: string): boolean => /^\d+$/.test(name);

/** Empty for one that has ended, a zombie included. */
function argumentsOf(pid: number): string[] {
  return readText(`/proc/${pid}/cmdline`).split("\0").slice(0, -1);
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // It has ended, or is not ours to look at.
  }
}
