/** The state as monitors follow it: who left, and who is missed; a state that is away. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { openSqliteState } from "../../../core/cluster/sqlite.ts";
import type { ClusterState } from "../../../core/cluster/state.ts";
import { createLog } from "../../../core/runtime/log.ts";
import { ClusterWatch } from "../../../monitor/observe/cluster.ts";
import { until } from "../../core/io/pair.ts";
import { temporaryFolder } from "../../harness/processes.ts";

let state: ClusterState;
let watch: ClusterWatch;
beforeEach(async () => {
  state = openSqliteState({ path: `${temporaryFolder("memward-watch")}/state.db` });
  watch = new ClusterWatch({ state, log: createLog({ name: "test", level: "silent" }) });
  watch.start();
  await until("it is loaded", () => watch.isLoaded);
});
afterEach(async () => {
  watch.close();
  await state.close();
});

const proxy = (ready: boolean) => ({
  pid: 1,
  addresses: [],
  ready,
  appliedRevision: 0,
  startedAtMs: 1,
});

test("a proxy that said so has left, one that did not is missed until it is back", async () => {
  await state.commit([
    { kind: "proxy", id: "p1", value: proxy(true) },
    { kind: "proxy", id: "p2", value: proxy(true) },
  ]);
  await until("both are seen", () => watch.proxies.size === 2);
  await state.commit([{ kind: "proxy", id: "p1", value: proxy(false) }]);
  await state.commit([
    { kind: "proxy", id: "p1", value: null },
    { kind: "proxy", id: "p2", value: null },
  ]);
  await until("none is there", () => watch.proxies.size === 0);
  expect([...watch.gone.keys()]).toEqual(["proxy:p2"]);
  await state.commit([{ kind: "proxy", id: "p2", value: proxy(true) }]);
  await until("it is back", () => watch.gone.size === 0);
});

test("of credentials only those count that end and were not rotated", async () => {
  const digest = { algorithm: "sha256" as const, salt: "AAAA", hash: "AAAA" };
  const credential = { cache: "c1", digest, rights: [], createdAtMs: 1 };
  const put = (id: string, more: object) =>
    ({ kind: "credential", id, value: { ...credential, ...more } }) as const;
  await state.commit([
    put("forever", {}),
    put("ends", { expiresAtMs: 5 }),
    put("rotated", { expiresAtMs: 5, replacedBy: "forever" }),
  ]);
  await until("it is seen", () => watch.expiring.size > 0);
  expect([...watch.expiring]).toEqual([["ends", { cache: "c1", createdAtMs: 1, expiresAtMs: 5 }]]);
  await state.commit([{ kind: "credential", id: "ends", value: null }]);
  await until("it is gone", () => watch.expiring.size === 0);
});
