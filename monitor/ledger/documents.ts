/**
 * The pager's documents as this monitor knows them: followed in the cluster state by every monitor,
 * so that each could go on at any moment, even without the state. What was written down without it
 * (the journal) lies over what the state said last.
 */
import type { Incident, Monitor, Order } from "../../core/cluster/incidents.ts";
import type { Kind, RecordOf } from "../../core/cluster/records.ts";
import type { ClusterState, Entry, Seen, Watch } from "../../core/cluster/state.ts";
import { sleep } from "../../core/runtime/clock.ts";
import type { Logger } from "../../core/runtime/log.ts";
import type { PagerDocuments } from "../incident/types.ts";

/** Kinds whose records are the pager's memory. */
export const DOCUMENT_KINDS = ["incident", "silence", "drill", "person"] as const;
export type DocumentKind = (typeof DOCUMENT_KINDS)[number];
export const FOLLOWED_KINDS = [...DOCUMENT_KINDS, "order", "monitor"] as const satisfies Kind[];

const RETRY_DELAY_MS = 500;
/** A resolved incident may open again for ten minutes; clocks of machines differ. */
const WARM_MS_MAX = 15 * 60_000;

export interface DocumentsParts {
  readonly state: ClusterState;
  readonly log: Logger;
  /** Orders or documents changed by somebody who is not this speaker. */
  changed(what: "order" | "document"): void;
  /** Whether a record of the speaker with that term is this monitor's own. */
  isOwnTerm(term: string): boolean;
}

interface Kept<T> {
  readonly value: T;
  readonly revision: number;
}

export class Documents {
  readonly #parts: DocumentsParts;
  readonly #kept = new Map<Kind, Map<string, Kept<unknown>>>();
  #watch: Watch | undefined;
  #isClosed = false;

  constructor(parts: DocumentsParts) {
    this.#parts = parts;
    for (const kind of FOLLOWED_KINDS) this.#kept.set(kind, new Map());
  }

  /** Follows in the background; while the state is away it is tried again. */
  async start(): Promise<void> {
    while (!this.#isClosed && this.#watch === undefined) {
      try {
        const revision = await this.catchUp();
        if (this.#isClosed) return;
        this.#watch = this.#parts.state.watch(revision, {
          changed: (seen) => this.#seen(seen),
          reset: () => {
            for (const map of this.#kept.values()) map.clear();
          },
        });
      } catch (error) {
        this.#parts.log.debug({ err: error }, "records of the monitor cannot be followed yet");
        await sleep(RETRY_DELAY_MS);
      }
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#watch?.close();
  }

  /** Looks at the state itself; what is known is then at least as new. The revision of that. */
  async catchUp(): Promise<number> {
    let oldest = Number.POSITIVE_INFINITY;
    for (const kind of FOLLOWED_KINDS) {
      const { entries, revision } = await this.#parts.state.list(kind);
      oldest = Math.min(oldest, revision);
      const there = new Set(entries.map(({ id }) => id));
      const map = this.#mapOf(kind);
      for (const [id, kept] of map) {
        if (!there.has(id) && kept.revision <= revision) map.delete(id);
      }
      for (const entry of entries) this.#take(entry as Entry);
    }
    return oldest;
  }

  /** This monitor wrote it, or found it in its journal (revision as it was when it was there). */
  put(kind: DocumentKind | "order", id: string, value: unknown, revision: number): void {
    const map = this.#mapOf(kind);
    if ((map.get(id)?.revision ?? 0) > revision) return;
    if (value === null) map.delete(id);
    else map.set(id, { value, revision });
  }

  /** The revision that wrote it last, 0 if it is not there. */
  revisionOf(kind: Kind, id: string): number {
    return this.#kept.get(kind)?.get(id)?.revision ?? 0;
  }

  get orders(): ReadonlyMap<string, Kept<Order>> {
    return this.#mapOf("order") as ReadonlyMap<string, Kept<Order>>;
  }

  get monitors(): ReadonlyMap<string, Kept<Monitor>> {
    return this.#mapOf("monitor") as ReadonlyMap<string, Kept<Monitor>>;
  }

  get incidents(): Readonly<Record<string, Incident>> {
    return this.#plain("incident");
  }

  /** What can still change, and the newest incidents, so that no number is used twice. */
  forPager(unixMs: number): PagerDocuments {
    const incidents = Object.entries(this.#plain("incident"));
    const newest = new Map(incidents.map(([id, { origin }]) => [origin, id]));
    const kept = incidents.filter(([id, { resolvedAtMs, origin }]) => {
      return (
        resolvedAtMs === null || unixMs - resolvedAtMs < WARM_MS_MAX || newest.get(origin) === id
      );
    });
    return {
      incidents: Object.fromEntries(kept),
      silences: this.#plain("silence"),
      drills: this.#plain("drill"),
      people: this.#plain("person"),
    };
  }

  #plain<K extends DocumentKind>(kind: K): Record<string, RecordOf<K>> {
    const entries = [...this.#mapOf(kind)].sort(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(entries.map(([id, { value }]) => [id, value as RecordOf<K>]));
  }

  #mapOf(kind: Kind): Map<string, Kept<unknown>> {
    return this.#kept.get(kind) as Map<string, Kept<unknown>>;
  }

  #take({ kind, id, value, revision }: Entry | Seen): boolean {
    const map = this.#kept.get(kind);
    if (map === undefined || (map.get(id)?.revision ?? -1) >= revision) return false;
    if (value === null) return map.delete(id);
    map.set(id, { value, revision });
    return true;
  }

  #seen(seen: readonly Seen[]): void {
    const isOwn = seen.some(
      ({ kind, value }) => kind === "speaker" && this.#parts.isOwnTerm(value?.term ?? ""),
    );
    let hasOrder = false;
    let hasDocument = false;
    for (const one of seen) {
      const isNews = this.#take(one);
      if (isOwn || !isNews) continue;
      if (one.kind === "order") hasOrder = true;
      else if ((DOCUMENT_KINDS as readonly string[]).includes(one.kind)) hasDocument = true;
    }
    if (hasOrder) this.#parts.changed("order");
    if (hasDocument) this.#parts.changed("document");
  }
}
