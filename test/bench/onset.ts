/**
 * `npm run bench -- --only onset`: how long it takes from a fault, made at a stamped moment between
 * real proxies and real memcached, until a condition that pages names the node. Rounds on a cluster
 * of three proxies and three nodes with etcd; between them all has to be well again.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { missing } from "../harness/processes.ts";
import { concerns, Watched } from "../monitor/watched.ts";

const NODE_COUNT = 3;
const PROXY_COUNT = 3;
/** As long as the detector remembers. */
const SETTLE_MS = 10_000;
const LIMIT_MS = 30_000;

const FAULTS = [
  { name: "+20 ms on all links of a node", atMostMs: 2_500 },
  { name: "memcached of one shard stopped", atMostMs: 2_500 },
  { name: "12 % of the replies of a node 80-140 ms late", atMostMs: 5_000 },
] as const;

export interface OnsetFigures {
  fault: string;
  rounds: number;
  /** Rounds in which nobody was named within half a minute. */
  missed: number;
  p50Ms: number;
  maxMs: number;
  verdict: "met" | "missed";
}

export async function benchOnset(rounds: number): Promise<OnsetFigures[]> {
  const absent = missing("etcd", "memcached");
  if (absent !== undefined) {
    process.stdout.write(`not measured: onset, ${absent}\n`);
    return [];
  }
  const figures: OnsetFigures[] = [];
  for (const fault of FAULTS) {
    // A cluster of its own each: shards that were ejected often wait longer for their return.
    const watched = await Watched.start({ proxies: PROXY_COUNT, nodes: NODE_COUNT });
    try {
      const took: (number | null)[] = [];
      for (let round = 0; round < rounds; round++) {
        await watched.calm(SETTLE_MS, 120_000).catch((error: Error) => {
          // A machine that is too busy for peace measures itself: the table tells it is "missed".
          process.stderr.write(`onset: ${error.message}\n`);
        });
        took.push(await measure(watched, fault.name, 1 + (round % NODE_COUNT)));
        process.stderr.write(`onset round ${round + 1}/${rounds} ${fault.name}: ${took.at(-1)}\n`);
      }
      figures.push(figuresOf(fault, took));
    } finally {
      await watched.stop();
    }
  }
  return figures;
}

async function measure(
  watched: Watched,
  fault: (typeof FAULTS)[number]["name"],
  node: number,
): Promise<number | null> {
  const name = `node-${node}`;
  const pid = fault.startsWith("memcached") ? await watched.shardPid(name) : null;
  const onsetAtMs = performance.now();
  if (pid !== null) process.kill(pid, "SIGSTOP");
  else await watched.make(node, fault.startsWith("12") ? "12 % slow" : "+20 ms");
  const found = await watched.until(concerns(name), LIMIT_MS).catch(() => null);
  await sleep(500);
  // A stopped process is replaced by its agent once it is out of routing.
  if (pid === null) await watched.heal(node);
  return found === null ? null : Math.round(found.atMs - onsetAtMs);
}

function figuresOf(
  { name, atMostMs }: (typeof FAULTS)[number],
  took: readonly (number | null)[],
): OnsetFigures {
  const known = took.filter((ms) => ms !== null).sort((a, b) => a - b);
  const maxMs = known.at(-1) ?? Number.NaN;
  const missed = took.length - known.length;
  return {
    fault: name,
    rounds: took.length,
    missed,
    p50Ms: known[(known.length - 1) >> 1] ?? Number.NaN,
    maxMs,
    verdict: missed === 0 && maxMs <= atMostMs ? "met" : "missed",
  };
}

export function onsetText(figures: readonly OnsetFigures[]): string {
  const lines = figures.map(({ fault, rounds, missed, p50Ms, maxMs, verdict }) => {
    const found = `${rounds - missed}/${rounds}`.padStart(6);
    const values = [p50Ms, maxMs].map((ms) => String(ms).padStart(7)).join(" ");
    return `${fault.padEnd(46)} ${found} ${values}  ${verdict}`;
  });
  const head = `${"onset to a condition that pages, ms".padEnd(46)}  found     p50     max`;
  return [head, ...lines].join("\n");
}
