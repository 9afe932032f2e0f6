/**
 * What control does by itself, whoever of several control processes is first: credentials and
 * tokens whose time has come are deleted, what outlived its owner is removed, old audit records are
 * dropped. Every run starts from what the state says, so a crash anywhere is made good by the next.
 */
import { every, type Timer } from "../core/runtime/clock.ts";
import type { Logger } from "../core/runtime/log.ts";
import { dropAuditBefore } from "./operations/audit.ts";
import type { Context, Parts } from "./operations/change.ts";
import { expireCredential } from "./operations/credentials.ts";
import { orphanedCaches, removeOrphans, removeStaleUses } from "./operations/orphans.ts";
import type { Outcome } from "./operations/outcome.ts";
import { bringInLine, outOfLine } from "./operations/pools.ts";
import { deleteToken, expiredTokens } from "./operations/tokens.ts";

const EXPIRY_INTERVAL_MS = 250;
const TIDY_INTERVAL_MS = 10_000;
const DAY_MS = 24 * 3600 * 1000;

const EXPIRY: Context = { actor: "system:expiry", from: "" };
const UPKEEP: Context = { actor: "system:upkeep", from: "" };

export interface UpkeepParts extends Parts {
  readonly log: Logger;
  readonly auditDays: number;
}

export class Upkeep {
  readonly #parts: UpkeepParts;
  readonly #timers: Timer[] = [];
  #running: Promise<void> | undefined;

  constructor(parts: UpkeepParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#timers.push(every(EXPIRY_INTERVAL_MS, () => this.#run(() => expireDue(this.#parts))));
    this.#timers.push(every(TIDY_INTERVAL_MS, () => this.#run(() => tidy(this.#parts))));
    this.#run(() => tidy(this.#parts));
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) timer.stop();
    await this.#running;
  }

  /** One at a time; what is missed meanwhile is done by the next tick. */
  #run(work: () => Promise<void>): void {
    this.#running ??= work()
      .catch((error: unknown) => {
        this.#parts.log.warn({ err: error }, "upkeep failed; it is tried again");
      })
      .finally(() => {
        this.#running = undefined;
      });
  }
}

/** Deletes the credentials and tokens whose time has come. */
export async function expireDue(parts: UpkeepParts): Promise<void> {
  const nowMs = parts.clock.unixMs();
  const due: string[] = [];
  for (const [username, endMs] of parts.view.expiring) if (endMs <= nowMs) due.push(username);
  for (const username of due) {
    note(parts, await expireCredential(parts, EXPIRY, username), "credential expired");
  }
  for (const id of expiredTokens(parts)) {
    note(parts, await deleteToken(parts, EXPIRY, id, "token.expire"), "token expired");
  }
}

export async function tidy(parts: UpkeepParts): Promise<void> {
  for (const cacheId of orphanedCaches(parts)) {
    note(parts, await removeOrphans(parts, UPKEEP, cacheId), "credentials without a cache removed");
  }
  for (const cacheId of outOfLine(parts.view)) {
    const revision = await bringInLine(parts, cacheId);
    if (revision > 0) parts.log.info({ cache: cacheId, revision }, "shards follow their pool");
  }
  while ((await removeStaleUses(parts)) > 0);
  const oldestMs = parts.clock.unixMs() - parts.auditDays * DAY_MS;
  while ((await dropAuditBefore(parts, oldestMs)) > 0);
}

function note({ log }: UpkeepParts, outcome: Outcome<unknown>, did: string): void {
  if (outcome.ok) log.info({ revision: outcome.revision }, did);
  else if (outcome.problem.kind !== "notFound") log.warn({ problem: outcome.problem }, did);
}
