/**
 * `memward up`: all roles of one machine. This process holds the claim on the directory, opens the
 * state, shows the ops port and keeps the other roles running, each in a process of its own.
 * It serves no client itself: if it is killed, the roles notice, finish and end too.
 */
import { join } from "node:path";
import type { Shard } from "../core/cluster/records.ts";
import { openSqliteState } from "../core/cluster/sqlite.ts";
import type { ClusterState } from "../core/cluster/state.ts";
import { clock } from "../core/runtime/clock.ts";
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
  logCrashes,
  Refusal,
  type RoleView,
} from "../core/runtime/process.ts";
import { random } from "../core/runtime/random.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { Child } from "./child.ts";
import { type Directory, notWritable, openDirectory } from "./directory.ts";
import { claim, waitForOthers } from "./lock.ts";
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
import { readStatus, writeStatus } from "./status.ts";
import { flagsFor, startFromCache } from "./warm.ts";

/** Of the whole drain: what proxies get; nodes follow with the rest. */
const PROXIES_DRAIN_MS_MAX = 7_000;
/** The roles of a killed instance get this long to end before a start is refused. */
const OTHERS_MS_MAX = DRAIN_MS_MAX + 2_000;
/** A role that dies so often before it ever ran will not run by patience. */
const FIRST_FAILURES_MAX = 5;

/** What the health page shows; the page itself is the control role's. */
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
  startControl(options: { ops: string }, context: ControlContext): Promise<RunningRole>;
}
interface ControlContext {
  state: ClusterState;
  log: Logger;
  instance: InstanceView;
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
  const [listen, plain, [ops = options.ops]] = await decidePorts([
    { what: "--listen", addresses: options.listen },
    { what: "--plain", addresses: options.plain },
    { what: "--ops", addresses: [options.ops] },
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
  const settled = { ...options, listen, plain, ops };
  const supervisor = new Supervisor({ options: settled, context, directory, state, log });
  for (const signal of END_SIGNALS) process.off(signal, endAtOnce);
  await supervisor.start();
  context.print(banner(quickstart));
  supervisor.whenReady(() => {
    const seconds = ((clock.nowMs() - startedAtMs) / 1000).toFixed(1);
    const clients = [...listen, ...plain.map((address) => `${address} (no login)`)].join(", ");
    context.print(`memward ready after ${seconds} s: ${clients}; health http://${ops}/\n`);
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
  /** All embedded nodes: 70 MB for each process more is too much for one machine. */
  #backend: Child | undefined;
  #proxies: Child[] = [];
  #control: RunningRole | undefined;
  readonly #shards = new Map<string, Shard>();
  #announce: (() => void) | undefined;
  #everReady = false;

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
    const { options, context, directory } = this.#parts;
    const control = { state: this.#state, log: this.#log, instance: this };
    this.#control = await context.startControl({ ops: options.ops }, control);
    this.#backend = this.#child("backend", "nodes", {
      nodes: this.#nodeNames.map((name) => ({
        name,
        socketDir: join(directory.socketDir, name),
        weight: 1,
      })),
    });
    this.#proxies = options.listen.map((address, index) =>
      this.#child("proxy", `proxy-${index + 1}`, {
        name: `proxy-${index + 1}`,
        listen: [address],
        // Listeners without login are dealt out to the proxies in turn.
        plain: options.plain
          .filter((_, at) => at % options.listen.length === index)
          .map((plainAddress) => ({ address: plainAddress, cache: DEFAULT_CACHE })),
        workers: options.workers,
      }),
    );
    await this.#forgetRemovedNodes();
    for (const child of this.#children) child.start();
    await this.#watchShards();
  }

  whenReady(announce: () => void): void {
    this.#announce = announce;
    this.#changed();
  }

  roles(): RoleView[] {
    const { pid } = process;
    const state = { role: "state", name: "state", pid, ready: true } as const;
    const control = { role: "control", name: "control", pid, ready: true } as const;
    return [
      { ...state, addresses: [`sqlite:${this.#parts.directory.statePath}`] },
      { ...control, addresses: this.#control?.addresses ?? [] },
      ...this.#proxies.map((proxy) => proxy.view()),
      ...this.#nodeNames.map((name) => this.#nodeView(name)),
    ];
  }

  get #nodeNames(): string[] {
    return numbered(this.#parts.options.nodes).map((number) => `node-${number}`);
  }

  #nodeView(name: string): RoleView {
    const process = this.#backend?.view();
    const shards = this.#shardsOf(name);
    // It may have none: small caches sit on few nodes.
    const areReady = shards.every(({ state }) => state === "ready");
    return {
      role: "backend",
      name,
      pid: process?.pid ?? null,
      addresses: shards.map(({ address }) => address),
      ready: process?.ready === true && areReady,
    };
  }

  #shardsOf(node: string): Shard[] {
    return [...this.#shards.values()].filter((shard) => shard.node === node);
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
    const own = { process: "supervisor", families: await readFamilies(this.#registry) };
    return mergeMetrics([own, ...parts]);
  }

  get #children(): Child[] {
    return this.#backend === undefined ? this.#proxies : [...this.#proxies, this.#backend];
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
      this.#everReady = true;
      this.#announce();
      this.#announce = undefined;
      this.#log.info("ready");
      void collectStartGarbage();
    }
    this.#writeStatus(ready);
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

  async #watchShards(): Promise<void> {
    const { entries, revision } = await this.#state.list("shard");
    for (const { id, value } of entries) this.#shards.set(id, value);
    this.#state.watch(revision, {
      changed: (seen) => {
        for (const { kind, id, value } of seen) {
          if (kind !== "shard") continue;
          if (value === null) this.#shards.delete(id);
          else this.#shards.set(id, value);
        }
        this.#changed();
      },
      reset: () => this.#shards.clear(),
    });
  }

  /** While starting, what a role refuses is refused by the whole; later it is tried again. */
  #refused(message: string): void {
    if (!this.#everReady) this.#giveUp(EXIT.refused, message);
  }

  #giveUp(code: number, sentence: string): void {
    if (this.#ending.begun) return;
    process.stderr.write(`memward: ${sentence}\n`);
    this.#kill();
    exit(this.#log, code);
  }

  /** Proxies first, so that nobody asks a node that is gone; the state last. */
  async #drain(): Promise<void> {
    this.#writeStatus(false);
    const deadlineMs = clock.nowMs() + DRAIN_MS_MAX;
    const proxies = await Promise.all(
      this.#proxies.map((proxy) => proxy.drain(PROXIES_DRAIN_MS_MAX)),
    );
    const restMs = Math.max(0, deadlineMs - clock.nowMs() - 1_500);
    const nodes = (await this.#backend?.drain(restMs)) ?? true;
    await this.#control?.drain();
    await this.#state.close();
    this.#writeStatus(false);
    const late = this.#children.filter((_, index) => ![...proxies, nodes][index]);
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
    "With memjs (npm install memjs), which reads them from the environment:",
    "",
    '  const client = require("memjs").Client.create();',
    '  client.set("greeting", "hello", { expires: 60 }).then(() => client.get("greeting"));',
  ].join("\n")}\n\n`;
}

function numbered(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}
