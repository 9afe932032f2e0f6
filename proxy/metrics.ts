/** The metrics of a proxy as rows, and where their values are read. */
import { IO_LAYER_METRIC } from "../core/io/layer.ts";
import { COMMANDS, RESULT_COUNT, RESULTS } from "../core/protocol/command.ts";
import {
  createRegistry,
  type MetricFamily,
  type MetricTable,
  type Registry,
  register,
  registerMetrics,
} from "../core/runtime/metrics.ts";
import { CLOSE_REASONS, LOGIN_OUTCOMES } from "./client/services.ts";
import { LATENCY_BOUNDS_SECONDS } from "./routing/counters.ts";
import { SECOND_READS } from "./routing/hedges.ts";
import { LINK_FAILURES, type Link } from "./routing/link.ts";
import type { ShardLinks } from "./routing/route.ts";
import { LIMIT_EFFECTS } from "./tenant/limits.ts";
import type { Tenant } from "./tenant/tenant.ts";
import type { Worker } from "./worker.ts";

export const PROXY_METRICS = {
  io: IO_LAYER_METRIC,
  requests: {
    name: "memward_proxy_requests_total",
    kind: "counter",
    labels: ["cache", "command", "result"],
    help: "Commands by cache and result; a retrieval counts once for each key.",
  },
  latency: {
    name: "memward_proxy_shard_latency_seconds",
    kind: "histogram",
    labels: ["cache", "shard"],
    help: "From reading a command to having the shard's reply, by cache and shard (node name).",
  },
  out: {
    name: "memward_proxy_shard_out",
    kind: "gauge",
    labels: ["cache", "shard"],
    help: "1 for a shard that is out of routing, 0 for one that is in; stand-ins are not listed.",
  },
  slowShare: {
    name: "memward_proxy_shard_slow_share",
    kind: "gauge",
    labels: ["cache", "shard", "window"],
    help: "Share of slow operations, those that wait included, in the last 1 s and 10 s.",
  },
  outlier: {
    name: "memward_proxy_shard_outlier",
    kind: "gauge",
    labels: ["cache", "shard"],
    help: "1 for a shard that is slow compared with its siblings, as this worker sees it.",
  },
  commonMode: {
    name: "memward_proxy_common_mode",
    kind: "gauge",
    labels: ["cache"],
    help: "1 while most shards of the cache are slow at the same time: no one of them is to blame.",
  },
  secondReads: {
    name: "memward_proxy_second_reads_total",
    kind: "counter",
    labels: ["cache", "reason"],
    help: "Reads asked of the second copy of their key: the first was late, failed or had nothing.",
  },
  sessions: {
    name: "memward_proxy_sessions",
    kind: "gauge",
    labels: ["cache"],
    help: "Client connections that are logged in, or bound to a cache.",
  },
  sessionsTotal: {
    name: "memward_proxy_sessions_total",
    kind: "counter",
    labels: ["cache"],
    help: "Client connections that were logged in, or bound to a cache, since the start.",
  },
  anonymous: {
    name: "memward_proxy_sessions_anonymous",
    kind: "gauge",
    labels: [],
    help: "Client connections that have not logged in.",
  },
  accepted: {
    name: "memward_proxy_connections_accepted_total",
    kind: "counter",
    labels: [],
    help: "Client connections accepted.",
  },
  dropped: {
    name: "memward_proxy_connections_dropped_total",
    kind: "counter",
    labels: [],
    help: "Client connections refused: too many, or no file descriptor left.",
  },
  closed: {
    name: "memward_proxy_sessions_closed_total",
    kind: "counter",
    labels: ["reason"],
    help: "Sessions ended, by reason.",
  },
  logins: {
    name: "memward_proxy_logins_total",
    kind: "counter",
    labels: ["outcome"],
    help: "Logins by outcome; wrong is an unknown username or a wrong password.",
  },
  cacheLogins: {
    name: "memward_proxy_cache_logins_total",
    kind: "counter",
    labels: ["cache", "outcome"],
    help: "Logins with a username of the cache, by whether they were refused.",
  },
  limits: {
    name: "memward_proxy_limits_total",
    kind: "counter",
    labels: ["cache", "limit", "effect"],
    help: "What the limits of a cache did: sessions, logins or values refused, somebody delayed.",
  },
  passwordChecks: {
    name: "memward_proxy_password_checks",
    kind: "gauge",
    labels: ["state"],
    help: "Checks of chosen passwords (scrypt) that run, and that wait.",
  },
  unauthenticated: {
    name: "memward_proxy_unauthenticated_commands_total",
    kind: "counter",
    labels: [],
    help: "Commands refused because nobody had logged in.",
  },
  bytes: {
    name: "memward_proxy_client_bytes_total",
    kind: "counter",
    labels: ["cache", "direction"],
    help: "Bytes read from and written to clients after login.",
  },
  linkReady: {
    name: "memward_proxy_shard_connections",
    kind: "gauge",
    labels: ["cache", "shard", "dialect", "state"],
    help: "Connections to shards; 1 for the state each of them is in.",
  },
  depth: {
    name: "memward_proxy_shard_depth",
    kind: "gauge",
    labels: ["cache", "shard", "dialect"],
    help: "Commands sent to a shard and not answered yet.",
  },
  unknown: {
    name: "memward_proxy_shard_unknown_outcomes",
    kind: "gauge",
    labels: ["cache", "shard", "dialect"],
    help: "Keys of changes of which nobody knows whether they happened; they are being deleted.",
  },
  failures: {
    name: "memward_proxy_shard_failures_total",
    kind: "counter",
    labels: ["cache", "shard", "dialect", "reason"],
    help: "Shard connections ended by a failure, commands timed out or refused by a full queue.",
  },
  slots: {
    name: "memward_proxy_slots_used",
    kind: "gauge",
    labels: [],
    help: "Commands that await a reply.",
  },
  slabs: {
    name: "memward_proxy_arena_slabs_used",
    kind: "gauge",
    labels: [],
    help: "Slabs of the arena in use (32 KB each).",
  },
  held: {
    name: "memward_proxy_held_bytes",
    kind: "gauge",
    labels: ["what"],
    help: "Bytes waiting for a client to read them (output) or to send the rest (input).",
  },
} as const;

/** What the proxy knows as a whole, whatever its workers count. */
export const JURY_METRICS = {
  suspicions: {
    name: "memward_proxy_link_suspicions",
    kind: "gauge",
    labels: [],
    help: "Shards in routing that this proxy would not use: if no other agrees, its connections.",
  },
} as const satisfies MetricTable;

/**
 * The metrics of a proxy. With several workers every sample says by a label `worker` whose it is;
 * they are asked when the first metric of a scrape is read.
 */
export function createProxyRegistry(
  workers: readonly { families(): Promise<MetricFamily[]> }[],
): Registry {
  const registry = createRegistry();
  let scraped: Promise<MetricFamily[][]> | null = null;
  const scrape = (): Promise<MetricFamily[][]> => {
    scraped ??= Promise.all(workers.map((worker) => worker.families()));
    setImmediate(() => {
      scraped = null;
    });
    return scraped;
  };
  for (const { name, help, kind } of Object.values(PROXY_METRICS)) {
    register(registry, { name, help }, async () => {
      const answers = await scrape();
      const values = answers.flatMap((families, worker) => {
        const family = families.find((one) => one.name === name);
        const label = answers.length > 1 ? { worker: String(worker + 1) } : {};
        return (family?.values ?? []).map((v) => ({ ...v, labels: { ...v.labels, ...label } }));
      });
      return { name, help, type: kind, values };
    });
  }
  return registry;
}

export function createWorkerRegistry(worker: Worker): Registry {
  const registry = createRegistry();
  const { services } = worker;
  const { counters, directory } = services;
  const tenants = (): Iterable<Tenant> => directory.tenants.values();
  registerMetrics(registry, PROXY_METRICS, {
    io: (emit) => emit(1, services.loop.io),
    requests: (emit) => {
      for (const tenant of tenants()) {
        tenant.counters.requests.forEach((value, index) => {
          if (value === 0) return;
          const command = COMMANDS[Math.floor(index / RESULT_COUNT)]!.name;
          emit(value, tenant.name, command, RESULTS[index % RESULT_COUNT]!);
        });
      }
    },
    latency: (emit) => {
      for (const { tenant, shard } of eachShard(tenants())) {
        const { counts, sumMs } = shard.latency;
        emit(
          { bounds: LATENCY_BOUNDS_SECONDS, counts, sum: sumMs / 1000 },
          tenant.name,
          shard.label,
        );
      }
    },
    out: (emit) => {
      for (const { tenant, shard } of eachShard(tenants())) {
        if (shard.standsInFor === null) emit(shard.isOut ? 1 : 0, tenant.name, shard.label);
      }
    },
    slowShare: (emit) => {
      for (const { tenant, shard } of eachShard(tenants())) {
        const { fast, slow } = tenant.route.health.seenOf(shard);
        if (fast.count > 0) emit(fast.slow / fast.count, tenant.name, shard.label, "1s");
        if (slow.count > 0) emit(slow.slow / slow.count, tenant.name, shard.label, "10s");
      }
    },
    outlier: (emit) => {
      for (const { tenant, shard } of eachShard(tenants())) {
        const { rule, slow } = tenant.route.health.seenOf(shard);
        if (slow.count > 0) emit(rule === undefined ? 0 : 1, tenant.name, shard.label);
      }
    },
    commonMode: (emit) => {
      for (const { name, route } of tenants()) {
        if (route.health.isCommonMode) emit(1, name);
      }
    },
    secondReads: (emit) => {
      for (const { name, route } of tenants()) {
        for (const [index, reason] of SECOND_READS.entries()) {
          if (route.hedges !== null) emit(route.hedges.counts[index]!, name, reason);
        }
      }
    },
    sessions: (emit) => {
      for (const tenant of tenants()) emit(tenant.counters.sessions, tenant.name);
    },
    sessionsTotal: (emit) => {
      for (const tenant of tenants()) emit(tenant.counters.sessionsTotal, tenant.name);
    },
    anonymous: (emit) => emit(services.anonymous.size),
    accepted: (emit) => emit(counters.accepted),
    dropped: (emit) => emit(counters.dropped),
    closed: (emit) => CLOSE_REASONS.forEach((reason, i) => emit(counters.closed[i]!, reason)),
    logins: (emit) => LOGIN_OUTCOMES.forEach((outcome, i) => emit(counters.logins[i]!, outcome)),
    cacheLogins: (emit) => {
      for (const { name, counters: of } of tenants()) {
        if (of.authCommands === 0) continue;
        emit(of.authCommands - of.authErrors, name, "ok");
        emit(of.authErrors, name, "refused");
      }
    },
    limits: (emit) => {
      for (const tenant of tenants()) {
        for (const effect of LIMIT_EFFECTS) {
          const count = tenant.limits.effectCount(effect);
          if (count > 0) emit(count, tenant.name, effect[0], effect[1]);
        }
      }
    },
    passwordChecks: (emit) => {
      emit(services.passwords.runningCount, "running");
      emit(services.passwords.waitingCount, "waiting");
    },
    unauthenticated: (emit) => emit(counters.unauthenticated),
    bytes: (emit) => {
      for (const { tenant, read, written } of bytesOfTenants(worker)) {
        emit(read, tenant.name, "read");
        emit(written, tenant.name, "written");
      }
    },
    linkReady: (emit) => {
      for (const { tenant, shard, link } of eachLink(tenants())) {
        emit(1, tenant.name, shard.label, link.dialect, link.state);
      }
    },
    depth: (emit) => {
      for (const { tenant, shard, link } of eachLink(tenants())) {
        emit(link.depth, tenant.name, shard.label, link.dialect);
      }
    },
    unknown: (emit) => {
      for (const { tenant, shard, link } of eachLink(tenants())) {
        emit(link.unknownCount, tenant.name, shard.label, link.dialect);
      }
    },
    failures: (emit) => {
      for (const { tenant, shard, link } of eachLink(tenants())) {
        const labels = [tenant.name, shard.label, link.dialect] as const;
        LINK_FAILURES.forEach((reason, i) => {
          if (link.failureCounts[i]! > 0) emit(link.failureCounts[i]!, ...labels, reason);
        });
        emit(link.timedOutCount, ...labels, "timed_out");
        emit(link.queueFullCount, ...labels, "queue_full");
      }
    },
    slots: (emit) => emit(services.slots.usedCount),
    slabs: (emit) => emit(services.loop.arena.usedCount),
    held: (emit) => {
      emit(services.loop.unsentSize, "output");
      emit(services.loop.keptSize, "input");
    },
  });
  return registry;
}

function* eachShard(tenants: Iterable<Tenant>): Generator<{ tenant: Tenant; shard: ShardLinks }> {
  for (const tenant of tenants) {
    for (const shard of tenant.route.shards) if (shard.isThere) yield { tenant, shard };
  }
}

function* eachLink(
  tenants: Iterable<Tenant>,
): Generator<{ tenant: Tenant; shard: ShardLinks; link: Link }> {
  for (const { tenant, shard } of eachShard(tenants)) {
    for (const link of shard.links) yield { tenant, shard, link };
  }
}

/** Sessions that ended are added up already; those that live are asked now. */
function bytesOfTenants(worker: Worker): { tenant: Tenant; read: number; written: number }[] {
  const { directory, serving } = worker.services;
  const sums = new Map(
    Array.from(directory.tenants.values(), (tenant) => {
      const { bytesRead, bytesWritten } = tenant.counters;
      return [tenant, { tenant, read: bytesRead, written: bytesWritten }];
    }),
  );
  for (const { tenant, connection } of serving) {
    const sum = tenant === null ? undefined : sums.get(tenant);
    if (sum === undefined) continue;
    sum.read += connection.readSize;
    sum.written += connection.writtenSize;
  }
  return [...sums.values()];
}
