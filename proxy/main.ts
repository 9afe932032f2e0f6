/** The proxy role: its workers, its record in the cluster state, its metrics. Wiring only. */
import type { Logger } from "pino";
import type { ClusterState, Lease } from "../core/cluster/state.ts";
import { clock } from "../core/runtime/clock.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { createProxyRegistry } from "./metrics.ts";
import type { ProxyOptions } from "./options.ts";
import { Worker } from "./worker.ts";

const LEASE_TTL_MS = 5000;

export interface ProxyContext {
  state: ClusterState;
  log: Logger;
}

/** Rejects with the system's error when an address cannot be had. */
export async function startProxy(
  options: ProxyOptions,
  { state, log }: ProxyContext,
): Promise<RunningRole> {
  let isReady = false;
  let lease: Lease | null = null;
  let appliedRevision = 0;
  const startedAtMs = clock.unixMs();
  let addresses: string[] = [];

  /** Tells the cluster which revision is in force here. */
  const publish = async (): Promise<void> => {
    if (lease === null) return;
    const revision = appliedRevision;
    const value = {
      pid: process.pid,
      addresses,
      ready: isReady,
      appliedRevision: revision,
      startedAtMs,
    };
    const commit = await state.commit([{ kind: "proxy", id: options.name, value, lease }]);
    if (!commit.ok) log.error({ commit }, "proxy record not written");
  };
  const publishSafely = (): void => {
    publish().catch((error: unknown) => log.error({ err: error }, "proxy record not written"));
  };

  const worker = new Worker(options, state, {
    linkChanged: (link, from, to, reason) => {
      const level = to === "waiting" ? "warn" : "debug";
      log[level]({ address: link.address, dialect: link.dialect, from, to, reason }, "shard connection");
    },
    applied: (revision) => {
      appliedRevision = revision;
      publishSafely();
    },
  });
  const bound = await worker.start();
  addresses = [...bound.listen, ...bound.plain];
  lease = await state.lease({ ttlMs: LEASE_TTL_MS });
  isReady = true;
  await publish();
  log.info({ listen: bound.listen, plain: bound.plain }, "serving clients");

  return {
    addresses,
    registry: createProxyRegistry(worker),
    ready: () => isReady,
    drain: async () => {
      isReady = false;
      await worker.drain();
      await lease?.revoke();
    },
  };
}
