/** Values as people write and read them. */
import { describe, expect, test } from "vitest";
import { table } from "../../cli/table.ts";
import { momentForPeople, parseDuration, parseMoment, sizeForPeople } from "../../cli/values.ts";

const MB = 1024 ** 2;
const DAY_MS = 86_400_000;

test.each([
  ["0", 0],
  ["250ms", 250],
  ["90s", 90_000],
  ["10m", 600_000],
  ["1.5h", 5_400_000],
  ["7d", 7 * DAY_MS],
  ["2w", 14 * DAY_MS],
  ["", undefined],
  ["90", undefined],
  ["-1s", undefined],
  ["1y", undefined],
  ["1h30m", undefined],
  ["9999999d", undefined],
])("a duration: %j", (text, expected) => {
  expect(parseDuration(text)).toBe(expected);
});

test.each([
  ["30d", "1970-01-31T00:00:00.000Z"],
  ["2026-12-31T00:00:00Z", "2026-12-31T00:00:00.000Z"],
  ["2026-12-31T02:00+02:00", "2026-12-31T00:00:00.000Z"],
  ["2026-12-31", undefined],
  ["2026-12-31T00:00:00", undefined],
  ["2026-13-31T00:00:00Z", undefined],
  ["tomorrow", undefined],
])("a moment, at the beginning of 1970: %j", (text, expected) => {
  expect(parseMoment(text, 0)).toBe(expected);
});

test.each([
  [0, "0b"],
  [1023, "1023b"],
  [1024, "1kb"],
  [25 * MB, "25mb"],
  [2.5 * 1024 * MB, "2.5gb"],
  [1_234_567, "1.2mb"],
  [300 * MB + 1, "300mb"],
  [64 * 1024 ** 4, "64tb"],
])("a size: %d is %s", (bytes, expected) => {
  expect(sizeForPeople(bytes)).toBe(expected);
});

test.each([
  [0, "now"],
  [-999, "now"],
  [-1_000, "1 s ago"],
  [-3 * 60_000 - 59_000, "3 min ago"],
  [-26 * 3_600_000, "1 d ago"],
  [12 * DAY_MS, "in 12 d"],
  [12 * DAY_MS - 1, "in 12 d"],
  [-2_000 * DAY_MS, "2,000 d ago"],
])("a moment %d ms away is %s", (awayMs, expected) => {
  expect(momentForPeople(1e12 + awayMs, 1e12)).toBe(expected);
});

describe("a table", () => {
  const columns = [
    { title: "NAME", cell: (row: unknown) => String((row as string[])[0]) },
    { title: "SIZE", cell: (row: unknown) => String((row as string[])[1]), right: true },
  ];

  test("is aligned, with a dash where there is nothing", () => {
    const rows = [
      ["app", "25mb"],
      ["a-long-name", ""],
    ];
    expect(table(columns, rows)).toBe("NAME         SIZE\napp          25mb\na-long-name     -\n");
  });

  test("shows nothing that a terminal would obey", () => {
    const shown = table(columns, [["\u001b[31mred\u202e\n", "1"]]);
    expect(shown.split("\n")).toHaveLength(3);
    expect(shown).not.toContain("\u001b");
  });
});
