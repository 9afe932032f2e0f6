/**
 * One role in a process of its own: opens the state, starts the role, serves until the end. Under
 * the supervisor its options come over the IPC channel, never on the command line; alone they come
 * from the configuration file and it has an ops port of its own.
 */
import type { z } from "zod";
import { openSqliteState } from "../core/cluster/sqlite.ts";
import type { ClusterState } from "../core/cluster/state.ts";
import { formatAddress } from "../core/runtime/config.ts";
import { createLog, type Logger, type LogLevel } from "../core/runtime/log.ts";
import { registerProcessMetrics } from "../core/runtime/metrics.ts";
import { standardRows, startOps } from "../core/runtime/ops.ts";
import {
  DRAIN_MS_MAX,
  listenProblem,
  logCrashes,
  Refusal,
  serveRole,
  startOrder,
} from "../core/runtime/process.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { openDirectory } from "./directory.ts";
import { claimSoon } from "./lock.ts";

export interface Starter {
  /** The role: proxy or backend. */
  name: string;
  version: string;
  schema: z.ZodObject;
  start(options: never, context: { state: ClusterState; log: Logger }): Promise<RunningRole>;
}

/** The supervisor names only what it decides; the rest are the defaults of the role. */
export async function runSupervised(starter: Starter): Promise<undefined> {
  const order = await startOrder();
  process.title = `memward ${order.name}`;
  const { runDir, statePath } = openDirectory(order.dataDir);
  const claimed = await claimSoon(runDir, { name: order.name, limitMs: DRAIN_MS_MAX });
  if (claimed === undefined) throw new Refusal(`another ${order.name} runs in ${order.dataDir}`);
  const log = createLog({ name: order.name, level: order.logLevel });
  const options = starter.schema.parse(order.options); // A mismatch is a bug, not bad input.
  await serve(starter, { options, statePath, log });
}

export async function runAlone(
  starter: Starter,
  given: Record<string, unknown>,
): Promise<undefined> {
  const section = given["section"] as { name?: string };
  const { runDir, statePath } = openDirectory(String(given["dataDir"]));
  const name = section.name ?? starter.name;
  const claimed = await claimSoon(runDir, { name, limitMs: 0 });
  if (claimed === undefined) {
    throw new Refusal(`another ${name} is running in ${String(given["dataDir"])}`);
  }
  const log = createLog({ name, level: given["logLevel"] as LogLevel });
  const ops = given["ops"];
  await serve(starter, {
    options: section,
    statePath,
    log,
    ...(typeof ops === "string" ? { ops } : {}),
  });
}

interface Serving {
  options: unknown;
  statePath: string;
  log: Logger;
  ops?: string;
}

async function serve(starter: Starter, { options, statePath, log, ops }: Serving): Promise<void> {
  logCrashes(log);
  const state = openSqliteState({
    path: statePath,
    troubled: (error) => log.error({ err: error }, "cluster state is in trouble"),
  });
  const role = await starter.start(options as never, { state, log }).catch((error: unknown) => {
    throw asRefusal(error);
  });
  registerProcessMetrics(role.registry);
  const opsPort = ops === undefined ? undefined : await openOps({ role, ops, log });
  const drain = async (): Promise<void> => {
    await role.drain();
    await opsPort?.close();
    await state.close();
  };
  const addresses = [...role.addresses];
  serveRole({
    role: { addresses, registry: role.registry, ready: () => role.ready(), drain },
    log,
  });
  log.info({ addresses, ops: opsPort?.address, version: starter.version }, "started");
}

function openOps({ role, ops, log }: { role: RunningRole; ops: string; log: Logger }) {
  const rows = standardRows({
    metrics: () => role.registry.metrics(),
    notReady: () => (role.ready() ? [] : ["not ready"]),
  });
  return startOps({ address: ops, rows, log }).catch((error: unknown) => {
    throw new Refusal(listenProblem({ what: "--ops", address: ops }, error));
  });
}

/** A port that cannot be listened on is the operator's to change; the rest is ours. */
function asRefusal(error: unknown): unknown {
  const { syscall, address, port } = error as NodeJS.ErrnoException & {
    address?: string;
    port?: number;
  };
  const isPort = port !== undefined && port >= 0; // A socket file has -1.
  if (!isPort || (syscall !== "listen" && syscall !== "bind")) return error;
  const where = formatAddress({ host: String(address), port });
  return new Refusal(listenProblem({ what: "listen", address: where }, error));
}
