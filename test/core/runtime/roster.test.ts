import { describe, expect, it } from "vitest";
import { Roster } from "../../../core/runtime/roster.ts";

describe("a roster", () => {
  it("knows who came and did not leave", () => {
    const roster = new Roster<{ name: string }>();
    const [a, b, c] = ["a", "b", "c"].map((name) => roster.add({ name }));
    roster.remove(b!);
    expect([...roster].map(({ name }) => name)).toEqual(["a", "c"]);
    expect(roster.size).toBe(2);
    roster.remove(a!);
    roster.remove(c!);
    expect([...roster]).toEqual([]);
    expect(roster.size).toBe(0);
  });

  it("gives the place of somebody who left to the next", () => {
    const roster = new Roster<{ name: string }>();
    const first = roster.add({ name: "first" });
    roster.add({ name: "second" });
    roster.remove(first);
    expect(roster.add({ name: "third" })).toBe(first);
    expect(roster.size).toBe(2);
  });

  it("lets members leave while it is gone through", () => {
    const roster = new Roster<{ place: number }>();
    const members = Array.from({ length: 5 }, () => {
      const member = { place: -1 };
      member.place = roster.add(member);
      return member;
    });
    const seen = [];
    for (const member of roster) {
      seen.push(member);
      roster.remove(member.place);
      if (member === members[1]) roster.remove(members[3]!.place);
    }
    expect(seen).toEqual([members[0], members[1], members[2], members[4]]);
    expect(roster.size).toBe(0);
  });
});
