/**
 * What the parts of the contract test share: a fresh place for every test, other processes, and a
 * watcher that notes what it is told.
 */
import { afterEach, beforeEach, expect } from "vitest";
import { cacheRecord, type Kind } from "../../../core/cluster/records.ts";
import type { Change, ClusterState, Seen } from "../../../core/cluster/state.ts";
import { clock, sleep } from "../../../core/runtime/clock.ts";
import { Child, type ChildOptions } from "./children.ts";
import { cacheValue } from "./samples.ts";

/** A fresh cluster state that nobody else uses. */
export interface Place {
  /** A connection of its own, as another role would have; the place closes it at its end. */
  open(): Promise<ClusterState>;
  /** How another process opens the same state. */
  readonly child: ChildOptions;
  /** A time to live that this implementation can keep. */
  readonly ttlMs: number;
  /** Makes the history forget revisions, by whatever makes it forget in real life. */
  compact(state: ClusterState): Promise<void>;
  remove(): Promise<void>;
}

/** Only hangs get here: nothing in this file asserts how fast something is. */
const PATIENCE_MS = 20_000;

/** Everything a watcher was told, and the records as they are if it was told the truth. */
export class Watcher {
  readonly told: { revision: number; seen: Seen[] }[] = [];
  readonly records = new Map<string, unknown>();
  resetCount = 0;

  changed(seen: Seen[], revision: number): void {
    this.told.push({ revision, seen });
    for (const { kind, id, value } of seen) {
      if (value === null) this.records.delete(`${kind} ${id}`);
      else this.records.set(`${kind} ${id}`, value);
    }
  }

  reset(): void {
    this.resetCount++;
    this.records.clear();
  }

  get revisions(): number[] {
    return this.told.map(({ revision }) => revision);
  }

  /** Resolves when it has been told of `revision` or a later one. */
  async reached(revision: number): Promise<void> {
    await until(() => (this.told.at(-1)?.revision ?? 0) >= revision);
  }
}

export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAtMs = clock.nowMs() + PATIENCE_MS;
  while (!(await isSo())) {
    if (clock.nowMs() > giveUpAtMs) throw new Error(`never came true: ${isSo}`);
    await sleep(5);
  }
}

/** The place of the running test. Its functions may be taken out, its getters not. */
export type Here = ReturnType<typeof usePlace>;

/** Gives every test that follows a place of its own and clears it away. */
export function usePlace(makePlace: () => Promise<Place>) {
  let place: Place;
  let state: ClusterState;
  const children: Child[] = [];

  beforeEach(async () => {
    place = await makePlace();
    state = await place.open();
  });

  afterEach(async () => {
    for (const child of children.splice(0)) await child.kill();
    await place.remove();
  });

  return {
    get place() {
      return place;
    },
    get state() {
      return state;
    },
    makePlace,
    children,

    async startChild(): Promise<Child> {
      const child = await Child.start(place.child);
      children.push(child);
      return child;
    },

    /** Commits and answers the revision; the test fails if it was refused. */
    async put(...changes: Change[]): Promise<number> {
      const commit = await state.commit(changes);
      expect(commit).toEqual({ ok: true, revision: expect.any(Number) });
      return commit.ok ? commit.revision : -1;
    },

    async newest(): Promise<number> {
      return (await state.list("cache")).revision;
    },

    async ids(kind: Kind = "cache"): Promise<string[]> {
      return (await state.list(kind)).entries.map((entry) => entry.id);
    },
  };
}

/** A cache as it is read back: with its defaults. */
export function complete(over: Parameters<typeof cacheValue>[0] = {}) {
  return cacheRecord.parse(cacheValue(over));
}
