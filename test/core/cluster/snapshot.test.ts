import {
  appendFileSync,
  existsSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { readSnapshot, SnapshotTail, writeSnapshot } from "../../../core/cluster/snapshot.ts";
import type { Entry, Seen } from "../../../core/cluster/state.ts";
import { clock } from "../../../core/runtime/clock.ts";
import { temporaryFolder } from "../../harness/processes.ts";
import { complete, until } from "./contract-place.ts";

let path = "";
beforeEach(() => {
  path = join(temporaryFolder("memward-snapshot"), "proxy-1.snapshot");
});

const cache = (id: string, revision: number): Entry<"cache"> => {
  return { kind: "cache", id, revision, value: complete() };
};

async function append(...changes: { seen: Seen[]; revision: number }[]): Promise<void> {
  const tail = new SnapshotTail(path, () => {});
  const sizeBefore = statSync(path).size;
  for (const { seen, revision } of changes) expect(tail.append(seen, revision)).toBe(true);
  tail.close();
  await until(() => statSync(path).size > sizeBefore);
}

async function ids(): Promise<string[]> {
  return [...((await readSnapshot(path))?.records.get("cache")?.keys() ?? [])];
}

describe("a snapshot", () => {
  test("that was never written is none", async () => {
    expect(await readSnapshot(path)).toBeUndefined();
  });

  test("comes back as it was written, with its owner's rights only", async () => {
    const entries = Array.from({ length: 1_001 }, (_, index) => cache(`c${index}`, index));
    await writeSnapshot(path, { entries, revision: 900 });
    const snapshot = await readSnapshot(path);
    expect(snapshot?.revision).toBe(900);
    expect([...(snapshot?.records.get("cache")?.values() ?? [])]).toEqual(entries);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(existsSync(`${path}.new`)).toBe(false);
  });

  test("goes on with what changed since, revision by revision", async () => {
    await writeSnapshot(path, { entries: [cache("a", 1), cache("b", 2)], revision: 2 });
    await append(
      { revision: 5, seen: [{ kind: "cache", id: "a", value: null, revision: 5 }, cache("c", 5)] },
      { revision: 7, seen: [cache("d", 7)] },
    );
    expect(await ids()).toEqual(["b", "c", "d"]);
    expect((await readSnapshot(path))?.revision).toBe(7);
  });

  test("cut off in its last line is the one before that line", async () => {
    await writeSnapshot(path, { entries: [cache("a", 1)], revision: 1 });
    await append({ revision: 2, seen: [cache("b", 2)] });
    const whole = statSync(path).size;
    await append({ revision: 3, seen: [cache("c", 3), cache("d", 3)] });
    for (let size = whole; size < statSync(path).size; size += 40) {
      const text = readFileSync(path);
      truncateSync(path, size);
      expect(await ids()).toEqual(["a", "b"]);
      expect((await readSnapshot(path))?.revision).toBe(2);
      writeFileSync(path, text);
    }
    expect(await ids()).toEqual(["a", "b", "c", "d"]);
  });

  test("knows when it was last known to be true", async () => {
    await writeSnapshot(path, { entries: [], revision: 1 });
    const tail = new SnapshotTail(path, () => {});
    await tail.confirm({ ...clock, unixMs: () => 2_000_000_000_000 });
    tail.close();
    expect((await readSnapshot(path))?.trueAtMs).toBe(2_000_000_000_000);
  });

  test("of kinds from a later release is read without them", async () => {
    await writeSnapshot(path, { entries: [cache("a", 1)], revision: 1 });
    appendFileSync(path, '{"revision":2,"records":[["unheardOf","x",2,{}]]}\n');
    expect(await ids()).toEqual(["a"]);
  });

  test.each([
    "",
    "{",
    "some text\n",
    '{"memward":"snapshot","format":2,"revision":1}\n',
  ])("%j is not one", async (text) => {
    writeFileSync(path, text);
    await expect(readSnapshot(path)).rejects.toThrow("is not a snapshot");
  });
});
