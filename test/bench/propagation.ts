/**
 * `npm run bench -- --only propagation`: how long a created and a deleted credential take until
 * they are in force on each of three proxies, with the state in etcd (roles as on machines of
 * their own) and in SQLite (`memward up`). Percentiles of so many changes, one after another.
 */
import { Cluster } from "../harness/cluster.ts";
import { startMemward } from "../harness/memward.ts";
import { missing } from "../harness/processes.ts";
import { measurePropagation, type Propagation } from "../harness/propagation.ts";

const CHANGE_COUNT = 200;
const PROXY_COUNT = 3;
const P99_MS_MAX = 100;
const SLOWEST_MS_MAX = 1_000;

export type PropagationFigures = {
  state: string;
  change: string;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  verdict: "met" | "missed";
};

export async function benchPropagation(): Promise<PropagationFigures[]> {
  const absent = missing("etcd");
  if (absent !== undefined) process.stdout.write(`not measured: propagation in etcd, ${absent}\n`);
  const inEtcd = absent === undefined ? figuresOf("etcd", await throughEtcd()) : [];
  return [...inEtcd, ...figuresOf("SQLite", await throughSqlite())];
}

export function propagationText(figures: readonly PropagationFigures[]): string {
  const lines = figures.map(({ state, change, p50Ms, p99Ms, maxMs, verdict }) => {
    const values = [p50Ms, p99Ms, maxMs].map((ms) => ms.toFixed(1).padStart(7)).join(" ");
    return `${`${state}, credential ${change}`.padEnd(28)} ${values}  ${verdict}`;
  });
  const head = `${"in force on 3 proxies, ms".padEnd(28)}     p50     p99     max`;
  const bars = `bars: p99 at most ${P99_MS_MAX} ms, none above ${SLOWEST_MS_MAX} ms`;
  return [head, ...lines, bars].join("\n");
}

async function throughEtcd(): Promise<Propagation> {
  const cluster = await Cluster.start({ proxies: PROXY_COUNT });
  try {
    const servers = cluster.proxies.map(({ address }) => address);
    return await measurePropagation(cluster.state, {
      servers,
      count: CHANGE_COUNT,
      cache: cluster.cache,
    });
  } finally {
    await cluster.stop();
  }
}

async function throughSqlite(): Promise<Propagation> {
  const memward = await startMemward({ proxies: PROXY_COUNT });
  try {
    return await memward.state(async (state) => {
      const cache = (await state.list("cache")).entries[0]?.id ?? "";
      const { servers } = memward;
      return measurePropagation(state, { servers, count: CHANGE_COUNT, cache });
    });
  } finally {
    await memward.stop();
  }
}

function figuresOf(state: string, { createdMs, deletedMs }: Propagation): PropagationFigures[] {
  return Object.entries({ created: createdMs, deleted: deletedMs }).map(([change, values]) => {
    const sorted = values.toSorted((a, b) => a - b);
    const at = (share: number): number =>
      sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] as number;
    const [p50Ms, p99Ms, maxMs] = [at(0.5), at(0.99), at(1)];
    const isMet = p99Ms <= P99_MS_MAX && maxMs <= SLOWEST_MS_MAX;
    return { state, change, p50Ms, p99Ms, maxMs, verdict: isMet ? "met" : "missed" };
  });
}
