/**
 * The little statistics that a paired benchmark needs: medians, spreads, and verdicts. Pure.
 */
export type Spread = { median: number; min: number; max: number };

export type Verdict = "met" | "missed" | "no bar" | "invalid" | "not measured";

/** NaN stands for "not measured" and is left out; of nothing, everything is NaN. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1] ?? Number.NaN;
  const high = sorted[Math.floor(middle)] ?? Number.NaN;
  return {
    median: (low + high) / 2,
    min: sorted[0] ?? Number.NaN,
    max: sorted.at(-1) ?? Number.NaN,
  };
}

/** Ratios are taken inside a round, where both ran seconds apart, and only then summarized. */
export function ratiosOf(subject: readonly number[], peer: readonly number[]): number[] {
  return subject.map((value, round) => value / (peer[round] ?? Number.NaN));
}

export function verdictOf(median: number, atMost: number | undefined): Verdict {
  if (Number.isNaN(median)) return "not measured";
  if (atMost === undefined) return "no bar";
  return median <= atMost ? "met" : "missed";
}
