/**
 * The record by which a role says that it is here: leased, so that it goes with its process;
 * written anew when what it says has changed or its lease was lost. It never stands in the way of
 * serving: while the state is away it is tried again in the background.
 */
import { sleep } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import type { RecordInput } from "./records.ts";
import type { Change, ClusterState, Lease } from "./state.ts";

const LEASE_TTL_MS = 5_000;
const RETRY_DELAY_MS = 500;

type LeasedKind = "node" | "proxy" | "monitor";

export interface PresenceParts<K extends LeasedKind> {
  readonly state: ClusterState;
  readonly log: Logger;
  readonly kind: K;
  readonly id: string;
  /** What the record says now. */
  value(): RecordInput<K>;
}

export class Presence<K extends LeasedKind> {
  readonly #parts: PresenceParts<K>;
  #lease: Lease | undefined;
  /** The record says something else than it should. */
  #isBehind = false;
  #isWriting = false;
  #hasEnded = false;

  constructor(parts: PresenceParts<K>) {
    this.#parts = parts;
  }

  /**
   * Writes the record as it should be now. Resolves when it is written, or when it could not be
   * and is tried again later; at once while an earlier call is at it.
   */
  async publish(): Promise<void> {
    this.#isBehind = true;
    if (this.#isWriting) return;
    this.#isWriting = true;
    while (this.#isBehind && !this.#hasEnded) {
      this.#isBehind = false;
      if (await this.#write()) continue;
      void this.#publishLater();
      return;
    }
    this.#isWriting = false;
  }

  /** What the record is leased with; undefined while it is not. */
  get lease(): Lease | undefined {
    return this.#hasEnded ? undefined : this.#lease;
  }

  /** Takes the record away. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    await this.#lease?.revoke();
  }

  async #write(): Promise<boolean> {
    const { state, log, kind, id, value } = this.#parts;
    try {
      this.#lease ??= await this.#newLease();
      const lease = this.#lease;
      if (this.#hasEnded) await lease.revoke(); // Told to end while it was taken.
      if (this.#hasEnded) return true;
      const commit = await state.commit([{ kind, id, value: value(), lease } as Change]);
      if (commit.ok) return true;
      log.warn({ commit }, "not registered; trying again");
      this.#lease = undefined; // It ended, and nobody has told us yet.
    } catch (error) {
      log.warn({ err: error }, "not registered; trying again");
    }
    return false;
  }

  async #newLease(): Promise<Lease> {
    const lease = await this.#parts.state.lease({ ttlMs: LEASE_TTL_MS });
    void lease.lost.then(() => {
      if (this.#lease !== lease || this.#hasEnded) return;
      this.#parts.log.warn("lease lost; registering again");
      this.#lease = undefined;
      void this.publish();
    });
    return lease;
  }

  async #publishLater(): Promise<void> {
    await sleep(RETRY_DELAY_MS);
    this.#isWriting = false;
    if (!this.#hasEnded) await this.publish();
  }
}
