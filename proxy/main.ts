/** The proxy role: its workers, its record in the cluster state, its metrics. Wiring only. */

import { Presence } from "../core/cluster/presence.ts";
import { VIEW_PATH } from "../core/cluster/proxyView.ts";
import type { ClusterState } from "../core/cluster/state.ts";
import { layerFacts } from "../core/io/layer.ts";
import { clock, sleep } from "../core/runtime/clock.ts";
import { reachableAddress } from "../core/runtime/config.ts";
import type { Logger } from "../core/runtime/log.ts";
import { registerMetrics } from "../core/runtime/metrics.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { FiguresCollector } from "./figures.ts";
import { Flusher } from "./flusher.ts";
import { Jury } from "./jury.ts";
import { createProxyRegistry, JURY_METRICS } from "./metrics.ts";
import type { ProxyOptions } from "./options.ts";
import { probe } from "./routing/probe.ts";
import { ThreadedWorker } from "./threads.ts";
import { UsageWriter } from "./usage.ts";
import { ViewCollector } from "./view.ts";
import { Viewers } from "./viewers.ts";
import { Worker, type WorkerEvents } from "./worker.ts";

/** A state that is away must not keep a proxy from draining. */
const FAREWELL_MS_MAX = 200;

export { FOLLOWED_KINDS } from "./tenant/directory.ts";

export interface ProxyContext {
  state: ClusterState;
  log: Logger;
}

/** Rejects with the system's error when an address cannot be had. */
export async function startProxy(
  options: ProxyOptions,
  { state, log }: ProxyContext,
): Promise<RunningRole> {
  const startedAtMs = clock.unixMs();
  let isReady = false;
  /** Where the view can be read; told by whoever opens it. */
  let ops = "";
  let advertised: readonly string[] = [];
  /** The revision in force in each worker. */
  const applied: number[] = [];

  /** Tells the cluster where this proxy is and which revision is in force here. */
  const presence = new Presence({
    state,
    log,
    kind: "proxy",
    id: options.name,
    value: () => {
      const appliedRevision = Math.min(...applied);
      const addresses = [...advertised];
      return { pid: process.pid, addresses, ops, ready: isReady, appliedRevision, startedAtMs };
    },
  });
  const eventsOf = (worker: number): WorkerEvents => ({
    linkChanged: ({ address, dialect }, from, to, reason) => {
      const level = to === "waiting" ? "warn" : "debug";
      log[level]({ worker, address, dialect, from, to, reason }, "shard connection");
    },
    applied: (revision) => {
      applied[worker] = revision;
      if (isReady) void presence.publish();
    },
    suspected: (shardId, reason) => jury.suspect(shardId, reason),
    trusted: (shardId) => jury.trust(shardId),
    flushWanted: (cacheId) => flusher.flush(cacheId),
  });

  const first = new Worker(options, state, eventsOf(0));
  const flusher = new Flusher({
    state,
    log,
    appliedByAll: () => first.services.directory.appliedByAll,
  });
  const jury = new Jury({
    state,
    log,
    proxy: options.name,
    probe: (address, msMax) => probe(first.services.loop, address, msMax),
    isStarved: () => first.starvation.isStarved,
  });
  const bound = await first.start();
  advertised =
    options.advertise.length > 0 ? options.advertise : bound.listen.map(reachableAddress);
  const others: ThreadedWorker[] = [];
  const { directory } = first.services;
  const views = new ViewCollector(directory);
  const viewers = new Viewers({
    proxy: options.name,
    isStarved: () => first.starvation.isStarved,
    collect: ({ isAnew }) => {
      const own = views.collect({ isAnew, nowMs: clock.nowMs() });
      return Promise.all([own, ...others.map((other) => other.view({ isAnew }))]);
    },
  });
  const collector = new FiguresCollector(first.services);
  const sharedOptions: ProxyOptions = {
    ...options,
    listen: bound.listen,
    plain: options.plain.map(({ cache }, i) => ({ cache, address: bound.plain[i]! })),
  };
  for (let worker = 1; worker < options.workers; worker++) {
    applied[worker] = 0;
    const other = new ThreadedWorker(sharedOptions, eventsOf(worker));
    await other.start(state);
    others.push(other);
  }
  isReady = true;
  await presence.publish();
  jury.start();
  const usage = new UsageWriter({
    state,
    log,
    clock,
    proxy: options.name,
    startedAtMs,
    lease: () => presence.lease,
    figures: () => {
      const own = collector.collect(clock.unixMs());
      return Promise.all([own, ...others.map((other) => other.figures())]);
    },
    exists: (kind, id) =>
      kind === "cache" ? directory.tenants.has(id) : directory.login(id) !== undefined,
    changeCount: () => directory.changeCount,
  });
  usage.start();
  const io = layerFacts(first.services.loop);
  log.info({ ...bound, advertised, workers: options.workers, ...io }, "serving clients");

  const registry = createProxyRegistry(first, others);
  registerMetrics(registry, JURY_METRICS, {
    suspicions: (emit) => emit(jury.linkSuspicionCount),
  });
  return {
    addresses: [...bound.listen, ...bound.plain],
    registry,
    ready: () => isReady,
    opsRows: [
      {
        path: VIEW_PATH,
        type: "application/x-ndjson",
        stream: (response) => viewers.add(response),
      },
    ],
    opsOpened: (address) => {
      ops = address;
      if (isReady) void presence.publish();
    },
    drain: async () => {
      isReady = false;
      viewers.close();
      // Who goes without having said so is missed.
      if (ops !== "") await Promise.race([presence.publish(), sleep(FAREWELL_MS_MAX)]);
      await usage.stop();
      await jury.close();
      await Promise.all([first.drain(), ...others.map((other) => other.drain())]);
      await presence.end();
    },
  };
}
