/**
 * Where the pager's changes go before anything is said: into the cluster state, behind the fence of
 * the election, or into the journal while this monitor speaks alone. What was written alone goes to
 * the state when that is back: as it was if nobody touched it meanwhile, else the state's word holds.
 */
import { CHANGES_MAX } from "../../core/cluster/changes.ts";
import { type Change, type ClusterState, StateUnavailable } from "../../core/cluster/state.ts";
import { type Clock, sleep } from "../../core/runtime/clock.ts";
import type { Logger } from "../../core/runtime/log.ts";
import type { PagerChange } from "../incident/types.ts";
import type { Election } from "../speaker/election.ts";
import type { DocumentKind, Documents } from "./documents.ts";
import { Journal, type JournalDocument } from "./journal.ts";

/** Beside the speaker's own record. */
const PER_COMMIT_MAX = CHANGES_MAX - 8;
const RETRY_DELAY_MS = 200;

export interface LedgerParts {
  readonly state: ClusterState;
  readonly election: Election;
  readonly documents: Documents;
  readonly clock: Clock;
  readonly log: Logger;
  readonly journalPath: string;
  /** Seconds that a write took until it was safe. */
  wrote(seconds: number): void;
}

export class Ledger {
  readonly #parts: LedgerParts;
  readonly #journal: Journal;

  /** Throws the system's error when there is a journal that cannot be read. */
  constructor(parts: LedgerParts) {
    this.#parts = parts;
    this.#journal = new Journal(parts.journalPath);
    const { tornCount, isEmpty } = this.#journal;
    if (tornCount > 0) parts.log.warn("the journal ends with half a line; it is passed over");
    if (!isEmpty) parts.log.warn("the journal holds what was not yet told to the cluster state");
  }

  get hasJournal(): boolean {
    return !this.#journal.isEmpty;
  }

  /**
   * Resolves with true when the changes are safe, so that what follows from them may be said; with
   * false when this monitor may not speak any more. Waits while the state does not answer.
   */
  async write(changes: readonly PagerChange[]): Promise<boolean> {
    const startedAtMs = this.#parts.clock.nowMs();
    const isAlone = this.#parts.election.stance === "alone";
    const isWritten = isAlone ? this.#writeDown(changes) : await this.#commitAll(changes);
    if (changes.length > 0) {
      this.#parts.wrote((this.#parts.clock.nowMs() - startedAtMs) / 1000);
    }
    return isWritten;
  }

  /** Drops incidents from the state; when it cannot, the next time is soon enough. */
  async forget(ids: readonly string[]): Promise<void> {
    const { election, documents, log } = this.#parts;
    try {
      await election.commit(ids.map((id) => ({ kind: "incident", id, value: null })));
      await documents.catchUp();
    } catch (error) {
      log.debug({ err: error }, "old incidents stay for now");
    }
  }

  /** What the journal holds lies over what the state said last: then nothing is forgotten. */
  recall(): void {
    for (const { kind, id, value, base } of this.#journal.documents) {
      this.#parts.documents.put(kind as DocumentKind, id, value, base);
    }
  }

  /**
   * Brings the journal into the state; as the speaker behind the fence, else document by document.
   * Rejects with StateUnavailable; then the journal is still there.
   */
  async merge(): Promise<void> {
    const { log, documents } = this.#parts;
    if (this.#journal.isEmpty) return;
    let lostCount = 0;
    for (const document of this.#journal.documents) {
      const found = await this.#parts.state.get(document.kind, document.id);
      // Equal when an earlier try was written and its answer lost.
      const isThere = JSON.stringify(found?.value ?? null) === JSON.stringify(document.value);
      if (isThere) continue;
      if ((found?.revision ?? 0) !== document.base) lostCount++;
      else if (!(await this.#put(document))) return;
    }
    if (lostCount > 0) log.warn({ lostCount }, "somebody else changed documents of the journal");
    this.#journal.clear();
    await documents.catchUp();
    log.info("the journal is in the cluster state now");
  }

  close(): void {
    this.#journal.close();
  }

  /** False when the office was lost on the way. */
  async #put({ kind, id, value, base }: JournalDocument): Promise<boolean> {
    const change = { kind, id, value, expected: base } as Change;
    const { election, state } = this.#parts;
    if (election.stance === "speaking") return (await election.commit([change])) === "written";
    const commit = await state.commit([change]);
    if (!commit.ok && commit.reason === "invalid") {
      this.#parts.log.error({ commit }, "a document of the journal is of no use");
    }
    return true;
  }

  #writeDown(changes: readonly PagerChange[]): boolean {
    const { documents } = this.#parts;
    const kept = changes.filter(({ kind }) => kind !== "order");
    this.#journal.append(
      kept.map(({ kind, id, value }) => {
        return { kind, id, value, base: documents.revisionOf(kind, id) };
      }),
    );
    for (const { kind, id, value } of changes) {
      documents.put(kind, id, value, documents.revisionOf(kind, id));
    }
    return true;
  }

  async #commitAll(changes: readonly PagerChange[]): Promise<boolean> {
    const { election } = this.#parts;
    if (!election.maySpeak) return false;
    for (let at = 0; at < changes.length; at += PER_COMMIT_MAX) {
      const part = changes.slice(at, at + PER_COMMIT_MAX) as Change[];
      if (!(await this.#commit(part))) return false;
    }
    // A process that stood still since may not say anything: another one may have spoken.
    return election.stance === "speaking" && election.maySpeak;
  }

  /** Tries until it is written, or until the election says that it is not ours to write. */
  async #commit(changes: readonly Change[]): Promise<boolean> {
    const { election, documents, log } = this.#parts;
    for (;;) {
      try {
        const revision = await election.commit(changes);
        if (revision === "fenced") return false;
        for (const { kind, id, value } of changes) {
          documents.put(kind as DocumentKind, id, value, election.revision);
        }
        return true;
      } catch (error) {
        if (!(error instanceof StateUnavailable)) throw error;
        log.warn({ err: error }, "an incident cannot be written; trying again");
        await sleep(RETRY_DELAY_MS);
        if (election.stance !== "speaking") return false;
      }
    }
  }
}
