/**
 * `memward up`: all roles of one machine. This process holds the claim on the directory, opens the
 * state, shows the ops port and keeps the other roles running, each in a process of its own.
 * It serves no client itself: if it is killed, the roles notice, finish and end too.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { openSqliteState } from "../core/cluster/sqlite.ts";
import type { ClusterState } from "../core/cluster/state.ts";
import { clock } from "../core/runtime/clock.ts";
import { claim, waitForOthers } from "../core/runtime/lock.ts";
import { createLog, type Logger } from "../core/runtime/log.ts";
import { collectStartGarbage } from "../core/runtime/memory.ts";
import {
  createRegistry,
  mergeMetrics,
  readFamilies,
  registerMetrics,
  registerProcessMetrics,
} from "../core/runtime/metrics.ts";
import {
  DRAIN_MS_MAX,
  END_SIGNALS,
  Ending,
  EXIT,
  exit,
  listenProblem,
  logCrashes,
  Refusal,
  type RoleView,
} from "../core/runtime/process.ts";
import { random } from "../core/runtime/random.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { Child } from "./child.ts";
import { type Directory, notWritable, openDirectory } from "./directory.ts";
import { UP_METRICS } from "./metrics.ts";
import type { UpOptions } from "./options.ts";
import { decidePorts } from "./ports.ts";
import {
  DEFAULT_CACHE,
  envLines,
  prepareQuickstart,
  type Quickstart,
  serversText,
} from "./quickstart.ts";
import { ShardList } from "./shards.ts";
import { readStatus, writeStatus } from "./status.ts";
import { flagsFor, startFromCache } from "./warm.ts";

/** Of the whole drain: what proxies get; nodes follow with the rest. */
const PROXIES_DRAIN_MS_MAX = 7_000;
/** The roles of a killed instance get this long to end before a start is refused. */
const OTHERS_MS_MAX = DRAIN_MS_MAX + 2_000;
/** A role that dies so often before it ever ran will not run by patience. */
const FIRST_FAILURES_MAX = 5;

/** What the health page shows; the page itself is control's. */
export interface InstanceView {
  version: string;
  roles(): RoleView[];
  notReady(): string[];
  metrics(): Promise<string>;
}

export interface UpContext {
  root: string;
  version: string;
  /** The file of the command line, which also starts the roles. */
  program: string;
  print(text: string): void;
  startHealth(
    options: { ops: string },
    context: { log: Logger; instance: InstanceView },
  ): Promise<{ readonly address: string; close(): Promise<void> }>;
  startControl(
    options: { listen: string; config: string | undefined },
    context: { state: ClusterState; log: Logger; version: string; dataDir: string },
  ): Promise<RunningRole & { readonly url: string }>;
  startMonitor(
    options: { config: string | undefined },
    context: { state: ClusterState; log: Logger; dataDir: string; stateDir: string },
  ): Promise<RunningRole>;
}

export async function up(options: UpOptions, context: UpContext): Promise<void> {
  const startedAtMs = clock.nowMs();
  // Until there is something to drain, being told to end is simply the end.
  const endAtOnce = (): void => process.exit(EXIT.done);
  for (const signal of END_SIGNALS) process.on(signal, endAtOnce);
  const directory = openDirectory(options.dataDir);
  const { root, program } = context;
  await startFromCache({ root, dataDir: directory.path, program });
  await claimDirectory(options.dataDir, directory);
  const [listen, plain, [ops = options.ops], [control = options.control]] = await decidePorts([
    { what: "--listen", addresses: options.listen },
    { what: "--plain", addresses: options.plain },
    { what: "--ops", addresses: [options.ops] },
    { what: "--control", addresses: [options.control] },
  ]);
  const log = createLog({ name: "memward", level: options.logLevel });
  logCrashes(log);
  log.info(
    { version: context.version, node: process.version, dataDir: directory.path },
    "starting",
  );

  const state = openSqliteState({
    path: directory.statePath,
    troubled: (error) => log.error({ err: error }, "cluster state is in trouble"),
  });
  const quickstart = await prepareQuickstart(state, {
    dataDir: directory.path,
    bytes: options.memory,
    servers: serversText(listen),
  });
  log.info({ cache: quickstart.cacheId, did: quickstart.did }, "default.env checked");
  const settled = { ...options, listen, plain, ops, control };
  const supervisor = new Supervisor({ options: settled, context, directory, state, log });
  for (const signal of END_SIGNALS) process.off(signal, endAtOnce);
  await supervisor.start();
  context.print(banner(quickstart));
  supervisor.whenReady(() => {
    const seconds = ((clock.nowMs() - startedAtMs) / 1000).toFixed(1);
    const clients = [...listen, ...plain.map((address) => `${address} (no login)`)].join(", ");
    const pages = `health http://${ops}/, admin API ${supervisor.controlUrl}/docs`;
    context.print(`memward ready after ${seconds} s: ${clients}; ${pages}\n`);
  });
}

async function claimDirectory(dataDir: string, { runDir }: Directory): Promise<void> {
  let claimed: ReturnType<typeof claim>;
  try {
    claimed = claim(runDir);
  } catch (error) {
    throw notWritable(dataDir, error);
  }
  if (claimed === undefined) {
    const pid = readStatus(runDir)?.pid;
    const who = pid === undefined ? "" : ` (process ${pid})`;
    throw new Refusal(`the directory ${dataDir} belongs to a running instance${who}`);
  }
  const alive = await waitForOthers(runDir, OTHERS_MS_MAX);
  if (alive.length > 0) {
    const names = alive.join(", ");
    throw new Refusal(`${names} of a killed instance still runs in ${dataDir}; end it first`);
  }
}

interface SupervisorParts {
  options: UpOptions;
  context: UpContext;
  directory: Directory;
  state: ClusterState;
  log: Logger;
}

class Supervisor implements InstanceView {
  readonly version: string;
  readonly #parts: SupervisorParts;
  readonly #log: Logger;
  readonly #state: ClusterState;
  readonly #startedAtMs = clock.unixMs();
  readonly #registry = createRegistry();
  readonly #ending: Ending;
  /** The process of each node; of embedded nodes it is the same. */
  readonly #nodes = new Map<string, Child>();
  #proxies: Child[] = [];
  #health: { readonly address: string; close(): Promise<void> } | undefined;
  #control: (RunningRole & { readonly url: string }) | undefined;
  #monitor: RunningRole | undefined;
  readonly #shards = new ShardList();
  #announce: (() => void) | undefined;
  #everReady = false;
  #hasGivenUp = false;

  constructor(parts: SupervisorParts) {
    this.#parts = parts;
    this.#log = parts.log;
    this.#state = parts.state;
    this.version = parts.context.version;
    this.#ending = new Ending({ log: this.#log, drain: () => this.#drain() });
    this.#ending.onSignals(() => this.#kill());
    this.#registerMetrics();
  }

  async start(): Promise<void> {
    const { options, context } = this.#parts;
    const shown = { log: this.#log, instance: this };
    this.#health = await context.startHealth({ ops: options.ops }, shown);
    this.#makeNodes();
    this.#proxies = options.listen.map((address, index) =>
      this.#child("proxy", `proxy-${index + 1}`, {
        name: `proxy-${index + 1}`,
        listen: [address],
        // Listeners without login are dealt out to the proxies in turn.
        plain: options.plain
          .filter((_, at) => at % options.listen.length === index)
          .map((plainAddress) => ({ address: plainAddress, cache: DEFAULT_CACHE })),
        workers: options.workers,
        // Memory counts for more where all is on one machine, and SQLite asks little of a thread.
        sharesMainThread: true,
        io: options.io,
      }),
    );
    await this.#forgetRemovedNodes();
    for (const child of this.#children) child.start();
    await this.#shards.follow(this.#state, () => this.#changed());
    await this.#startControl();
    await this.#startMonitor();
  }

  /**
   * Embedded nodes share a process: 70 MB for each one more is too much for one machine. Where
   * values are kept in processes of their own, so are the nodes: what kills one spares the others.
   */
  #makeNodes(): void {
    const { engine, memcachedPath, io } = this.#parts.options;
    const { socketDir } = this.#parts.directory;
    const nodes = this.#nodeNames.map((name) => ({
      name,
      socketDir: join(socketDir, name),
      engine,
      memcached: { path: memcachedPath },
    }));
    const groups = engine === "embedded" ? [nodes] : nodes.map((node) => [node]);
    const abandonedDirs = foldersIn(socketDir)
      .filter((name) => !this.#nodeNames.includes(name))
      .map((name) => join(socketDir, name));
    groups.forEach((group, index) => {
      const name = engine === "embedded" ? "nodes" : (group[0]?.name ?? "");
      const abandoned = index === 0 ? abandonedDirs : [];
      const child = this.#child("backend", name, { io, nodes: group, abandonedDirs: abandoned });
      for (const node of group) this.#nodes.set(node.name, child);
    });
  }

  /** Beside the start of the roles, which take longer. */
  async #startControl(): Promise<void> {
    const { options, context, directory, state, log } = this.#parts;
    const { version } = this;
    const to = { state, log, version, dataDir: directory.path };
    const { control: listen, config } = options;
    try {
      this.#control = await context.startControl({ listen, config }, to);
      this.#changed();
    } catch (error) {
      if (error instanceof Refusal) return this.#giveUp(EXIT.refused, error.message);
      const { syscall } = error as NodeJS.ErrnoException;
      if (syscall !== "listen") throw error;
      const problem = listenProblem({ what: "--control", address: listen }, error);
      this.#giveUp(EXIT.refused, problem);
    }
  }

  /** In this process: another one would cost 60 MB more. */
  async #startMonitor(): Promise<void> {
    const { options, context, directory, state, log } = this.#parts;
    const path = directory.path;
    try {
      const to = { state, log: log.child({ role: "monitor" }), dataDir: path, stateDir: path };
      this.#monitor = await context.startMonitor({ config: options.config }, to);
      this.#changed();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#giveUp(EXIT.refused, error.message);
    }
  }

  get controlUrl(): string {
    return this.#control?.url ?? "";
  }

  whenReady(announce: () => void): void {
    this.#announce = announce;
    this.#changed();
  }

  roles(): RoleView[] {
    const { pid } = process;
    const state = { role: "state", name: "state", pid, ready: true } as const;
    const ready = this.#control?.ready() === true;
    const control = { role: "control", name: "control", pid, ready } as const;
    const monitor = { role: "monitor", name: "monitor", pid, addresses: [] } as const;
    const ops = this.#health === undefined ? [] : [this.#health.address];
    return [
      { ...state, addresses: [`sqlite:${this.#parts.directory.statePath}`] },
      { ...control, addresses: [...(this.#control?.addresses ?? []), ...ops] },
      { ...monitor, ready: this.#monitor?.ready() === true },
      ...this.#proxies.map((proxy) => proxy.view()),
      ...this.#nodeNames.map((name) => this.#shards.nodeView(name, this.#nodes.get(name)?.view())),
    ];
  }

  get #nodeNames(): string[] {
    return numbered(this.#parts.options.nodes).map((number) => `node-${number}`);
  }

  notReady(): string[] {
    if (this.#ending.begun) return ["draining"];
    const roles = this.roles().filter((role) => !role.ready);
    return roles.map((role) => role.name);
  }

  async metrics(): Promise<string> {
    const children = this.#children;
    const answers = await Promise.all(children.map((child) => child.scrape()));
    const parts = children.map((child, index) => ({
      process: child.name,
      families: answers[index] ?? [],
    }));
    const hosted = [this.#control, this.#monitor].flatMap((role) => role?.registry ?? []);
    const registries = [this.#registry, ...hosted];
    const families = (await Promise.all(registries.map(readFamilies))).flat();
    const own = { process: "supervisor", families };
    return mergeMetrics([own, ...parts]);
  }

  get #children(): Child[] {
    return [...this.#proxies, ...new Set(this.#nodes.values())];
  }

  #child(role: "proxy" | "backend", name: string, options: Record<string, unknown>): Child {
    const { directory, context } = this.#parts;
    const { logLevel } = this.#parts.options;
    const child: Child = new Child({
      role,
      program: { file: context.program, args: [role, "--supervised"], execArgv: flagsFor("role") },
      order: { type: "start", name, dataDir: directory.path, logLevel, options },
      log: this.#log,
      random,
      changed: () => this.#changed(child),
      refused: (message) => this.#refused(message),
    });
    return child;
  }

  #changed(child?: Child): void {
    if (!this.#everReady && child !== undefined && child.failureCount >= FIRST_FAILURES_MAX) {
      return this.#giveUp(EXIT.failed, `${child.name} does not start; the reason is in the log`);
    }
    const ready = this.notReady().length === 0;
    if (ready && this.#announce !== undefined) {
      this.#announceWhenKnown().catch((error: unknown) => {
        this.#log.error({ err: error }, "shards could not be looked at");
      });
    }
    this.#writeStatus(ready);
  }

  /** The first client must not meet a proxy that has not heard of the last shard. */
  async #announceWhenKnown(): Promise<void> {
    await this.#shards.catchUp(this.#state);
    // If it is too early, the next change asks again.
    if (this.#announce === undefined || !this.#shards.areKnownToAll) return;
    if (this.notReady().length > 0) return;
    this.#everReady = true;
    this.#announce();
    this.#announce = undefined;
    this.#log.info("ready");
    void collectStartGarbage();
  }

  #writeStatus(ready: boolean): void {
    const { directory } = this.#parts;
    const { pid } = process;
    const { version } = this;
    const status = { pid, version, startedAtMs: this.#startedAtMs, ready, roles: this.roles() };
    try {
      writeStatus(directory.runDir, status);
    } catch (error) {
      this.#log.error({ err: error }, "status file cannot be written");
    }
  }

  /** Shards of nodes that are no longer asked for would keep their keys and never answer. */
  async #forgetRemovedNodes(): Promise<void> {
    const living = (await this.#state.list("node")).entries.map(({ id }) => id);
    const kept = new Set([...this.#nodeNames, ...living]);
    for (const { kind, id, value } of (await this.#state.list("shard")).entries) {
      if (!kept.has(value.node)) await this.#state.commit([{ kind, id, value: null }]);
    }
  }

  /** While starting, what a role refuses is refused by the whole; later it is tried again. */
  #refused(message: string): void {
    if (!this.#everReady) this.#giveUp(EXIT.refused, message);
  }

  #giveUp(code: number, sentence: string): void {
    if (this.#ending.begun || this.#hasGivenUp) return;
    this.#hasGivenUp = true;
    process.stderr.write(`memward: ${sentence}\n`);
    this.#kill();
    exit(this.#log, code);
  }

  /** Proxies first, so that nobody asks a node that is gone; the state last. */
  async #drain(): Promise<void> {
    this.#writeStatus(false);
    const deadlineMs = clock.nowMs() + DRAIN_MS_MAX;
    const late: Child[] = [];
    const drainAll = async (children: Iterable<Child>, limitMs: number): Promise<void> => {
      const all = [...children].map(async (child) => {
        if (!(await child.drain(limitMs))) late.push(child);
      });
      await Promise.all(all);
    };
    await drainAll(this.#proxies, PROXIES_DRAIN_MS_MAX);
    const restMs = Math.max(0, deadlineMs - clock.nowMs() - 1_500);
    await drainAll(new Set(this.#nodes.values()), restMs);
    await this.#monitor?.drain();
    await this.#control?.drain();
    await this.#health?.close();
    await this.#state.close();
    this.#writeStatus(false);
    if (late.length > 0) throw new Error(`not drained: ${late.map(({ name }) => name).join(", ")}`);
  }

  #kill(): void {
    for (const child of this.#children) child.kill();
  }

  #registerMetrics(): void {
    registerProcessMetrics(this.#registry);
    registerMetrics(this.#registry, UP_METRICS, {
      info: (emit) => emit(1, this.version, process.version),
      ready: (emit) => {
        for (const { role, name, ready } of this.roles()) emit(ready ? 1 : 0, role, name);
      },
      starts: (emit) => {
        for (const { role, name, startCount } of this.#children) emit(startCount, role, name);
      },
      exits: (emit) => {
        for (const { role, name, exits } of this.#children) {
          for (const [reason, count] of exits) emit(count, role, name, reason);
        }
      },
      scrapesMissed: (emit) => {
        for (const { role, name, scrapesMissed } of this.#children) {
          emit(scrapesMissed, role, name);
        }
      },
    });
  }
}

function banner({ did, login, path }: Quickstart): string {
  if (did === "kept" || did === "refreshed") {
    const changed = did === "refreshed" ? " (MEMCACHIER_SERVERS is new)" : "";
    return `The login of the cache named default is in ${path}${changed}\n`;
  }
  return `${[
    "A cache named default is ready to use; these lines are also in",
    `${path}:`,
    "",
    envLines(login),
    "The admin API takes the owner's token in operator.token beside it.",
    "",
    "With memjs (npm install memjs), which reads them from the environment:",
    "",
    '  const client = require("memjs").Client.create();',
    '  client.set("greeting", "hello", { expires: 60 }).then(() => client.get("greeting"));',
  ].join("\n")}\n\n`;
}

/** Names of the folders in it; none while it is not there. */
function foldersIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function numbered(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}
