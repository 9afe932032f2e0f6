/**
 * The control role: follows the cluster state, serves the admin API and the APIs beside it, and
 * keeps house. Wiring only. The HTTP side is loaded when the role starts.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ClusterState } from "../core/cluster/state.ts";
import { clock, sleep } from "../core/runtime/clock.ts";
import { parseAddress } from "../core/runtime/config.ts";
import type { Logger } from "../core/runtime/log.ts";
import { createRegistry, type Registry, registerMetrics } from "../core/runtime/metrics.ts";
import { Refusal } from "../core/runtime/process.ts";
import { secureBytes } from "../core/runtime/random.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { createApi, listenApi } from "./api/server.ts";
import { brokerApi } from "./broker/api.ts";
import { catalogOf } from "./broker/catalog.ts";
import { openBrokerKey } from "./broker/key.ts";
import { Gate } from "./gate.ts";
import { memcachierApi } from "./memcachier/api.ts";
import { CONTROL_METRICS, RequestCounters } from "./metrics.ts";
import type { Parts } from "./operations/change.ts";
import type { ControlOptions } from "./options.ts";
import { Reach } from "./reach.ts";
import { prepareOperatorToken } from "./token.ts";
import { Upkeep } from "./upkeep.ts";
import { View } from "./view.ts";

export interface ControlContext {
  state: ClusterState;
  log: Logger;
  version: string;
  /** Where the operator's token and the broker's key are kept. */
  dataDir: string;
}

/** Of the whole drain: what requests under way get. */
const DRAIN_MS_MAX = 1_500;

/** Rejects with the system's error when the address cannot be had. */
export async function startControl(
  options: ControlOptions,
  { state, log, version, dataDir }: ControlContext,
): Promise<RunningRole & { readonly url: string }> {
  const tls = readTls(options);
  const view = new View();
  const { plans, servers, auditDays } = options;
  const parts: Parts = { state, view, clock, secureBytes, plans, servers };
  const token = await prepareOperatorToken(parts, dataDir);
  log.info({ file: token.path, did: token.did }, "operator.token checked");
  await view.start(state);
  const gate = new Gate(parts);
  const counters = new RequestCounters();
  const reach = new Reach({ state, clock, log });
  const broker = {
    parts,
    catalog: catalogOf(plans, options.brokerServiceName),
    key: openBrokerKey(options.brokerKeyFile ?? join(dataDir, "broker.key")),
  };
  const server = await createApi({
    desk: { parts, version, awayMs: () => reach.awayMs() },
    gate,
    counters,
    log,
    tls,
    mount: async (api) => {
      await api.register((scope) => memcachierApi(scope, { parts, gate }));
      await api.register((scope) => brokerApi(scope, { broker, gate }));
    },
  });
  const address = await listenApi(server, options.listen);
  const upkeep = new Upkeep({ ...parts, log, auditDays });
  upkeep.start();
  reach.start();
  warnAboutPlainText(options, log);
  return {
    addresses: [address],
    url: `${tls === undefined ? "http" : "https"}://${address}`,
    registry: registryOf({ view, gate, counters, reach }),
    ready: () => true,
    drain: async () => {
      reach.close();
      // Who still waits for an answer gets a moment for it, not all the time there is.
      await Promise.race([server.close(), sleep(DRAIN_MS_MAX)]);
      await upkeep.close();
      view.close();
    },
  };
}

function readTls({ certFile, keyFile }: ControlOptions): { cert: Buffer; key: Buffer } | undefined {
  if (certFile === undefined && keyFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined) {
    throw new Refusal("control: certFile and keyFile belong together");
  }
  try {
    return { cert: readFileSync(certFile), key: readFileSync(keyFile) };
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException;
    throw new Refusal(`control: ${path} cannot be read (${code})`);
  }
}

function warnAboutPlainText({ listen, certFile }: ControlOptions, log: Logger): void {
  const host = parseAddress(listen)?.host ?? "";
  const isLocal = host === "localhost" || host === "::1" || host.startsWith("127.");
  if (isLocal || certFile !== undefined) return;
  log.warn({ listen }, "tokens and passwords travel in clear text here: set certFile and keyFile");
}

function registryOf(from: {
  view: View;
  gate: Gate;
  counters: RequestCounters;
  reach: Reach;
}): Registry {
  const { view, gate, counters, reach } = from;
  const registry = createRegistry();
  registerMetrics(registry, CONTROL_METRICS, {
    requests: (emit) => {
      for (const [key, count] of counters.counts) {
        const [method = "", route = "", status = ""] = key.split(" ");
        emit(count, method, route, status);
      }
    },
    seconds: (emit) => {
      for (const [route, time] of counters.times) emit(time, route);
    },
    rejected: (emit) => {
      for (const [status, count] of gate.rejected) emit(count, String(status));
    },
    reachable: (emit) => emit(reach.awayMs() === undefined ? 1 : 0),
    revision: (emit) => emit(view.revision),
    records: (emit) => {
      emit(view.caches.size, "cache");
      emit(view.credentials.size, "credential");
      emit(view.tokens.size, "token");
    },
  });
  return registry;
}
