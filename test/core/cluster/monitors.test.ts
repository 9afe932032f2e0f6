/** Every role notices a monitor that is gone or stands still. */
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { MonitorWatch, SILENT_AFTER_MS } from "../../../core/cluster/monitors.ts";
import { openSqliteState } from "../../../core/cluster/sqlite.ts";
import type { ClusterState } from "../../../core/cluster/state.ts";
import { createLog } from "../../../core/runtime/log.ts";
import { createRegistry } from "../../../core/runtime/metrics.ts";
import { ManualClock } from "../../harness/clock.ts";
import { temporaryFolder } from "../../harness/processes.ts";
import { until } from "./contract-place.ts";

let state: ClusterState;
let clock: ManualClock;
let watch: MonitorWatch;
beforeEach(() => {
  const path = join(temporaryFolder("memward-monitors"), "state.db");
  state = openSqliteState({ path, pollMs: 5 });
  clock = new ManualClock();
  watch = new MonitorWatch({ state, log: createLog({ name: "t", level: "silent" }), clock });
  watch.start();
});
afterEach(async () => {
  watch.close();
  await state.close();
});

const says = async (name: string, seenAtMs: number) => {
  const value = { pid: 1, startedAtMs: 0, seenAtMs };
  expect((await state.commit([{ kind: "monitor", id: name, value }])).ok).toBe(true);
};
const names = () => watch.silent().map(({ name }) => name);

test("a monitor that never was here is not missed", () => {
  expect(watch.aliveCount).toBe(0);
  expect(names()).toEqual([]);
});

test("one that is gone is silent, until it is back", async () => {
  await says("m1", 1);
  await says("m2", 1);
  await until(() => watch.aliveCount === 2);
  await state.commit([{ kind: "monitor", id: "m1", value: null }]);
  await until(() => watch.aliveCount === 1);
  expect(names()).toEqual(["m1"]);
  await says("m1", 2);
  await until(() => watch.aliveCount === 2);
  expect(names()).toEqual([]);
});

test("one whose record stands still is silent, though its process lives", async () => {
  await says("m1", 1);
  await until(() => watch.aliveCount === 1);
  clock.advance(SILENT_AFTER_MS + 1);
  expect(names()).toEqual(["m1"]);
  await says("m1", 2);
  await until(() => names().length === 0);
});

test("it says so on /metrics", async () => {
  const registry = createRegistry();
  watch.registerMetrics(registry);
  await says("m1", 1);
  await says("m2", 1);
  await until(() => watch.aliveCount === 2);
  await state.commit([{ kind: "monitor", id: "m2", value: null }]);
  await until(() => watch.aliveCount === 1);
  const text = await registry.metrics();
  expect(text).toContain('memward_monitors{state="alive"} 1');
  expect(text).toContain('memward_monitors{state="silent"} 1');
  expect(text).toContain('memward_monitor_silent{monitor="m2"} 1');
});
