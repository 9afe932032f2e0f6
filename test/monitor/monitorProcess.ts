/**
 * A monitor in a process of its own, so that it can be killed at any step: the real role on a real
 * state, but what it sees is what the test says. It kills itself (SIGKILL) around the writes that it
 * is told to. The other half of it is `monitors.ts`.
 */
import { openState } from "../../core/cluster/open.ts";
import type { ClusterState } from "../../core/cluster/state.ts";
import { createLog } from "../../core/runtime/log.ts";
import type { Condition } from "../../monitor/condition.ts";
import { startMonitor } from "../../monitor/main.ts";
import { checkMonitorSection } from "../../monitor/options.ts";
import type { MonitorOrder, MonitorSettings } from "./monitors.ts";

const settings = JSON.parse(process.argv[2] ?? "{}") as MonitorSettings;
const { name, url, statePath, dataDir, section, killAt } = settings;
const checked = checkMonitorSection({ ...section, name, probe: false }, Date.now());
if (!checked.ok) throw new Error(JSON.stringify(checked.problems));
let conditions: Condition[] = settings.conditions;
const log = createLog({ name, level: "debug", pretty: false });
const state = await openState({ url, path: statePath, troubled: () => {} });

let writeCount = 0;
const killing: ClusterState = {
  get: (kind, id) => state.get(kind, id),
  list: (kind, selection) => state.list(kind, selection),
  watch: (from, watcher) => state.watch(from, watcher),
  lease: (options) => state.lease(options),
  close: () => state.close(),
  commit: async (changes) => {
    const isIncident = changes.some(({ kind }) => kind === "incident");
    if (isIncident) writeCount++;
    if (isIncident && writeCount === killAt?.write && killAt.when === "before") die();
    const commit = await state.commit(changes);
    if (isIncident && writeCount === killAt?.write && killAt.when === "after") die();
    return commit;
  },
};

function die(): never {
  process.kill(process.pid, "SIGKILL");
  for (;;); // Nothing more is done in this turn.
}

const monitor = await startMonitor(checked.section, {
  state: killing,
  log,
  dataDir,
  eyes: {
    start: () => {},
    conditions: () => conditions,
    registerMetrics: () => {},
    close: async () => {},
  },
});
process.on("message", (order: MonitorOrder) => {
  if (order.kind === "conditions") conditions = [...order.conditions];
  else if (order.kind === "metrics") {
    void monitor.registry.metrics().then((text) => process.send?.({ kind: "metrics", text }));
  } else {
    void monitor
      .drain()
      .then(() => state.close())
      .then(() => process.exit(0));
  }
});
process.send?.({ kind: "started" });
