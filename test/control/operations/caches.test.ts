/** What can be done to caches, and that every change and its audit record are one. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  cacheChangeInput,
  changeCache,
  createCache,
  deleteCache,
  flushCache,
  listCaches,
  resetStats,
  showCache,
} from "../../../control/operations/caches.ts";
import { createCredential } from "../../../control/operations/credentials.ts";
import { actionsOf, type Desk, OPERATOR, openDesk, problemOf, resultOf } from "./desk.ts";

const MB = 1024 ** 2;
let desk: Desk;
beforeEach(async () => {
  desk = await openDesk();
});
afterEach(() => desk.close());

const make = async (name: string, plan = "25mb") =>
  resultOf(await createCache(desk, OPERATOR, { name, plan }));
const audit = async () => (await desk.state.list("audit")).entries.map(({ value }) => value);

test("a cache of a plan has the plan's size and limits", async () => {
  const cache = await make("shop", "100mb");
  expect(cache).toMatchObject({ name: "shop", plan: "100mb", bytes: 100 * MB, enabled: true });
  expect(cache.limits.sessionsMax).toBe(500);
  expect(resultOf(showCache(desk.view, "shop"))).toEqual(cache);
  expect(resultOf(showCache(desk.view, cache.id))).toEqual(cache);
  expect(listCaches(desk).caches).toEqual([cache]);
});

test("any size is allowed, without a plan or beside it, and limits can be lifted", async () => {
  const own = resultOf(await createCache(desk, OPERATOR, { name: "own", bytes: 7 * MB }));
  expect(own).toMatchObject({ plan: "custom", bytes: 7 * MB });
  const limits = { sessionsMax: null };
  const both = await createCache(desk, OPERATOR, { name: "both", plan: "25mb", limits });
  expect(resultOf(both)).toMatchObject({ plan: "25mb", limits });
});

describe("a cache is refused", () => {
  test("with a name that is taken", async () => {
    const { revision } = await make("shop");
    const again = await createCache(desk, OPERATOR, { name: "shop", plan: "25mb" });
    expect(problemOf(again)).toMatchObject({ kind: "conflict", revision });
  });

  test("with a plan that does not exist, naming those that do", async () => {
    const problem = problemOf(await createCache(desk, OPERATOR, { name: "shop", plan: "huge" }));
    expect(problem).toMatchObject({ kind: "invalid", problems: [{ path: "plan" }] });
    expect(JSON.stringify(problem)).toContain("7.5gb");
  });

  test("without any size", async () => {
    const problem = problemOf(await createCache(desk, OPERATOR, { name: "shop" }));
    expect(problem).toMatchObject({ kind: "invalid" });
  });
});

test("of many that want the same name at the same time one gets it", async () => {
  const other = await openDesk({ path: desk.path });
  const wish = { name: "shop", plan: "25mb" };
  const outcomes = await Promise.all(
    [desk, other, desk, other, desk, other].map((one) => createCache(one, OPERATOR, wish)),
  );
  expect(outcomes.filter(({ ok }) => ok)).toHaveLength(1);
  expect((await desk.state.list("cache")).entries).toHaveLength(1);
  expect(await audit()).toHaveLength(1);
  await other.close();
});

describe("changing", () => {
  test("a plan changes size and limits, up and down", async () => {
    await make("shop");
    const up = resultOf(await changeCache(desk, OPERATOR, "shop", { plan: "1gb" }));
    expect(up).toMatchObject({ plan: "1gb", bytes: 1024 * MB, limits: { sessionsMax: 4000 } });
    const down = resultOf(await changeCache(desk, OPERATOR, "shop", { plan: "25mb" }));
    expect(down).toMatchObject({ plan: "25mb", bytes: 25 * MB, limits: { sessionsMax: 100 } });
  });

  test("a size of its own makes the plan custom and keeps the limits", async () => {
    await make("shop");
    const changed = resultOf(await changeCache(desk, OPERATOR, "shop", { bytes: 33 * MB }));
    expect(changed).toMatchObject({ plan: "custom", bytes: 33 * MB, limits: { sessionsMax: 100 } });
  });

  test("not the copies: they are as they were when it was made", async () => {
    const two = await createCache(desk, OPERATOR, { name: "two", plan: "25mb", copies: 2 });
    expect(resultOf(two)).toMatchObject({ copies: 2 });
    expect(resultOf(await changeCache(desk, OPERATOR, "two", { plan: "1gb" })).copies).toBe(2);
    expect(cacheChangeInput.safeParse({ copies: 1 }).success).toBe(false);
    expect(await make("one")).toMatchObject({ copies: 1 });
  });

  test("policies and enabled; what is as wished already writes nothing", async () => {
    const { revision } = await make("shop");
    const same = await changeCache(desk, OPERATOR, "shop", { enabled: true, plan: "25mb" });
    expect(same).toMatchObject({ ok: true, revision });
    const policies = { unansweredRead: "error" } as const;
    const off = resultOf(await changeCache(desk, OPERATOR, "shop", { enabled: false, policies }));
    expect(off).toMatchObject({ enabled: false, policies });
    resultOf(await changeCache(desk, OPERATOR, "shop", { enabled: true }));
    expect(await actionsOf(desk)).toEqual(["cache.create", "cache.change", "cache.enable"]);
  });

  test("alerts: given ones replace, null takes one away, the others stay", async () => {
    await make("shop");
    const target = "xmpp:shop@alert.example";
    await changeCache(desk, OPERATOR, "shop", { alerts: { target, hitRateMin: 0.8 } });
    const changed = resultOf(
      await changeCache(desk, OPERATOR, "shop", { alerts: { hitRateMin: null, sessionsMax: 50 } }),
    );
    expect(changed.alerts).toEqual({
      target,
      hitRateMin: null,
      memoryUsedMax: null,
      slowShareMax: null,
      errorShareMax: null,
      sessionsMax: 50,
    });
    for (const wrong of ["shop@alert.example", "xmpp:shop", "file:///etc/passwd", ""]) {
      expect(cacheChangeInput.safeParse({ alerts: { target: wrong } }).success).toBe(false);
    }
  });

  test("with a revision that is not the cache's any more: conflict with the current one", async () => {
    const { revision } = await make("shop");
    const now = resultOf(await flushCache(desk, OPERATOR, "shop")).revision;
    const late = { ...OPERATOR, ifRevision: revision };
    const outcome = await changeCache(desk, late, "shop", { plan: "1gb" });
    expect(problemOf(outcome)).toMatchObject({ kind: "conflict", revision: now });
  });

  test("at the same time from two processes: all changes are there", async () => {
    await make("shop");
    const other = await openDesk({ path: desk.path });
    const policies = { unansweredRead: "error" } as const;
    const outcomes = await Promise.all([
      changeCache(desk, OPERATOR, "shop", { plan: "1gb" }),
      changeCache(other, OPERATOR, "shop", { policies }),
      flushCache(desk, OPERATOR, "shop"),
      flushCache(other, OPERATOR, "shop"),
    ]);
    expect(outcomes.every(({ ok }) => ok)).toBe(true);
    const entry = (await desk.state.list("cache")).entries[0];
    expect(entry?.value).toMatchObject({ plan: "1gb", policies, epoch: 2 });
    await other.close();
  });
});

test("flush and reset of statistics count up what shards follow", async () => {
  const { id } = await make("shop");
  resultOf(await flushCache(desk, OPERATOR, "shop"));
  resultOf(await resetStats(desk, OPERATOR, "shop"));
  expect((await desk.state.get("cache", id))?.value).toMatchObject({ epoch: 1, statsEpoch: 1 });
});

describe("deleting", () => {
  test("takes all credentials along, however many", async () => {
    const { id } = await make("shop");
    const digest = { algorithm: "sha256", salt: "", hash: "" } as const;
    for (let batch = 0; batch < 3; batch++) {
      const value = { cache: id, digest, rights: ["read" as const], createdAtMs: 0 };
      await desk.state.commit(
        Array.from({ length: 100 }, (_, index) => ({
          kind: "credential" as const,
          id: `user-${batch}-${index}`,
          value,
        })),
      );
    }
    await desk.view.reached((await desk.state.list("cache")).revision);
    resultOf(await deleteCache(desk, OPERATOR, "shop"));
    expect((await desk.state.list("credential")).entries).toEqual([]);
    const deleted = (await audit()).flatMap(
      ({ before }) => (before as { credentials?: string[] } | null)?.credentials ?? [],
    );
    expect(new Set(deleted).size).toBe(300);
  });

  test("gives the name back; a cache made again is another one", async () => {
    const { id } = await make("shop");
    resultOf(await createCredential(desk, OPERATOR, "shop", {}));
    resultOf(await deleteCache(desk, OPERATOR, id));
    expect(problemOf(showCache(desk.view, "shop"))).toMatchObject({ kind: "notFound" });
    const again = await make("shop");
    expect(again.id).not.toBe(id);
    expect(desk.view.credentialCount(again.id)).toBe(0);
  });

  test("of what is not there says so", async () => {
    const problem = problemOf(await deleteCache(desk, OPERATOR, "nobody"));
    expect(problem).toEqual({ kind: "notFound", message: 'there is no cache "nobody"' });
  });
});

test("the audit record of a change is in its commit: who, what, from where, before, after", async () => {
  const cache = await make("shop");
  resultOf(await changeCache(desk, OPERATOR, "shop", { plan: "1gb" }));
  const entries = (await desk.state.list("audit")).entries;
  const changed = (await desk.state.get("cache", cache.id))?.revision;
  expect(entries.map(({ revision }) => revision)).toEqual([cache.revision, changed]);
  expect(entries[1]?.value).toMatchObject({
    actor: "token:tester",
    from: "192.0.2.1",
    action: "cache.change",
    cache: cache.id,
    subject: "shop",
    before: { plan: "25mb" },
    after: { plan: "1gb" },
  });
});

test("records that belong to the operation are in its commit, and can stop it", async () => {
  const order = { service: "s", plan: "p", parameters: {}, context: {}, createdAtMs: 0 };
  const also = ({ cache }: { cache: string }) => [
    { kind: "serviceInstance" as const, id: "1", expected: 0, value: { ...order, cache } },
  ];
  const context = { ...OPERATOR, also };
  const first = resultOf(await createCache(desk, context, { name: "a", plan: "25mb" }));
  const instance = await desk.state.get("serviceInstance", "1");
  expect(instance).toMatchObject({ value: { cache: first.id }, revision: first.revision });
  const second = await createCache(desk, context, { name: "b", plan: "25mb" });
  expect(problemOf(second)).toMatchObject({ kind: "conflict", revision: first.revision });
  expect(problemOf(showCache(desk.view, "b"))).toMatchObject({ kind: "notFound" });
});
