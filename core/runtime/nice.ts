/**
 * Who comes first where CPU is short. When a shard fails, everybody who follows the cluster state
 * has a lot to do at the same moment, and clients of other shards must not wait for that: threads
 * that serve nobody give way. On Linux a priority is that of one thread, and of what it starts.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { constants, getPriority, setPriority } from "node:os";

/** It changes its priority and then becomes the program; small images may not have it. */
const NICE = ["/usr/bin/nice", "/bin/nice"].find(existsSync);

/** How many steps nicer this thread is than it was started. */
let stepsGiven = 0;

/** The calling thread gives way to others of this machine; it cannot take that back. */
export function giveWay(steps: number): void {
  if (process.platform === "linux") stepsGiven += lower(OWN, steps);
}

/** The same for all threads that this process has now: compilers and collectors of V8, too. */
export function giveWayWhole(steps: number): void {
  giveWay(steps);
  if (process.platform !== "linux") return;
  for (const thread of readdirSync("/proc/self/task").map(Number)) {
    try {
      if (thread !== process.pid) lower(thread, steps);
    } catch (error) {
      // It has ended.
      if ((error as { info?: { code?: string } }).info?.code !== "ESRCH") throw error;
    }
  }
}

const OWN = 0;

/** Returns by how many steps. */
function lower(thread: number, steps: number): number {
  const before = getPriority(thread);
  setPriority(thread, Math.min(constants.priority.PRIORITY_LOW, before + steps));
  return getPriority(thread) - before;
}

/** What runs `program` with the priority that this process was started with: see `mayTakeBack`. */
export function asStarted(program: string, args: readonly string[]): [string, string[]] {
  if (stepsGiven === 0 || NICE === undefined) return [program, [...args]];
  return [NICE, ["-n", String(-stepsGiven), program, ...args]];
}

/** Whether what we start may come before ourselves: root may, and who has CAP_SYS_NICE. */
export function mayTakeBack(): boolean {
  if (NICE === undefined) return false;
  try {
    const status = readFileSync("/proc/self/status", "utf8");
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0";
    return ((BigInt(`0x${effective}`) >> CAP_SYS_NICE) & 1n) === 1n;
  } catch {
    return false; // No Linux.
  }
}
/** capability.h */
const CAP_SYS_NICE = 23n;
