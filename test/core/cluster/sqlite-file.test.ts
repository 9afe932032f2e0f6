/** What the contract cannot know: the file, its refusals, locks, the poll, the wall clock. */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { openSqliteState, type SqliteStateOptions } from "../../../core/cluster/sqlite.ts";
import { StateFileError, type StateFileReason } from "../../../core/cluster/sqlite-file.ts";
import type { ClusterState, Seen } from "../../../core/cluster/state.ts";
import { sleep } from "../../../core/runtime/clock.ts";
import { ManualClock } from "../../harness/clock.ts";
import { cacheChange } from "./samples.ts";

/** So long that within a test no poll happens: what is told was told without one. */
const NEVER_MS = 2 ** 30;

// Only hangs get here; a slow disk that syncs a thousand commits must not.
vi.setConfig({ testTimeout: 60_000 });

let folder: string;
let path: string;
const opened: ClusterState[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "memward-state-"));
  path = join(folder, "state.db");
});

afterEach(async () => {
  vi.useRealTimers();
  for (const state of opened.splice(0)) await state.close();
  rmSync(folder, { recursive: true });
});

function openState(options: Partial<SqliteStateOptions> = {}): ClusterState {
  const state = openSqliteState({ path, pollMs: 2, ...options });
  opened.push(state);
  return state;
}

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(2);
}

async function ids(state: ClusterState): Promise<string[]> {
  return (await state.list("cache")).entries.map((entry) => entry.id);
}

describe("the state file", () => {
  test("is its owner's alone, with everything that SQLite puts beside it", async () => {
    const state = openState();
    await state.commit([cacheChange("a")]);
    const modes = readdirSync(folder).map((name) => [name, statSync(join(folder, name)).mode]);
    expect(modes.map(([name]) => name)).toEqual(["state.db", "state.db-shm", "state.db-wal"]);
    for (const [name, mode] of modes) expect([name, Number(mode) & 0o777]).toEqual([name, 0o600]);
  });

  test("that others could read is closed to them", async () => {
    await openState().close();
    chmodSync(path, 0o644);
    await openState().commit([cacheChange("a")]);
    const modes = readdirSync(folder).map((name) => statSync(join(folder, name)).mode & 0o777);
    expect(modes).toEqual([0o600, 0o600, 0o600]);
  });

  test("keeps everything over a restart, revisions go on", async () => {
    const before = openState();
    await before.commit([cacheChange("a")]);
    const commit = await before.commit([cacheChange("b")]);
    await before.close();
    const after = openState();
    expect(await ids(after)).toEqual(["a", "b"]);
    const next = await after.commit([cacheChange("c")]);
    expect(commit.ok && next.ok && next.revision).toBe(commit.ok && commit.revision + 1);
  });

  test("is the only thing left after everybody closed", async () => {
    const [one, two] = [openState(), openState()];
    await one.commit([cacheChange("a")]);
    await one.close();
    await two.close();
    expect(readdirSync(folder)).toEqual(["state.db"]);
  });

  test("keeps a bounded history", async () => {
    const state = openState({ historyRevisionsMax: 10 });
    for (let count = 0; count < 50; count++) {
      await state.commit([cacheChange("a"), cacheChange("b")]);
    }
    const database = new DatabaseSync(path, { readOnly: true });
    const row = database
      .prepare("SELECT count(*) AS rows, min(revision) AS oldest FROM history")
      .get();
    database.close();
    expect({ ...row }).toEqual({ rows: 20, oldest: 41 });
  });
});

describe("a file that cannot be used is refused with one sentence", () => {
  function refusal(): StateFileError {
    try {
      openState();
    } catch (error) {
      if (error instanceof StateFileError) return error;
      throw error;
    }
    throw new Error("it was opened");
  }

  async function writeSound(): Promise<void> {
    const state = openState();
    for (let index = 0; index < 40; index++) {
      const label = "x".repeat(200);
      const digest = { algorithm: "sha256", salt: "AAAA", hash: "AAAA" } as const;
      const value = { cache: "c", digest, rights: [], primary: false, label, createdAtMs: 0 };
      await state.commit([{ kind: "credential", id: `u${index}`, value }]);
    }
    await state.close();
  }

  const cases: [string, StateFileReason, RegExp, () => void | Promise<void>][] = [
    [
      "a folder that is not there",
      "unreachable",
      /ENOENT/,
      () => rmSync(folder, { recursive: true }),
    ],
    ["a folder in its place", "unreachable", /unable to open/, () => mkdirSync(path)],
    ["a text file", "foreign", /not a database/, () => writeFileSync(path, "hello ".repeat(99))],
    ["an empty file", "foreign", /something else/, () => writeFileSync(path, "")],
    [
      "another program's database",
      "foreign",
      /something else/,
      () => {
        const database = new DatabaseSync(path);
        database.exec("CREATE TABLE recipes (id INTEGER)");
        database.close();
      },
    ],
    [
      "a file of a later Memward",
      "newer",
      /of format 99/,
      async () => {
        await writeSound();
        const database = new DatabaseSync(path);
        database.exec("PRAGMA user_version = 99");
        database.close();
      },
    ],
    [
      "a file whose middle was overwritten",
      "damaged",
      /damaged|malformed/,
      async () => {
        await writeSound();
        const bytes = readFileSync(path);
        bytes.fill(0xff, 2 * 4096);
        writeFileSync(path, bytes);
      },
    ],
    [
      "a file that was cut short",
      "damaged",
      /damaged|malformed/,
      async () => {
        await writeSound();
        truncateSync(path, 3 * 4096);
      },
    ],
  ];

  test.each(cases)("%s", async (_name, reason, detail, arrange) => {
    await arrange();
    const error = refusal();
    expect(error.reason).toBe(reason);
    expect(error.message).toMatch(detail);
    expect(error.message).toContain(path);
    expect(error.message).not.toContain("\n");
    mkdirSync(folder, { recursive: true }); // For the one case that took it away.
  });

  test("and is left as it was", async () => {
    writeFileSync(path, "my notes", { mode: 0o644 });
    expect(refusal().reason).toBe("foreign");
    expect(statSync(path).mode & 0o777).toBe(0o644);
    expect(readFileSync(path, "utf8")).toBe("my notes");
    expect(readdirSync(folder)).toEqual(["state.db"]);
  });

  test("a state that was never made complete is not there: no trace in its place", () => {
    const blocked = join(folder, "absent", "state.db");
    expect(() => openSqliteState({ path: blocked })).toThrow(StateFileError);
    expect(existsSync(blocked)).toBe(false);
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("a locked file", () => {
  function lock(): DatabaseSync {
    const other = new DatabaseSync(path);
    other.exec("BEGIN IMMEDIATE");
    return other;
  }

  test("is waited for without stopping the process; reads go on", async () => {
    const state = openState();
    await state.commit([cacheChange("a")]);
    const other = lock();
    let isDone = false;
    const commit = state.commit([cacheChange("b")]).finally(() => {
      isDone = true;
    });
    for (let turn = 0; turn < 20; turn++) {
      await nextTurn();
      expect(await ids(state)).toEqual(["a"]);
    }
    expect(isDone).toBe(false);
    other.close();
    expect(await commit).toMatchObject({ ok: true });
    expect(await ids(state)).toEqual(["a", "b"]);
  });

  test("for too long is an error that says so", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    const state = openState();
    const other = lock();
    const commit = expect(state.commit([cacheChange("a")])).rejects.toThrow("stays locked");
    await vi.advanceTimersByTimeAsync(6_000);
    await commit;
    other.close();
    expect(await ids(state)).toEqual([]);
  });

  test("does not keep a commit waiting whose state is closed", async () => {
    const state = openState();
    const other = lock();
    const commit = expect(state.commit([cacheChange("a")])).rejects.toThrow("closed");
    await state.close();
    await commit;
    other.close();
  });
});

describe("polling", () => {
  test("is not needed for one's own commits: watchers are told in the next turn", async () => {
    const state = openState({ pollMs: NEVER_MS });
    const told: number[] = [];
    state.watch(0, { changed: (_seen, revision) => told.push(revision) });
    await state.commit([cacheChange("a")]);
    await nextTurn();
    await state.commit([cacheChange("b")]);
    await nextTurn();
    expect(told).toEqual([1, 2]);
  });

  test("tells a watcher far behind in portions, all of them, in order", async () => {
    const state = openState();
    for (let count = 0; count < 1_200; count++) await state.commit([cacheChange("a")]);
    const told: number[] = [];
    let turns = 0;
    let isCounted = false;
    state.watch(0, {
      changed(_seen, revision) {
        told.push(revision);
        if (!isCounted) setImmediate(() => (isCounted = false));
        if (!isCounted) turns++;
        isCounted = true;
      },
    });
    await until(() => told.length >= 1_200);
    expect(told).toEqual(Array.from({ length: 1_200 }, (_, index) => index + 1));
    expect(turns).toBeGreaterThan(1);
  });

  test("that fails for a while is said once; watchers catch up later", async () => {
    const troubles: unknown[] = [];
    const state = openState({ troubled: (error) => troubles.push(error) });
    const told: Seen[] = [];
    state.watch(0, { changed: (seen) => told.push(...seen) });
    await state.commit([cacheChange("a")]);
    await until(() => told.length === 1);

    const other = new DatabaseSync(path);
    other.exec("ALTER TABLE history RENAME TO mislaid");
    await until(() => troubles.length > 0);
    for (let turn = 0; turn < 50; turn++) await sleep(2);
    expect(troubles).toEqual([expect.objectContaining({ message: "no such table: history" })]);
    await expect(state.commit([cacheChange("b")])).rejects.toThrow("no such table");

    other.exec("ALTER TABLE mislaid RENAME TO history");
    other.close();
    await state.commit([cacheChange("c")]);
    await until(() => told.length === 2);
    expect(told.map(({ id }) => id)).toEqual(["a", "c"]);
  });

  test("a watcher that throws is a bug, not a sick file", async () => {
    const troubles: unknown[] = [];
    const state = openState({ troubled: (error) => troubles.push(error) });
    const thrown = new Promise((resolve) => {
      process.once("uncaughtException", resolve);
    });
    const others = process.listeners("uncaughtException").slice(0, -1);
    for (const listener of others) process.off("uncaughtException", listener);
    state.watch(0, {
      changed() {
        throw new TypeError("a bug");
      },
    });
    await state.commit([cacheChange("a")]);
    expect(await thrown).toEqual(new TypeError("a bug"));
    for (const listener of others) process.on("uncaughtException", listener);
    expect(troubles).toEqual([]);
  });

  test("keeps no process alive, prints nothing, and close leaves nothing behind", () => {
    const module = new URL("../../../core/cluster/sqlite.ts", import.meta.url).href;
    const program = `
      import { openSqliteState } from ${JSON.stringify(module)};
      const before = process.getActiveResourcesInfo().length;
      const closed = openSqliteState({ path: process.argv[1] });
      closed.watch(0, { changed() {} });
      await closed.lease({ ttlMs: 60_000 });
      await closed.close();
      const left = process.getActiveResourcesInfo().length - before;
      const open = openSqliteState({ path: process.argv[1] });
      open.watch(0, { changed() {} });
      await open.lease({ ttlMs: 60_000 });
      console.log("left", left);
    `;
    const args = ["--input-type=module", "-e", program, path];
    const ended = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 30_000 });
    expect(ended).toMatchObject({ status: 0, stdout: "left 0\n", stderr: "" });
  });
});

describe("leases and the wall clock", () => {
  let time: ManualClock;

  beforeEach(() => {
    time = new ManualClock();
  });

  /** Lets every open state poll a few times. */
  async function polls(): Promise<void> {
    await sleep(20);
  }

  test("a lease that nobody renews ends exactly at its time to live", async () => {
    const holder = openState({ clock: time, pollMs: NEVER_MS });
    const reaper = openState({ clock: time });
    const lease = await holder.lease({ ttlMs: 500 });
    await holder.commit([{ ...cacheChange("a"), lease }]);
    time.advance(499);
    await polls();
    expect(await ids(reaper)).toEqual(["a"]);
    time.advance(1);
    await until(async () => (await ids(reaper)).length === 0);
  });

  test("a lease without records ends silently: no revision", async () => {
    const holder = openState({ clock: time, pollMs: NEVER_MS });
    const reaper = openState({ clock: time });
    const lease = await holder.lease({ ttlMs: 500 });
    time.advance(500);
    const late = { ...cacheChange("late"), lease };
    await until(async () => !(await reaper.commit([{ ...late, expected: 99 }])).ok);
    await polls();
    expect(await reaper.commit([late])).toMatchObject({ reason: "invalid" });
    expect((await reaper.list("cache")).revision).toBe(0);
  });

  test("a holder that polls again before anybody noticed keeps its lease", async () => {
    const holder = openState({ clock: time });
    const lease = await holder.lease({ ttlMs: 500 });
    await holder.commit([{ ...cacheChange("a"), lease }]);
    time.advance(900);
    await polls();
    expect(await ids(holder)).toEqual(["a"]);
  });

  test("leases that expire together end one revision each", async () => {
    const holder = openState({ clock: time, pollMs: NEVER_MS });
    const reaper = openState({ clock: time });
    for (const id of ["a", "b"]) {
      const lease = await holder.lease({ ttlMs: 500 });
      await holder.commit([{ ...cacheChange(id), lease }]);
    }
    const told: [number, string[]][] = [];
    reaper.watch(2, {
      changed: (seen, revision) => told.push([revision, seen.map(({ id }) => id)]),
    });
    time.advance(500);
    await until(() => told.length === 2);
    expect(told).toEqual([
      [3, ["a"]],
      [4, ["b"]],
    ]);
  });

  test.each([
    ["forward (or the machine slept)", 3_600_000],
    ["back", -3_600_000],
  ])("a clock set %s ends the leases of the dead and no others", async (_name, ms) => {
    const living = openState({ clock: time });
    const dead = openState({ clock: time, pollMs: NEVER_MS });
    const reaper = openState({ clock: time });
    const leases = [await living.lease({ ttlMs: 6_000 }), await dead.lease({ ttlMs: 6_000 })];
    await living.commit([{ ...cacheChange("living"), lease: leases[0] as never }]);
    await dead.commit([{ ...cacheChange("dead"), lease: leases[1] as never }]);
    await polls();
    time.step(ms);
    await polls();
    expect(await ids(reaper)).toEqual(["dead", "living"]);
    // A lease of the dead that was written in a past that is now a future waits for it.
    if (ms < 0) time.step(-ms);
    for (let step = 0; step < 40; step++) {
      time.advance(200);
      await polls();
    }
    expect(await ids(reaper)).toEqual(["living"]);
  });

  test("too short a time to live is a bug of the caller", async () => {
    await expect(openState().lease({ ttlMs: 99 })).rejects.toThrow("100 ms");
  });
});
