/** Caches that use up their error budget too fast, unless it is clear in a moment why. */
import type { ClusterFacts } from "../observe/cluster.ts";
import type { Burn } from "./burn.ts";
import type { Finding } from "./kinds.ts";
import type { Cell } from "./matrix.ts";

/** A cache of which nothing was heard for so long does not burn. */
const HEARD_MS_MAX = 5_000;

export function burnFindings(
  burns: ReadonlyMap<string, Burn>,
  { caches }: Pick<ClusterFacts, "caches">,
  { nowMs, probeCache }: { nowMs: number; probeCache: string },
): Finding[] {
  const findings: Finding[] = [];
  for (const [subject, burn] of burns) {
    const name = caches.get(subject)?.name;
    if (name === undefined || subject === probeCache) continue;
    if (nowMs - burn.lastMs > HEARD_MS_MAX) continue;
    const verdict = burn.verdict(nowMs);
    if (verdict === undefined) continue;
    const isFast = verdict.burn === "fast";
    const share = Math.round(verdict.share * 1000) / 10;
    findings.push({
      kind: isFast ? "sloBurn" : "sloBurnSlow",
      subject,
      summary: `${name}: ${share} % of its operations failed or took over 10 ms in ${verdict.windowMs / 1000} s`,
      ...(isFast ? { explains: [`sloBurnSlow:${subject}`] } : {}),
    });
  }
  return findings;
}

/** What is wrong with a shard, a node or everything explains why its caches burn. */
export function explainBurns(findings: readonly Finding[], cells: readonly Cell[]): Finding[] {
  const burning = findings.filter(({ kind }) => kind === "sloBurn" || kind === "sloBurnSlow");
  if (burning.length === 0) return [...findings];
  return findings.map((finding) => {
    const caches = cachesOf(finding, cells);
    const explained = burning.filter(({ subject }) => caches === "all" || caches.has(subject));
    if (explained.length === 0) return finding;
    const keys = explained.map(({ kind, subject }) => `${kind}:${subject}`);
    return { ...finding, explains: [...(finding.explains ?? []), ...keys] };
  });
}

function cachesOf({ kind, subject }: Finding, cells: readonly Cell[]): Set<string> | "all" {
  switch (kind) {
    case "network":
      return "all";
    case "shard":
      return new Set([subject.slice(0, subject.indexOf("/"))]);
    case "node":
    case "nodeGone":
      return new Set(cells.filter(({ node }) => node === subject).map(({ cache }) => cache));
    case "proxy":
    case "proxyGone":
    case "proxyUnreachable":
      return new Set(cells.filter(({ proxy }) => proxy === subject).map(({ cache }) => cache));
    default:
      return new Set();
  }
}
