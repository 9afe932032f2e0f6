/**
 * Claims on being alive, kept by etcd. Each is renewed three times in its time to live, and lost
 * when etcd says that it is gone. While etcd is away nobody can know: it is renewed when etcd is
 * back, if etcd still has it.
 */
import { clock, every } from "../runtime/clock.ts";
import { type EtcdClient, EtcdFailure } from "./etcd-client.ts";
import { METHODS } from "./etcd-messages.ts";
import { type Lease, StateUnavailable } from "./state.ts";

const RENEWALS_PER_TTL = 3;

interface Holding {
  readonly id: string;
  readonly ttlMs: number;
  livesUntilMs: number;
  readonly lost: () => void;
  stop(): void;
}

export class EtcdLeases {
  readonly #client: EtcdClient;
  readonly #held = new Map<string, Holding>();

  constructor(client: EtcdClient) {
    this.#client = client;
  }

  /** etcd counts in seconds and has a least time to live, twice as long as it needs to elect. */
  async create(ttlMs: number): Promise<Lease> {
    const askedAtMs = clock.nowMs();
    const ttl = Math.ceil(ttlMs / 1000);
    const { id } = await this.#client.write(METHODS.leaseGrant, { ttl });
    const { promise: lost, resolve } = Promise.withResolvers<void>();
    let isRenewing = false;
    const timer = every(ttlMs / RENEWALS_PER_TTL, () => {
      if (isRenewing) return;
      isRenewing = true;
      void this.#renew(holding).finally(() => {
        isRenewing = false;
      });
    });
    const livesUntilMs = askedAtMs + ttlMs;
    const stop = () => timer.stop();
    const holding: Holding = { id, ttlMs, livesUntilMs, lost: resolve, stop };
    this.#held.set(id, holding);
    return {
      id,
      lost,
      revoke: () => this.#revoke(id),
      get livesUntilMs() {
        return holding.livesUntilMs;
      },
    };
  }

  /** Whether this process renews it; leases of others may be alive as well. */
  holds(id: string): boolean {
    return this.#held.has(id);
  }

  close(): void {
    for (const id of this.#held.keys()) this.#forget(id);
  }

  #forget(id: string): void {
    this.#held.get(id)?.stop();
    this.#held.delete(id);
  }

  async #revoke(id: string): Promise<void> {
    this.#forget(id);
    try {
      await this.#client.write(METHODS.leaseRevoke, { id });
    } catch (error) {
      // Nobody renews it any more: it ends by itself, or has ended.
      const isEnding = error instanceof StateUnavailable;
      if (!isEnding && !(error instanceof EtcdFailure && error.isLeaseGone)) throw error;
    }
  }

  /** One question on a stream of its own: the next one may have to go to another endpoint. */
  async #renew(holding: Holding): Promise<void> {
    const { id, ttlMs, lost } = holding;
    const askedAtMs = clock.nowMs();
    const secondsLeft = await this.#keepAlive(id, ttlMs / RENEWALS_PER_TTL);
    if (secondsLeft !== undefined && secondsLeft > 0) {
      holding.livesUntilMs = askedAtMs + Math.min(ttlMs, secondsLeft * 1000);
    }
    if (secondsLeft !== 0 || !this.#held.has(id)) return;
    this.#forget(id);
    lost();
  }

  /** The seconds that it lives on; undefined when etcd did not say. */
  #keepAlive(id: string, durationMsMax: number): Promise<number | undefined> {
    return new Promise((resolve) => {
      let cancel = (): void => {};
      const heard = ({ ttl }: { ttl: number }): void => {
        resolve(ttl);
        cancel();
      };
      const ended = (): void => resolve(undefined);
      this.#client
        .stream(METHODS.leaseKeepAlive, { heard, ended, durationMsMax })
        .then((stream) => {
          cancel = () => stream.cancel();
          stream.write({ id });
        })
        .catch(() => resolve(undefined)); // The next renewal tries again.
    });
  }
}
