/**
 * Shards that are out, as this proxy probes them: from the moment that they are empty. One is proven
 * when its canary came back quickly, several times in a row, and a while has passed, which doubles
 * each time that it returns in vain. Until then it is known whether it could return if it had to.
 */
import type { Ejection } from "../core/cluster/records.ts";

/** A canary that takes longer is no sign of health. */
const QUICK_MS = 50;
/** The same on a starved machine. */
const QUICK_STARVED_MS = 250;
const CANARIES_MIN = 3;
const PROBATION_MS_MIN = 1_000;
const PROBATION_MS_MAX = 60_000;
/** Without another ejection for so long the next one is a first one again. */
const FLAPPING_MS = 10 * 60_000;

export class Probation {
  /** Of the ejection. */
  readonly serial: string;
  readonly overAtMs: number;
  /** A canary is under way. */
  isUnderWay = false;
  /** Canaries in a row that came back quickly since it is over. */
  #goodCount = 0;
  /** The last one did. */
  #isWell = false;

  constructor(serial: string, overAtMs: number) {
    this.serial = serial;
    this.overAtMs = overAtMs;
  }

  isDue(nowMs: number): boolean {
    return !this.isUnderWay && (nowMs >= this.overAtMs || !this.#isWell);
  }

  /** What is known after a canary that was sent at `sentAtMs` and took so long; null if it failed. */
  note(
    durationMs: number | null,
    { sentAtMs, isStarved }: { sentAtMs: number; isStarved: boolean },
  ): "proven" | "unproven" | "probe_failed" {
    const quickMs = isStarved ? QUICK_STARVED_MS : QUICK_MS;
    this.#isWell = durationMs !== null && durationMs <= quickMs;
    this.#goodCount = this.#isWell && sentAtMs >= this.overAtMs ? this.#goodCount + 1 : 0;
    if (this.#goodCount >= CANARIES_MIN) return "proven";
    return this.#isWell ? "unproven" : "probe_failed";
  }
}

/** By shard id. */
export class Probations {
  readonly #running = new Map<string, Probation>();
  readonly #flaps = new Map<string, { count: number; atMs: number }>();

  get(shardId: string): Probation | undefined {
    return this.#running.get(shardId);
  }

  /** False if it is known already. */
  begin(shardId: string, { serial, reason }: Ejection, nowMs: number): boolean {
    const before = this.#running.get(shardId);
    if (before?.serial === serial) return false;
    // Other stand-ins for the same absence: the shard itself has done nothing more.
    const overAtMs = before?.overAtMs ?? nowMs + this.#durationMs(shardId, reason, nowMs);
    this.#running.set(shardId, new Probation(serial, overAtMs));
    return true;
  }

  #durationMs(shardId: string, reason: Ejection["reason"], nowMs: number): number {
    for (const [id, { atMs }] of this.#flaps) {
      if (nowMs - atMs >= FLAPPING_MS) this.#flaps.delete(id);
    }
    const count = (this.#flaps.get(shardId)?.count ?? 0) + 1;
    this.#flaps.set(shardId, { count, atMs: nowMs });
    // One that only had to be emptied has done nothing wrong yet.
    if (reason === "unconfirmed" && count === 1) return 0;
    return Math.min(PROBATION_MS_MAX, PROBATION_MS_MIN * 2 ** (count - 1));
  }

  end(shardId: string): void {
    this.#running.delete(shardId);
  }

  clear(): void {
    this.#running.clear();
  }

  /** Those that are to be sent a canary now. */
  due(nowMs: number): [shardId: string, Probation][] {
    return [...this.#running].filter(([, probation]) => probation.isDue(nowMs));
  }
}
