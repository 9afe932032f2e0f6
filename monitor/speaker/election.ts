/**
 * Which of several monitors speaks to people: the one whose record `speaker` is in the cluster
 * state. The record is leased; whoever holds it stops in time by his own monotonic clock, a second
 * before the lease could end, and every change he writes also writes the record anew on the
 * condition that it is as he left it (`fence`). So nobody who lost the office changes anything,
 * however long his process stood still.
 *
 *     listening -> campaigning -> speaking -> listening
 *
 * Where nobody can have the office, because the state does not answer or takes no changes, a monitor
 * speaks all the same, `alone`, until another one has the office or it gets it itself.
 */
import assert from "node:assert/strict";
import type { Speaker } from "../../core/cluster/incidents.ts";
import {
  type Change,
  type ClusterState,
  type Lease,
  StateUnavailable,
  type Watch,
} from "../../core/cluster/state.ts";
import { type Clock, every, type Timer } from "../../core/runtime/clock.ts";
import type { Logger } from "../../core/runtime/log.ts";

export const SPEAKER_ID = "speaker";
const TTL_MS = 5_000;
/** So long before the lease could end its holder is silent. */
const MARGIN_MS = 1_000;
/** How often the state is asked whether it answers and who speaks. */
const LOOK_INTERVAL_MS = 500;
const CHECK_INTERVAL_MS = 100;
/** Without an answer of the state for so long, the first monitor speaks all the same. */
const ALONE_AFTER_MS = 10_000;
/** The second waits so much longer, and so on: the first may be enough. */
const ALONE_STEP_MS = 5_000;

type Stance =
  | { stance: "listening" }
  | { stance: "campaigning" }
  | { stance: "speaking"; office: Office }
  | { stance: "alone" };
export type StanceName = Stance["stance"];

const LEGAL: Record<StanceName, readonly StanceName[]> = {
  listening: ["campaigning", "alone"],
  campaigning: ["speaking", "listening", "alone"],
  speaking: ["listening", "alone"],
  alone: ["listening", "speaking"],
};

/** The time in office: what a change has to carry. */
interface Office {
  readonly lease: Lease;
  readonly value: Speaker;
  revision: number;
}

export interface ElectionParts {
  readonly state: ClusterState;
  readonly log: Logger;
  readonly clock: Clock;
  /** Name of this monitor. */
  readonly name: string;
  /** A word used once, for the term. */
  newTerm(): string;
  /** Names of the monitors that are known, this one too. */
  monitors(): readonly string[];
  /** After each change of stance. What was begun in the stance before must have no effect. */
  changed(from: StanceName, to: StanceName, reason: string): void;
  /** Times are multiplied with it; tests make it small. */
  readonly timeScale?: number;
}

export class Election {
  readonly #parts: ElectionParts;
  readonly #scale: number;
  readonly #timers: Timer[] = [];
  #watch: Watch | undefined;
  #stance: Stance = { stance: "listening" };
  /** The record as it was seen last; null when there is none. */
  #seen: { monitor: string; term: string; revision: number } | null = null;
  /** What is older than this is no news. */
  #seenRevision = 0;
  /** A record of this name that was there before this process is that of its forerunner. */
  #isFirstLook = true;
  /** Who spoke last, as far as known. */
  #lastSpeaker = "";
  /** When somebody last had the office, as far as known, and could do his work. */
  #ledAtMs: number;
  /** Since when this one has the office and cannot write. */
  #failingSinceMs: number | undefined;
  #isLooking = false;
  #committing: Promise<unknown> = Promise.resolve();
  #isClosed = false;
  /** Changes that were refused because another monitor has the office. */
  fencedCount = 0;

  constructor(parts: ElectionParts) {
    this.#parts = parts;
    this.#scale = parts.timeScale ?? 1;
    this.#ledAtMs = parts.clock.nowMs();
  }

  start(): void {
    this.#timers.push(every(LOOK_INTERVAL_MS * this.#scale, () => void this.#look()));
    this.#timers.push(every(CHECK_INTERVAL_MS * this.#scale, () => this.#check()));
    void this.#look();
  }

  get stance(): StanceName {
    return this.#stance.stance;
  }

  /** Name of the monitor that speaks; "" when nobody does, as far as this one knows. */
  get speaker(): string {
    if (this.#stance.stance === "speaking") return this.#parts.name;
    return this.#seen?.monitor ?? "";
  }

  /** Of this monitor's last change as the speaker; 0 while it is not. */
  get revision(): number {
    return this.#stance.stance === "speaking" ? this.#stance.office.revision : 0;
  }

  isOwnTerm(term: string): boolean {
    return this.#stance.stance === "speaking" && this.#stance.office.value.term === term;
  }

  /** Whether what is said now has an effect: in office with time left, or alone. */
  get maySpeak(): boolean {
    if (this.#stance.stance === "alone") return true;
    return this.#stance.stance === "speaking" && this.#msLeft(this.#stance.office) > 0;
  }

  /** Ends the office, so that another monitor takes over at once. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) timer.stop();
    this.#watch?.close();
    if (this.#stance.stance === "speaking") await this.#stance.office.lease.revoke();
  }

  /**
   * Writes changes as the speaker. "fenced": another one is, and nothing was written. Rejects with
   * StateUnavailable; then the same changes may be given again, written or not.
   */
  commit(changes: readonly Change[]): Promise<"written" | "fenced"> {
    // One after the other: each needs the revision that the one before has made.
    const commit = this.#committing.then(() => this.#commit(changes));
    this.#committing = commit.catch(() => {});
    return commit;
  }

  async #commit(changes: readonly Change[]): Promise<"written" | "fenced"> {
    if (this.#stance.stance !== "speaking") return "fenced";
    const { office } = this.#stance;
    const value = { ...office.value, writes: office.value.writes + 1 };
    const { lease, revision } = office;
    const fence: Change = { kind: "speaker", id: SPEAKER_ID, value, expected: revision, lease };
    const nowMs = this.#parts.clock.nowMs();
    try {
      return await this.#write([...changes, fence], office, value);
    } catch (error) {
      if (error instanceof StateUnavailable) this.#failingSinceMs ??= nowMs;
      throw error;
    }
  }

  async #write(
    changes: readonly Change[],
    office: Office,
    value: Speaker,
  ): Promise<"written" | "fenced"> {
    const commit = await this.#parts.state.commit(changes);
    if (commit.ok) {
      this.#written(office, value, commit.revision);
      return "written";
    }
    if (commit.reason === "invalid" && commit.kind !== "speaker") {
      throw new Error(`${commit.kind} ${commit.id}: ${commit.problems.join("; ")}`);
    }
    // An answer of the state may have been lost, and these changes be written all the same.
    const found = await this.#parts.state.get("speaker", SPEAKER_ID);
    if (found?.value.term === value.term && found.value.writes === value.writes) {
      this.#written(office, value, found.revision);
      return "written";
    }
    this.fencedCount++;
    if (this.#isOffice(office)) this.#step({ stance: "listening" }, "another one has the office");
    return "fenced";
  }

  #written(office: Office, value: Speaker, revision: number): void {
    this.#failingSinceMs = undefined;
    this.#ledAtMs = this.#parts.clock.nowMs();
    if (!this.#isOffice(office)) return;
    this.#stance = { stance: "speaking", office: { lease: office.lease, value, revision } };
    this.#saw({ ...value, revision }, revision);
  }

  #isOffice(office: Office): boolean {
    return (
      this.#stance.stance === "speaking" && this.#stance.office.value.term === office.value.term
    );
  }

  #msLeft({ lease }: Office): number {
    return lease.livesUntilMs - MARGIN_MS * this.#scale - this.#parts.clock.nowMs();
  }

  async #look(): Promise<void> {
    if (this.#isLooking || this.#isClosed) return;
    this.#isLooking = true;
    const askedAtMs = this.#parts.clock.nowMs();
    try {
      const found = await this.#parts.state.get("speaker", SPEAKER_ID);
      if (found === undefined) this.#seen = null;
      else this.#saw({ ...found.value, revision: found.revision }, found.revision);
      await this.#follow();
      const isMine = found?.value.monitor === this.#parts.name;
      const isLed = found !== undefined && !(isMine && this.#failingSinceMs !== undefined);
      if (isLed) this.#ledAtMs = Math.max(this.#ledAtMs, askedAtMs);
      if (this.#stance.stance === "alone" && found !== undefined && !isMine) {
        this.#step({ stance: "listening" }, "another one has the office");
      }
      if (this.#mayCampaign) await this.#campaign();
      this.#isFirstLook = false;
    } catch (error) {
      if (!(error instanceof StateUnavailable)) throw error;
      this.#parts.log.debug({ err: error }, "the cluster state does not answer");
    } finally {
      this.#isLooking = false;
    }
  }

  /** An office that falls empty is noticed at once, not with the next look. */
  async #follow(): Promise<void> {
    if (this.#watch !== undefined) return;
    const { revision } = await this.#parts.state.list("speaker");
    this.#watch = this.#parts.state.watch(revision, {
      changed: (seen) => {
        for (const { kind, value, revision: at } of seen) {
          if (kind === "speaker") this.#saw(value && { ...value, revision: at }, at);
        }
        if (this.#mayCampaign) void this.#look();
      },
    });
  }

  #saw(found: { monitor: string; term: string; revision: number } | null, at: number): void {
    if (at < this.#seenRevision) return;
    this.#seenRevision = at;
    this.#seen = found;
    if (found !== null) this.#lastSpeaker = found.monitor;
  }

  /** The office is empty, or held by a process of this name that is no more. */
  get #mayCampaign(): boolean {
    if (this.#isClosed || !["listening", "alone"].includes(this.#stance.stance)) return false;
    if (this.#seen === null) return true;
    return this.#isFirstLook && this.#seen.monitor === this.#parts.name;
  }

  async #campaign(): Promise<void> {
    const { state, name, clock, newTerm } = this.#parts;
    if (this.#stance.stance === "listening") {
      this.#step({ stance: "campaigning" }, "the office is empty");
    }
    let lease: Lease | undefined;
    try {
      lease = await state.lease({ ttlMs: TTL_MS * this.#scale });
      const value = { monitor: name, term: newTerm(), sinceMs: clock.unixMs(), writes: 0 };
      const expected = this.#seen?.revision ?? 0;
      const record: Change = { kind: "speaker", id: SPEAKER_ID, value, expected, lease };
      const commit = await state.commit([record]);
      if (commit.ok && !this.#isClosed) {
        const { revision } = commit;
        this.#failingSinceMs = undefined;
        this.#saw({ ...value, revision }, revision);
        const office = { lease, value, revision };
        void lease.lost.then(() => {
          if (this.#isOffice(office)) this.#step({ stance: "listening" }, "the lease has ended");
        });
        this.#step({ stance: "speaking", office }, "elected");
        return;
      }
    } catch (error) {
      if (!(error instanceof StateUnavailable)) throw error;
    }
    await lease?.revoke();
    if (this.#stance.stance === "campaigning") this.#step({ stance: "listening" }, "not elected");
  }

  #check(): void {
    if (this.#isClosed) return;
    if (this.#stance.stance === "speaking") {
      const { office } = this.#stance;
      if (this.#seen !== null && this.#seen.term !== office.value.term) {
        this.#step({ stance: "listening" }, "another one has the office");
      } else if (this.#msLeft(office) <= 0) {
        void office.lease.revoke(); // Whatever comes back later begins anew.
        this.#step({ stance: "listening" }, "the lease could not be renewed");
      } else if (this.#isOverdue(this.#failingSinceMs, ALONE_AFTER_MS)) {
        void office.lease.revoke();
        this.#step({ stance: "alone" }, "the cluster state takes no changes");
      }
      return;
    }
    if (this.#stance.stance === "alone") return;
    const afterMs = ALONE_AFTER_MS + ALONE_STEP_MS * this.#place;
    if (this.#isOverdue(this.#ledAtMs, afterMs)) {
      this.#step({ stance: "alone" }, "nobody can have the office");
    }
  }

  #isOverdue(sinceMs: number | undefined, afterMs: number): boolean {
    return sinceMs !== undefined && this.#parts.clock.nowMs() - sinceMs >= afterMs * this.#scale;
  }

  /** Who spoke last goes first, for he knows most; then by name. */
  get #place(): number {
    const { name, monitors } = this.#parts;
    if (name === this.#lastSpeaker) return 0;
    const others = [...monitors()].filter((one) => one !== this.#lastSpeaker).sort();
    return Math.max(0, others.indexOf(name)) + (this.#lastSpeaker === "" ? 0 : 1);
  }

  #step(to: Stance, reason: string): void {
    const from = this.#stance.stance;
    assert(LEGAL[from].includes(to.stance), `election: ${from} -> ${to.stance}`);
    this.#stance = to;
    const level = to.stance === "alone" ? "error" : to.stance === "speaking" ? "info" : "debug";
    this.#parts.log[level]({ from, to: to.stance, reason }, "who speaks");
    this.#parts.changed(from, to.stance, reason);
  }
}
