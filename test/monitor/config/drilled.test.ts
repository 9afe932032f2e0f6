/** People who never passed a drill: a warning until their first one, then a problem. */
import { expect, test } from "vitest";
import type { Drill } from "../../../core/cluster/incidents.ts";
import { drilledOf } from "../../../monitor/config/drilled.ts";

const drill = (person: string, state: Drill["state"]) =>
  ({ person, state, purpose: "drill" }) as unknown as Drill;

test("who never had a drill is a warning, who passed none is a problem", () => {
  const drills = [
    drill("alice", "unreached"),
    drill("alice", "passed"),
    drill("bob", "unanswered"),
    drill("carol", "waiting"),
  ];
  const { warnings, problems } = drilledOf(["alice", "bob", "carol", "dave"], drills);
  expect(warnings.map(({ where }) => where)).toEqual([
    "monitor.people.carol",
    "monitor.people.dave",
  ]);
  expect(problems.map(({ where }) => where)).toEqual(["monitor.people.bob"]);
  expect(problems[0]?.message).toBe("failed every drill: memward alert test bob");
});
