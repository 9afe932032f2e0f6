/**
 * Flushes of caches on servers of others, for all workers of this proxy: other stamps are written
 * into the cluster state, and the flush is done when all living proxies have them in force. A flush
 * that is asked for while another is being written waits for one of its own: what was stored
 * between the two must go as well.
 */
import { flushChanges } from "../core/cluster/external.ts";
import { type ClusterState, StateUnavailable } from "../core/cluster/state.ts";
import { clock, sleep } from "../core/runtime/clock.ts";
import type { Logger } from "../core/runtime/log.ts";

const ATTEMPT_COUNT_MAX = 10;
/** A proxy that is gone counts until its lease ends. */
const APPLIED_MS_MAX = 8_000;
const LOOK_MS = 5;

export interface FlusherParts {
  readonly state: ClusterState;
  readonly log: Logger;
  /** What all living proxies have in force. */
  readonly appliedByAll: () => number;
}

export class Flusher {
  readonly #parts: FlusherParts;
  /** By cache: the flush being written, and the one that comes after it. */
  readonly #writing = new Map<string, Promise<number>>();
  readonly #next = new Map<string, Promise<number>>();

  constructor(parts: FlusherParts) {
    this.#parts = parts;
  }

  /** True when nothing that was stored before is read any more, through any proxy. */
  async flush(cacheId: string): Promise<boolean> {
    try {
      const revision = await this.#written(cacheId);
      const giveUpAtMs = clock.nowMs() + APPLIED_MS_MAX;
      while (this.#parts.appliedByAll() < revision) {
        if (clock.nowMs() > giveUpAtMs) return false;
        await sleep(LOOK_MS);
      }
      return true;
    } catch (error) {
      this.#parts.log.warn({ err: error, cache: cacheId }, "cache not flushed");
      return false;
    }
  }

  #written(cacheId: string): Promise<number> {
    const current = this.#writing.get(cacheId);
    if (current === undefined) {
      const written = this.#write(cacheId).finally(() => this.#writing.delete(cacheId));
      this.#writing.set(cacheId, written);
      return written;
    }
    let next = this.#next.get(cacheId);
    if (next === undefined) {
      next = current
        .catch(() => 0)
        .then(() => {
          this.#next.delete(cacheId);
          return this.#written(cacheId);
        });
      this.#next.set(cacheId, next);
    }
    return next;
  }

  async #write(cacheId: string): Promise<number> {
    const { state } = this.#parts;
    for (let attempt = 0; attempt < ATTEMPT_COUNT_MAX; attempt++) {
      const cache = await state.get("cache", cacheId);
      if (cache === undefined) throw new Error("the cache is gone");
      const { entries } = await state.list("shard", { prefix: `${cacheId}/` });
      const commit = await state.commit(flushChanges(cache, entries));
      if (commit.ok) return commit.revision;
    }
    throw new StateUnavailable("others were faster, again and again");
  }
}
