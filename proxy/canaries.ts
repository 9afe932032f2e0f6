/**
 * Looks into a suspicion. A machine that is starved makes healthy shards look sick, so a suspicion
 * counts when canaries fail, too (for a slow shard: take long), while another shard of the cache
 * answers them: then it is not us.
 */
import type { SuspicionReason } from "../core/cluster/records.ts";
import { sleep } from "../core/runtime/clock.ts";
import { PROBE_MS_MAX } from "./routing/probe.ts";

/** A canary confirms that a shard is slow if it takes longer than this and than four of a sibling. */
const SLOW_MS = 5;
const SLOW_FACTOR = 4;
/** Siblings that are asked, too; more would say nothing new. */
const SIBLING_COUNT_MAX = 8;

/** Nobody is refused, and no reply is cut, because a machine is slow. */
const NEVER_OF_STARVATION: ReadonlySet<SuspicionReason> = new Set(["refused", "broken"]);

/** How a suspicion is looked into: so many canaries, one each `intervalMs`. */
type Look = { canaryCount: number; intervalMs: number; msMax: number };
const LOOKS: Record<"hard" | "soft", Record<"calm" | "starved", Look>> = {
  // Any answer clears it: on a starved machine a shard gets more than a second for one.
  hard: {
    calm: { canaryCount: 1, intervalMs: 0, msMax: PROBE_MS_MAX },
    starved: { canaryCount: 4, intervalMs: 200, msMax: 600 },
  },
  // Most of them have to be slow, compared with those of the siblings.
  soft: {
    calm: { canaryCount: 3, intervalMs: 50, msMax: PROBE_MS_MAX },
    starved: { canaryCount: 9, intervalMs: 200, msMax: 600 },
  },
};

export interface CanaryParts {
  /** How long a canary took at this address, in milliseconds; null if it failed or took longer. */
  probe(address: string, msMax: number): Promise<number | null>;
  /** This machine has too little CPU: whoever is late may be healthy. */
  isStarved(): boolean;
}

export class Canaries {
  readonly #parts: CanaryParts;

  constructor(parts: CanaryParts) {
    this.#parts = parts;
  }

  /** Whether the shard at `address` is as sick as it is said to be; `siblings` are addresses. */
  confirm(address: string, reason: SuspicionReason, siblings: readonly string[]): Promise<boolean> {
    const others = siblings.slice(0, SIBLING_COUNT_MAX);
    const isStarved = !NEVER_OF_STARVATION.has(reason) && this.#parts.isStarved();
    const mood = isStarved ? "starved" : "calm";
    return reason === "slow"
      ? this.#isSlower(address, others, LOOKS.soft[mood])
      : this.#isSilent(address, others, LOOKS.hard[mood]);
  }

  /** None of its canaries comes back, but one of a sibling does: nobody waits for the others. */
  async #isSilent(address: string, siblings: readonly string[], look: Look): Promise<boolean> {
    const anySibling = Promise.any(siblings.map((sibling) => this.#answer(sibling, look)));
    const [isWell, isNotUs] = await Promise.all(
      [this.#answer(address, look), anySibling].map((answer) =>
        answer.then(
          () => true,
          () => false,
        ),
      ),
    );
    return isWell === false && isNotUs === true;
  }

  /** Resolves with the first canary that comes back; rejects when none does. */
  #answer(address: string, look: Look): Promise<number> {
    const came = this.#send(address, look).map(async (canary) => {
      const durationMs = await canary;
      if (durationMs === null) throw new Error("no answer");
      return durationMs;
    });
    return Promise.any(came);
  }

  /** Most of its canaries take much longer than those of the middle one of its siblings. */
  async #isSlower(address: string, siblings: readonly string[], look: Look): Promise<boolean> {
    const [own = null, ...others] = await Promise.all(
      [address, ...siblings].map(async (one) => middleOf(await Promise.all(this.#send(one, look)))),
    );
    const usual = middleOf(others);
    if (usual === null) return false;
    return own === null || own > Math.max(SLOW_MS, SLOW_FACTOR * usual);
  }

  #send(address: string, { canaryCount, intervalMs, msMax }: Look): Promise<number | null>[] {
    return Array.from({ length: canaryCount }, async (_, index) => {
      if (index > 0) await sleep(index * intervalMs);
      return this.#parts.probe(address, msMax);
    });
  }
}

/** Of an even number the lower one; null is the largest. */
function middleOf(durationsMs: readonly (number | null)[]): number | null {
  const sorted = durationsMs.map((one) => one ?? Number.POSITIVE_INFINITY).sort((a, b) => a - b);
  const middle = sorted[(sorted.length - 1) >> 1] ?? Number.POSITIVE_INFINITY;
  return Number.isFinite(middle) ? middle : null;
}
