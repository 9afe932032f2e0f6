/** The state that remembers, over a state that can be sent away. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { Registry } from "prom-client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openRememberedState, type RememberedState } from "../../../core/cluster/remembered.ts";
import { readSnapshot } from "../../../core/cluster/snapshot.ts";
import { openSqliteState } from "../../../core/cluster/sqlite.ts";
import { type ClusterState, StateUnavailable } from "../../../core/cluster/state.ts";
import { clock } from "../../../core/runtime/clock.ts";
import { createLog } from "../../../core/runtime/log.ts";
import { temporaryFolder } from "../../harness/processes.ts";
import { until, Watcher } from "./contract-place.ts";
import { cacheChange } from "./samples.ts";

/** The state itself, and whether it answers. */
let inner: ClusterState & { isAway: boolean };
let snapshotPath = "";
let statePath = "";
const opened: ClusterState[] = [];
const log = createLog({ name: "test", level: "silent" });

beforeEach(() => {
  const folder = temporaryFolder("memward-remembered");
  snapshotPath = join(folder, "proxy-1.snapshot");
  statePath = join(folder, "state.db");
  inner = awayable();
});
afterEach(async () => {
  for (const state of opened.splice(0)) await state.close();
});

function awayable(): typeof inner {
  const state = openSqliteState({ path: statePath, pollMs: 5 });
  opened.push(state);
  const here = <A extends unknown[], R>(call: (...given: A) => Promise<R>) => {
    return async (...given: A): Promise<R> => {
      if (inner.isAway) throw new StateUnavailable("away");
      return call(...given);
    };
  };
  return {
    isAway: false,
    get: here((kind, id) => state.get(kind, id)) as ClusterState["get"],
    list: here((kind, selection) => state.list(kind, selection)) as ClusterState["list"],
    commit: here((changes) => state.commit(changes)),
    lease: here((options) => state.lease(options)),
    watch: (fromRevision, watcher) => state.watch(fromRevision, watcher),
    close: async () => {},
  };
}

async function open(): Promise<RememberedState> {
  const kinds = ["cache", "shard"] as const;
  const state = await openRememberedState({ state: inner, path: snapshotPath, kinds, log });
  opened.push(state);
  return state;
}

async function put(...ids: string[]): Promise<number> {
  const commit = await inner.commit(ids.map((id) => cacheChange(id)));
  return commit.ok ? commit.revision : -1;
}

const idsOf = async (state: ClusterState, selection = {}): Promise<string[]> =>
  (await state.list("cache", selection)).entries.map(({ id }) => id);

/** Until the snapshot on disk has these caches. */
async function remembered(...ids: string[]): Promise<void> {
  await until(async () => {
    const known = await readSnapshot(snapshotPath).catch(() => undefined);
    return String([...(known?.records.get("cache")?.keys() ?? [])]) === String(ids);
  });
}

async function metric(state: RememberedState, name: string): Promise<number | undefined> {
  const registry = new Registry();
  state.registerMetrics(registry);
  const line = (await registry.metrics()).split("\n").find((one) => one.startsWith(name));
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(" ") + 1));
}

describe("while the state answers", () => {
  test("it is asked, and what changes is remembered", async () => {
    await put("a", "b");
    const state = await open();
    expect(await idsOf(state)).toEqual(["a", "b"]);
    await remembered("a", "b");
    await inner.commit([{ kind: "cache", id: "a", value: null }]);
    await put("c");
    await remembered("b", "c");
    expect(await metric(state, 'memward_state_source{source="state"')).toBe(1);
    expect(await metric(state, "memward_state_snapshot_age_seconds")).toBe(0);
  });
});

describe("a start while the state is away", () => {
  test("goes on from the snapshot; changes are refused at once", async () => {
    const revision = await put("a", "a1", "b");
    const before = await open();
    await remembered("a", "a1", "b");
    await before.close();
    inner.isAway = true;
    const state = await open();
    expect(await state.list("cache")).toMatchObject({ revision });
    expect(await idsOf(state, { prefix: "a" })).toEqual(["a", "a1"]);
    expect(await idsOf(state, { before: "b", descending: true, limit: 1 })).toEqual(["a1"]);
    expect((await state.get("cache", "b"))?.revision).toBe(revision);
    expect(await state.get("shard", "none")).toBeUndefined();
    await expect(state.get("credential", "x")).rejects.toThrow(StateUnavailable);
    const startedAtMs = clock.nowMs();
    await expect(state.commit([cacheChange("c")])).rejects.toThrow(StateUnavailable);
    await expect(state.lease({ ttlMs: 5_000 })).rejects.toThrow(StateUnavailable);
    expect(clock.nowMs() - startedAtMs).toBeLessThan(1_000);
    expect(await metric(state, 'memward_state_source{source="snapshot"')).toBe(1);
    expect(await metric(state, "memward_state_reachable")).toBe(0);
  });

  test("catches up when it is back: what was missed is told, and remembered again", async () => {
    await put("a");
    const before = await open();
    await remembered("a");
    await before.close();
    const missed = await put("b");
    inner.isAway = true;
    const state = await open();
    const list = await state.list("cache");
    expect(list.entries.map(({ id }) => id)).toEqual(["a"]);
    const watcher = new Watcher();
    state.watch(list.revision, watcher);
    inner.isAway = false;
    await watcher.reached(missed);
    expect([...watcher.records.keys()]).toEqual(["cache b"]);
    await until(async () => (await metric(state, "memward_state_reachable")) === 1);
    expect(await idsOf(state)).toEqual(["a", "b"]);
    expect((await state.commit([cacheChange("c")])).ok).toBe(true);
    await remembered("a", "b", "c");
    expect(statSync(snapshotPath).mode & 0o777).toBe(0o600);
  });

  test("without a snapshot waits for the state", async () => {
    await put("a");
    inner.isAway = true;
    let isOpen = false;
    const opening = open().then((state) => {
      isOpen = true;
      return state;
    });
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(isOpen).toBe(false);
    inner.isAway = false;
    expect(await idsOf(await opening)).toEqual(["a"]);
  });
});
