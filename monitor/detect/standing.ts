/**
 * What is wrong without any comparison: somebody is not there, something is full or expires, the
 * state does not answer, a cache has nobody who serves it. Facts in, findings out.
 */
import type { ClusterFacts } from "../observe/cluster.ts";
import type { Finding } from "./kinds.ts";
import type { Cell } from "./matrix.ts";

/** Who went without a word and never came back was taken away on purpose, in the end. */
const GONE_MS_MAX = 60 * 60 * 1000;
/** A state that is away for less was busy. */
const UNREACHABLE_MS_MIN = 5_000;
const DEAD_TICKS_MIN = 15;
const DAY_MS = 24 * 60 * 60 * 1000;
const CREDENTIAL_WARNING_MS = 3 * DAY_MS;
/** A credential that was made to live shorter than this is not warned of: it was meant so. */
const CREDENTIAL_LIFE_MS_MIN = 10 * DAY_MS;
const CREDENTIAL_PAST_MS_MAX = DAY_MS;
const CERTIFICATE_WARNING_MS = 21 * DAY_MS;
const CERTIFICATE_URGENT_MS = 3 * DAY_MS;
const DISK_SHARE_MIN = 0.1;
const DISK_SHARE_URGENT = 0.03;
const MEMORY_SHARE_MAX = 0.9;
const MEMORY_SHARE_URGENT = 0.97;

export interface Disk {
  readonly path: string;
  readonly freeSize: number;
  readonly size: number;
}

export interface Certificate {
  readonly path: string;
  /** Milliseconds since 1970; null when the file cannot be read. */
  readonly expiresAtMs: number | null;
}

export function goneFindings(facts: ClusterFacts, nowMs: number): Finding[] {
  const findings: Finding[] = [];
  for (const [key, atMs] of facts.gone) {
    if (nowMs - atMs > GONE_MS_MAX) continue;
    const [role, name = ""] = key.split(":", 2);
    findings.push({
      kind: role === "proxy" ? "proxyGone" : "monitorSilent",
      subject: name,
      summary: `${name} ended without being told to, and has not come back`,
      sinceMs: atMs,
      explains: role === "proxy" ? [`proxyUnreachable:${name}`, `proxySilent:${name}`] : [],
    });
  }
  // While the state is away, leases end because nobody can renew them.
  if (facts.unreachableSinceMs !== null) return findings;
  for (const [node, shards] of shardsByNode(facts.shards)) {
    if (facts.nodes.has(node) || facts.nodeSettings.get(node)?.draining) continue;
    findings.push({
      kind: "nodeGone",
      subject: node,
      summary: `node ${node} is not there; it has ${shards.length} shards`,
      explains: [`node:${node}`, ...shards.map((id) => `shard:${id}`)],
    });
  }
  return findings;
}

export function stateFindings(
  { unreachableSinceMs }: Pick<ClusterFacts, "unreachableSinceMs">,
  disk: Disk | null,
  nowMs: number,
): Finding[] {
  const findings: Finding[] = [];
  if (unreachableSinceMs !== null && nowMs - unreachableSinceMs >= UNREACHABLE_MS_MIN) {
    findings.push({
      kind: "stateUnreachable",
      subject: "state",
      summary: "the cluster state does not answer: proxies serve on, changes have to wait",
      sinceMs: unreachableSinceMs,
    });
  }
  if (disk !== null && disk.size > 0 && disk.freeSize < DISK_SHARE_MIN * disk.size) {
    const isUrgent = disk.freeSize < DISK_SHARE_URGENT * disk.size;
    findings.push({
      kind: isUrgent ? "stateDiskFull" : "stateDisk",
      subject: "state",
      summary: `the disk of the cluster state has ${megabytes(disk.freeSize)} MB left`,
      details: [`${disk.path}, ${megabytes(disk.size)} MB in all`],
      ...(isUrgent ? { explains: ["stateDisk:state"] } : {}),
    });
  }
  return findings;
}

export function memoryFindings({ nodes }: Pick<ClusterFacts, "nodes">): Finding[] {
  return [...nodes].flatMap(([subject, { memoryUsed }]): Finding[] => {
    if (memoryUsed === null || memoryUsed < MEMORY_SHARE_MAX) return [];
    const isUrgent = memoryUsed >= MEMORY_SHARE_URGENT;
    return [
      {
        kind: isUrgent ? "nodeMemoryFull" : "nodeMemory",
        subject,
        summary: `node ${subject} has used ${Math.round(memoryUsed * 100)} % of its memory`,
      },
    ];
  });
}

export function expiryFindings(
  { expiring, caches }: Pick<ClusterFacts, "expiring" | "caches">,
  certificates: readonly Certificate[],
  nowMs: number,
): Finding[] {
  const findings: Finding[] = [];
  for (const [username, { cache, createdAtMs, expiresAtMs }] of expiring) {
    const leftMs = expiresAtMs - nowMs;
    if (leftMs > CREDENTIAL_WARNING_MS || leftMs < -CREDENTIAL_PAST_MS_MAX) continue;
    if (expiresAtMs - createdAtMs < CREDENTIAL_LIFE_MS_MIN) continue;
    const name = caches.get(cache)?.name ?? cache;
    findings.push({
      kind: "credentialExpiry",
      subject: username,
      summary: `the credential ${username} of ${name} ${momentText(leftMs)} and was not rotated`,
    });
  }
  for (const { path, expiresAtMs } of certificates) {
    if (expiresAtMs === null || expiresAtMs - nowMs > CERTIFICATE_WARNING_MS) continue;
    const leftMs = expiresAtMs - nowMs;
    findings.push({
      kind: leftMs <= CERTIFICATE_URGENT_MS ? "certificateExpired" : "certificateExpiry",
      subject: path,
      summary: `the certificate in ${path} ${momentText(leftMs)}`,
    });
  }
  return findings;
}

/** Caches none of whose shards can be used, by what the state says and by what proxies meet. */
export function downFindings(
  facts: ClusterFacts,
  cells: readonly Cell[],
  { probeCache, hasNodes }: { probeCache: string; hasNodes: boolean },
): Finding[] {
  const shardsOf = new Map<string, string[]>();
  for (const [id, { cache }] of facts.shards) {
    const shards = shardsOf.get(cache);
    if (shards === undefined) shardsOf.set(cache, [id]);
    else shards.push(id);
  }
  const seen = new Map<string, Cell[]>();
  for (const cell of cells) {
    const id = `${cell.cache}/${cell.node}`;
    seen.set(id, [...(seen.get(id) ?? []), cell]);
  }
  return [...facts.caches].flatMap(([id, { name, enabled }]): Finding[] => {
    if (!enabled || id === probeCache || !hasNodes) return [];
    const shards = shardsOf.get(id) ?? [];
    if (shards.some((shard) => isLive(facts, shard, seen.get(shard) ?? []))) return [];
    // A cache that was just made has no shards for a moment; its finding is held back.
    return [
      {
        kind: "cacheDown",
        subject: id,
        summary: `${name} has no live shard: ${shards.length} are away or out of routing`,
        details: shards.slice(0, 10),
        explains: [`sloBurn:${id}`, `sloBurnSlow:${id}`],
      },
    ];
  });
}

function isLive(facts: ClusterFacts, id: string, cells: readonly Cell[]): boolean {
  const shard = facts.shards.get(id);
  if (shard === undefined || shard.state === "starting") return false;
  const ejection = facts.ejections.get(id);
  if (ejection !== undefined) return ejection.standIns.length > 0;
  if (facts.unreachableSinceMs === null && !facts.nodes.has(shard.node)) return false;
  return cells.length === 0 || cells.some(({ deadTicks }) => deadTicks < DEAD_TICKS_MIN);
}

/** Nodes that take long compared with the others that the same proxies see. */
export const SLOW_NODE_RATIO = 2.5;
export function slowNodeFindings(
  usualMs: ReadonlyMap<string, ReadonlyMap<string, number>>,
): Finding[] {
  const seen = new Map<string, { ratio: number; medianMs: number }[]>();
  for (const nodes of usualMs.values()) {
    if (nodes.size < 2) continue;
    for (const [node, medianMs] of nodes) {
      const others = [...nodes].filter(([name]) => name !== node).map(([, ms]) => ms);
      const usual = others.sort((a, b) => a - b)[(others.length - 1) >> 1]!;
      seen.set(node, [...(seen.get(node) ?? []), { ratio: medianMs / usual, medianMs }]);
    }
  }
  return [...seen].flatMap(([subject, ratios]): Finding[] => {
    if (!ratios.every(({ ratio }) => ratio >= SLOW_NODE_RATIO)) return [];
    const { ratio, medianMs } = ratios[0]!;
    const summary = `node ${subject} takes ${ratio.toFixed(1)} times as long as the others: ${medianMs.toFixed(2)} ms in the middle`;
    return [{ kind: "slowNode", subject, summary }];
  });
}

export function starvedFindings(starved: ReadonlySet<string>): Finding[] {
  return [...starved].map((subject) => ({
    kind: "proxyStarved",
    subject,
    summary: `the machine of ${subject} has too little CPU: it and what it sees are late`,
  }));
}

function shardsByNode(shards: ClusterFacts["shards"]): Map<string, string[]> {
  const byNode = new Map<string, string[]>();
  for (const [id, { node }] of shards) {
    const ids = byNode.get(node);
    if (ids === undefined) byNode.set(node, [id]);
    else ids.push(id);
  }
  return byNode;
}

const megabytes = (size: number): number => Math.floor(size / 1024 ** 2);

function momentText(leftMs: number): string {
  if (leftMs <= 0) return "has expired";
  const hours = Math.floor(leftMs / 3_600_000);
  return hours >= 48 ? `expires in ${Math.floor(hours / 24)} days` : `expires in ${hours} hours`;
}
