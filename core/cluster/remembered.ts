/**
 * A cluster state that remembers: what a role follows is also kept in a snapshot on its own disk.
 * A role that starts while the state is away starts from there, without knowing; its watches begin
 * at the revision of the snapshot, and tell what it missed when the state is back. Changes always
 * need the state itself.
 */
import { type Clock, every, sleep, clock as systemClock, type Timer } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import { type MetricTable, type Registry, registerMetrics } from "../runtime/metrics.ts";
import type { Kind } from "./records.ts";
import { readSnapshot, type Snapshot, SnapshotTail, writeSnapshot } from "./snapshot.ts";
import {
  type Change,
  type ClusterState,
  type Commit,
  type Entry,
  type Lease,
  type Seen,
  type Selection,
  StateUnavailable,
  type Watch,
} from "./state.ts";

/** How often the state is asked whether it is there: while it is, and while it is away. */
const PROBE_INTERVAL_MS = 5_000;
const PROBE_AWAY_INTERVAL_MS = 500;
/** A start has other things to do first. */
const FIRST_WRITE_DELAY_MS = 1_000;
/** A snapshot is written anew when so many changes stand behind it, or one for each record. */
const TAIL_REVISIONS_MIN = 10_000;
const RETRY_DELAY_MS = 5_000;
const FAILED = "the snapshot of the cluster state cannot be written; trying again";

export const STATE_METRICS = {
  reachable: {
    name: "memward_state_reachable",
    kind: "gauge",
    labels: [],
    help: "Whether the cluster state answers: 1 or 0. Serving does not need it, changes do.",
  },
  source: {
    name: "memward_state_source",
    kind: "gauge",
    labels: ["source"],
    help: "Where the role started from: the state, or the snapshot until the state is back.",
  },
  age: {
    name: "memward_state_snapshot_age_seconds",
    kind: "gauge",
    labels: [],
    help: "Age of the snapshot that is served from; 0 when it is the state itself.",
  },
} as const satisfies MetricTable;

export interface RememberedOptions {
  /** The state itself. Closed with this one. */
  readonly state: ClusterState;
  readonly path: string;
  /** What the role follows. */
  readonly kinds: readonly Kind[];
  readonly log: Logger;
  readonly clock?: Clock;
}

/**
 * Resolves when the state answers, or when it does not and there is a snapshot. Without either it
 * waits for the state, and says so.
 */
export async function openRememberedState(options: RememberedOptions): Promise<RememberedState> {
  const { state, path, kinds, log } = options;
  for (;;) {
    try {
      await state.list(kinds[0] as Kind, { limit: 1 });
      return new RememberedState(options, undefined);
    } catch (error) {
      if (!(error instanceof StateUnavailable)) throw error;
      const snapshot = await readSnapshot(path).catch((reason: unknown) => {
        log.error({ err: reason }, "the snapshot of the cluster state cannot be used");
        return undefined;
      });
      if (snapshot !== undefined) return new RememberedState(options, snapshot);
      log.warn({ err: error }, "waiting for the cluster state; there is no snapshot to start from");
      await sleep(PROBE_AWAY_INTERVAL_MS);
    }
  }
}

export class RememberedState implements ClusterState {
  readonly #options: RememberedOptions;
  readonly #state: ClusterState;
  readonly #clock: Clock;
  readonly #timer: Timer;
  /** What is known while the state has not answered since the start. */
  #snapshot: Snapshot | undefined;
  #isReachable: boolean;
  #isProbing = false;
  #probedAtMs: number;
  #writer: SnapshotWriter | undefined;
  #closed = false;

  constructor(options: RememberedOptions, snapshot: Snapshot | undefined) {
    const { state, log, clock = systemClock } = options;
    this.#options = options;
    this.#state = state;
    this.#clock = clock;
    this.#snapshot = snapshot;
    this.#isReachable = snapshot === undefined;
    this.#probedAtMs = clock.nowMs();
    this.#timer = every(PROBE_AWAY_INTERVAL_MS, () => this.#probe());
    if (snapshot === undefined) {
      this.#remember();
      return;
    }
    const { revision } = snapshot;
    log.warn({ revision, ageSeconds: this.#ageSeconds() }, "state away: serving from the snapshot");
  }

  async get<K extends Kind>(kind: K, id: string): Promise<Entry<K> | undefined> {
    if (!this.#isFromSnapshot(kind)) return this.#state.get(kind, id);
    return this.#snapshot?.records.get(kind)?.get(id) as Entry<K> | undefined;
  }

  async list<K extends Kind>(
    kind: K,
    selection: Selection = {},
  ): Promise<{ entries: Entry<K>[]; revision: number }> {
    const snapshot = this.#snapshot;
    if (!this.#isFromSnapshot(kind) || !snapshot) return this.#state.list(kind, selection);
    const known = [...(snapshot.records.get(kind)?.values() ?? [])] as Entry<K>[];
    return { entries: select(known, selection), revision: snapshot.revision };
  }

  async commit(changes: readonly Change[]): Promise<Commit> {
    this.#assertReachable();
    return this.#state.commit(changes);
  }

  watch(fromRevision: number, watcher: Parameters<ClusterState["watch"]>[1]): Watch {
    return this.#state.watch(fromRevision, watcher);
  }

  async lease(options: { ttlMs: number }): Promise<Lease> {
    this.#assertReachable();
    return this.#state.lease(options);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer.stop();
    this.#writer?.close();
    await this.#state.close();
  }

  registerMetrics(registry: Registry): void {
    registerMetrics(registry, STATE_METRICS, {
      reachable: (emit) => emit(this.#isReachable ? 1 : 0),
      source: (emit) => {
        emit(this.#snapshot === undefined ? 1 : 0, "state");
        emit(this.#snapshot === undefined ? 0 : 1, "snapshot");
      },
      age: (emit) => emit(this.#ageSeconds()),
    });
  }

  #isFromSnapshot(kind: Kind): boolean {
    return this.#snapshot !== undefined && this.#options.kinds.includes(kind);
  }

  #ageSeconds(): number {
    if (this.#snapshot === undefined) return 0;
    return Math.max(0, (this.#clock.unixMs() - this.#snapshot.trueAtMs) / 1000);
  }

  /** Known to be away: no caller has to find that out by waiting. */
  #assertReachable(): void {
    if (this.#isReachable) return;
    throw new StateUnavailable("the cluster state is away; changes have to wait until it is back");
  }

  #probe(): void {
    const intervalMs = this.#isReachable ? PROBE_INTERVAL_MS : PROBE_AWAY_INTERVAL_MS;
    if (this.#isProbing || this.#clock.nowMs() - this.#probedAtMs < intervalMs) return;
    this.#isProbing = true;
    this.#state
      .list(this.#options.kinds[0] as Kind, { limit: 1 })
      .then(
        () => this.#found(true),
        () => this.#found(false),
      )
      .finally(() => {
        this.#isProbing = false;
        this.#probedAtMs = this.#clock.nowMs();
      });
  }

  #found(isReachable: boolean): void {
    if (this.#closed) return;
    if (isReachable) this.#writer?.confirm();
    if (isReachable === this.#isReachable) return;
    const { log } = this.#options;
    this.#isReachable = isReachable;
    if (!isReachable) return log.warn("the cluster state is away: serving goes on, changes wait");
    log.info("the cluster state is back");
    this.#snapshot = undefined;
    if (this.#writer === undefined) this.#remember();
  }

  #remember(): void {
    this.#writer = new SnapshotWriter(this.#options);
  }
}

/** Keeps the snapshot true while the state can be followed. */
class SnapshotWriter {
  readonly #options: RememberedOptions;
  readonly #clock: Clock;
  #watch: Watch | undefined;
  #tail: SnapshotTail | undefined;
  #tailRevisionsLeft = 0;
  #closed = false;

  constructor(options: RememberedOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    void this.#begin(FIRST_WRITE_DELAY_MS);
  }

  close(): void {
    this.#closed = true;
    this.#stop();
  }

  /** The state answers, so what the file says is true now. */
  confirm(): void {
    const confirming = this.#tail?.confirm(this.#clock);
    confirming?.catch((error: unknown) => this.#failed(error));
  }

  /** Writes all there is, then adds what changes. */
  async #begin(delayMs: number): Promise<void> {
    for (let waitMs = delayMs; ; waitMs = RETRY_DELAY_MS) {
      await sleep(waitMs);
      if (this.#closed) return;
      try {
        return await this.#write();
      } catch (error) {
        // Without a state nothing changes either; a disk that is full is the operator's to see.
        if (error instanceof StateUnavailable || this.#closed) continue;
        this.#options.log.error({ err: error }, FAILED);
      }
    }
  }

  async #write(): Promise<void> {
    const { state, kinds, path } = this.#options;
    const lists = [];
    for (const kind of kinds) lists.push(await state.list(kind));
    const revision = Math.min(...lists.map((list) => list.revision));
    const entries = lists.flatMap((list) => list.entries as Entry[]);
    await writeSnapshot(path, { entries, revision });
    if (this.#closed) return;
    this.#tail = new SnapshotTail(path, (error) => this.#failed(error));
    this.#tailRevisionsLeft = Math.max(TAIL_REVISIONS_MIN, entries.length);
    this.#watch = state.watch(revision, {
      changed: (seen, seenRevision) => this.#changed(seen, seenRevision),
      reset: () => this.#restart(),
    });
  }

  #changed(seen: readonly Seen[], revision: number): void {
    const followed = seen.filter(({ kind }) => this.#options.kinds.includes(kind));
    if (followed.length === 0) return;
    const isKept = this.#tail?.append(followed, revision) ?? true;
    if (!isKept) return this.#failed(new Error("the disk does not keep up"));
    this.#tailRevisionsLeft--;
    if (this.#tailRevisionsLeft === 0) this.#restart();
  }

  #failed(error: unknown): void {
    this.#options.log.error({ err: error }, FAILED);
    this.#restart();
  }

  #restart(): void {
    if (this.#tail === undefined) return; // It is already beginning anew.
    this.#stop();
    void this.#begin(RETRY_DELAY_MS);
  }

  #stop(): void {
    this.#watch?.close();
    this.#watch = undefined;
    this.#tail?.close();
    this.#tail = undefined;
  }
}

function select<K extends Kind>(
  entries: readonly Entry<K>[],
  { prefix = "", before, limit, descending = false }: Selection,
): Entry<K>[] {
  const found = entries
    .filter(({ id }) => id.startsWith(prefix) && (before === undefined || id < before))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  if (descending) found.reverse();
  return found.slice(0, limit);
}
