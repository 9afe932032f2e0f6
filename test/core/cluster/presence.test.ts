/** A role's own record: there while the role lives, whatever happens to the state. */
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Presence } from "../../../core/cluster/presence.ts";
import { openSqliteState } from "../../../core/cluster/sqlite.ts";
import { type ClusterState, type Lease, StateUnavailable } from "../../../core/cluster/state.ts";
import { createLog } from "../../../core/runtime/log.ts";
import { temporaryFolder } from "../../harness/processes.ts";
import { until } from "./contract-place.ts";

let state: ClusterState;
let isAway = false;
/** Ends the newest lease as if its holder had stood still. */
let lose: () => void = () => {};
let appliedRevision = 0;

beforeEach(() => {
  state = openSqliteState({
    path: join(temporaryFolder("memward-presence"), "state.db"),
    pollMs: 5,
  });
  isAway = false;
  appliedRevision = 0;
});
afterEach(() => state.close());

function presence(): Presence<"proxy"> {
  const guarded: ClusterState = {
    get: (kind, id) => state.get(kind, id),
    list: (kind, selection) => state.list(kind, selection),
    watch: (fromRevision, watcher) => state.watch(fromRevision, watcher),
    close: () => state.close(),
    commit: async (changes) => {
      if (isAway) throw new StateUnavailable("away");
      return state.commit(changes);
    },
    lease: async (options): Promise<Lease> => {
      if (isAway) throw new StateUnavailable("away");
      const lease = await state.lease(options);
      const { promise, resolve } = Promise.withResolvers<void>();
      lose = () => void lease.revoke().then(() => resolve());
      return { ...lease, lost: promise, revoke: () => lease.revoke() };
    },
  };
  return new Presence({
    state: guarded,
    log: createLog({ name: "test", level: "silent" }),
    kind: "proxy",
    id: "proxy-1",
    value: () => ({ pid: 1, addresses: [], ready: true, appliedRevision, startedAtMs: 0 }),
  });
}

const record = () => state.get("proxy", "proxy-1");

test("a role says that it is here, what is new, and that it goes", async () => {
  const here = presence();
  await here.publish();
  expect((await record())?.value.appliedRevision).toBe(0);
  for (appliedRevision = 1; appliedRevision < 20; appliedRevision++) void here.publish();
  await until(async () => (await record())?.value.appliedRevision === 20);
  await here.end();
  expect(await record()).toBeUndefined();
});

test("when its lease was lost, it registers again", async () => {
  const here = presence();
  await here.publish();
  lose();
  await until(async () => (await record()) === undefined);
  await until(async () => (await record()) !== undefined);
  await here.end();
  expect(await record()).toBeUndefined();
});

test("while the state is away it is not held up, and registers when it is back", async () => {
  isAway = true;
  const here = presence();
  await here.publish();
  expect(await record()).toBeUndefined();
  isAway = false;
  await until(async () => (await record()) !== undefined);
  await here.end();
});

test("told to end while the state is away, it does not come back", async () => {
  isAway = true;
  const here = presence();
  await here.publish();
  await here.end();
  isAway = false;
  await new Promise((resolve) => setTimeout(resolve, 800));
  expect(await record()).toBeUndefined();
});
