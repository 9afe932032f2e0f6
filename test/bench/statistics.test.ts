/** What a figure is made of, and that nothing which went wrong can look like a figure. */
import { describe, expect, it } from "vitest";
import type { Counts } from "./generator.ts";
import { type Round, resultOf, type Sample, tableOf } from "./report.ts";
import type { Scenario } from "./scenarios.ts";
import { ratiosOf, spreadOf, verdictOf } from "./statistics.ts";

const counts = (cpuUs: number, wrong = 0): Counts => ({
  seconds: 1,
  operations: 1000,
  perSecond: 1000,
  p50Us: 1,
  p99Us: 2,
  p999Us: 3,
  hits: 1000,
  misses: 0,
  failures: 0,
  wrong,
  lost: 0,
  cpuUs,
  generatorCpuUs: 1,
  rssKbBefore: 0,
  rssKb: 1,
  startMs: 1,
});
const sample = (cpuUs: number, wrong = 0): Sample => ({ ok: true, counts: counts(cpuUs, wrong) });
const scenario = {
  name: "g50",
  title: "single get",
  measures: [{ metric: "cpuUs", unit: "CPU us/key", scale: 1, compare: "ratio", atMost: 1 }],
} as unknown as Scenario;

describe("statistics", () => {
  it("takes the middle one of an odd count and the mean of the middle two of an even one", () => {
    expect(spreadOf([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3 });
    expect(spreadOf([4, 1, 2, 3])).toEqual({ median: 2.5, min: 1, max: 4 });
  });

  it("pairs values of the same round", () => {
    expect(ratiosOf([1, 4], [2, 2])).toEqual([0.5, 2]);
  });

  it("meets a bar at the bar, and says so when there is none", () => {
    expect(verdictOf(1, 1)).toBe("met");
    expect(verdictOf(1.01, 1)).toBe("missed");
    expect(verdictOf(1, undefined)).toBe("no bar");
    expect(verdictOf(Number.NaN, 1)).toBe("not measured");
  });
});

describe("report", () => {
  const rounds: Round[] = [
    { subject: sample(8), peer: sample(10) },
    { subject: sample(30), peer: sample(20) },
    { subject: sample(9), peer: sample(10) },
  ];

  it("judges the median of the ratios, not the ratio of the medians", () => {
    const [figure] = resultOf(scenario, rounds).figures;
    expect(figure?.ratio).toEqual({ median: 0.9, min: 0.8, max: 1.5 });
    expect(figure?.verdict).toBe("met");
  });

  it("shows a missed bar", () => {
    const slow = [{ subject: sample(11), peer: sample(10) }];
    expect(tableOf([resultOf(scenario, slow)])).toMatch(/1\.10 \[1\.10-1\.10\] .* missed/);
  });

  it("calls a figure invalid when one reply was wrong, and says which", () => {
    const result = resultOf(scenario, [...rounds, { subject: sample(8, 2), peer: sample(10) }]);
    expect(result.figures[0]?.verdict).toBe("invalid");
    expect(tableOf([result])).toContain("! g50, round 4: 2 wrong");
  });

  it("calls a figure invalid when a load could not run", () => {
    const failed: Sample = { ok: false, problem: "connection closed" };
    const result = resultOf(scenario, [{ subject: failed, peer: sample(10) }]);
    expect(result.figures[0]?.verdict).toBe("invalid");
    expect(tableOf([result])).toContain("! g50, round 1: connection closed");
  });

  it("keeps a round whose peer failed out of the ratios", () => {
    const failed: Sample = { ok: false, problem: "connection closed" };
    const result = resultOf(scenario, [...rounds, { subject: sample(1), peer: failed }]);
    expect(result.figures[0]?.ratio?.median).toBe(0.9);
  });
});
