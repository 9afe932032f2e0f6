/**
 * Faults, each with a name: made by signals to processes, or on links of the network; held for a
 * while and healed. Each is made once before any is made twice; chance decides the order and whom
 * it strikes.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../../core/runtime/random.ts";
import { LINK_FAULTS, type LinkFault, type LinkOf } from "../harness/network.ts";
import { NODE_COUNT, PROXY_COUNT, type Subject } from "./subjects.ts";

type Strike = { subject: Subject; random: Random; holdMs: number };

export type Fault = {
  name: string;
  /** Makes, holds and heals it; answers whom it struck, undefined if there is nobody. */
  strike(strike: Strike): Promise<string | undefined>;
};

const PAUSED_MS = 700;
/** Longer than the leases of a proxy live. */
const FORGOTTEN_MS = 7_000;

type Pids = (subject: Subject) => Promise<number[]>;
const shards: Pids = (subject) => subject.shardPids();
const agents: Pids = (subject) => subject.agentPids();
const proxies: Pids = (subject) => subject.proxyPids();

const killed = (pids: Pids): Fault["strike"] => {
  return async ({ subject, random }) => {
    const pid = choose(await pids(subject), random);
    if (pid === undefined) return undefined;
    signal(pid, "SIGKILL");
    return `process ${pid}`;
  };
};

const stopped = (pids: Pids, ms?: number): Fault["strike"] => {
  return async ({ subject, random, holdMs }) => {
    const pid = choose(await pids(subject), random);
    if (pid === undefined) return undefined;
    signal(pid, "SIGSTOP");
    await sleep(ms ?? holdMs);
    signal(pid, "SIGCONT");
    return `process ${pid}`;
  };
};

/** It wakes with a view of before, after the others have done without it. */
const stoppedWhileShardDies: Fault["strike"] = async ({ subject, random }) => {
  const pid = choose(await proxies(subject), random);
  const shard = choose(await shards(subject), random);
  if (pid === undefined || shard === undefined) return undefined;
  signal(pid, "SIGSTOP");
  await sleep(1_000);
  signal(shard, "SIGKILL");
  await sleep(FORGOTTEN_MS);
  signal(pid, "SIGCONT");
  return `processes ${pid} and ${shard}`;
};

const onLinks = (
  fault: LinkFault,
  linksOf: (random: Random) => readonly LinkOf[],
): Fault["strike"] => {
  return async ({ subject: { network }, random, holdMs }) => {
    const links = linksOf(random);
    const seed = Math.floor(random.next() * 2 ** 32);
    await Promise.all(links.map((link, index) => network.make(link, fault, seed + index)));
    await sleep(holdMs);
    await Promise.all(links.map((link) => network.heal(link)));
    return links.map(({ proxy, node }) => `proxy ${proxy} - node ${node}`).join(", ");
  };
};

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
const oneOf = (count: number, random: Random): number => 1 + Math.floor(random.next() * count);

const oneLink = (random: Random): LinkOf[] => [
  { proxy: oneOf(PROXY_COUNT, random), node: oneOf(NODE_COUNT, random) },
];
const allLinksOfNode = (random: Random): LinkOf[] => {
  const node = oneOf(NODE_COUNT, random);
  return numbers(PROXY_COUNT).map((proxy) => ({ proxy, node }));
};

const FAULTS: readonly Fault[] = [
  { name: "shard killed", strike: killed(shards) },
  { name: "shard stopped", strike: stopped(shards) },
  { name: "shard paused for 0.7 s", strike: stopped(shards, PAUSED_MS) },
  { name: "node agent killed", strike: killed(agents) },
  { name: "node agent stopped", strike: stopped(agents) },
  { name: "proxy stopped while a shard dies", strike: stoppedWhileShardDies },
  ...LINK_FAULTS.flatMap((fault): Fault[] => [
    { name: `${fault} on one link`, strike: onLinks(fault, oneLink) },
    { name: `${fault} on all links of a node`, strike: onLinks(fault, allLinksOfNode) },
  ]),
];
export const FAULT_NAMES: readonly string[] = FAULTS.map(({ name }) => name);

export class Nemesis {
  readonly #random: Random;
  readonly #faults: readonly Fault[];
  #deck: Fault[] = [];

  /** `only`: parts of the names of the faults to choose from. */
  constructor(random: Random, only: readonly string[] = []) {
    this.#random = random;
    const isWanted = ({ name }: Fault): boolean =>
      only.length === 0 || only.some((part) => name.includes(part));
    this.#faults = FAULTS.filter(isWanted);
    if (this.#faults.length === 0) throw new Error(`no such fault: ${only.join(", ")}`);
  }

  /** Makes the next fault that is possible here; returns its name and whom it struck. */
  async strike(subject: Subject, holdMs: number): Promise<{ name: string; victim: string }> {
    for (;;) {
      if (this.#deck.length === 0) this.#deck = shuffled(this.#faults, this.#random);
      const fault = this.#deck.pop();
      const victim = await fault?.strike({ subject, random: this.#random, holdMs });
      if (fault !== undefined && victim !== undefined) return { name: fault.name, victim };
    }
  }
}

function shuffled<T>(values: readonly T[], random: Random): T[] {
  return values
    .map((value) => ({ value, lot: random.next() }))
    .sort((a, b) => a.lot - b.lot)
    .map(({ value }) => value);
}

const choose = <T>(from: readonly T[], random: Random): T | undefined =>
  from[Math.floor(random.next() * from.length)];

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    // It was replaced meanwhile, which heals as well.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
