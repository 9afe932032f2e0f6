/**
 * The cluster state as every role sees it: small records with revisions, changed atomically,
 * watched by all. SQLite (one machine) and etcd (a cluster) keep the same promises, written down
 * in the contract test. Desired state lives here; no role calls another to change something.
 */
import type { Kind, RecordInput, RecordOf } from "./records.ts";

/** One record as stored. `revision` is the number of the change that wrote it last. */
export type Entry<K extends Kind = Kind> = K extends Kind
  ? { kind: K; id: string; value: RecordOf<K>; revision: number }
  : never;

/**
 * One wished change. `expected` makes it conditional on the record's revision; 0 means "must not
 * exist". With `lease` the record disappears when the lease ends.
 */
export type Change<K extends Kind = Kind> = K extends Kind
  ?
      | { kind: K; id: string; value: RecordInput<K>; expected?: number; lease?: Lease }
      | { kind: K; id: string; value: null; expected?: number }
  : never;

/** What a watcher is told: the record as it is after the change, or null when it is gone. */
export type Seen<K extends Kind = Kind> = K extends Kind
  ? { kind: K; id: string; value: RecordOf<K> | null; revision: number }
  : never;

/** On a conflict `revision` is that of the record as it is now, 0 if there is none. */
export type Commit =
  | { ok: true; revision: number }
  | { ok: false; reason: "conflict"; kind: Kind; id: string; revision: number }
  | { ok: false; reason: "invalid"; kind: Kind; id: string; problems: string[] };

/**
 * The state cannot be reached now: etcd is away, or the SQLite file stays locked. Calls reject with
 * it within STATE_PATIENCE_MS or a little more. Whether a commit that rejects so was written is not
 * known: ask again, or make it conditional. The message is fit to be shown.
 */
export class StateUnavailable extends Error {
  override readonly name = "StateUnavailable";
}

/** How long a call of the state may take before it rejects with StateUnavailable. */
export const STATE_PATIENCE_MS = 5_000;

/** A claim on being alive. `lost` resolves when it ended without `revoke`. */
export interface Lease {
  readonly id: string;
  /**
   * By this process's monotonic clock, in milliseconds: it surely lives until then. Each renewal
   * moves it on. Whoever may act only while it holds the lease stops in time by this.
   */
  readonly livesUntilMs: number;
  readonly lost: Promise<void>;
  /**
   * Ends the lease now; its records are deleted in one revision. While the state is away: no
   * longer renews it, so that it ends by itself.
   */
  revoke(): Promise<void>;
}

export interface Watch {
  close(): void;
}

/** Part of a kind. Ids are ordered by their bytes. */
export interface Selection {
  /** Ids that begin so. */
  readonly prefix?: string;
  /** Ids below this one: where the last page ended. */
  readonly before?: string;
  readonly limit?: number;
  /** From the last id to the first. */
  readonly descending?: boolean;
}

/** Every call that answers a promise rejects with StateUnavailable while the state is away. */
export interface ClusterState {
  get<K extends Kind>(kind: K, id: string): Promise<Entry<K> | undefined>;
  /** Records of a kind, by id, and the revision at which the list was true. */
  list<K extends Kind>(
    kind: K,
    selection?: Selection,
  ): Promise<{ entries: Entry<K>[]; revision: number }>;
  /**
   * All or nothing: one new revision for all changes, or none. Values are validated. Deleting
   * what is not there is no change. At most CHANGES_MAX changes (see changes.ts) at once.
   */
  commit(changes: readonly Change[]): Promise<Commit>;
  /**
   * Tells every change after `fromRevision` (of the kinds that the state was opened for), in order,
   * one call per revision, never from within this call. A watcher too far behind (history compacted) or ahead (a restored backup) gets
   * `reset` first, then every live record as a change, in one call.
   */
  watch(
    fromRevision: number,
    watcher: { changed(seen: Seen[], revision: number): void; reset?(): void },
  ): Watch;
  /** Renewed by itself until revoked or closed; ends `ttlMs` after its process died. */
  lease(options: { ttlMs: number }): Promise<Lease>;
  close(): Promise<void>;
}
