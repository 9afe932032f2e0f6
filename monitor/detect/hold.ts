/**
 * Makes conditions of findings: what was found without a break for as long as its kind asks. All
 * that is remembered is since when each finding is there; pure but for that.
 */
import { type Condition, conditionKey } from "../condition.ts";
import { type Finding, KINDS } from "./kinds.ts";

/** A finding may be missing for so long and is still the same one. */
const BREAK_MS_MAX = 1_000;
/** Told of one kind at once; the first ones by name. A flood pages nobody better. */
export const CONDITIONS_OF_KIND_MAX = 50;
const SUMMARY_LENGTH_MAX = 300;
const DETAIL_COUNT_MAX = 10;

type Held = { sinceMs: number; lastMs: number };

export class Hold {
  readonly #held = new Map<string, Held>();

  /** `nowMs` and all moments are milliseconds since 1970. */
  settle(findings: readonly Finding[], nowMs: number): Condition[] {
    const conditions: Condition[] = [];
    const told = new Map<string, number>();
    for (const finding of findings) {
      const key = conditionKey(finding);
      const held = this.#held.get(key) ?? { sinceMs: finding.sinceMs ?? nowMs, lastMs: nowMs };
      // The machine's owner may set the clock back.
      if (held.sinceMs > nowMs) held.sinceMs = nowMs;
      held.lastMs = nowMs;
      this.#held.set(key, held);
      const { holdMs } = KINDS[finding.kind];
      if (nowMs - held.sinceMs < holdMs) continue;
      const count = (told.get(finding.kind) ?? 0) + 1;
      told.set(finding.kind, count);
      if (count <= CONDITIONS_OF_KIND_MAX) conditions.push(conditionOf(finding, held.sinceMs));
    }
    for (const [key, { lastMs }] of this.#held) {
      if (Math.abs(nowMs - lastMs) > BREAK_MS_MAX) this.#held.delete(key);
    }
    return conditions;
  }
}

function conditionOf(finding: Finding, sinceMs: number): Condition {
  const { kind, subject, summary, details = [], explains = [], target } = finding;
  return {
    kind,
    subject,
    severity: KINDS[kind].severity,
    summary: summary.slice(0, SUMMARY_LENGTH_MAX),
    details: details.slice(0, DETAIL_COUNT_MAX).map((one) => one.slice(0, SUMMARY_LENGTH_MAX)),
    sinceMs,
    explains,
    ...(target === undefined ? {} : { target }),
  };
}
