/**
 * Everything that can be wrong, as a table: how bad it is, how long it has to last before it is
 * told, and which of it an incident of another kind explains. Detectors make findings of these
 * kinds; `hold.ts` makes conditions of them.
 */
import type { Severity } from "../condition.ts";

export interface KindRow {
  readonly severity: Severity;
  /** It has to be found without a break for so long. Matrix verdicts have waited already. */
  readonly holdMs: number;
  /** For people: what it means, in a few words. */
  readonly meaning: string;
}

const row = (severity: Severity, holdMs: number, meaning: string): KindRow => ({
  severity,
  holdMs,
  meaning,
});

export const KINDS = {
  network: row("crit", 0, "most of what proxies reach is slow or silent at the same time"),
  node: row("crit", 0, "one node is slow or silent for several of its shards"),
  shard: row("crit", 0, "one shard is slow, silent or out of routing"),
  probeShard: row("warn", 0, "the shard of our own canaries is slow or out of routing"),
  proxy: row("crit", 1_000, "one proxy is slow towards most nodes: the proxy or its network"),
  link: row("warn", 0, "one proxy is slow towards one shard that others find well"),
  proxyUnreachable: row("crit", 0, "clients cannot log in to a proxy, or get no answer"),
  proxySilent: row("warn", 500, "a proxy lives in the state but streams no view"),
  proxyStarved: row("warn", 10_000, "the machine of a proxy has too little CPU"),
  proxyGone: row("crit", 0, "a proxy has ended without being told to"),
  nodeGone: row("crit", 2_000, "a node that has shards is not there"),
  cacheDown: row("crit", 2_000, "no shard of a cache can be used"),
  sloBurn: row("crit", 2_000, "at least 10 % of a cache's operations fail or take over 10 ms"),
  sloBurnSlow: row("warn", 10_000, "a cache uses up its error budget far too fast"),
  slowNode: row("warn", 60_000, "a node takes 2.5 times as long as its siblings, for a minute"),
  stateUnreachable: row("crit", 0, "the cluster state does not answer; changes have to wait"),
  stateDisk: row("warn", 30_000, "the disk of the cluster state is nearly full"),
  stateDiskFull: row("crit", 5_000, "the disk of the cluster state is full"),
  nodeMemory: row("warn", 30_000, "the memory of a node is nearly used up"),
  nodeMemoryFull: row("crit", 10_000, "the memory of a node is used up"),
  credentialExpiry: row("warn", 0, "a credential expires and was not rotated"),
  certificateExpiry: row("warn", 0, "a certificate expires soon"),
  certificateExpired: row("crit", 0, "a certificate has expired, or will within three days"),
  monitorSilent: row("crit", 0, "another monitor has ended without being told to"),
  alert: row("warn", 0, "a cache is over a threshold that its owner has set"),
} as const satisfies Record<string, KindRow>;
export type FindingKind = keyof typeof KINDS;

/** Something that is wrong at this moment, before it is known to last. */
export interface Finding {
  readonly kind: FindingKind;
  readonly subject: string;
  readonly summary: string;
  readonly details?: readonly string[];
  /** Milliseconds since 1970, where the detector knows when it began. */
  readonly sinceMs?: number;
  /** Keys of what this one explains. */
  readonly explains?: readonly string[];
  readonly target?: string;
}
