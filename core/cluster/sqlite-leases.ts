/**
 * Claims on being alive, kept in the state file. The holder moves the expiry forward every third
 * of the time to live; whoever polls ends the leases whose expiry has passed, so the death of a
 * process is noticed by all that live. Nothing here sets a timer: the state's poll calls in.
 */
import assert from "node:assert/strict";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Clock } from "../runtime/clock.ts";
import type { Lease } from "./state.ts";

const TTL_MIN_MS = 100;
const RENEWALS_PER_TTL = 3;

/**
 * Expiry is wall-clock time. When that jumps (set by hand, the machine slept, this process stood
 * still), all leases may look expired at once though their holders live: everybody renews his own
 * now, and has a moment for it before anybody else's are ended.
 */
const CLOCK_JUMP_MS = 1_000;
const JUMP_GRACE_MS = 1_000;

interface Holding {
  readonly ttlMs: number;
  livesUntilMs: number;
  renewAtMs: number;
  readonly lost: () => void;
}

export class Leases {
  readonly #clock: Clock;
  readonly #held = new Map<string, Holding>();
  readonly #insert: StatementSync;
  readonly #renew: StatementSync;
  readonly #exists: StatementSync;
  readonly #earliest: StatementSync;
  readonly #expired: StatementSync;
  /** No lease in the file ends before this moment, as far as we have looked. */
  #earliestExpiryMs = 0;
  #lookedAtMs: number;
  #reapFromMs = 0;

  constructor(database: DatabaseSync, clock: Clock) {
    this.#clock = clock;
    this.#lookedAtMs = clock.unixMs();
    this.#insert = database.prepare("INSERT INTO lease (expires_at_ms) VALUES (?)");
    this.#renew = database.prepare("UPDATE lease SET expires_at_ms = ? WHERE id = ?");
    this.#exists = database.prepare("SELECT 1 FROM lease WHERE id = ?");
    this.#earliest = database.prepare("SELECT min(expires_at_ms) AS ms FROM lease");
    this.#expired = database.prepare(
      "SELECT id FROM lease WHERE expires_at_ms <= ? ORDER BY expires_at_ms, id",
    );
  }

  /** Writes a new lease; inside the caller's transaction. */
  create(ttlMs: number, revoke: (id: string) => Promise<void>): Lease {
    assert(ttlMs >= TTL_MIN_MS, `a lease lives ${TTL_MIN_MS} ms or longer`);
    const nowMs = this.#clock.nowMs();
    const expiresAtMs = this.#clock.unixMs() + ttlMs;
    const id = String(this.#insert.run(expiresAtMs).lastInsertRowid);
    this.#earliestExpiryMs = Math.min(this.#earliestExpiryMs, expiresAtMs);
    const { promise: lost, resolve } = Promise.withResolvers<void>();
    const renewAtMs = nowMs + ttlMs / RENEWALS_PER_TTL;
    const holding = { ttlMs, livesUntilMs: nowMs + ttlMs, renewAtMs, lost: resolve };
    this.#held.set(id, holding);
    return {
      id,
      lost,
      revoke: () => revoke(id),
      get livesUntilMs() {
        return holding.livesUntilMs;
      },
    };
  }

  exists(id: string): boolean {
    return this.#exists.get(Number(id)) !== undefined;
  }

  /** No longer ours to renew. */
  forget(id: string): void {
    this.#held.delete(id);
  }

  /** Whether `renewDue` has something to write. */
  get isRenewalDue(): boolean {
    const nowMs = this.#clock.nowMs();
    for (const holding of this.#held.values()) if (nowMs >= holding.renewAtMs) return true;
    return false;
  }

  /** Moves the expiry of our leases whose third has passed; those that are gone are lost. */
  renewDue(): void {
    const nowMs = this.#clock.nowMs();
    for (const [id, holding] of this.#held) {
      if (nowMs < holding.renewAtMs) continue;
      const { changes } = this.#renew.run(this.#clock.unixMs() + holding.ttlMs, Number(id));
      holding.renewAtMs = nowMs + holding.ttlMs / RENEWALS_PER_TTL;
      if (changes !== 0) holding.livesUntilMs = nowMs + holding.ttlMs;
      if (changes !== 0) continue;
      this.#held.delete(id);
      holding.lost();
    }
  }

  /** Somebody wrote to the file: what we knew of the next expiry may be wrong. */
  changed(): void {
    this.#earliestExpiryMs = 0;
  }

  /** Leases to end now. Costs a comparison while none can have expired. */
  expired(): string[] {
    const unixMs = this.#clock.unixMs();
    const passedMs = unixMs - this.#lookedAtMs;
    this.#lookedAtMs = unixMs;
    if (passedMs > CLOCK_JUMP_MS || passedMs < 0) {
      this.#reapFromMs = unixMs + JUMP_GRACE_MS;
      for (const holding of this.#held.values()) holding.renewAtMs = Number.NEGATIVE_INFINITY;
    }
    if (unixMs < this.#earliestExpiryMs || unixMs < this.#reapFromMs) return [];

    const earliest = this.#earliest.get()?.ms as number | null;
    this.#earliestExpiryMs = earliest ?? Number.POSITIVE_INFINITY;
    if (unixMs < this.#earliestExpiryMs) return [];
    return this.#expired.all(unixMs).map((row) => String(row.id));
  }
}
