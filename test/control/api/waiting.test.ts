/** `?wait=applied`, and what happens while the cluster state is away. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { whenApplied } from "../../../control/operations/applied.ts";
import { type Change, type ClusterState, StateUnavailable } from "../../../core/cluster/state.ts";
import { openRig, type Rig } from "./rig.ts";

let rig: Rig;
let isAway = false;
const SENTENCE = "etcd does not answer";

/** A state that can be taken away; its watch goes on, as a proxy's memory does. */
function removable(state: ClusterState): ClusterState {
  return new Proxy(state, {
    get: (target, name) => {
      const value = Reflect.get(target, name) as unknown;
      if (typeof value !== "function") return value;
      const isAsking = name === "commit" || name === "list" || name === "get";
      return (...args: unknown[]) => {
        if (isAway && isAsking) return Promise.reject(new StateUnavailable(SENTENCE));
        return Reflect.apply(value, target, args) as unknown;
      };
    },
  });
}

beforeEach(async () => {
  isAway = false;
  rig = await openRig(removable);
});
afterEach(() => rig.close());

async function put(...changes: Change[]): Promise<number> {
  const commit = await rig.desk.state.commit(changes);
  if (!commit.ok) throw new Error(JSON.stringify(commit));
  await rig.desk.view.reached(commit.revision);
  return commit.revision;
}

const proxy = (id: string, appliedRevision: number): Change => ({
  kind: "proxy",
  id,
  value: { pid: 1, addresses: [`${id}:11211`], ready: true, appliedRevision, startedAtMs: 1 },
});

test("the answer comes when all live proxies have the revision, and names each with its time", async () => {
  const { revision } = (await rig.call("POST /v1/caches", { body: { name: "a", plan: "25mb" } }))
    .body;
  await put(proxy("proxy-1", 0), proxy("proxy-2", 0));
  const waiting = rig.call("POST /v1/caches/a/credentials?wait=applied", { body: {} });
  await rig.desk.view.until(() => rig.desk.view.credentials.size > 0, 1000);
  const made = [...rig.desk.view.credentials.values()][0]?.revision ?? 0;
  expect(made).toBeGreaterThan(revision);
  await put(proxy("proxy-2", made));
  await put(proxy("proxy-1", made));
  const { status, body } = await waiting;
  expect(status).toBe(201);
  expect(body.env.MEMCACHIER_SERVERS).toBe("cache.example:11211");
  expect(body.applied).toMatchObject({
    revision: made,
    missing: [],
    proxies: [
      { name: "proxy-1", appliedRevision: made },
      { name: "proxy-2", appliedRevision: made },
    ],
  });
  const [first, second] = body.applied.proxies;
  expect(first.ms).toBeGreaterThanOrEqual(second.ms);
});

test("a proxy that does not follow is named, and the change stands all the same", async () => {
  await put(proxy("proxy-1", 10_000), proxy("proxy-2", 0));
  const applied = await whenApplied(rig.desk, { revision: 50, limitMs: 20 });
  expect(applied.missing).toEqual(["proxy-2"]);
  expect(applied.proxies).toMatchObject([
    { name: "proxy-1", appliedRevision: 10_000 },
    { name: "proxy-2", appliedRevision: 0, ms: null },
  ]);
});

test("a proxy that ends is not waited for", async () => {
  await put(proxy("proxy-1", 10_000), proxy("proxy-2", 0));
  const waiting = whenApplied(rig.desk, { revision: 50 });
  await put({ kind: "proxy", id: "proxy-2", value: null });
  expect((await waiting).missing).toEqual([]);
});

test("while the state is away changes are refused in a sentence, and reads go on, marked", async () => {
  await rig.call("POST /v1/caches", { body: { name: "a", plan: "25mb" } });
  isAway = true;
  await rig.reach.ask();
  for (const line of [
    "POST /v1/caches/a/flush",
    "PATCH /v1/caches/a",
    "DELETE /v1/caches/a",
    "GET /v1/audit",
  ]) {
    const { status, body } = await rig.call(line);
    expect({ line, status }).toEqual({ line, status: 503 });
    expect(body.detail).toContain(SENTENCE);
  }
  const list = await rig.call("GET /v1/caches");
  expect(list).toMatchObject({ status: 200, body: { caches: [{ name: "a" }] } });
  expect(list.headers["memward-state-away"]).toMatch(/^\d+$/);
  expect((await rig.call("GET /v1/status")).body.stateReachable).toBe(false);
  isAway = false;
  await rig.reach.ask();
  const { headers } = await rig.call("GET /v1/caches");
  expect(headers["memward-state-away"]).toBeUndefined();
});
