/** Faults, made by signals: each is named, made, held for a while and healed. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../../core/runtime/random.ts";
import type { Subject } from "./subjects.ts";

export type Fault = {
  name: string;
  /** Processes that it can strike. */
  victims(subject: Subject): Promise<number[]>;
  strike(pid: number): Promise<void>;
};

const STOPPED_MS = 5_000;
const PAUSED_MS = 700;

const kill = async (pid: number): Promise<void> => signal(pid, "SIGKILL");
const stopFor =
  (durationMs: number) =>
  async (pid: number): Promise<void> => {
    signal(pid, "SIGSTOP");
    await sleep(durationMs);
    signal(pid, "SIGCONT");
  };

const shards = (subject: Subject) => subject.shardPids();
const agents = (subject: Subject) => subject.agentPids();

const FAULTS: readonly Fault[] = [
  { name: "shard killed", victims: shards, strike: kill },
  { name: "shard stopped for 5 s", victims: shards, strike: stopFor(STOPPED_MS) },
  { name: "shard paused for 0.7 s", victims: shards, strike: stopFor(PAUSED_MS) },
  { name: "node agent killed", victims: agents, strike: kill },
  { name: "node agent stopped for 5 s", victims: agents, strike: stopFor(STOPPED_MS) },
];

/** Chooses a fault that can be made here, and makes it; returns its name. */
export async function strike(subject: Subject, random: Random): Promise<string> {
  for (;;) {
    const fault = choose(FAULTS, random);
    const victims = await fault.victims(subject);
    if (victims.length === 0) continue;
    await fault.strike(choose(victims, random));
    return fault.name;
  }
}

const choose = <T>(from: readonly T[], random: Random): T =>
  from[Math.floor(random.next() * from.length)] as T;

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    // It was replaced meanwhile, which heals as well.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
