/** The proxy role: its workers, its record in the cluster state, its metrics. Wiring only. */
import { Presence } from "../core/cluster/presence.ts";
import { VIEW_PATH } from "../core/cluster/proxyView.ts";
import type { ClusterState } from "../core/cluster/state.ts";
import { layerFacts } from "../core/io/layer.ts";
import { clock, paced, sleep } from "../core/runtime/clock.ts";
import { reachableAddress } from "../core/runtime/config.ts";
import type { Logger } from "../core/runtime/log.ts";
import { registerMetrics } from "../core/runtime/metrics.ts";
import { giveWay } from "../core/runtime/nice.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { Flusher } from "./flusher.ts";
import { JURY_KINDS, Jury } from "./jury.ts";
import { createProxyRegistry, JURY_METRICS } from "./metrics.ts";
import type { ProxyOptions } from "./options.ts";
import { OwnWorker } from "./ownWorker.ts";
import { probe } from "./routing/probe.ts";
import { FOLLOWED_KINDS } from "./tenant/directory.ts";
import { type Bound, ThreadedWorker } from "./threads.ts";
import { UsageWriter } from "./usage.ts";
import { Viewers } from "./viewers.ts";
import { Worker, type WorkerEvents } from "./worker.ts";

/** How many steps nicer than its sessions' threads a main thread is that only follows the state. */
const NICER = 10;
/** What is in force is told so often, unless keys wait for it: each revision is told to everybody. */
const APPLIED_INTERVAL_MS = 100;
/** A state that is away must not keep a proxy from draining. */
const FAREWELL_MS_MAX = 200;

export { FOLLOWED_KINDS } from "./tenant/directory.ts";
/** What a proxy has to be told of. */
export const WATCHED_KINDS = [...FOLLOWED_KINDS, ...JURY_KINDS] as const;

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
  /** The revision in force in each worker that serves, and in all of them. */
  const applied: number[] = [];
  let appliedRevision = 0;
  /** The newest that the cluster was told of. */
  let toldRevision = 0;

  /** Tells the cluster where this proxy is and which revision is in force here. */
  const presence = new Presence({
    state,
    log,
    kind: "proxy",
    id: options.name,
    value: () => {
      const addresses = [...advertised];
      toldRevision = appliedRevision;
      return { pid: process.pid, addresses, ops, ready: isReady, appliedRevision, startedAtMs };
    },
  });
  const tellApplied = paced(APPLIED_INTERVAL_MS, () => {
    if (isReady) void presence.publish();
  });
  const eventsOf = (worker: number): WorkerEvents => ({
    linkChanged: ({ address, dialect }, from, to, reason) => {
      const level = to === "waiting" ? "warn" : "debug";
      log[level]({ worker, address, dialect, from, to, reason }, "shard connection");
    },
    applied: (revision) => {
      applied[worker] = revision;
      const inAll = Math.min(...applied);
      if (inAll === appliedRevision) return;
      appliedRevision = inAll;
      tellApplied(directory.isWaiting(toldRevision));
    },
    suspected: (shardId, reason) => jury.suspect(shardId, reason),
    trusted: (shardId) => jury.trust(shardId),
    flushWanted: (cacheId) => flusher.flush(cacheId),
  });

  // The worker of the main thread follows the cluster state for all, whether it serves or not.
  const home = new Worker(
    options.sharesMainThread ? options : { ...options, listen: [], plain: [] },
    state,
    options.sharesMainThread ? eventsOf(0) : { ...eventsOf(0), applied: () => {} },
  );
  const { loop, directory } = home.services;
  const flusher = new Flusher({ state, log, appliedByAll: () => directory.appliedByAll });
  const jury = new Jury({
    state,
    log,
    proxy: options.name,
    probe: (address, msMax) => probe(loop, address, msMax),
    isStarved: () => home.starvation.isStarved,
  });
  let bound: Bound = await home.start();
  const threads: ThreadedWorker[] = [];
  const threadsFrom = options.sharesMainThread ? 1 : 0;
  for (let worker = threadsFrom; worker < options.workers; worker++) {
    // Port 0 would give every worker a port of its own.
    const plain = options.plain.map(({ cache }, at) => ({ cache, address: bound.plain[at]! }));
    const hasPorts = worker > 0;
    const given = hasPorts ? { ...options, listen: bound.listen, plain } : options;
    applied[worker] = 0;
    const thread = new ThreadedWorker(given, eventsOf(worker));
    bound = await thread.start(state);
    threads.push(thread);
  }
  if (threadsFrom === 0) giveWay(NICER);
  advertised =
    options.advertise.length > 0 ? options.advertise : bound.listen.map(reachableAddress);
  const workers = options.sharesMainThread ? [new OwnWorker(home), ...threads] : threads;
  const viewers = new Viewers({
    proxy: options.name,
    isStarved: () => home.starvation.isStarved,
    collect: (asked) => Promise.all(workers.map((worker) => worker.view(asked))),
  });
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
    figures: () => Promise.all(workers.map((worker) => worker.figures())),
    exists: (kind, id) =>
      kind === "cache" ? directory.tenants.has(id) : directory.login(id) !== undefined,
    changeCount: () => directory.changeCount,
  });
  usage.start();
  const io = layerFacts(loop);
  log.info({ ...bound, advertised, workers: options.workers, ...io }, "serving clients");

  const registry = createProxyRegistry(workers);
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
      await Promise.all([home.drain(), ...threads.map((thread) => thread.drain())]);
      await presence.end();
    },
  };
}
