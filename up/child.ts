/**
 * One role in a process of its own: started, watched, started again when it dies, drained at the
 * end. All that is known about it is its state here; `#transition` is the only door.
 *
 *     waiting -> starting -> running -> (dies) -> waiting      any -> draining -> ended
 */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { restartDelayMs } from "../core/runtime/backoff.ts";
import { clock, sleep } from "../core/runtime/clock.ts";
import type { Logger } from "../core/runtime/log.ts";
import type { MetricFamily } from "../core/runtime/metrics.ts";
import type { Notice, Order, RoleView } from "../core/runtime/process.ts";
import type { Random } from "../core/runtime/random.ts";

/** A process that lived this long died of something new: its backoff starts over. */
const STEADY_MS = 10_000;
const SCRAPE_MS_MAX = 1_000;
/** A signal to the whole group reaches the role first, and the supervisor an instant later. */
const GROUP_SIGNAL_MS = 200;
/** What a drained process still gets for its last log lines before it is killed. */
const EXIT_MS_MAX = 1_000;

type State =
  | { state: "waiting" }
  | { state: "starting"; process: ChildProcess }
  | { state: "running"; process: ChildProcess; addresses: readonly string[]; ready: boolean }
  | { state: "draining"; process: ChildProcess }
  | { state: "ended" };

const LEGAL: Record<State["state"], readonly State["state"][]> = {
  waiting: ["starting", "ended"],
  starting: ["running", "waiting", "draining", "ended"],
  running: ["waiting", "draining", "ended"],
  draining: ["waiting", "ended"],
  ended: [],
};

export type ExitReason = "exited" | "failed" | "refused" | "signalled" | "not_started";

/** How the process of a role is started; the same for all of them. */
export interface Program {
  file: string;
  args: readonly string[];
  execArgv: readonly string[];
}

export interface ChildOptions {
  role: "proxy" | "backend";
  program: Program;
  order: Extract<Order, { type: "start" }>;
  log: Logger;
  random: Random;
  /** Called after each change of what `view` shows. */
  changed(): void;
  /** The role says that it cannot start with these options. */
  refused(message: string): void;
}

export class Child {
  readonly role: "proxy" | "backend";
  readonly name: string;
  startCount = 0;
  scrapesMissed = 0;
  readonly exits = new Map<ExitReason, number>();
  readonly #options: ChildOptions;
  readonly #log: Logger;
  readonly #scrapes = new Map<number, (families: MetricFamily[] | undefined) => void>();
  readonly #whenEnded: (() => void)[] = [];
  #scrapeId = 0;
  #state: State = { state: "waiting" };
  /** Set once nothing may be started any more. */
  #closing = false;
  #refusal = false;
  #failureCount = 0;
  #startedAtMs = 0;

  constructor(options: ChildOptions) {
    this.#options = options;
    this.role = options.role;
    this.name = options.order.name;
    this.#log = options.log.child({ role: this.role, process: this.name });
  }

  get state(): State["state"] {
    return this.#state.state;
  }

  /** How often in a row it died young. */
  get failureCount(): number {
    return this.#failureCount;
  }

  view(): RoleView {
    const running = this.#state.state === "running" ? this.#state : undefined;
    return {
      role: this.role,
      name: this.name,
      pid: this.#process?.pid ?? null,
      addresses: running?.addresses ?? [],
      ready: running?.ready ?? false,
    };
  }

  start(): void {
    const { file, args, execArgv } = this.#options.program;
    const process = fork(file, [...args], {
      execArgv: [...execArgv],
      // Standard output belongs to the supervisor's answers; roles only log.
      stdio: ["ignore", 2, 2, "ipc"],
    });
    this.startCount += 1;
    this.#startedAtMs = clock.nowMs();
    this.#refusal = false;
    process.on("message", (notice: Notice) => this.#told(process, notice));
    process.once("error", (error) => this.#ended(process, { error }));
    process.once("exit", (code, signal) => this.#ended(process, { code, signal }));
    this.#transition({ state: "starting", process });
    send(process, this.#options.order);
  }

  /** Its metrics, or undefined when it has none to give within the time. */
  async scrape(): Promise<MetricFamily[] | undefined> {
    if (this.#state.state !== "running") return this.#missed();
    const id = ++this.#scrapeId;
    const answer = new Promise<MetricFamily[] | undefined>((resolve) => {
      this.#scrapes.set(id, resolve);
    });
    send(this.#state.process, { type: "scrape", id });
    const families = await Promise.race([answer, sleep(SCRAPE_MS_MAX).then(() => undefined)]);
    this.#scrapes.delete(id);
    return families ?? this.#missed();
  }

  /** Tells it to finish; resolves when the process is gone. True when it went by itself. */
  async drain(limitMs: number): Promise<boolean> {
    this.#closing = true;
    const process = this.#process;
    if (process === undefined) {
      if (this.#state.state !== "ended") this.#transition({ state: "ended" });
      return true;
    }
    const gone = new Promise<void>((resolve) => this.#whenEnded.push(resolve));
    if (this.#state.state !== "draining") this.#transition({ state: "draining", process });
    send(process, { type: "drain", limitMs });
    const inTime = gone.then(() => true);
    if (await Promise.race([inTime, sleep(limitMs + EXIT_MS_MAX).then(() => false)])) {
      return process.exitCode === 0;
    }
    this.#log.error({ limitMs }, "did not end in time, killing it");
    process.kill("SIGKILL");
    await gone;
    return false;
  }

  kill(): void {
    this.#closing = true;
    this.#process?.kill("SIGKILL");
  }

  get #process(): ChildProcess | undefined {
    return "process" in this.#state ? this.#state.process : undefined;
  }

  #told(process: ChildProcess, notice: Notice): void {
    if (process !== this.#process) return; // From the one before, already given up.
    switch (notice.type) {
      case "started":
        if (this.#state.state !== "starting") return;
        return this.#transition({ ...notice, state: "running", process });
      case "ready":
        if (this.#state.state !== "running") return;
        this.#log.info({ ready: notice.ready }, "readiness changed");
        this.#state.ready = notice.ready;
        return this.#options.changed();
      case "metrics":
        return this.#scrapes.get(notice.id)?.(notice.families);
      case "refused":
        this.#refusal = true;
        this.#log.error({ reason: notice.message }, "refused to start");
        return this.#options.refused(notice.message);
      case "asked":
        return void this.#asked(process, notice.signal);
    }
  }

  /** Somebody signalled the role alone: it drains now and is started again. */
  async #asked(process: ChildProcess, signal: string): Promise<void> {
    await sleep(GROUP_SIGNAL_MS);
    if (this.#closing || this.#state.state !== "running") return;
    this.#log.info({ signal }, "told to end by a signal, draining");
    this.#transition({ state: "draining", process });
    send(process, { type: "drain", limitMs: STEADY_MS });
  }

  #ended(
    process: ChildProcess,
    how: { code?: number | null; signal?: string | null; error?: Error },
  ): void {
    if (process !== this.#process) return;
    for (const answer of this.#scrapes.values()) answer(undefined);
    this.#scrapes.clear();
    if (this.#closing) {
      this.#transition({ state: "ended" });
      for (const ended of this.#whenEnded) ended();
      return;
    }
    const reason = this.#refusal ? "refused" : reasonOf(how);
    this.exits.set(reason, (this.exits.get(reason) ?? 0) + 1);
    const livedMs = Math.round(clock.nowMs() - this.#startedAtMs);
    this.#failureCount = livedMs >= STEADY_MS ? 1 : this.#failureCount + 1;
    const delayMs = restartDelayMs(this.#failureCount - 1, this.#options.random);
    const { error, ...exit } = how;
    const facts = { reason, ...exit, ...(error ? { err: error } : {}), livedMs, delayMs };
    this.#log.warn(facts, "process ended, starting it again");
    this.#transition({ state: "waiting" });
    void this.#startLater(delayMs);
  }

  async #startLater(delayMs: number): Promise<void> {
    await sleep(delayMs);
    if (!this.#closing) this.start();
  }

  #missed(): undefined {
    this.scrapesMissed += 1;
    return undefined;
  }

  #transition(to: State): void {
    const from = this.#state.state;
    assert(LEGAL[from].includes(to.state), `${this.name}: ${from} -> ${to.state}`);
    this.#state = to;
    this.#log.debug({ from, to: to.state, pid: this.#process?.pid }, "state changed");
    this.#options.changed();
  }
}

function reasonOf(how: {
  code?: number | null;
  signal?: string | null;
  error?: Error;
}): ExitReason {
  if (how.error) return "not_started";
  if (how.signal) return "signalled";
  return how.code === 0 ? "exited" : "failed";
}

/** A channel that closed under our hands is told by the exit that follows. */
function send(process: ChildProcess, order: Order): void {
  if (process.connected) process.send(order, () => {});
}
