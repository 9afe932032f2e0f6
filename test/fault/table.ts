/**
 * What a failing shard costs, in figures: three proxies, four shards on real memcached, a fixed
 * rate on every pair of them; in each round one shard stops, becomes slow or dies, and is well
 * again. And what a jitter of the whole network does to routing. One command makes the table.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { clock } from "../../core/runtime/clock.ts";
import { seededRandom } from "../../core/runtime/random.ts";
import { HostShare } from "../bench/machine.ts";
import { spreadOf } from "../bench/statistics.ts";
import { Cluster } from "../harness/cluster.ts";
import { Network } from "../harness/network.ts";
import { favour } from "../harness/processes.ts";
import { type Operation, Pace } from "./pace.ts";

const PROXIES = 3;
const NODES = 4;
const PHASE_MS = 4_000;
/** Between the last readmission and the next round. */
const SETTLE_MS = 2_000;
const CALM_MS_MAX = 90_000;
const LATE_MS_MAX = 2_000;
const JITTER_MS = 60_000;
/** Slower than this is the slow shard and not its stand-in. */
const QUICK_MS = 20;
const WELL_FOR_MS = 500;
const GOOD_SHARE = 0.95;
const STEP_MS = 5;
const FAILED_STEP_MS = 20;

export type TableOptions = {
  rounds: number;
  ratePerPair: number;
  seed: number;
  /** Names of scenarios; all if empty. */
  only: readonly string[];
  log(line: string): void;
  /** Somebody wants it to end now. */
  isStopped(): boolean;
  /** What proxies and nodes logged, at the end of a scenario. */
  evidence(text: string): void;
};

export type Row = {
  scenario: string;
  promise: string;
  unit: string;
  /** Of the samples: one of each proxy and round, or one of each round. */
  median: number;
  p99: number;
  max: number;
  sampleCount: number;
  atMost: number | null;
  verdict: "met" | "missed" | "no bar";
};

/** `network` is a relay on the way to each shard: only where the fault is one of the network. */
type Bench = { cluster: Cluster; network: Network | null; pace: Pace };
/** Makes one node (from 1) sick; answers how it is made well. */
type Sicken = (bench: Bench, node: number, seed: number) => Promise<() => Promise<void>>;

const SICKEN: Record<string, Sicken> = {
  stalled: async ({ cluster }, node) => {
    const pid = await shardPid(cluster, node);
    process.kill(pid, "SIGSTOP");
    return async () => signal(pid, "SIGCONT");
  },
  "+20 ms": async ({ network }, node, seed) => {
    const links = proxies().map((proxy) => ({ proxy, node }));
    await Promise.all(links.map((link) => network?.make(link, "+20 ms", seed)));
    return async () => void (await Promise.all(links.map((link) => network?.heal(link))));
  },
  killed: async ({ cluster }, node) => {
    const pid = await shardPid(cluster, node);
    const agent = cluster.nodes[node - 1]!;
    signal(agent.pid, "SIGKILL");
    signal(pid, "SIGKILL");
    return () => agent.restart();
  },
  "copies-kill": (bench, node, seed) => SICKEN["killed"]!(bench, node, seed),
};
/** The node dies while each key has two copies. */
const COPIES_KILL = "copies-kill";
const JITTER = "jitter";
const OF_THE_NETWORK: ReadonlySet<string> = new Set(["+20 ms", JITTER]);
export const SCENARIO_NAMES: readonly string[] = [...Object.keys(SICKEN), JITTER];

/** What one round has shown. */
type Round = {
  /** Of each proxy, until the keys of the sick shard are served as before. */
  movedMs: number[];
  p99Ratio: number;
  errorsElsewhere: number;
  failedReads: number;
  /** In which changes were begun that failed. */
  failedChangesMs: number;
  /** What 99 of 100 operations did not exceed before. */
  p99Ms: number;
  /** What the host kept for itself while it lasted. */
  stolenPercent: number;
  hitRateBefore: number;
  hitRateAfter: number;
  /** The same of all reads, those of its own keys too. */
  lossOfAll: number;
  readsP99Ratio: number;
};

export async function runTable({ only, ...options }: TableOptions): Promise<Row[]> {
  // What is started from here on is as little disturbed by others as its processes are.
  favour(process.pid);
  const rows: Row[] = [];
  for (const name of SCENARIO_NAMES) {
    if (options.isStopped() || (only.length > 0 && !only.includes(name))) continue;
    const sicken = SICKEN[name];
    rows.push(
      ...(sicken === undefined
        ? await runJitter(options)
        : await runScenario(name, sicken, options)),
    );
  }
  return rows;
}

async function runScenario(
  name: string,
  sicken: Sicken,
  options: Omit<TableOptions, "only">,
): Promise<Row[]> {
  const rounds: Round[] = [];
  const copies = name === COPIES_KILL ? 2 : 1;
  await withBench({ ...options, name, copies }, async (bench) => {
    for (let round = 0; round < options.rounds && !options.isStopped(); round++) {
      await calm(bench);
      // In turn: a shard that fails again soon has to wait for longer.
      const node = (round % NODES) + 1;
      const found = await runRound(bench, sicken, { node, seed: options.seed + round });
      options.log(`${name}, round ${round + 1}: ${JSON.stringify(found)}`);
      rounds.push(found);
    }
  });
  const of = (value: (round: Round) => number): number[] => rounds.map(value);
  const moved = rounds.flatMap(({ movedMs }) => movedMs);
  const row = rowOf(name);
  const rows = [
    row(
      "all operations before, p99",
      "ms",
      of((one) => one.p99Ms),
      null,
    ),
    row(
      "time that the host did not give",
      "%",
      of((one) => one.stolenPercent),
      null,
    ),
    row("its keys are moved", "ms", moved, 1_000),
    row(
      "keys on the other shards, p99 against before",
      "x",
      of((one) => one.p99Ratio),
      1.2,
    ),
    row(
      "errors on the other shards",
      "",
      of((one) => one.errorsElsewhere),
      0,
    ),
    row(
      "errors of reads",
      "",
      of((one) => one.failedReads),
      0,
    ),
    row("loss of hit rate on the other shards", "%", of(lossOf), 0),
  ];
  const failing = row(
    "changes fail",
    "ms",
    of((one) => one.failedChangesMs),
    300,
  );
  if (name === COPIES_KILL) {
    // A change needs both copies: those of keys with one of them on the node fail as well.
    const isOfOne = ({ promise }: Row): boolean => / on the other shards/.test(promise);
    return [
      ...rows.filter((one) => !isOfOne(one)),
      row(
        "loss of hit rate on all shards",
        "%",
        of((one) => one.lossOfAll),
        0.1,
      ),
      row(
        "reads of all shards, p99 against before",
        "x",
        of((one) => one.readsP99Ratio),
        2,
      ),
      failing,
    ];
  }
  return name === "killed" ? [...rows, failing] : rows;
}

const lossOf = (one: Round): number => Math.max(0, one.hitRateBefore - one.hitRateAfter) * 100;

async function runRound(
  bench: Bench,
  sicken: Sicken,
  { node, seed }: { node: number; seed: number },
): Promise<Round> {
  const { pace } = bench;
  pace.operations = [];
  const host = new HostShare();
  await sleep(PHASE_MS);
  const onsetMs = clock.nowMs();
  const heal = await sicken(bench, node, seed);
  await sleep(PHASE_MS);
  const endMs = clock.nowMs();
  const stolenPercent = host.stolenPercent();
  await sleep(LATE_MS_MAX);
  const seen = pace.operations;
  await heal();
  const before = seen.filter(({ startMs }) => startMs < onsetMs && startMs > onsetMs - PHASE_MS);
  const after = seen.filter(({ startMs }) => startMs >= onsetMs && startMs < endMs);
  const isElsewhere = (one: Operation): boolean => one.node !== node - 1;
  const elsewhere = { before: before.filter(isElsewhere), after: after.filter(isElsewhere) };
  const failedChanges = after.filter(({ kind, outcome }) => kind === "set" && outcome === "failed");
  return {
    movedMs: proxies().map((proxy) =>
      movedMs(after, { proxy: proxy - 1, node: node - 1, onsetMs }),
    ),
    p99Ratio: p99(elsewhere.after.map(latency)) / p99(elsewhere.before.map(latency)),
    errorsElsewhere: elsewhere.after.filter(({ outcome }) => outcome === "failed").length,
    failedReads: after.filter(({ kind, outcome }) => kind === "get" && outcome === "failed").length,
    failedChangesMs:
      new Set(failedChanges.map(({ startMs }) => Math.floor(startMs / FAILED_STEP_MS))).size *
      FAILED_STEP_MS,
    p99Ms: p99(before.map(latency)),
    stolenPercent,
    hitRateBefore: hitRate(elsewhere.before),
    hitRateAfter: hitRate(elsewhere.after),
    lossOfAll: Math.max(0, hitRate(before) - hitRate(after)) * 100,
    readsP99Ratio: p99(readsOf(after).map(latency)) / p99(readsOf(before).map(latency)),
  };
}

/** From when on all of its operations are well: GOOD_SHARE of those begun in the time after it. */
function movedMs(
  after: readonly Operation[],
  { proxy, node, onsetMs }: { proxy: number; node: number; onsetMs: number },
): number {
  const own = after.filter((one) => one.proxy === proxy && one.node === node);
  for (let atMs = 0; atMs <= PHASE_MS - WELL_FOR_MS; atMs += STEP_MS) {
    const fromMs = onsetMs + atMs;
    const begun = own.filter(({ startMs }) => startMs >= fromMs && startMs < fromMs + WELL_FOR_MS);
    const good = begun.filter((one) => one.outcome !== "failed" && latency(one) < QUICK_MS);
    if (good.length >= begun.length * GOOD_SHARE) return atMs;
  }
  return PHASE_MS;
}

/** How often shards are ejected for being slow while all replies jitter, in a minute. */
async function runJitter(options: Omit<TableOptions, "only">): Promise<Row[]> {
  const shifts: number[] = [];
  const slow: number[] = [];
  await withBench({ ...options, name: JITTER }, async (bench) => {
    const { cluster, network, pace } = bench;
    for (let round = 0; round < options.rounds && !options.isStopped(); round++) {
      await calm(bench);
      const serials = new Set<string>();
      const watch = cluster.state.watch(await revisionOf(cluster), {
        changed: (seen) => {
          for (const one of seen) {
            if (one.kind === "ejection" && one.value !== null) serials.add(one.value.serial);
          }
        },
      });
      const links = proxies().flatMap((proxy) =>
        Array.from({ length: NODES }, (_, index) => ({ proxy, node: index + 1 })),
      );
      pace.operations = [];
      const seed = options.seed + round * 100;
      await Promise.all(links.map((link, at) => network?.make(link, "jitter", seed + at)));
      await sleep(JITTER_MS);
      await Promise.all(links.map((link) => network?.heal(link)));
      watch.close();
      shifts.push(serials.size);
      slow.push(
        (pace.operations.filter((one) => latency(one) > 5).length * 100) / pace.operations.length,
      );
      options.log(`${JITTER}, round ${round + 1}: ${serials.size} ejections`);
    }
  });
  const row = rowOf(JITTER);
  return [
    row("soft shifts in a minute", "", shifts, 1),
    row("operations above 5 ms", "%", slow, null),
  ];
}

// ---- the bench ----------------------------------------------------------------------------------

async function withBench(
  {
    name,
    ratePerPair,
    seed,
    evidence,
    copies = 1,
  }: Pick<TableOptions, "ratePerPair" | "seed" | "evidence"> & { name: string; copies?: 1 | 2 },
  use: (bench: Bench) => Promise<void>,
): Promise<void> {
  const network = OF_THE_NETWORK.has(name) ? new Network() : null;
  const counts = { proxies: PROXIES, nodes: NODES };
  const cluster = await Cluster.start({
    ...counts,
    engine: "memcached",
    copies,
    ...(network && { network }),
  });
  const nodes = cluster.nodes.map(({ name }) => name);
  const random = seededRandom(seed);
  const pace = new Pace({ proxies: cluster.plain, nodes, ratePerPair, random });
  try {
    pace.start();
    await use({ cluster, network, pace });
  } finally {
    pace.stop();
    for (const member of [...cluster.proxies, ...cluster.nodes]) evidence(member.output());
    await cluster.stop();
    network?.stop();
  }
}

/** All shards are in routing and hold all keys. */
async function calm({ cluster, pace }: Bench): Promise<void> {
  const deadline = clock.nowMs() + CALM_MS_MAX;
  for (;;) {
    const ejections = (await cluster.state.list("ejection")).entries.length;
    const shards = (await cluster.state.list("shard")).entries.map(({ value }) => value.state);
    const isReady = shards.length === NODES && shards.every((state) => state === "ready");
    if (ejections === 0 && isReady) break;
    if (clock.nowMs() > deadline) throw new Error(`not calm: ${shards}, ${ejections} ejections`);
    await sleep(100);
  }
  await sleep(SETTLE_MS);
  pace.fill();
  await sleep(SETTLE_MS);
}

async function shardPid(cluster: Cluster, node: number): Promise<number> {
  const id = `${cluster.cache}/node-${node}`;
  const pid = (await cluster.state.get("shard", id))?.value.process?.pid;
  if (pid == null) throw new Error(`${id} has no process`);
  return pid;
}

async function revisionOf(cluster: Cluster): Promise<number> {
  return (await cluster.state.list("ejection")).revision;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    // Its agent has replaced it meanwhile.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

const proxies = (): number[] => Array.from({ length: PROXIES }, (_, index) => index + 1);
const latency = ({ startMs, endMs }: Operation): number => endMs - startMs;

/** By rank, without interpolation: of a few samples it is the largest. */
function p99(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.99) - 1] ?? Number.NaN;
}

const readsOf = (operations: readonly Operation[]): Operation[] =>
  operations.filter(({ kind }) => kind === "get");

function hitRate(operations: readonly Operation[]): number {
  const reads = readsOf(operations);
  return reads.filter(({ outcome }) => outcome === "hit").length / reads.length;
}

// ---- the table ----------------------------------------------------------------------------------

/** Judged by the 99th percentile, except ratios: those of a round are noisy, their median is not. */
const rowOf =
  (scenario: string) =>
  (promise: string, unit: string, samples: readonly number[], atMost: number | null): Row => {
    const { median, max } = spreadOf(samples);
    const judged = unit === "x" ? median : p99(samples);
    const verdict = atMost === null ? "no bar" : judged <= atMost ? "met" : "missed";
    const figures = { median, p99: p99(samples), max, sampleCount: samples.length };
    return { scenario, promise, unit, ...figures, atMost, verdict };
  };

const shown = (value: number, unit: string): string =>
  `${unit === "ms" && value >= 10 ? Math.round(value) : Math.round(value * 1000) / 1000} ${unit}`.trim();

export function tableOf(rows: readonly Row[]): string {
  const cells = rows.map(({ scenario, promise, unit, atMost, verdict, ...figures }) => [
    ...[scenario, promise],
    ...[figures.median, figures.p99, figures.max].map((value) => shown(value, unit)),
    ...[atMost === null ? "" : shown(atMost, unit), verdict, String(figures.sampleCount)],
  ]);
  const head = ["one of four shards", "", "median", "p99", "max", "at most", "", "samples"];
  const lines = [head, head.map(() => "---"), ...cells];
  return lines.map((line) => `| ${line.join(" | ")} |`).join("\n");
}
