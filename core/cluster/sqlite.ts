/**
 * The cluster state of one machine: a single SQLite file in WAL mode that all processes open, and
 * nothing between them but that file. Each commit is one transaction, one revision, durable
 * before anybody is told of it. A poll every `pollMs` notices what others wrote (`data_version`,
 * a few microseconds when nothing changed), renews our leases and ends those whose holder died.
 *
 * node:sqlite is synchronous: a statement runs in microseconds, but waiting for a lock would stop
 * the whole process. So SQLite never waits here; a locked file is tried again a little later.
 */
import assert from "node:assert/strict";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { type Clock, every, sleep, clock as systemClock, type Timer } from "../runtime/clock.ts";
import { type CheckedChange, checkChanges } from "./changes.ts";
import { type Kind, withDefaults } from "./records.ts";
import { isBusy, isSqliteError, openStateFile } from "./sqlite-file.ts";
import { Leases } from "./sqlite-leases.ts";
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

/** A watcher that is further behind is reset. A few MB of file. */
const HISTORY_REVISIONS_MAX = 10_000;
/** After something has changed, answers to it are soon to come: these polls follow each other. */
const LIVELY_POLL_MS = 5;
const LIVELY_MS = 250;
/** Told to one watcher in one turn of the event loop; the rest follows in the next turns. */
const REVISIONS_PER_TURN_MAX = 500;
/** Tries of a locked file: 1, 2, 3 … 20, 20 ms apart, STATE_PATIENCE_MS together. */
const BUSY_TRIES_MAX = 260;
const BUSY_DELAY_MS_MAX = 20;
/** Ids are printable ASCII (changes.ts). */
const AFTER_ALL_IDS = "\u007f";
const LOCKED = "the cluster state stays locked by another program";
/** Polls that fail in a row before the operator is told. */
const FAILED_POLLS_MAX = 40;

export interface SqliteStateOptions {
  readonly path: string;
  readonly clock?: Clock;
  readonly pollMs?: number;
  readonly historyRevisionsMax?: number;
  /** Polls have been failing for a while (disk, damage). They go on; called once per trouble. */
  readonly troubled?: (error: unknown) => void;
}

type Watcher = Parameters<ClusterState["watch"]>[1];
interface Watching {
  readonly watcher: Watcher;
  /** The newest revision that it was told. */
  revision: number;
}

/** What our own statements answer with; the tables are STRICT and only we write them. */
type RecordRow = { kind: Kind; id: string; value: string | null; revision: number };
/** Null in a state that was never changed. */
type BoundsRow = { oldest: number | null; newest: number | null };

/** Opens the state, making the file if there is none. Throws StateFileError if it is unusable. */
export function openSqliteState(options: SqliteStateOptions): ClusterState {
  return new SqliteState(options);
}

class SqliteState implements ClusterState {
  readonly #database: DatabaseSync;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #leases: Leases;
  readonly #historyRevisionsMax: number;
  readonly #troubled: (error: unknown) => void;
  readonly #clock: Clock;
  readonly #timer: Timer;
  #lively: Timer | undefined;
  #livelyUntilMs = 0;
  readonly #watchings = new Set<Watching>();
  /** A telling already planned for the end of this turn. */
  #telling: NodeJS.Immediate | undefined;
  /** Watchers may have something to hear; stays so until they have heard it. */
  #isBehind = false;
  #dataVersion = -1;
  #failedPolls = 0;
  #closed = false;

  constructor({
    path,
    clock = systemClock,
    pollMs = 25,
    historyRevisionsMax = HISTORY_REVISIONS_MAX,
    troubled = (error) => process.emitWarning(error as Error),
  }: SqliteStateOptions) {
    assert(historyRevisionsMax >= 1, "the newest revision is read from the history");
    this.#database = openStateFile(path);
    this.#sql = prepare(this.#database);
    this.#leases = new Leases(this.#database, clock);
    this.#historyRevisionsMax = historyRevisionsMax;
    this.#troubled = troubled;
    this.#clock = clock;
    this.#timer = every(pollMs, () => this.#poll());
  }

  async get<K extends Kind>(kind: K, id: string): Promise<Entry<K> | undefined> {
    const row = await this.#patiently(() => this.#sql.get.get(kind, id));
    return row && (asSeen(row as RecordRow) as Entry<K>);
  }

  async list<K extends Kind>(
    kind: K,
    { prefix = "", before = AFTER_ALL_IDS, limit = -1, descending = false }: Selection = {},
  ): Promise<{ entries: Entry<K>[]; revision: number }> {
    const end = [before, prefix + AFTER_ALL_IDS].toSorted()[0] as string;
    const statement = descending ? this.#sql.listDown : this.#sql.list;
    return this.#patiently(() =>
      this.#transaction("BEGIN", () => ({
        entries: seenOf(statement.all(kind, prefix, end, limit)) as Entry<K>[],
        revision: this.#bounds().newest,
      })),
    );
  }

  async commit(changes: readonly Change[]): Promise<Commit> {
    const valid = checkChanges(changes);
    if (!valid.ok) return valid;
    return this.#write(() => this.#refusal(valid.checked) ?? this.#apply(valid.checked));
  }

  watch(fromRevision: number, watcher: Watcher): Watch {
    this.#assertOpen();
    const watching = { watcher, revision: fromRevision };
    this.#watchings.add(watching);
    this.#planTelling(); // Never within this call.
    return { close: () => void this.#watchings.delete(watching) };
  }

  async lease({ ttlMs }: { ttlMs: number }): Promise<Lease> {
    const revoke = async (id: string): Promise<void> => {
      this.#leases.forget(id);
      await this.#write(() => this.#endLease(id)).catch((error: unknown) => {
        if (!(error instanceof StateUnavailable)) throw error; // Then it ends by itself.
      });
    };
    return this.#write(() => this.#leases.create(ttlMs, revoke), { durable: false });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer.stop();
    this.#lively?.stop();
    clearImmediate(this.#telling);
    this.#watchings.clear();
    this.#database.close();
  }

  /** Why the batch cannot be written, looked up before the first write. */
  #refusal(changes: readonly CheckedChange[]): Commit | undefined {
    for (const { kind, id, expected, leaseId } of changes) {
      const revision = this.#revisionOf(kind, id);
      if (expected !== undefined && expected !== revision) {
        return { ok: false, reason: "conflict", kind, id, revision };
      }
      if (leaseId !== undefined && !this.#leases.exists(leaseId)) {
        return { ok: false, reason: "invalid", kind, id, problems: ["lease: has ended"] };
      }
    }
    return undefined;
  }

  /** Deleting what is not there is no change; a commit without changes makes no revision. */
  #apply(changes: readonly CheckedChange[]): Commit {
    const effective = changes.filter(
      ({ kind, id, value }) => value !== null || this.#revisionOf(kind, id) !== 0,
    );
    const newest = this.#bounds().newest;
    if (effective.length === 0) return { ok: true, revision: newest };
    const revision = newest + 1;
    for (const [position, { kind, id, value, leaseId }] of effective.entries()) {
      const text = value === null ? null : JSON.stringify(value);
      const lease = leaseId === undefined ? null : Number(leaseId);
      if (text === null) this.#sql.remove.run(kind, id);
      else this.#sql.put.run(kind, id, text, revision, lease);
      this.#sql.remember.run(revision, position, kind, id, text);
    }
    this.#sql.forget.run(revision - this.#historyRevisionsMax);
    return { ok: true, revision };
  }

  /** One revision that deletes the records of the lease, if it has any. */
  #endLease(id: string): void {
    this.#sql.endLease.run(Number(id));
    const records = seenOf(this.#sql.ofLease.all(Number(id)));
    this.#apply(
      records.map(({ kind, id }) => ({
        kind,
        id,
        value: null,
        expected: undefined,
        leaseId: undefined,
      })),
    );
  }

  #revisionOf(kind: Kind, id: string): number {
    return (this.#sql.get.get(kind, id) as RecordRow | undefined)?.revision ?? 0;
  }

  /** The revisions that the history reaches from and to; it has no gaps. */
  #bounds(): { oldest: number; newest: number } {
    const { oldest, newest } = this.#sql.bounds.get() as BoundsRow;
    return { oldest: oldest ?? 1, newest: newest ?? 0 };
  }

  #poll(): void {
    this.#guarded(() => {
      const dataVersion = this.#sql.dataVersion.get()?.data_version as number;
      if (dataVersion !== this.#dataVersion) {
        this.#dataVersion = dataVersion;
        this.#isBehind = true;
        this.#leases.changed();
      }
      if (this.#isBehind) this.#tell();
      if (this.#closed) return; // By a watcher.
      if (this.#leases.isRenewalDue) this.#writeNow(() => this.#leases.renewDue(), false);
      if (this.#leases.expired().length > 0) this.#reap();
      this.#failedPolls = 0;
    });
  }

  /** A change is often answered by others: that who leaves a shard waits for who leaves it, too. */
  #beLively(): void {
    this.#livelyUntilMs = this.#clock.nowMs() + LIVELY_MS;
    this.#lively ??= every(LIVELY_POLL_MS, () => {
      this.#poll();
      if (this.#clock.nowMs() < this.#livelyUntilMs) return;
      this.#lively?.stop();
      this.#lively = undefined;
    });
  }

  /** Others may have reaped, or the holder renewed, since we looked: look again in the lock. */
  #reap(): void {
    this.#writeNow(() => {
      for (const id of this.#leases.expired()) this.#endLease(id);
    });
  }

  /** A file that cannot be read now is tried again by the next poll, and the next. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!isSqliteError(error)) throw error;
      this.#failedPolls++;
      if (this.#failedPolls === FAILED_POLLS_MAX) this.#troubled(error);
    }
  }

  #planTelling(): void {
    this.#telling ??= setImmediate(() => {
      this.#telling = undefined;
      this.#guarded(() => this.#tell());
    });
  }

  /** Catches all watchers up, or as far as one turn allows. */
  #tell(): void {
    this.#isBehind = true;
    let isMore = false;
    for (const watching of this.#watchings) {
      const news = this.#newsSince(watching.revision);
      if (news.isMore) isMore = true;
      if (news.revisions.size > 0) this.#beLively();
      if (news.isReset) watching.watcher.reset?.();
      for (const [revision, seen] of news.revisions) {
        // The watcher may have closed itself, or all of us, while it was told.
        if (!this.#watchings.has(watching)) break;
        watching.revision = revision;
        watching.watcher.changed(seen, revision);
      }
    }
    this.#isBehind = false;
    if (isMore && !this.#closed) this.#planTelling();
  }

  /** Read in one transaction and told after it, because watchers write. */
  #newsSince(revision: number): News {
    return this.#transaction("BEGIN", () => {
      const { newest, oldest } = this.#bounds();
      if (revision + 1 < oldest || revision > newest) {
        const revisions = new Map([[newest, seenOf(this.#sql.all.all())]]);
        return { isReset: true, revisions, isMore: false };
      }
      const until = Math.min(newest, revision + REVISIONS_PER_TURN_MAX);
      const seen = seenOf(this.#sql.since.all(revision, until));
      const revisions = Map.groupBy(seen, (one) => one.revision);
      return { isReset: false, revisions, isMore: until < newest };
    });
  }

  /** Runs `work` in a write transaction as soon as the file is free. */
  #write<T>(work: () => T, { durable = true } = {}): Promise<T> {
    return this.#patiently(() => this.#writeNow(work, durable));
  }

  /**
   * Every revision is on disk before anybody can see it; a power cut may only forget renewals
   * of leases, whose holders it killed as well.
   */
  #writeNow<T>(work: () => T, durable = true): T {
    this.#database.exec(`PRAGMA synchronous = ${durable ? "FULL" : "NORMAL"}`);
    const result = this.#transaction("BEGIN IMMEDIATE", work);
    this.#leases.changed();
    this.#planTelling(); // Our own writes do not change our data_version.
    return result;
  }

  #transaction<T>(begin: "BEGIN" | "BEGIN IMMEDIATE", work: () => T): T {
    this.#database.exec(begin);
    try {
      const result = work();
      this.#database.exec("COMMIT");
      return result;
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  async #patiently<T>(work: () => T): Promise<T> {
    for (let tries = 1; ; tries++) {
      this.#assertOpen();
      try {
        return work();
      } catch (error) {
        if (!isBusy(error)) throw error;
        if (tries === BUSY_TRIES_MAX) throw new StateUnavailable(LOCKED, { cause: error });
      }
      await sleep(Math.min(tries, BUSY_DELAY_MS_MAX));
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw new Error("the cluster state is closed");
  }
}

interface News {
  readonly isReset: boolean;
  readonly revisions: Map<number, Seen[]>;
  /** There were more revisions than one turn may tell. */
  readonly isMore: boolean;
}

/** Values were checked against their schema when they were committed; see changes.ts. */
function asSeen({ kind, id, value, revision }: RecordRow): Seen {
  const read = value === null ? null : withDefaults(kind, JSON.parse(value));
  return { kind, id, value: read, revision } as Seen;
}

function seenOf(rows: unknown[]): Seen[] {
  return (rows as RecordRow[]).map(asSeen);
}

function prepare(database: DatabaseSync) {
  const sql = (text: string): StatementSync => database.prepare(text);
  return {
    dataVersion: sql("PRAGMA data_version"),
    bounds: sql(`SELECT (SELECT min(revision) FROM history) AS oldest,
                        (SELECT max(revision) FROM history) AS newest`),
    get: sql("SELECT kind, id, value, revision FROM record WHERE kind = ? AND id = ?"),
    list: sql(`SELECT kind, id, value, revision FROM record
               WHERE kind = ? AND id >= ? AND id < ? ORDER BY id LIMIT ?`),
    listDown: sql(`SELECT kind, id, value, revision FROM record
                   WHERE kind = ? AND id >= ? AND id < ? ORDER BY id DESC LIMIT ?`),
    all: sql("SELECT kind, id, value, revision FROM record ORDER BY kind, id"),
    ofLease: sql(`SELECT kind, id, value, revision FROM record WHERE lease = ?
                  ORDER BY kind, id`),
    put: sql(`INSERT OR REPLACE INTO record (kind, id, value, revision, lease)
              VALUES (?, ?, ?, ?, ?)`),
    remove: sql("DELETE FROM record WHERE kind = ? AND id = ?"),
    endLease: sql("DELETE FROM lease WHERE id = ?"),
    remember: sql(`INSERT INTO history (revision, position, kind, id, value)
                   VALUES (?, ?, ?, ?, ?)`),
    forget: sql("DELETE FROM history WHERE revision <= ?"),
    since: sql(`SELECT revision, kind, id, value FROM history
                WHERE revision > ? AND revision <= ? ORDER BY revision, position`),
  };
}
