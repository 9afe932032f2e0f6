/** What the monitor writes down without the cluster state, and finds again after any crash. */
import { appendFileSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { Journal, type JournalDocument } from "../../../monitor/ledger/journal.ts";
import { temporaryFolder } from "../../harness/processes.ts";

let path: string;
beforeEach(() => {
  path = join(temporaryFolder("memward-journal"), "monitor.journal");
});

const document = (id: string, value: unknown, base = 0): JournalDocument => {
  return { kind: "monitor", id, value, base };
};

test("a journal is found again with the last version of each document", () => {
  const journal = new Journal(path);
  expect(journal.isEmpty).toBe(true);
  journal.append([document("a", { n: 1 }, 7), document("b", { n: 2 })]);
  journal.append([document("a", { n: 3 }, 99)]);
  journal.close();
  const again = new Journal(path);
  // The base is that of the first change: what the state had when it was last there.
  expect(again.documents).toEqual([document("a", { n: 3 }, 7), document("b", { n: 2 })]);
  expect(again.tornCount).toBe(0);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("cut off at any byte it holds all whole lines, and goes on behind them", () => {
  const journal = new Journal(path);
  for (let n = 1; n <= 3; n++) journal.append([document(`d${n}`, { text: "größer\n" })]);
  journal.close();
  const whole = readFileSync(path);
  const ends = [...whole.entries()].filter(([, byte]) => byte === 0x0a).map(([at]) => at + 1);
  for (let size = 0; size < whole.length; size++) {
    writeFileSync(path, whole.subarray(0, size));
    const cut = new Journal(path);
    const count = ends.filter((end) => end <= size).length;
    expect(cut.documents).toHaveLength(count);
    cut.append([document("next", 1)]);
    cut.close();
    expect(new Journal(path).documents).toHaveLength(count + 1);
  }
});

test("a line that was damaged ends what is believed", () => {
  const journal = new Journal(path);
  journal.append([document("a", 1)]);
  journal.append([document("b", 2)]);
  journal.close();
  const bytes = readFileSync(path);
  const at = bytes.lastIndexOf(Buffer.from('"b"'));
  bytes[at + 1] = 0x63;
  writeFileSync(path, bytes);
  const again = new Journal(path);
  expect(again.documents).toEqual([document("a", 1)]);
  expect(again.tornCount).toBe(1);
});

test("what is none of ours is passed over, and nothing is lost by it", () => {
  appendFileSync(path, "not a journal\n");
  const journal = new Journal(path);
  expect(journal.isEmpty).toBe(true);
  journal.append([document("a", 1)]);
  expect(new Journal(path).documents).toEqual([document("a", 1)]);
});

test("it stays below its size by forgetting what was replaced", () => {
  const journal = new Journal(path, { sizeMax: 2_000 });
  for (let n = 0; n < 500; n++) journal.append([document(`d${n % 4}`, { n })]);
  journal.close();
  expect(statSync(path).size).toBeLessThan(2_000);
  expect(new Journal(path).documents.map(({ value }) => value)).toEqual([
    { n: 496 },
    { n: 497 },
    { n: 498 },
    { n: 499 },
  ]);
});

test("cleared it is gone, and can be used again", () => {
  const journal = new Journal(path);
  journal.append([document("a", 1)]);
  journal.clear();
  expect(journal.isEmpty).toBe(true);
  expect(new Journal(path).isEmpty).toBe(true);
  journal.append([document("b", 1)]);
  expect(new Journal(path).documents).toEqual([document("b", 1)]);
});
