/**
 * Alerts that owners of caches have set are told to whom they named, once when they begin and once when
 * they are over; nobody is paged for them, so they do not become incidents. What was told is
 * remembered by this process only: another monitor that takes over tells what still holds anew.
 */
import type { Logger } from "../../core/runtime/log.ts";
import { type Condition, conditionKey } from "../condition.ts";

const RETRY_INTERVAL_MS = 30_000;
const ATTEMPT_COUNT_MAX = 5;
/** Beyond it the newest are dropped: somebody has set more alerts than anybody can read. */
const ALERT_COUNT_MAX = 1_000;

export interface OwnersParts {
  readonly log: Logger;
  readonly cluster: string;
  /** Resolves with whether it was taken; never rejects. `target` as in `Condition`. */
  send(message: { target: string; id: string; body: string }): Promise<boolean>;
}

interface Alert {
  readonly target: string;
  readonly summary: string;
  readonly sinceMs: number;
  attemptCount: number;
  nextAtMs: number;
  isTold: boolean;
}

export class Owners {
  readonly #parts: OwnersParts;
  readonly #alerts = new Map<string, Alert>();

  constructor(parts: OwnersParts) {
    this.#parts = parts;
  }

  /** Tells what is new and what is over, and returns the other conditions. Only as the speaker. */
  settle(conditions: readonly Condition[], unixMs: number): readonly Condition[] {
    const present = new Set<string>();
    for (const condition of conditions) {
      const { target, summary, sinceMs } = condition;
      if (target === undefined) continue;
      const key = conditionKey(condition);
      present.add(key);
      if (this.#alerts.has(key) || this.#alerts.size >= ALERT_COUNT_MAX) continue;
      const fresh = { attemptCount: 0, nextAtMs: unixMs, isTold: false };
      this.#alerts.set(key, { target, summary, sinceMs, ...fresh });
    }
    for (const [key, alert] of this.#alerts) {
      if (present.has(key)) this.#tell(key, alert, unixMs);
      else this.#end(key, alert, unixMs);
    }
    return present.size === 0
      ? conditions
      : conditions.filter(({ target }) => target === undefined);
  }

  /** Another monitor speaks: it is not ours to say that something is over. */
  forget(): void {
    this.#alerts.clear();
  }

  #tell(key: string, alert: Alert, unixMs: number): void {
    if (alert.isTold || unixMs < alert.nextAtMs || alert.attemptCount >= ATTEMPT_COUNT_MAX) return;
    alert.attemptCount++;
    alert.nextAtMs = unixMs + RETRY_INTERVAL_MS;
    const { target, summary, sinceMs } = alert;
    const body = `${this.#parts.cluster}: ${summary}`;
    void this.#parts.send({ target, id: `alert.${sinceMs}.${key}`, body }).then((isTaken) => {
      alert.isTold = isTaken;
      this.#parts.log[isTaken ? "info" : "warn"]({ alert: key, isTaken }, "alert of a cache");
    });
  }

  #end(key: string, { target, summary, sinceMs, isTold }: Alert, unixMs: number): void {
    this.#alerts.delete(key);
    if (!isTold) return;
    const minutes = Math.max(1, Math.round((unixMs - sinceMs) / 60_000));
    const body = `${this.#parts.cluster}: over after ${minutes} min: ${summary}`;
    void this.#parts.send({ target, id: `alert.${sinceMs}.${key}.over`, body });
  }
}
