/** From findings to conditions: what lasts, is told. */
import { expect, test } from "vitest";
import { CONDITIONS_OF_KIND_MAX, Hold } from "../../../monitor/detect/hold.ts";
import { type Finding, type FindingKind, KINDS } from "../../../monitor/detect/kinds.ts";

const find = (kind: FindingKind, subject = "s"): Finding => ({ kind, subject, summary: "it is" });

test("a finding is told when it has lasted as long as its kind asks", () => {
  const hold = new Hold();
  const { holdMs } = KINDS.cacheDown;
  expect(hold.settle([find("cacheDown")], 1_000)).toEqual([]);
  for (let ms = 0; ms < holdMs; ms += 500) hold.settle([find("cacheDown")], 1_000 + ms);
  const told = hold.settle([find("cacheDown")], 1_000 + holdMs);
  expect(told).toMatchObject([{ kind: "cacheDown", severity: "crit", sinceMs: 1_000 }]);
});

test("one that was away for longer than a moment begins anew", () => {
  const hold = new Hold();
  hold.settle([find("cacheDown")], 1_000);
  hold.settle([], 1_500);
  hold.settle([find("cacheDown")], 1_900);
  expect(hold.settle([find("cacheDown")], 3_000)).toHaveLength(1);
  hold.settle([], 5_000);
  expect(hold.settle([find("cacheDown")], 5_100)).toEqual([]);
});

test("a clock that is set back neither hides nor makes conditions", () => {
  const hold = new Hold();
  hold.settle([find("stateDiskFull")], 1_000_000);
  expect(hold.settle([find("stateDiskFull")], 10_000)).toEqual([]);
  for (let ms = 10_000; ms < 15_000; ms += 500) hold.settle([find("stateDiskFull")], ms);
  expect(hold.settle([find("stateDiskFull")], 15_000)).toHaveLength(1);
});

test("a flood of one kind is cut off", () => {
  const many = Array.from({ length: 200 }, (_, i) => find("shard", `c${i}/n1`));
  expect(new Hold().settle(many, 1_000)).toHaveLength(CONDITIONS_OF_KIND_MAX);
});
