/**
 * One process and its ending: refusals (exit 2), signals that drain (exit 0), a bound on draining
 * (exit 1), crashes that are logged before they end it. A role under the supervisor also talks to
 * it over the IPC channel; when that channel closes, the supervisor is gone and the role drains.
 */
import { every, sleep } from "./clock.ts";
import type { Logger, LogLevel } from "./log.ts";
import { collectStartGarbage } from "./memory.ts";
import { type MetricFamily, readFamilies } from "./metrics.ts";
import type { RunningRole } from "./role.ts";

/** Exit codes, for scripts; `memward help` says what they mean. */
export const EXIT = {
  done: 0,
  failed: 1,
  /** Bad input, a port that is taken, a directory in use. */
  refused: 2,
  /** No instance runs there, or it cannot be reached. */
  notRunning: 3,
  notFound: 4,
  /** It exists already, or somebody else was faster. */
  conflict: 5,
  notAllowed: 6,
  /** Done, but not in force everywhere in time. */
  notApplied: 7,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** What is read within this time after the order to drain is answered; then the process ends. */
export const DRAIN_MS_MAX = 10_000;
const READY_CHECK_MS = 50;
/** The last log lines get this long; a reader that stalls must not keep the process. */
const LOG_FLUSH_MS_MAX = 500;
export const END_SIGNALS = ["SIGTERM", "SIGINT"] as const;

/** One shard as an operator sees it; "silent" is ready as far as anybody knows, but says nothing. */
export interface ShardView {
  cache: string;
  /** The process that serves it; null between two of them. */
  pid: number | null;
  address: string;
  state: "starting" | "ready" | "fenced" | "draining" | "silent";
}

/** One role as an operator sees it. */
export interface RoleView {
  role: "state" | "control" | "monitor" | "proxy" | "backend";
  name: string;
  pid: number | null;
  addresses: readonly string[];
  ready: boolean;
  /** Of a backend node. */
  shards?: readonly ShardView[];
}

/** What cannot be: sentences for the person who typed it, and an exit code. */
export class Refusal extends Error {
  override name = "Refusal";
  readonly exitCode: ExitCode;

  constructor(message: string, exitCode: ExitCode = EXIT.refused) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Orders from the supervisor to a role. */
export type Order =
  | { type: "start"; name: string; dataDir: string; logLevel: LogLevel; options: unknown }
  | { type: "scrape"; id: number }
  | { type: "drain"; limitMs: number };

/** What a role tells its supervisor. */
export type Notice =
  | { type: "started"; addresses: readonly string[]; ready: boolean }
  | { type: "ready"; ready: boolean }
  | { type: "metrics"; id: number; families: MetricFamily[] }
  /** A signal asked the role to end; the supervisor decides when, so that nodes end last. */
  | { type: "asked"; signal: string }
  | { type: "refused"; message: string };

/** The first order a supervised role gets. Told to end before it serves, it just ends. */
export function startOrder(): Promise<Extract<Order, { type: "start" }>> {
  return new Promise((resolve, reject) => {
    if (process.send === undefined) reject(new Refusal("--supervised is for memward up alone"));
    process.once("disconnect", () => process.exit(EXIT.failed));
    // The supervisor gets the same signal from a terminal, and then gives the order.
    for (const signal of END_SIGNALS) process.on(signal, () => tell({ type: "asked", signal }));
    process.on("message", (order: Order) => {
      if (order.type === "start") resolve(order);
      if (order.type === "drain") process.exit(EXIT.done);
    });
  });
}

/** Serves until it is told to end, then drains and exits. Returns at once. */
export function serveRole({ role, log }: { role: RunningRole; log: Logger }): void {
  const ending = new Ending({ log, drain: () => role.drain() });
  if (process.send === undefined) ending.onSignals();
  else serveSupervised({ role, log, ending });
  void collectStartGarbage();
}

function serveSupervised(it: { role: RunningRole; log: Logger; ending: Ending }): void {
  const { role, log, ending } = it;
  let ready = role.ready();
  tell({ type: "started", addresses: role.addresses, ready });
  every(READY_CHECK_MS, () => {
    if (role.ready() === ready) return;
    ready = !ready;
    tell({ type: "ready", ready });
  });
  process.removeAllListeners("disconnect").removeAllListeners("message");
  process.once("disconnect", () => ending.begin("supervisor gone"));
  process.on("message", (order: Order) => {
    if (order.type === "drain") ending.begin("supervisor's order", order.limitMs);
    if (order.type === "scrape") {
      readFamilies(role.registry).then(
        (families) => tell({ type: "metrics", id: order.id, families }),
        (error) => log.error({ err: error }, "metrics could not be read"),
      );
    }
  });
}

/** Draining, once and bounded; then the end of the process. */
export class Ending {
  readonly #log: Logger;
  readonly #drain: () => Promise<void>;
  #begun = false;

  constructor({ log, drain }: { log: Logger; drain(): Promise<void> }) {
    this.#log = log;
    this.#drain = drain;
  }

  get begun(): boolean {
    return this.#begun;
  }

  /** The first signal drains, the second one ends at once. */
  onSignals(atOnce: () => void = () => {}): void {
    for (const signal of END_SIGNALS) {
      process.on(signal, () => {
        if (!this.#begun) return this.begin(signal);
        this.#log.warn({ reason: signal }, "told twice to end: not waiting");
        atOnce();
        exit(this.#log, EXIT.failed);
      });
    }
  }

  begin(reason: string, limitMs: number = DRAIN_MS_MAX): void {
    if (this.#begun) return;
    this.#begun = true;
    this.#log.info({ reason }, "draining");
    const late = sleep(limitMs).then(() => "late" as const);
    Promise.race([this.#drain(), late]).then(
      (outcome) => {
        if (outcome === "late") this.#log.error({ limitMs }, "drain took too long");
        else this.#log.info("drained");
        exit(this.#log, outcome === "late" ? EXIT.failed : EXIT.done);
      },
      (error) => {
        this.#log.error({ err: error }, "drain failed");
        exit(this.#log, EXIT.failed);
      },
    );
  }
}

/** A bug ends the process: its state is unknown, and whoever started it starts it again. */
export function logCrashes(log: Logger): void {
  const crashed = (error: unknown): void => {
    log.fatal({ err: error }, "crashed");
    exit(log, EXIT.failed);
  };
  process.on("uncaughtException", crashed);
  process.on("unhandledRejection", crashed);
}

/** Says why a supervised role cannot start; alone it is said on standard error. */
export async function refuse({ message, exitCode }: Refusal): Promise<void> {
  if (process.send === undefined) process.stderr.write(`memward: ${message}\n`);
  else await new Promise((resolve) => process.send?.({ type: "refused", message }, resolve));
  process.exit(exitCode);
}

/** The sentence for an address that cannot be listened on. */
export function listenProblem(
  { what, address }: { what: string; address: string },
  error: unknown,
) {
  const code = (error as NodeJS.ErrnoException).code;
  const reasons: Record<string, string> = {
    EADDRINUSE: "the port is taken by another program",
    EADDRNOTAVAIL: "this machine does not have that address",
    EACCES: "this user may not open that port",
    ENOTFOUND: "the host name is not known",
    EAI_AGAIN: "the host name cannot be looked up",
  };
  const reason = reasons[code ?? ""] ?? String((error as Error).message ?? error);
  return `cannot listen on ${address} (${what}): ${reason}`;
}

function tell(notice: Notice): void {
  if (process.connected) process.send?.(notice);
}

/** Ends the process after its last log lines. */
export function exit(log: Logger, code: number): void {
  log.flush(() => process.exit(code));
  sleep(LOG_FLUSH_MS_MAX).then(() => process.exit(code));
}
