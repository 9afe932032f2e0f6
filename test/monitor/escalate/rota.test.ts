import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseLocal } from "../../../monitor/config/durations.ts";
import { localOf, momentOf } from "../../../monitor/config/localTime.ts";
import type { Schedule } from "../../../monitor/config/paging.ts";
import { gapAfter, shiftAt } from "../../../monitor/escalate/rota.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const local = (text: string) => parseLocal(text) as number;
const utc = (text: string) => Date.parse(text);

const weekly: Schedule = {
  timezone: "Europe/Zurich",
  rotation: {
    startLocalMs: local("2026-01-05T09:00"),
    everyMs: 7 * DAY,
    people: ["alice", "bob", "carol"],
  },
  overrides: [
    {
      fromLocalMs: local("2026-02-01T09:00"),
      toLocalMs: local("2026-02-02T09:00"),
      person: "dave",
    },
  ],
};
const daily: Schedule = {
  timezone: "Europe/Zurich",
  rotation: {
    startLocalMs: local("2026-03-01T02:30"),
    everyMs: DAY / 2,
    people: ["alice", "bob"],
  },
  overrides: [],
};

describe("a rotation", () => {
  test.each([
    ["2026-01-05T07:59:59Z", null],
    ["2026-01-05T08:00:00Z", "alice"],
    ["2026-01-12T07:59:59Z", "alice"],
    ["2026-01-12T08:00:00Z", "bob"],
    ["2026-01-26T08:00:00Z", "alice"],
    ["2026-02-01T08:00:00Z", "dave"],
    ["2026-02-02T08:00:00Z", "bob"],
  ])("at %s: %s", (at, person) => expect(shiftAt(weekly, utc(at)).person).toBe(person));

  test("changes at nine on the wall, in winter and in summer", () => {
    for (const [before, after] of [
      ["2026-03-30T06:59:59Z", "2026-03-30T07:00:00Z"], // Clocks were set forward on the 29th.
      ["2026-10-26T07:59:59Z", "2026-10-26T08:00:00Z"], // And back on the 25th.
    ] as const) {
      expect(shiftAt(weekly, utc(before)).person).not.toBe(shiftAt(weekly, utc(after)).person);
      expect(shiftAt(weekly, utc(before)).untilMs).toBe(utc(after));
    }
  });

  test("that changes in the hour that is skipped changes an hour later that day", () => {
    expect(shiftAt(daily, utc("2026-03-29T01:00:00Z")).untilMs).toBe(utc("2026-03-29T01:30:00Z"));
    expect(shiftAt(daily, utc("2026-03-29T01:30:00Z")).untilMs).toBe(utc("2026-03-29T12:30:00Z"));
  });

  test("that changes in the hour that comes twice changes once", () => {
    expect(shiftAt(daily, utc("2026-10-25T00:00:00Z")).untilMs).toBe(utc("2026-10-25T00:30:00Z"));
    const first = shiftAt(daily, utc("2026-10-25T00:30:00Z"));
    expect(shiftAt(daily, utc("2026-10-25T01:30:00Z"))).toEqual(first);
    expect(first.untilMs).toBe(utc("2026-10-25T13:30:00Z"));
  });

  test.each([
    "Europe/Zurich",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kolkata",
    "America/St_Johns",
    "UTC",
  ])("in %s: everybody in turn, each shift ends when the next begins", (timezone) => {
    for (const everyMs of [DAY / 2, DAY, 7 * DAY]) {
      const people = ["a", "b", "c"];
      const rotation = { startLocalMs: local("2026-01-01T02:15"), everyMs, people };
      const schedule = { timezone, rotation, overrides: [] };
      let atMs = momentOf(rotation.startLocalMs, timezone);
      for (let count = 0; atMs < utc("2027-01-01T00:00:00Z"); count += 1) {
        const { person, untilMs } = shiftAt(schedule, atMs);
        expect(person).toBe(people[count % 3]);
        expect(untilMs).toBeGreaterThan(atMs + everyMs - 2 * HOUR);
        expect(untilMs).toBeLessThan(atMs + everyMs + 2 * HOUR);
        expect(shiftAt(schedule, (untilMs as number) - 1).person).toBe(person);
        atMs = untilMs as number;
      }
    }
  });
});

test("a moment's wall clock leads back to it, or to the hour's first time", () => {
  const zones = fc.constantFrom("Europe/Zurich", "America/New_York", "Pacific/Apia", "Asia/Tehran");
  const seconds = fc.integer({ min: utc("2020-01-01") / 1000, max: utc("2035-01-01") / 1000 });
  fc.assert(
    fc.property(zones, seconds, (zone, second) => {
      const moment = momentOf(localOf(second * 1000, zone), zone);
      expect([0, HOUR, HOUR / 2]).toContain(second * 1000 - moment);
    }),
    { numRuns: 500 },
  );
});

describe("a gap", () => {
  const now = utc("2026-01-01T00:00:00Z");
  const { rotation } = weekly;
  const override = (from: string, to: string) => ({
    fromLocalMs: local(from),
    toLocalMs: local(to),
    person: "dave",
  });
  test.each([
    ["nowhere once a rotation has begun", weekly, utc("2026-02-01T00:00:00Z"), undefined],
    ["until it begins", weekly, now, [now, utc("2026-01-05T08:00:00Z")]],
    ["for ever without anybody", { ...weekly, rotation: null, overrides: [] }, now, [now, null]],
    [
      "after the last override",
      { ...weekly, rotation: null, overrides: [override("2025-12-01", "2026-01-03")] },
      now,
      [utc("2026-01-02T23:00:00Z"), null],
    ],
    [
      "between an override and the rotation",
      { timezone: "UTC", rotation, overrides: [override("2025-12-01", "2026-01-03")] },
      now,
      [utc("2026-01-03T00:00:00Z"), utc("2026-01-05T09:00:00Z")],
    ],
    [
      "nowhere where overrides lead up to it",
      { timezone: "UTC", rotation, overrides: [override("2025-12-01", "2026-02-01")] },
      now,
      undefined,
    ],
  ] as const)("is %s", (_, schedule, atMs, gap) => {
    const found = gapAfter(schedule, atMs);
    expect(found === undefined ? undefined : [found.fromMs, found.toMs]).toEqual(gap);
  });
});
