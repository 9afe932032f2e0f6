/**
 * `stats` of a cache: the shards' own figures under memcached's names, added up where adding makes
 * sense. What a shard cannot know (sessions, logins) the proxy puts in for itself.
 */

/** Figures that are not sums over shards: the largest is told. */
const LARGEST = new Set(["time", "uptime", "pointer_size", "max_connections", "pid"]);
/** Not told: they describe the machine behind, not the cache. */
const HIDDEN = new Set([
  "pid",
  "libevent",
  "rusage_user",
  "rusage_system",
  "curr_connections",
  "total_connections",
  "rejected_connections",
  "connection_structures",
  "max_connections",
  "tcpport",
  "udpport",
  "inter",
  "domain_socket",
  "umask",
  "memory_file",
]);

/** Reads `STAT <name> <value>` lines. */
export function parseStats(text: string): [name: string, value: string][] {
  const stats: [string, string][] = [];
  for (const line of text.split("\r\n")) {
    const match = /^STAT (\S+) (.*)$/.exec(line);
    if (match !== null) stats.push([match[1]!, match[2]!]);
  }
  return stats;
}

/** Joins the figures of several shards, in the order of the first. */
export function mergeStats(shards: readonly [string, string][][]): Map<string, string> {
  const merged = new Map<string, string>();
  for (const stats of shards) {
    for (const [name, value] of stats) {
      if (HIDDEN.has(name)) continue;
      const before = merged.get(name);
      if (before === undefined) merged.set(name, value);
      else if (/^\d+$/.test(before) && /^\d+$/.test(value)) {
        const [a, b] = [BigInt(before), BigInt(value)];
        const joined = LARGEST.has(name) ? (a > b ? a : b) : a + b;
        merged.set(name, joined.toString());
      }
    }
  }
  return merged;
}
