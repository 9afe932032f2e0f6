/**
 * Whose fault it is, from the matrix of proxies and shards. A cell says in how many of the last
 * twenty ticks (100 ms each) that proxy would rather not have used that shard.
 *
 *               node-1  node-2  node-3
 *     proxy-1     .       X       .        a column: the shard, or the node if several of its
 *     proxy-2     .       X       .        shards are concerned
 *     proxy-3     X       X       X        a row: that proxy; one cell: the link; nearly
 *                                          everything: the network
 *
 * A fault that one proxy alone sees needs a second witness: the canaries of that proxy or ours.
 */
import type { Finding } from "./kinds.ts";

/** Ticks that are looked back at; as many of them make a fault, and a sign of one. */
export const TICKS = 20;
const BAD_TICKS_MIN = 15;
const LIKELY_TICKS_MIN = 5;
const TICK_MS = 100;

export interface Cell {
  readonly proxy: string;
  readonly cache: string;
  readonly node: string;
  /** Of the last TICKS. */
  readonly badTicks: number;
  /** Ticks in which nothing was answered at all. */
  readonly deadTicks: number;
  /** Like `30 % of 120 operations slow` or `out of routing: stalled`. */
  readonly what: string;
}

export interface Matrix {
  /** Cells with traffic or trouble in the last TICKS. */
  readonly cells: readonly Cell[];
  /** By proxy: ticks in which most nodes were slow at the same time. */
  readonly commonTicks: ReadonlyMap<string, number>;
  /** Proxies whose machines have too little CPU: what looks slow to them counts if confirmed. */
  readonly starved: ReadonlySet<string>;
  /** `<cache>/<node>` of shards that canaries of a proxy found sick, too. */
  readonly confirmed: ReadonlySet<string>;
  /** `<proxy>/<node>` where our own canaries fail or are slow. */
  readonly probedBad: ReadonlySet<string>;
  /** Id of the cache that our canaries are in. */
  readonly probeCache: string;
  nameOf(cache: string): string;
}

type Sick = { cells: Cell[]; seenBy: number };

export function judgeMatrix(seen: Matrix, nowMs: number): Finding[] {
  const matrix = withPatience(seen);
  const shards = groupBy(matrix.cells, ({ cache, node }) => `${cache}/${node}`);
  const sick = new Map<string, Sick>();
  const links: Cell[] = [];
  for (const [id, cells] of shards) {
    const bad = cells.filter(({ badTicks }) => badTicks >= BAD_TICKS_MIN);
    if (bad.length === 0) continue;
    const isAlone = bad.length === 1;
    if (isAlone && cells.length > 1) links.push(...bad);
    else if (!isAlone || hasWitness(matrix, bad[0]!))
      sick.set(id, { cells: bad, seenBy: cells.length });
  }
  const columns = judgeColumns(matrix, shards, sick, nowMs);
  const isNetwork = isEverywhere(matrix, sick) || isCommonToMost(matrix);
  const rows = judgeRows(
    { ...matrix, commonTicks: isNetwork ? new Map() : matrix.commonTicks },
    links,
    nowMs,
  );
  if (!isNetwork) return [...columns, ...rows];
  return [networkFinding(matrix, [...columns, ...rows], nowMs), ...columns, ...rows];
}

/** A machine without CPU sees everything late; canaries that are compared with others do not err. */
function withPatience(matrix: Matrix): Matrix {
  const { cells, commonTicks, starved, confirmed } = matrix;
  if (starved.size === 0) return matrix;
  return {
    ...matrix,
    cells: cells.map((cell) => {
      const isSure = !starved.has(cell.proxy) || confirmed.has(`${cell.cache}/${cell.node}`);
      return isSure ? cell : { ...cell, badTicks: Math.min(cell.badTicks, cell.deadTicks) };
    }),
    commonTicks: new Map([...commonTicks].filter(([proxy]) => !starved.has(proxy))),
  };
}

function hasWitness({ confirmed, probedBad }: Matrix, { proxy, cache, node }: Cell): boolean {
  return confirmed.has(`${cache}/${node}`) || probedBad.has(`${proxy}/${node}`);
}

/** Shards, joined to nodes where others of the same node show at least signs of the same. */
function judgeColumns(
  matrix: Matrix,
  shards: ReadonlyMap<string, Cell[]>,
  sick: ReadonlyMap<string, Sick>,
  nowMs: number,
): Finding[] {
  const findings: Finding[] = [];
  const sickOf = groupBy([...sick.keys()], nodeOf);
  for (const [node, ids] of sickOf) {
    const all = [...shards].filter(([id]) => nodeOf(id) === node);
    const likely = all.filter(([, cells]) =>
      cells.some((cell) => cell.badTicks >= LIKELY_TICKS_MIN),
    );
    const isNode = likely.length >= 2 && likely.length * 2 >= all.length;
    const found = ids.map((id) => shardFinding(matrix, id, sick.get(id)!, nowMs));
    if (!isNode) {
      findings.push(...found);
      continue;
    }
    const cells = ids.flatMap((id) => sick.get(id)!.cells);
    const proxies = new Set(cells.map(({ proxy }) => proxy));
    findings.push({
      kind: "node",
      subject: node,
      summary: `node ${node}: ${worst(cells).what}; ${likely.length} of its ${all.length} active shards`,
      details: [`seen by ${list(proxies)}`, ...found.map(({ summary }) => summary)],
      sinceMs: sinceOf(cells, nowMs),
      explains: likely.map(([id]) => `${kindOf(matrix, id)}:${id}`),
    });
  }
  return findings;
}

function shardFinding(matrix: Matrix, id: string, { cells, seenBy }: Sick, nowMs: number): Finding {
  const { cache, node } = cells[0]!;
  const proxies = new Set(cells.map(({ proxy }) => proxy));
  return {
    kind: kindOf(matrix, id),
    subject: id,
    summary: `shard of ${matrix.nameOf(cache)} on ${node}: ${worst(cells).what}`,
    details: [`seen by ${proxies.size} of ${seenBy} proxies: ${list(proxies)}`],
    sinceMs: sinceOf(cells, nowMs),
  };
}

const kindOf = ({ probeCache }: Matrix, id: string) =>
  cacheOf(id) === probeCache ? ("probeShard" as const) : ("shard" as const);

/** What one proxy alone sees: a link, or itself if that is so for most of its nodes. */
function judgeRows(matrix: Matrix, links: readonly Cell[], nowMs: number): Finding[] {
  const findings: Finding[] = [];
  const nodesOf = groupBy(matrix.cells, ({ proxy }) => proxy);
  const linksOf = groupBy(links, ({ proxy }) => proxy);
  for (const [proxy, cells] of nodesOf) {
    const nodes = new Set(cells.map(({ node }) => node));
    const found = linksOf.get(proxy) ?? [];
    const badNodes = new Set(found.map(({ node }) => node));
    const isCommon = matrix.commonTicks.size > 0 && isCommonToItAlone(matrix, proxy);
    const made = [...groupBy(found, ({ node }) => node)].map(([node, bad]) =>
      linkFinding({ proxy, node }, bad, nowMs),
    );
    findings.push(...made);
    if (!isCommon && (badNodes.size < 2 || badNodes.size * 2 < nodes.size)) continue;
    const evidence = found.length > 0 ? found : cells;
    findings.push({
      kind: "proxy",
      subject: proxy,
      summary: `${proxy}: slow towards most of ${nodes.size} nodes; ${worst(evidence).what}`,
      details: ["other proxies find the same nodes well: it is this proxy, or its network"],
      sinceMs: nowMs - BAD_TICKS_MIN * TICK_MS,
      explains: made.map(({ subject }) => `link:${subject}`),
    });
  }
  return findings;
}

function linkFinding(
  { proxy, node }: { proxy: string; node: string },
  cells: readonly Cell[],
  nowMs: number,
): Finding {
  return {
    kind: "link",
    subject: `${proxy}/${node}`,
    summary: `between ${proxy} and ${node}: ${worst(cells).what}; other proxies find it well`,
    sinceMs: sinceOf(cells, nowMs),
  };
}

/** One proxy sees most of its nodes slow, and most others show at least signs of it. */
function isCommonToMost({ commonTicks, cells, starved }: Matrix): boolean {
  const all = new Set(cells.map(({ proxy }) => proxy));
  const proxies = [...all].filter((proxy) => !starved.has(proxy));
  const ticks = [...commonTicks.values()];
  const likely = ticks.filter((count) => count >= LIKELY_TICKS_MIN);
  return ticks.some((count) => count >= BAD_TICKS_MIN) && likely.length * 2 >= proxies.length;
}

/** One proxy sees most of its nodes slow, and no other does. */
function isCommonToItAlone({ commonTicks }: Matrix, proxy: string): boolean {
  return [...commonTicks].every(([name, count]) =>
    name === proxy ? count >= BAD_TICKS_MIN : count < LIKELY_TICKS_MIN,
  );
}

/** More than half of the nodes are sick: then it is not the nodes. */
function isEverywhere({ cells }: Matrix, sick: ReadonlyMap<string, Sick>): boolean {
  const nodes = new Set(cells.map(({ node }) => node));
  const sickNodes = new Set([...sick.keys()].map(nodeOf));
  return sickNodes.size >= 2 && sickNodes.size * 2 > nodes.size;
}

function networkFinding({ cells }: Matrix, others: readonly Finding[], nowMs: number): Finding {
  const nodes = new Set(cells.map(({ node }) => node));
  const proxies = new Set(cells.map(({ proxy }) => proxy));
  return {
    kind: "network",
    subject: "all",
    summary: `most of ${nodes.size} nodes slow or silent at the same time: network or load`,
    details: [
      `seen by ${list(proxies)}; ${worst(cells).what}`,
      "none stands out, so none leaves routing for being slow",
    ],
    sinceMs: nowMs - BAD_TICKS_MIN * TICK_MS,
    explains: others.map(({ kind, subject }) => `${kind}:${subject}`),
  };
}

const nodeOf = (id: string): string => id.slice(id.indexOf("/") + 1);
const cacheOf = (id: string): string => id.slice(0, id.indexOf("/"));

const worst = (cells: readonly Cell[]): Cell =>
  cells.reduce((most, cell) => (cell.badTicks > most.badTicks ? cell : most));

const sinceOf = (cells: readonly Cell[], nowMs: number): number =>
  nowMs - Math.max(...cells.map(({ badTicks }) => badTicks)) * TICK_MS;

const NAMES_MAX = 8;
function list(names: Iterable<string>): string {
  const all = [...names].sort();
  const more = all.length - NAMES_MAX;
  return all.slice(0, NAMES_MAX).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

function groupBy<T>(items: Iterable<T>, keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}
