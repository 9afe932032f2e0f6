/**
 * When a shard leaves routing, who stands in for it, and when it returns: the pure decision, the
 * same in every proxy. Whoever sees the reason first writes it down; the state lets one of them win.
 *
 * What most proxies would not use is out for all of them; what a single one would not use is that
 * proxy's own connection. But where a single one cannot find out what became of its changes, the
 * shard has to be emptied, and that is what an ejection does. Keys of an ejected shard live on stand-ins that were made empty for this
 * one ejection, and the shard itself returns empty: nothing that missed a change is ever read.
 * It returns when most proxies would use it again; sooner where the cache has too few without it.
 */
import type { Ejection, Shard, Suspicion, SuspicionReason } from "./records.ts";

/** Failures that need no comparison with siblings: nobody is there, or nothing comes back. */
const HARD: Readonly<Record<SuspicionReason, boolean>> = {
  refused: true,
  unreachable: true,
  stalled: true,
  timeouts: true,
  broken: true,
  unconfirmed: true,
  unproven: true,
  probe_failed: true,
  slow: false,
};

/** What probes say of a shard that is out; once it is in routing again, traffic tells. */
const OF_PROBES: ReadonlySet<SuspicionReason> = new Set(["unproven", "probe_failed"]);

/** Of the shards of a cache so many may be out for being slow: the rest has to carry them. */
const SOFT_SHARE_MAX = 1 / 3;
/** With fewer of them in routing nobody who might be well is kept waiting. */
const CARRYING_SHARE_MIN = 1 / 2;

/** Everything about the shards of one cache that the decision needs. */
export interface CacheView {
  /** By node. */
  shards: ReadonlyMap<string, Pick<Shard, "state" | "clearedFor" | "stamp">>;
  ejections: ReadonlyMap<string, Ejection>;
  /** By node, then by proxy. */
  suspicions: ReadonlyMap<string, ReadonlyMap<string, Suspicion>>;
  /** Proxies that live. */
  proxies: ReadonlySet<string>;
  /** Nodes of ours whose agent lives: it is what opens a stand-in, and may be what serves it. */
  nodes: { has(node: string): boolean };
  /** Processes of the nodes on this machine that serve their shards themselves. */
  pids: ReadonlyMap<string, number>;
}

export type Decision =
  | { do: "keep" }
  | { do: "eject"; standIns: string[]; reason: SuspicionReason; seenBy: string[] }
  | { do: "readmit" };

const KEEP: Decision = { do: "keep" };

export function decideEjection(view: CacheView, node: string): Decision {
  const shard = view.shards.get(node);
  const ejection = view.ejections.get(node);
  // Its cache has left the node: there is nothing to return to.
  if (shard === undefined) return ejection === undefined ? KEEP : { do: "readmit" };
  const suspicions = living(view, node);
  const isSeenByMost = suspicions.length * 2 > view.proxies.size;
  if (ejection !== undefined) {
    const isEmptied = shard.clearedFor === ejection.serial && shard.state === "ready";
    const mayReturn = !isSeenByMost || (isNeeded(view, ejection) && !isSick(view, node));
    if (isEmptied && mayReturn) return { do: "readmit" };
    // A stand-in that failed itself takes its keys with it: all begin anew.
    const isWhole = ejection.standIns.every((host) => isUsable(view, host));
    if (isWhole) return KEEP;
    const { reason, seenBy } = ejection;
    return eject(view, node, { reason, seenBy });
  }
  const fence = suspicions.find(({ reason }) => reason === "unconfirmed");
  if (fence !== undefined) {
    const why = { reason: fence.reason, seenBy: [fence.proxy] };
    const decision = eject(view, node, why);
    // With nobody to stand in its keys have nobody for a moment.
    return decision.do === "keep" ? { do: "eject", standIns: [], ...why } : decision;
  }
  if (!isSeenByMost) return KEEP;
  const hard = suspicions.find(({ reason }) => HARD[reason]);
  if (hard === undefined && !mayEjectSoftly(view, node)) return KEEP;
  const reason = (hard ?? suspicions[0]!).reason;
  return eject(view, node, { reason, seenBy: suspicions.map(({ proxy }) => proxy).sort() });
}

function eject(
  view: CacheView,
  node: string,
  why: { reason: SuspicionReason; seenBy: string[] },
): Decision {
  const standIns = [...view.shards.keys()].filter(
    (host) => host !== node && isUsable(view, host) && !shareProcess(view, node, host),
  );
  // With nobody to stand in, trying the shard itself is as good as anything.
  return standIns.length === 0 ? KEEP : { do: "eject", standIns: standIns.sort(), ...why };
}

/** What made one of them fail has made both fail: moving keys would only lose them. */
function shareProcess({ pids }: CacheView, node: string, host: string): boolean {
  return pids.has(node) && pids.get(node) === pids.get(host);
}

/** Its keys have nobody, or the few that are left would have to carry too much. */
function isNeeded(view: CacheView, { standIns }: Ejection): boolean {
  const carrying = [...view.shards.keys()].filter((node) => isUsable(view, node));
  if (carrying.length < view.shards.size * CARRYING_SHARE_MIN) return true;
  return !standIns.some((host) => carrying.includes(host));
}

/** Its canaries fail; one that only has to prove for longer that it is well is not. */
function isSick(view: CacheView, node: string): boolean {
  const failed = living(view, node).filter(({ reason }) => reason !== "unproven");
  return failed.length * 2 > view.proxies.size;
}

/** In routing, and not about to leave it; its node is there to stand in for others. */
function isUsable(view: CacheView, node: string): boolean {
  const shard = view.shards.get(node);
  const isThere = shard?.state === "ready" && !view.ejections.has(node);
  if (!isThere || !(shard.stamp !== "" || view.nodes.has(node))) return false;
  const suspicions = living(view, node);
  const isDoubted = suspicions.some(({ reason }) => reason === "unconfirmed");
  return !isDoubted && suspicions.length * 2 <= view.proxies.size;
}

function living({ suspicions, proxies, ejections }: CacheView, node: string): Suspicion[] {
  const all = suspicions.get(node)?.values() ?? [];
  const isOut = ejections.has(node);
  return [...all].filter(({ proxy, reason }) => {
    return proxies.has(proxy) && (isOut || !OF_PROBES.has(reason));
  });
}

/**
 * A slow shard is better than others that become slow under its keys: few may be out, and most of
 * the rest have to be well in the eyes of every proxy.
 */
function mayEjectSoftly(view: CacheView, node: string): boolean {
  const { shards, ejections } = view;
  const softCount = [...ejections.values()].filter(({ reason }) => !HARD[reason]).length;
  if (softCount >= Math.max(1, Math.floor(shards.size * SOFT_SHARE_MAX))) return false;
  const others = [...shards.keys()].filter((host) => host !== node);
  const well = others.filter((host) => isUsable(view, host) && living(view, host).length === 0);
  return well.length * 2 > others.length;
}
