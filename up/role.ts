/**
 * One role in a process of its own: opens the state, starts the role, serves until the end. Under
 * the supervisor its options come over the IPC channel, never on the command line; alone they come
 * from the configuration file and it has an ops port of its own.
 */
import { join } from "node:path";
import type { z } from "zod";
import { MonitorWatch } from "../core/cluster/monitors.ts";
import { type EtcdOptions, openState, parseStateUrl, stateProblem } from "../core/cluster/open.ts";
import type { Kind } from "../core/cluster/records.ts";
import { openRememberedState, type RememberedState } from "../core/cluster/remembered.ts";
import type { ClusterState } from "../core/cluster/state.ts";
import { formatAddress, reachableAddress } from "../core/runtime/config.ts";
import { claimSoon } from "../core/runtime/lock.ts";
import { createLog, type Logger, type LogLevel } from "../core/runtime/log.ts";
import { registerProcessMetrics } from "../core/runtime/metrics.ts";
import { serveNearby } from "../core/runtime/nearby.ts";
import { type Ops, standardRows, startOps } from "../core/runtime/ops.ts";
import {
  DRAIN_MS_MAX,
  listenProblem,
  logCrashes,
  Refusal,
  serveRole,
  startOrder,
} from "../core/runtime/process.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { openDirectory, SOCKET_PATH_SIZE_MAX } from "./directory.ts";

export interface Starter {
  /** The role: proxy or backend. */
  name: string;
  version: string;
  schema: z.ZodObject;
  /** What it follows, and can start from while a state on other machines is away. */
  kinds: readonly Kind[];
  /** What its watches have to tell of, besides monitors; everything without. */
  watched: readonly Kind[] | undefined;
  start(
    options: never,
    context: { state: ClusterState; log: Logger; version: string; dataDir: string },
  ): Promise<RunningRole>;
}

/** The supervisor names only what it decides; the rest are the defaults of the role. */
export async function runSupervised(starter: Starter): Promise<undefined> {
  const order = await startOrder();
  process.title = `memward ${order.name}`;
  const { runDir, path, statePath } = openDirectory(order.dataDir);
  const claimed = await claimSoon(runDir, { name: order.name, limitMs: DRAIN_MS_MAX });
  if (claimed === undefined) throw new Refusal(`another ${order.name} runs in ${order.dataDir}`);
  const log = createLog({ name: order.name, level: order.logLevel });
  const options = starter.schema.parse(order.options); // A mismatch is a bug, not bad input.
  const nearbyOps = socketFor(runDir, order.name);
  await serve(starter, { options, name: order.name, dataDir: path, statePath, log, nearbyOps });
}

export async function runAlone(
  starter: Starter,
  given: Record<string, unknown>,
): Promise<undefined> {
  const section = given["section"] as { name?: string };
  const { runDir, path, statePath } = openDirectory(String(given["dataDir"]));
  const name = section.name ?? starter.name;
  const claimed = await claimSoon(runDir, { name, limitMs: 0 });
  if (claimed === undefined) {
    throw new Refusal(`another ${name} is running in ${String(given["dataDir"])}`);
  }
  const log = createLog({ name, level: given["logLevel"] as LogLevel });
  const url = String(given["state"]);
  // Beside the file of the state monitors find a socket; from elsewhere they could not use it.
  const nearby = isLocal(url) ? { nearbyOps: socketFor(runDir, name) } : {};
  await serve(starter, {
    options: section,
    name,
    dataDir: path,
    statePath,
    url,
    etcd: given["etcd"] as EtcdOptions,
    log,
    ...(typeof given["ops"] === "string" ? { ops: given["ops"] } : nearby),
  });
}

interface Serving {
  options: unknown;
  name: string;
  dataDir: string;
  statePath: string;
  url?: string;
  etcd?: EtcdOptions;
  log: Logger;
  ops?: string;
  /** Where it shows what monitors of this machine read, if it was given no ops port. */
  nearbyOps?: string;
}

async function serve(starter: Starter, serving: Serving): Promise<void> {
  const { options, log, ops, nearbyOps } = serving;
  logCrashes(log);
  const { state, remembered } = await openStateOf(starter, serving);
  const { version } = starter;
  const { dataDir, url = "sqlite" } = serving;
  const stateDir = isLocal(url) ? dataDir : undefined;
  const context = { state, log, version, dataDir, stateDir };
  const role = await starter.start(options as never, context).catch((error: unknown) => {
    throw asRefusal(error);
  });
  registerProcessMetrics(role.registry);
  remembered?.registerMetrics(role.registry);
  const monitors = new MonitorWatch({ state, log });
  monitors.registerMetrics(role.registry);
  monitors.start();
  const opsPort = await openOps({ role, ops, nearbyOps, log });
  const drain = async (): Promise<void> => {
    monitors.close();
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

/** A state on other machines can be away when this role starts; a file beside it cannot. */
async function openStateOf(
  { kinds, watched }: Starter,
  { url = "sqlite", etcd = {}, name, dataDir, statePath, log }: Serving,
): Promise<{ state: ClusterState; remembered?: RememberedState }> {
  const problem = stateProblem(url, etcd);
  if (problem !== undefined) throw new Refusal(problem);
  const troubled = (error: unknown): void =>
    log.error({ err: error }, "cluster state is in trouble");
  const told = watched && [...watched, "monitor" as const];
  const place = { url, path: statePath, etcd, kinds: told, troubled };
  const state = await openState(place).catch((error: NodeJS.ErrnoException) => {
    if (error.syscall !== "open") throw error;
    throw new Refusal(`cannot read ${error.path} (${error.code})`);
  });
  if (isLocal(url) || kinds.length === 0) return { state };
  const path = join(dataDir, `${name}.snapshot`);
  const remembered = await openRememberedState({ state, path, kinds, log });
  return { state: remembered, remembered };
}

/** A path that is too long for a socket gives way to a port on loopback. */
function socketFor(runDir: string, name: string): string {
  const path = join(runDir, `${name}.ops.sock`);
  return Buffer.byteLength(path) <= SOCKET_PATH_SIZE_MAX ? `unix:${path}` : "127.0.0.1:0";
}

function isLocal(url: string): boolean {
  const place = parseStateUrl(url);
  return typeof place !== "string" && place.engine === "sqlite";
}

/** Only roles that show more than others have a socket of their own accord. */
async function openOps({
  role,
  log,
  ...asked
}: {
  role: RunningRole;
  log: Logger;
  ops: string | undefined;
  nearbyOps: string | undefined;
}): Promise<Ops | undefined> {
  const { opsRows = [] } = role;
  const ops = asked.ops ?? (opsRows.length === 0 ? undefined : asked.nearbyOps);
  if (ops === undefined) return undefined;
  const standard = standardRows({
    metrics: () => role.registry.metrics(),
    notReady: () => (role.ready() ? [] : ["not ready"]),
  });
  const opening =
    asked.ops === undefined
      ? serveNearby(ops, opsRows)
      : startOps({ address: ops, rows: [...standard, ...opsRows], log });
  const opened = await opening.catch((error: unknown) => {
    throw new Refusal(listenProblem({ what: "--ops", address: ops }, error));
  });
  const { address } = opened;
  role.opsOpened?.(address.startsWith("unix:") ? address : reachableAddress(address));
  return opened;
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
