/**
 * One watch on etcd that outlives connections, members and history: it goes on after the last
 * revision that its watcher heard, whatever ended the stream before. Where etcd no longer has that
 * history, or never had it, the watcher is reset and told all there is.
 */
import { sleep } from "../runtime/clock.ts";
import { type Random, random } from "../runtime/random.ts";
import { type EtcdClient, EtcdFailure } from "./etcd-client.ts";
import type { EtcdKeys } from "./etcd-keys.ts";
import { METHODS, type WatchResponse } from "./etcd-messages.ts";
import type { ClusterState, Seen, Watch } from "./state.ts";

/** etcd confirms a watch at once, or hangs. */
const ANSWER_MS_MAX = 3_000;
const RETRY_DELAY_MS_MIN = 50;
const RETRY_DELAY_MS_MAX = 1_000;

type Watcher = Parameters<ClusterState["watch"]>[1];

export interface EtcdWatchParts {
  readonly client: EtcdClient;
  readonly keys: EtcdKeys;
  /** Every record there is, and the revision at which that was true. */
  listAll(): Promise<{ entries: Seen[]; revision: number }>;
  /** Whether etcd has not come that far; the member that we heard may only be slow to follow. */
  isFuture(revision: number): Promise<boolean>;
  /** The stream was interrupted, or is whole again (`undefined`). */
  troubled(error: unknown): void;
  readonly watcher: Watcher;
  readonly fromRevision: number;
}

export class EtcdWatch implements Watch {
  readonly #parts: EtcdWatchParts;
  /** The newest revision that the watcher was told. */
  #revision: number;
  #closed = false;
  #cancel: () => void = () => {};

  constructor(parts: EtcdWatchParts) {
    this.#parts = parts;
    this.#revision = parts.fromRevision;
    void this.#run();
  }

  close(): void {
    this.#closed = true;
    this.#cancel();
  }

  async #run(): Promise<void> {
    for (let failureCount = 0; !this.#closed; ) {
      try {
        const isAhead = await this.#follow(() => {
          failureCount = 0;
          this.#parts.troubled(undefined);
        });
        if (!isAhead || (await this.#parts.isFuture(this.#revision))) await this.#reset();
        else await sleep(RETRY_DELAY_MS_MIN);
      } catch (error) {
        if (this.#closed) return;
        this.#parts.troubled(error);
        await sleep(retryDelayMs(failureCount++, random));
      }
    }
  }

  /**
   * Tells what the stream says until it breaks (rejects) or cannot go on from here: etcd has
   * forgotten that history (false), or its history does not reach so far (true).
   */
  #follow(established: () => void): Promise<boolean> {
    const { client, keys } = this.#parts;
    return new Promise((resolve, reject) => {
      let isAnswered = false;
      let held: Seen[] = [];
      const heard = (message: WatchResponse): void => {
        isAnswered = true;
        if (this.#closed) return;
        if (message.created && !message.canceled) {
          if ((message.header?.revision ?? 0) < this.#revision) return resolve(true);
          established();
        }
        if (message.canceled) {
          if (message.compactRevision > 0) return resolve(false);
          return reject(new EtcdFailure(new Error(message.cancelReason || "watch cancelled")));
        }
        held.push(...keys.seenOf(message.events));
        if (message.fragment) return; // The rest of this revision is yet to come.
        const seen = held;
        held = [];
        this.#tell(seen);
      };
      const created = { key: keys.start, rangeEnd: keys.end, fragment: true };
      client
        .stream(METHODS.watch, { heard, ended: reject })
        .then((stream) => {
          this.#cancel = () => stream.cancel();
          if (this.#closed) return stream.cancel();
          stream.write({ create: { ...created, startRevision: this.#revision + 1 } });
          return sleep(ANSWER_MS_MAX).then(() => {
            if (isAnswered || this.#closed) return;
            reject(new EtcdFailure(new Error("etcd does not answer")));
            stream.giveUp();
          });
        })
        .catch(reject);
    }).finally(() => this.#cancel()) as Promise<boolean>;
  }

  #tell(seen: readonly Seen[]): void {
    for (const [revision, changes] of Map.groupBy(seen, (one) => one.revision)) {
      if (this.#closed) return; // By the watcher itself.
      if (revision <= this.#revision) continue;
      this.#revision = revision;
      this.#parts.watcher.changed(changes, revision);
    }
  }

  async #reset(): Promise<void> {
    const { entries, revision } = await this.#parts.listAll();
    if (this.#closed) return;
    this.#revision = revision;
    this.#parts.watcher.reset?.();
    this.#parts.watcher.changed(entries, revision);
  }
}

/** Full jitter: those who were cut off together must not return together. */
function retryDelayMs(failureCount: number, chance: Random): number {
  const ceilingMs = Math.min(RETRY_DELAY_MS_MAX, RETRY_DELAY_MS_MIN * 2 ** failureCount);
  return RETRY_DELAY_MS_MIN + Math.floor(chance.next() * (ceilingMs - RETRY_DELAY_MS_MIN));
}
