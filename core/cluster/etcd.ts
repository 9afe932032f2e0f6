/**
 * The cluster state in etcd (v3), for roles on several machines. A commit is one etcd transaction,
 * its revision is etcd's own, which other users of the same etcd also move forward. Lists are read
 * in pages at one revision. While etcd is away calls reject within STATE_PATIENCE_MS, and watches
 * go on where they were when it is back.
 */
import { type CheckedChange, checkChanges } from "./changes.ts";
import { EtcdClient, type EtcdClientOptions, EtcdFailure } from "./etcd-client.ts";
import { EtcdHub } from "./etcd-hub.ts";
import { EtcdKeys } from "./etcd-keys.ts";
import { EtcdLeases } from "./etcd-leases.ts";
import {
  COMPARE_TARGET,
  METHODS,
  type RequestOp,
  SORT,
  type TxnResponse,
} from "./etcd-messages.ts";
import { EtcdWatch } from "./etcd-watch.ts";
import type { Kind } from "./records.ts";
import {
  type Change,
  type ClusterState,
  type Commit,
  type Entry,
  type Lease,
  type Selection,
  StateUnavailable,
  type Watch,
} from "./state.ts";

/** Records read at once: about 1 MB and 13 ms of our CPU. */
const PAGE_COUNT_MAX = 2_000;
/** A list that takes longer than etcd keeps its history begins anew. */
const LIST_TRIES_MAX = 5;
/** Interruptions in a row before the operator is told. */
const FAILURES_TOLD = 3;
const FIRST_SEPARATOR = Buffer.from([0]);

export interface EtcdStateOptions extends EtcdClientOptions {
  /** Before every key; begins and ends with a slash. */
  readonly prefix?: string;
  /**
   * What its watches have to tell of: etcd sends nothing below the least and above the greatest of
   * their names. All kinds without.
   */
  readonly kinds?: readonly Kind[] | undefined;
  /** etcd has been away for a while. Watches go on trying; called once per trouble. */
  readonly troubled?: (error: unknown) => void;
}

type Watcher = Parameters<ClusterState["watch"]>[1];

/** Does not wait for etcd: whether it can be reached is told by the first call. */
export function openEtcdState(options: EtcdStateOptions): ClusterState {
  return new EtcdState(options);
}

class EtcdState implements ClusterState {
  readonly #client: EtcdClient;
  readonly #keys: EtcdKeys;
  readonly #leases: EtcdLeases;
  readonly #watches = new Set<EtcdWatch>();
  readonly #hub: EtcdHub = new EtcdHub(
    (fromRevision, watcher) => this.#open(fromRevision, watcher),
    (revision) => this.#isFuture(revision),
  );
  readonly #troubled: (error: unknown) => void;
  #failureCount = 0;

  constructor({
    prefix = "/memward/",
    kinds,
    troubled = (error) => process.emitWarning(error as Error),
    ...options
  }: EtcdStateOptions) {
    this.#client = new EtcdClient(options);
    this.#keys = new EtcdKeys(prefix, kinds);
    this.#leases = new EtcdLeases(this.#client);
    this.#troubled = troubled;
  }

  async get<K extends Kind>(kind: K, id: string): Promise<Entry<K> | undefined> {
    const key = this.#keys.of(kind, id);
    const { kvs } = await this.#asUnavailable(() => this.#client.read(METHODS.range, { key }));
    return this.#keys.entriesOf(kvs)[0] as Entry<K> | undefined;
  }

  async list<K extends Kind>(
    kind: K,
    selection: Selection = {},
  ): Promise<{ entries: Entry<K>[]; revision: number }> {
    const { limit = Number.POSITIVE_INFINITY, descending = false } = selection;
    const list = await this.#list(this.#keys.range(kind, selection), { limit, descending });
    return list as { entries: Entry<K>[]; revision: number };
  }

  async commit(changes: readonly Change[]): Promise<Commit> {
    this.#client.assertOpen();
    const valid = checkChanges(changes);
    if (!valid.ok) return valid;
    const { checked } = valid;
    const conditional = checked.filter(({ expected }) => expected !== undefined);
    try {
      const reply = await this.#client.write(METHODS.txn, {
        compare: conditional.map(({ kind, id, expected = 0 }) => ({
          key: this.#keys.of(kind, id),
          target: COMPARE_TARGET.mod,
          modRevision: expected,
        })),
        success: checked.map((change) => this.#operation(change)),
        failure: conditional.map(({ kind, id }) => ({
          range: { key: this.#keys.of(kind, id) },
        })),
      });
      if (reply.succeeded) return { ok: true, revision: reply.header?.revision ?? 0 };
      return conflictOf(conditional, reply);
    } catch (error) {
      if (error instanceof EtcdFailure) return this.#refusal(checked, error);
      throw error;
    }
  }

  watch(fromRevision: number, watcher: Watcher): Watch {
    this.#client.assertOpen();
    return this.#hub.watch(fromRevision, watcher);
  }

  #open(fromRevision: number, watcher: Watcher): Watch {
    const watch = new EtcdWatch({
      client: this.#client,
      keys: this.#keys,
      listAll: () => this.#list(this.#keys, { limit: Number.POSITIVE_INFINITY, descending: false }),
      isFuture: (revision) => this.#isFuture(revision),
      troubled: (error) => this.#interrupted(error),
      watcher,
      fromRevision,
    });
    this.#watches.add(watch);
    return {
      close: () => {
        this.#watches.delete(watch);
        watch.close();
      },
    };
  }

  async lease({ ttlMs }: { ttlMs: number }): Promise<Lease> {
    this.#client.assertOpen();
    return this.#asUnavailable(() => this.#leases.create(ttlMs));
  }

  async close(): Promise<void> {
    this.#leases.close();
    for (const watch of this.#watches) watch.close();
    this.#watches.clear();
    this.#client.close();
  }

  #operation({ kind, id, value, leaseId }: CheckedChange): RequestOp {
    const key = this.#keys.of(kind, id);
    if (value === null) return { deleteRange: { key } };
    const lease = leaseId === undefined ? {} : { lease: leaseId };
    return { put: { key, value: Buffer.from(JSON.stringify(value)), ...lease } };
  }

  /** What etcd will not write, told as the fault of a change. */
  #refusal(checked: readonly CheckedChange[], failure: EtcdFailure): Commit {
    const leased = checked.filter(({ leaseId }) => leaseId !== undefined);
    const ended = leased.find(({ leaseId = "" }) => !this.#leases.holds(leaseId)) ?? leased[0];
    if (failure.isLeaseGone && ended !== undefined) {
      const { kind, id } = ended;
      return { ok: false, reason: "invalid", kind, id, problems: ["lease: has ended"] };
    }
    const [first] = checked;
    if (failure.isTooLarge && first !== undefined) {
      const { kind, id } = first;
      return { ok: false, reason: "invalid", kind, id, problems: [`value: ${failure.message}`] };
    }
    throw this.#client.unavailable(failure);
  }

  async #list(
    range: { start: Buffer; end: Buffer },
    { limit, descending }: { limit: number; descending: boolean },
  ): Promise<{ entries: Entry[]; revision: number }> {
    // etcd sorts all there is for each page that descends: a whole list is turned around here.
    const isTurned = descending && limit === Number.POSITIVE_INFINITY;
    for (let tries = 1; ; tries++) {
      try {
        const list = await this.#pages(range, { limit, descending: descending && !isTurned });
        if (isTurned) list.entries.reverse();
        return list;
      } catch (error) {
        const isForgotten = error instanceof EtcdFailure && error.isCompacted;
        if (isForgotten && tries < LIST_TRIES_MAX) continue;
        throw error instanceof EtcdFailure ? this.#client.unavailable(error) : error;
      }
    }
  }

  async #pages(
    { start, end }: { start: Buffer; end: Buffer },
    { limit, descending }: { limit: number; descending: boolean },
  ): Promise<{ entries: Entry[]; revision: number }> {
    const entries: Entry[] = [];
    let revision = 0;
    let [from, until] = [start, end];
    for (;;) {
      const count = Math.max(1, Math.min(PAGE_COUNT_MAX, limit - entries.length));
      const page = await this.#client.read(METHODS.range, {
        key: from,
        rangeEnd: until,
        limit: count,
        revision,
        sortOrder: descending ? SORT.descend : SORT.none,
      });
      if (revision === 0) revision = page.header?.revision ?? 0;
      for (const entry of this.#keys.entriesOf(page.kvs)) entries.push(entry);
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined || entries.length >= limit) break;
      if (descending) until = last.key;
      else from = Buffer.concat([last.key, FIRST_SEPARATOR]);
    }
    return { entries: entries.slice(0, limit), revision };
  }

  async #isFuture(revision: number): Promise<boolean> {
    const question = { key: this.#keys.start, countOnly: true };
    const { header } = await this.#client.read(METHODS.range, question);
    return (header?.revision ?? 0) < revision;
  }

  async #asUnavailable<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw error instanceof EtcdFailure ? this.#client.unavailable(error) : error;
    }
  }

  #interrupted(error: unknown): void {
    this.#failureCount = error === undefined ? 0 : this.#failureCount + 1;
    if (this.#failureCount !== FAILURES_TOLD) return;
    const isTold = error instanceof StateUnavailable || !(error instanceof EtcdFailure);
    this.#troubled(isTold ? error : this.#client.unavailable(error));
  }
}

/** The first condition that does not hold, by what the failed transaction read in its stead. */
function conflictOf(conditional: readonly CheckedChange[], reply: TxnResponse): Commit {
  const conflicts = conditional.map(({ kind, id, expected }, index) => {
    const pair = reply.responses[index]?.range?.kvs[0];
    return { kind, id, expected, revision: pair?.modRevision ?? 0 };
  });
  const conflict = conflicts.find(({ expected, revision }) => expected !== revision);
  if (conflict === undefined) throw new Error("etcd refused a transaction that should hold");
  const { kind, id, revision } = conflict;
  return { ok: false, reason: "conflict", kind, id, revision };
}
