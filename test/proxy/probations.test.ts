import { describe, expect, test } from "vitest";
import type { Ejection, SuspicionReason } from "../../core/cluster/records.ts";
import { type Probation, Probations } from "../../proxy/probations.ts";

const SHARD = "c/n1";
const MINUTE_MS = 60_000;

const ejection = (serial: string, reason: SuspicionReason = "refused"): Ejection => {
  return { cache: "c", node: "n1", serial, standIns: ["n2"], reason, seenBy: ["p1"], atMs: 0 };
};

describe("how long a shard has to prove itself", () => {
  const durations = (reasons: SuspicionReason[], gapMs = 0): number[] => {
    const probations = new Probations();
    let nowMs = 0;
    return reasons.map((reason, index) => {
      nowMs += gapMs;
      probations.begin(SHARD, ejection(`s${index}`, reason), nowMs);
      const durationMs = (probations.get(SHARD)?.overAtMs ?? Number.NaN) - nowMs;
      probations.end(SHARD);
      return durationMs;
    });
  };

  test("doubles each time that it returns in vain, up to a minute", () => {
    expect(durations(Array(9).fill("refused"))).toEqual([
      ...[1_000, 2_000, 4_000, 8_000, 16_000, 32_000],
      ...[60_000, 60_000, 60_000],
    ]);
  });

  test("is forgotten after ten minutes of peace", () => {
    expect(durations(["slow", "slow", "slow"], 9 * MINUTE_MS)).toEqual([1_000, 2_000, 4_000]);
    expect(durations(["slow", "slow", "slow"], 10 * MINUTE_MS)).toEqual([1_000, 1_000, 1_000]);
  });

  test("is nothing where it only had to be emptied, the first time", () => {
    expect(durations(["unconfirmed", "unconfirmed"])).toEqual([0, 2_000]);
    expect(durations(["refused", "unconfirmed"])).toEqual([1_000, 2_000]);
  });

  test("does not begin anew because others stand in", () => {
    const probations = new Probations();
    expect(probations.begin(SHARD, ejection("a"), 100)).toBe(true);
    expect(probations.begin(SHARD, ejection("a"), 200), "known already").toBe(false);
    expect(probations.begin(SHARD, ejection("b"), 900)).toBe(true);
    expect(probations.get(SHARD)).toMatchObject({ serial: "b", overAtMs: 1_100 });
    probations.end(SHARD);
    probations.begin(SHARD, ejection("c"), 2_000);
    expect(probations.get(SHARD)?.overAtMs).toBe(4_000);
  });
});

describe("canaries", () => {
  const begun = (): { probations: Probations; probation: Probation } => {
    const probations = new Probations();
    probations.begin(SHARD, ejection("a"), 0);
    return { probations, probation: probations.get(SHARD)! };
  };
  const calm = (sentAtMs: number) => ({ sentAtMs, isStarved: false });

  test("on probation one that comes back quickly is enough, and proves nothing", () => {
    const { probations, probation } = begun();
    expect(probations.due(0)).toEqual([[SHARD, probation]]);
    expect(probation.note(null, calm(0))).toBe("probe_failed");
    expect(probation.isDue(250)).toBe(true);
    expect(probation.note(1, calm(250))).toBe("unproven");
    expect(probation.isDue(999)).toBe(false);
    expect(probation.isDue(1_000)).toBe(true);
  });

  test("three in a row prove that it is well, once it is over", () => {
    const { probation } = begun();
    const known = [900, 1_000, 1_250, 1_500].map((sentAtMs) => probation.note(1, calm(sentAtMs)));
    expect(known).toEqual(["unproven", "unproven", "unproven", "proven"]);
  });

  test("a late one, or none, begins the row anew", () => {
    const { probation } = begun();
    const known = [1, 1, 51, 1, 1, null, 1, 1, 50].map((ms) => probation.note(ms, calm(2_000)));
    expect(known).toEqual([
      ...["unproven", "unproven", "probe_failed", "unproven", "unproven"],
      ...["probe_failed", "unproven", "unproven", "proven"],
    ]);
  });

  test("on a starved machine take longer", () => {
    const { probation } = begun();
    expect(probation.note(250, { sentAtMs: 0, isStarved: true })).toBe("unproven");
    expect(probation.note(251, { sentAtMs: 0, isStarved: true })).toBe("probe_failed");
  });

  test("one at a time", () => {
    const { probations, probation } = begun();
    probation.isUnderWay = true;
    expect(probations.due(5_000)).toEqual([]);
  });
});
