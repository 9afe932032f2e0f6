/** Which incidents may be forgotten. */
import { expect, test } from "vitest";
import { outdatedIncidents } from "../../../monitor/ledger/retention.ts";

const DAY_MS = 86_400_000;
const NOW = 1_000 * DAY_MS;
const one = (number: number, resolvedAtMs: number | null, origin = "") => {
  return { [`${number}${origin}`]: { number, origin, resolvedAtMs } };
};

test("incidents go 90 days after they were over, open ones and the newest never", () => {
  const incidents = {
    ...one(1, NOW - 91 * DAY_MS),
    ...one(2, null),
    ...one(3, NOW - 89 * DAY_MS),
    ...one(4, NOW - 91 * DAY_MS),
    ...one(5, NOW - 95 * DAY_MS),
    ...one(6, NOW - 99 * DAY_MS, "m2"),
  };
  expect(outdatedIncidents(incidents, NOW).sort()).toEqual(["1", "4"]);
});

test("beyond a thousand the oldest go, a hundred at a time", () => {
  const many = Object.assign({}, ...Array.from({ length: 1_150 }, (_, at) => one(at + 1, NOW)));
  const dropped = outdatedIncidents(many, NOW);
  expect(dropped).toHaveLength(100);
  expect(dropped.map(Number).every((number) => number <= 150)).toBe(true);
});
