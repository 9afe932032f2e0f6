/** What a proxy writes of its caches and credentials: only what changed, and nothing that is gone. */
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CHANGES_MAX } from "../../core/cluster/changes.ts";
import type { Usage } from "../../core/cluster/records.ts";
import { openSqliteState } from "../../core/cluster/sqlite.ts";
import { type ClusterState, type Lease, StateUnavailable } from "../../core/cluster/state.ts";
import type { Figures, Use } from "../../proxy/figures.ts";
import { UsageWriter } from "../../proxy/usage.ts";
import { ManualClock } from "../harness/clock.ts";
import { temporaryFolder } from "../harness/processes.ts";

const STARTED_AT_MS = 1_000;
const usageOf = (sessions: number): Usage => ({
  sessions,
  sessionsTotal: sessions,
  authCommands: sessions,
  authErrors: 0,
  bytesRead: 10 * sessions,
  bytesWritten: 20 * sessions,
});
const useOf = (sessions: number, ...addresses: string[]): Use => ({
  cache: "c1",
  lastUsedAtMs: 5_000,
  sessions,
  addresses: addresses.map((address) => ({ address, sessions: 1 })),
});

let state: ClusterState;
let lease: Lease;
beforeEach(async () => {
  state = openSqliteState({ path: join(temporaryFolder("usage"), "state.db") });
  lease = await state.lease({ ttlMs: 60_000 });
});
afterEach(() => state.close());

/** A proxy of two workers whose figures the test sets. */
class FakeProxy {
  readonly figures: Figures[] = [0, 1].map(() => ({ usage: new Map(), uses: new Map() }));
  readonly gone: Set<string> = new Set();
  commitCount = 0;
  lookCount = 0;
  isAway = false;
  lease: Lease | undefined = lease;
  changeCount = 0;
  readonly writer: UsageWriter;

  constructor() {
    this.writer = new UsageWriter({
      state: {
        list: (...args) => state.list(...args),
        commit: async (changes) => {
          if (this.isAway) throw new StateUnavailable("away");
          this.commitCount++;
          return state.commit(changes);
        },
      },
      log: { debug: () => {} },
      clock: new ManualClock(),
      proxy: "proxy-1",
      startedAtMs: STARTED_AT_MS,
      lease: () => this.lease,
      figures: async () => {
        this.lookCount++;
        const told = this.figures.map(({ usage, uses }) => ({ usage, uses: new Map(uses) }));
        for (const { uses } of this.figures) uses.clear();
        return told;
      },
      exists: (_kind, id) => !this.gone.has(id),
      changeCount: () => this.changeCount,
    });
  }

  set(worker: number, cache: string, usage: Usage): void {
    for (const { usage: all } of this.figures) if (!all.has(cache)) all.set(cache, usageOf(0));
    this.figures[worker]?.usage.set(cache, usage);
  }

  remove(id: string): void {
    this.gone.add(id);
    this.changeCount++;
    for (const { usage } of this.figures) usage.delete(id);
  }
}

const records = async (kind: "usage" | "lastUse") =>
  Object.fromEntries((await state.list(kind)).entries.map(({ id, value }) => [id, value]));

describe("figures of a proxy", () => {
  test("are gathered anew when what was seen is written, but for a last commit", async () => {
    const proxy = new FakeProxy();
    for (let cache = 0; cache < 2 * CHANGES_MAX + 10; cache++)
      proxy.set(0, `c${cache}`, usageOf(1));
    const looks: number[] = [];
    for (let second = 0; second < 4; second++) {
      await proxy.writer.write();
      looks.push(proxy.lookCount);
    }
    expect(looks).toEqual([1, 1, 2, 3]);
    expect(Object.keys(await records("usage"))).toHaveLength(2 * CHANGES_MAX + 10);
  });

  test("are those of all its workers together", async () => {
    const proxy = new FakeProxy();
    proxy.set(0, "c1", usageOf(2));
    proxy.set(1, "c1", usageOf(3));
    proxy.figures[0]?.uses.set("u", useOf(2, "10.0.0.1", "10.0.0.2"));
    proxy.figures[1]?.uses.set("u", useOf(1, "10.0.0.2"));
    await proxy.writer.write();
    expect(await records("usage")).toEqual({ "c1/proxy-1": usageOf(5) });
    expect(await records("lastUse")).toEqual({
      "u/proxy-1": {
        cache: "c1",
        lastUsedAtMs: 5_000,
        startedAtMs: STARTED_AT_MS,
        sessions: 3,
        addresses: [
          { address: "10.0.0.2", sessions: 2 },
          { address: "10.0.0.1", sessions: 1 },
        ],
      },
    });
    // A worker tells only what changed in it.
    proxy.figures[1]?.uses.set("u", useOf(0));
    await proxy.writer.write();
    expect((await records("lastUse"))["u/proxy-1"]).toMatchObject({ sessions: 2 });
  });

  test("are written when they change, and not else", async () => {
    const proxy = new FakeProxy();
    proxy.set(0, "c1", usageOf(0));
    await proxy.writer.write();
    expect(proxy.commitCount).toBe(0);
    proxy.set(0, "c1", usageOf(1));
    for (let round = 0; round < 5; round++) await proxy.writer.write();
    expect(proxy.commitCount).toBe(1);
  });

  test("of more caches than a commit holds follow in turn", async () => {
    const proxy = new FakeProxy();
    const cacheCount = CHANGES_MAX + 50;
    for (let index = 0; index < cacheCount; index++) proxy.set(0, `c${index}`, usageOf(1));
    await proxy.writer.write();
    expect(Object.keys(await records("usage"))).toHaveLength(CHANGES_MAX);
    // Those that change again do not stand in the way of those that wait.
    for (let index = 0; index < cacheCount; index++) proxy.set(0, `c${index}`, usageOf(2));
    await proxy.writer.write();
    expect(Object.keys(await records("usage"))).toHaveLength(cacheCount);
  });

  test("are removed with their cache or credential, and only then", async () => {
    const proxy = new FakeProxy();
    proxy.set(0, "c1", usageOf(1));
    proxy.set(0, "c2", usageOf(1));
    for (const name of ["u", "v"]) proxy.figures[0]?.uses.set(name, useOf(1));
    await proxy.writer.write();
    proxy.remove("c1");
    proxy.remove("u");
    await proxy.writer.write();
    expect(Object.keys(await records("usage"))).toEqual(["c2/proxy-1"]);
    expect(Object.keys(await records("lastUse"))).toEqual(["v/proxy-1"]);
    const { commitCount } = proxy;
    await proxy.writer.write();
    expect(proxy.commitCount).toBe(commitCount);
  });

  test("that an earlier run left of a credential that is gone are removed", async () => {
    const before = new FakeProxy();
    before.figures[0]?.uses.set("u", useOf(1));
    before.figures[0]?.uses.set("v", useOf(1));
    await before.writer.write();
    const after = new FakeProxy();
    after.remove("u");
    await after.writer.write();
    expect(Object.keys(await records("lastUse"))).toEqual(["v/proxy-1"]);
  });

  test("wait while the state is away, joined, and are written when it is back", async () => {
    const proxy = new FakeProxy();
    proxy.isAway = true;
    for (let count = 1; count <= 5; count++) {
      proxy.set(0, "c1", usageOf(count));
      proxy.figures[0]?.uses.set("u", useOf(count));
      await proxy.writer.write();
    }
    proxy.isAway = false;
    await proxy.writer.write();
    expect(proxy.commitCount).toBe(1);
    expect((await records("usage"))["c1/proxy-1"]).toMatchObject({ sessions: 5 });
    expect((await records("lastUse"))["u/proxy-1"]).toMatchObject({ sessions: 5 });
  });

  test("go with the lease of the proxy, and are told again under the next one", async () => {
    const proxy = new FakeProxy();
    proxy.set(0, "c1", usageOf(1));
    await proxy.writer.write();
    await lease.revoke();
    expect(await records("usage")).toEqual({});
    proxy.lease = undefined;
    await proxy.writer.write();
    proxy.lease = await state.lease({ ttlMs: 60_000 });
    await proxy.writer.write();
    expect(await records("usage")).toEqual({ "c1/proxy-1": usageOf(1) });
  });
});
