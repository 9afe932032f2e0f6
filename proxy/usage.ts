/**
 * Writes the records `usage` and `lastUse` of this proxy: what changed, at most one commit a second
 * and CHANGES_MAX records each, those that wait longest first; nothing when nothing changed. Records
 * of caches and credentials that are gone are removed by the proxy that wrote them. While the
 * state is away what is to be written waits, joined, and nobody is troubled.
 */
import { CHANGES_MAX } from "../core/cluster/changes.ts";
import type { Change, ClusterState, Lease } from "../core/cluster/state.ts";
import { StateUnavailable } from "../core/cluster/state.ts";
import { type Clock, every, type Timer } from "../core/runtime/clock.ts";
import type { Logger } from "../core/runtime/log.ts";
import { type Figures, joinUsage, joinUses, type Use } from "./figures.ts";

const INTERVAL_MS = 1_000;
/** Of a cache that nobody has used here there is nothing to tell. */
const NOTHING_USED = JSON.stringify(joinUsage([]));

export interface UsageParts {
  readonly state: Pick<ClusterState, "commit" | "list">;
  readonly log: Pick<Logger, "debug">;
  readonly clock: Clock;
  readonly proxy: string;
  readonly startedAtMs: number;
  /** What `usage` is leased with; undefined while there is no lease. */
  lease(): Lease | undefined;
  /** The figures of each worker; undefined of one that is too busy to answer. */
  figures(): Promise<(Figures | undefined)[]>;
  /** Whether the cache, or the credential, still exists. */
  exists(kind: "cache" | "credential", id: string): boolean;
  /** Changes with every change of a cache or credential. */
  changeCount(): number;
}

type Subject = { kind: "usage" | "lastUse"; id: string };

export class UsageWriter {
  readonly #parts: UsageParts;
  /** By worker: the newest figures of each. */
  readonly #usage: Figures["usage"][] = [];
  readonly #uses: Map<string, Use>[] = [];
  /** What stands in the state, by kind and id: as text, to see what changed. */
  readonly #written: Record<Subject["kind"], Map<string, string>> = {
    usage: new Map(),
    lastUse: new Map(),
  };
  /** To be written, in the order in which it changed. */
  readonly #pending: Map<string, Subject> = new Map();
  #leaseId: string | undefined;
  #changeCount = -1;
  #isLoaded = false;
  #running: Promise<void> | null = null;
  #timer: Timer | null = null;

  constructor(parts: UsageParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#timer = every(INTERVAL_MS, () => {
      this.#running ??= this.write().finally(() => {
        this.#running = null;
      });
    });
  }

  /** Resolves when what was being written is written. */
  async stop(): Promise<void> {
    this.#timer?.stop();
    await this.#running;
  }

  /** One look, and one commit if something changed. Never rejects. */
  async write(): Promise<void> {
    try {
      await this.#load();
      // What waits will be told as it was seen: with more than a commit of it a look tells nothing new.
      if (this.#pending.size < CHANGES_MAX) await this.#look();
      await this.#commit();
    } catch (error) {
      if (!(error instanceof StateUnavailable)) throw error;
      this.#parts.log.debug({ err: error }, "usage not written");
    }
  }

  /** An earlier run of this proxy may have left records of what is gone by now. */
  async #load(): Promise<void> {
    if (this.#isLoaded) return;
    const { entries } = await this.#parts.state.list("lastUse");
    for (const { id } of entries) {
      const slash = id.lastIndexOf("/");
      if (id.slice(slash + 1) === this.#parts.proxy) {
        this.#written.lastUse.set(id.slice(0, slash), "");
      }
    }
    this.#isLoaded = true;
  }

  async #look(): Promise<void> {
    const figures = await this.#parts.figures();
    figures.forEach((one, worker) => {
      this.#uses[worker] ??= new Map();
      if (one === undefined) return;
      this.#usage[worker] = one.usage;
      for (const [username, use] of one.uses) {
        this.#uses[worker].set(username, use);
        this.#wants({ kind: "lastUse", id: username });
      }
    });
    this.#followLease();
    for (const id of this.#usage[0]?.keys() ?? []) {
      const before = this.#written.usage.get(id) ?? NOTHING_USED;
      if (JSON.stringify(this.#usageOf(id)) !== before) {
        this.#wants({ kind: "usage", id });
      }
    }
    this.#lookForGone();
  }

  /** What an ended lease held went with it. */
  #followLease(): void {
    const leaseId = this.#parts.lease()?.id;
    if (leaseId === this.#leaseId) return;
    this.#leaseId = leaseId;
    this.#written.usage.clear();
  }

  #lookForGone(): void {
    const changeCount = this.#parts.changeCount();
    if (changeCount === this.#changeCount) return;
    this.#changeCount = changeCount;
    for (const kind of ["usage", "lastUse"] as const) {
      for (const id of this.#written[kind].keys()) {
        if (!this.#exists({ kind, id })) this.#wants({ kind, id });
      }
    }
  }

  #wants(subject: Subject): void {
    const key = `${subject.kind} ${subject.id}`;
    if (!this.#pending.has(key)) this.#pending.set(key, subject);
  }

  async #commit(): Promise<void> {
    const { state, log } = this.#parts;
    const lease = this.#parts.lease();
    const taken = [...this.#pending].slice(0, CHANGES_MAX);
    const changes: Change[] = [];
    const done: (() => void)[] = [];
    for (const [key, subject] of taken) {
      const change = this.#changeOf(subject, lease);
      if (change === undefined) {
        this.#pending.delete(key);
        continue;
      }
      changes.push(change);
      done.push(() => this.#isWritten(key, subject, change));
    }
    if (changes.length === 0) return;
    const commit = await state.commit(changes);
    if (commit.ok) for (const note of done) note();
    else log.debug({ commit }, "usage not written");
  }

  /** Undefined if there is nothing to write, or nothing that could be leased. */
  #changeOf(subject: Subject, lease: Lease | undefined): Change | undefined {
    const { kind, id } = subject;
    const recordId = `${id}/${this.#parts.proxy}`;
    if (!this.#exists(subject)) {
      return this.#written[kind].has(id) ? { kind, id: recordId, value: null } : undefined;
    }
    if (kind === "lastUse") return { kind, id: recordId, value: this.#lastUseOf(id) };
    return lease && { kind, id: recordId, value: this.#usageOf(id), lease };
  }

  #isWritten(key: string, { kind, id }: Subject, { value }: Change): void {
    this.#pending.delete(key);
    if (value !== null) return void this.#written[kind].set(id, JSON.stringify(value));
    this.#written[kind].delete(id);
    if (kind === "lastUse") for (const uses of this.#uses) uses.delete(id);
  }

  #exists({ kind, id }: Subject): boolean {
    return this.#parts.exists(kind === "usage" ? "cache" : "credential", id);
  }

  #usageOf(id: string) {
    return joinUsage(this.#usage.flatMap((usage) => usage?.get(id) ?? []));
  }

  #lastUseOf(username: string) {
    const parts = this.#uses.flatMap((uses) => uses?.get(username) ?? []);
    return joinUses(parts, this.#parts.startedAtMs);
  }
}
