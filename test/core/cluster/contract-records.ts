/** Of the contract: reading and committing, by one process and by several. */
import { describe, expect, test } from "vitest";
import { CHANGES_MAX } from "../../../core/cluster/changes.ts";
import type { Change, Selection } from "../../../core/cluster/state.ts";
import { Child } from "./children.ts";
import { complete, type Here, Watcher } from "./contract-place.ts";
import { cacheChange, cacheValue, counterChange } from "./samples.ts";

export function recordsContract(here: Here): void {
  const { put, newest, ids, startChild } = here;

  describe("get, list and commit", () => {
    test("what was never written is not there", async () => {
      expect(await here.state.get("cache", "a")).toBeUndefined();
      expect((await here.state.list("cache")).entries).toEqual([]);
    });

    test("a committed record is read back whole, with its defaults and its revision", async () => {
      const revision = await put(cacheChange("a", { bytes: 2 ** 30, createdAtMs: 7 }));
      const entry = {
        kind: "cache",
        id: "a",
        value: {
          name: "sample",
          plan: "custom",
          bytes: 2 ** 30,
          createdAtMs: 7,
          limits: {
            sessionsMax: null,
            newSessionsPerSecondMax: null,
            operationsPerSecondMax: null,
            valueSizeMax: 2 ** 20,
          },
          policies: { unansweredRead: "miss", deadline: "fixed", singleFlight: "failover" },
          alerts: {
            hitRateMin: null,
            memoryUsedMax: null,
            slowShareMax: null,
            errorShareMax: null,
            sessionsMax: null,
            target: null,
          },
          copies: 1,
          pool: "managed",
          enabled: true,
          epoch: 0,
          statsEpoch: 0,
        },
        revision,
      };
      expect(await here.state.get("cache", "a")).toEqual(entry);
      expect(await here.state.list("cache")).toEqual({ entries: [entry], revision });
    });

    test("every kind of record comes back as it went in", async () => {
      const digest = { algorithm: "sha256", salt: "AAAA", hash: "AAAA" } as const;
      const records = [
        { kind: "cache", id: "tenant", value: complete({ enabled: false, epoch: 4 }) },
        {
          kind: "credential",
          id: "user",
          value: {
            cache: "tenant",
            digest,
            rights: ["read", "flush"],
            keyPrefix: "ns:ü:",
            expiresAtMs: 2 ** 42,
            networks: ["10.0.0.0/8", "fd00::/8"],
            primary: true,
            replacedBy: "web-2",
            label: "ünïcödé 💾 \u0000 'quoted' \"twice\"",
            createdAtMs: 1,
          },
        },
        {
          kind: "node",
          id: "node-1",
          value: { pid: 1, engine: "embedded", weight: 2, ready: true, startedAtMs: 2 ** 42 },
        },
        {
          kind: "shard",
          id: "tenant/node-1",
          value: {
            cache: "tenant",
            node: "node-1",
            address: "unix:/run/x",
            bytes: 2 ** 52,
            epoch: 0,
            flushedEpoch: 7,
            statsEpoch: 8,
            state: "fenced",
          },
        },
        {
          kind: "proxy",
          id: "proxy-1",
          value: { pid: 1, addresses: [], ready: false, appliedRevision: 0, startedAtMs: 0 },
        },
        {
          kind: "lastUse",
          id: "user/proxy-1",
          value: {
            cache: "tenant",
            lastUsedAtMs: 3,
            startedAtMs: 2,
            sessions: 5,
            addresses: [{ address: "::1", sessions: 5 }],
          },
        },
        {
          kind: "usage",
          id: "tenant/proxy-1",
          value: {
            sessions: 1,
            sessionsTotal: 2,
            authCommands: 3,
            authErrors: 4,
            bytesRead: 2 ** 50,
            bytesWritten: 0,
          },
        },
        {
          kind: "token",
          id: "operator-1",
          value: { name: "ci", role: "viewer", digest, expiresAtMs: null, createdAtMs: 0 },
        },
        {
          kind: "audit",
          id: "000000000000001-a",
          value: {
            atMs: 1,
            actor: "token:ci",
            from: "127.0.0.1",
            action: "cache.create",
            cache: "tenant",
            subject: "shop",
            before: null,
            after: { name: "shop", limits: { sessionsMax: null }, tags: ["a", 1, true] },
          },
        },
      ] as const satisfies Change[];
      await put(...records);
      for (const { kind, id, value } of records) {
        expect((await here.state.get(kind, id))?.value).toMatchObject(value);
        expect(await ids(kind)).toEqual([id]);
      }
    });

    test("a list has the records of its kind, by id", async () => {
      for (const id of ["b", "B", "a/b", "a", "10", "9"]) await put(cacheChange(id));
      await put({
        kind: "node",
        id: "node-1",
        value: { pid: 1, engine: "embedded", weight: 1, ready: true, startedAtMs: 0 },
      });
      expect(await ids()).toEqual(["10", "9", "B", "a", "a/b", "b"]);
      expect(await ids("node")).toEqual(["node-1"]);
      expect(await ids("proxy")).toEqual([]);
    });

    test("a part of a list: by prefix, below an id, at most so many, from the end", async () => {
      for (const id of ["a", "a/1", "a/2", "a/3", "a0", "b/1"]) await put(cacheChange(id));
      const ids = async (selection: Selection): Promise<string[]> =>
        (await here.state.list("cache", selection)).entries.map(({ id }) => id);
      expect(await ids({ prefix: "a/" })).toEqual(["a/1", "a/2", "a/3"]);
      expect(await ids({ prefix: "a/", limit: 2 })).toEqual(["a/1", "a/2"]);
      expect(await ids({ prefix: "a/", descending: true, limit: 2 })).toEqual(["a/3", "a/2"]);
      expect(await ids({ before: "a/2", descending: true })).toEqual(["a/1", "a"]);
      expect(await ids({ prefix: "a/", before: "a/2" })).toEqual(["a/1"]);
      expect(await ids({ prefix: "a/", before: "z" })).toEqual(["a/1", "a/2", "a/3"]);
      expect(await ids({ prefix: "c" })).toEqual([]);
      expect(await ids({ limit: 1 })).toEqual(["a"]);
    });

    test("each commit is one revision, however many changes it has", async () => {
      const base = await newest();
      expect(await put(cacheChange("a"))).toBe(base + 1);
      expect(await put(cacheChange("a"), cacheChange("b"), cacheChange("c"))).toBe(base + 2);
      expect(await put({ kind: "cache", id: "a", value: null })).toBe(base + 3);
      const { entries, revision } = await here.state.list("cache");
      expect(entries.map((entry) => entry.revision)).toEqual([base + 2, base + 2]);
      expect(revision).toBe(base + 3);
    });

    test("a commit that changes nothing makes no revision", async () => {
      const base = await put(cacheChange("a"));
      expect(await put()).toBe(base);
      expect(await put({ kind: "cache", id: "absent", value: null })).toBe(base);
      expect(await newest()).toBe(base);
    });

    test("a commit may be as large as the limit says", async () => {
      const base = await newest();
      const many = Array.from({ length: CHANGES_MAX }, (_, index) => cacheChange(`c${index}`));
      expect(await put(...many)).toBe(base + 1);
      expect(await ids()).toHaveLength(CHANGES_MAX);
    });

    test("what one connection committed, every other reads at once", async () => {
      const other = await here.place.open();
      const child = await startChild();
      const revision = await put(cacheChange("a"));
      expect((await other.get("cache", "a"))?.revision).toBe(revision);
      expect((await child.ask("list", "cache")).revision).toBe(revision);
      const commit = await child.ask("commit", [cacheChange("b")]);
      expect(commit).toEqual({ ok: true, revision: revision + 1 });
      expect(await ids()).toEqual(["a", "b"]);
    });

    test("a value read is the reader's own", async () => {
      await put(cacheChange("a"));
      const entry = await here.state.get("cache", "a");
      if (entry !== undefined) entry.value.name = "scribbled";
      expect((await here.state.get("cache", "a"))?.value.name).toBe("sample");
    });
  });

  describe("conditional commits", () => {
    test("0 means: must not exist; a conflict tells the revision of the record", async () => {
      const first = await put({ ...cacheChange("a"), expected: 0 });
      await put(cacheChange("unrelated"));
      expect(await here.state.commit([{ ...cacheChange("a"), expected: 0 }])).toEqual({
        ok: false,
        reason: "conflict",
        kind: "cache",
        id: "a",
        revision: first,
      });
    });

    test("a record changed or deleted meanwhile is a conflict", async () => {
      const first = await put(cacheChange("a"));
      const second = await put(cacheChange("a"));
      const stale = await here.state.commit([{ ...cacheChange("a"), expected: first }]);
      expect(stale).toMatchObject({ ok: false, reason: "conflict", revision: second });
      await put({ ...cacheChange("a"), expected: second });
      await put({ kind: "cache", id: "a", value: null });
      const gone = await here.state.commit([{ ...cacheChange("a"), expected: second }]);
      expect(gone).toMatchObject({ ok: false, reason: "conflict", revision: 0 });
    });

    test("a deletion can be conditional too", async () => {
      const first = await put(cacheChange("a"));
      const second = await put(cacheChange("a"));
      const deletion = { kind: "cache", id: "a", value: null } as const;
      const stale = await here.state.commit([{ ...deletion, expected: first }]);
      expect(stale).toMatchObject({ ok: false, reason: "conflict", revision: second });
      await put({ ...deletion, expected: second });
      expect(await ids()).toEqual([]);
    });

    test("all or nothing: one conflict keeps the whole batch out", async () => {
      const base = await put(cacheChange("a"), cacheChange("doomed"));
      const commit = await here.state.commit([
        cacheChange("new"),
        { kind: "cache", id: "doomed", value: null },
        { ...cacheChange("a"), expected: base + 100 },
      ]);
      expect(commit).toMatchObject({ ok: false, reason: "conflict", id: "a", revision: base });
      expect(await ids()).toEqual(["a", "doomed"]);
      expect(await newest()).toBe(base);
    });
  });

  describe("invalid commits", () => {
    test("tell every problem with its path, and write nothing", async () => {
      const base = await newest();
      const bad = { ...cacheValue(), name: "UPPER", bytes: 1 };
      const commit = await here.state.commit([
        cacheChange("fine"),
        { kind: "cache", id: "a", value: bad },
      ]);
      expect(commit).toMatchObject({ ok: false, reason: "invalid", kind: "cache", id: "a" });
      expect(!commit.ok && commit.reason === "invalid" && commit.problems).toEqual([
        expect.stringMatching(/^name: /),
        expect.stringMatching(/^bytes: /),
      ]);
      expect(await ids()).toEqual([]);
      expect(await newest()).toBe(base);
    });

    test("unknown fields, strange ids and records named twice are refused", async () => {
      const unknown = { ...cacheValue(), colour: "red" } as never;
      const refused: Change[][] = [
        [{ kind: "cache", id: "a", value: unknown }],
        [cacheChange("with space")],
        [cacheChange("")],
        [cacheChange("a"), cacheChange("a")],
      ];
      for (const changes of refused) {
        expect(await here.state.commit(changes)).toMatchObject({ ok: false, reason: "invalid" });
      }
      expect(await ids()).toEqual([]);
    });
  });

  describe("concurrency", () => {
    test("processes that open a fresh place at the same moment share it", async () => {
      const fresh = await here.makePlace();
      try {
        const opened = await Promise.all([1, 2, 3, 4].map(() => Child.start(fresh.child)));
        here.children.push(...opened);
        const commits = await Promise.all(
          opened.map((child, index) => child.ask("commit", [cacheChange(`c${index}`)])),
        );
        expect(commits.every((commit) => commit.ok)).toBe(true);
        for (const child of opened) {
          expect((await child.ask("list", "cache")).entries).toHaveLength(4);
        }
      } finally {
        for (const child of here.children.splice(0)) await child.kill();
        await fresh.remove();
      }
    });

    test("two processes that write as fast as they can lose nothing", async () => {
      const [one, two] = [await startChild(), await startChild()];
      const base = await newest();
      await Promise.all([
        one.ask("append", { prefix: "one", count: 200 }),
        two.ask("append", { prefix: "two", count: 200 }),
      ]);
      expect(await newest()).toBe(base + 400);
      expect(await ids()).toHaveLength(400);
    });

    test("three processes that count in one record by compare-and-set count right", async () => {
      await put(counterChange("counter", 0, 0));
      const counting = [await startChild(), await startChild(), await startChild()];
      await Promise.all(
        counting.map((child) => child.ask("increment", { id: "counter", count: 60 })),
      );
      expect((await here.state.get("cache", "counter"))?.value.createdAtMs).toBe(180);
    });
  });

  test("after close everything is refused and watchers are silent", async () => {
    const other = await here.place.open();
    const watcher = new Watcher();
    const base = await newest();
    other.watch(base, watcher);
    await other.close();
    await put(cacheChange("a"));
    await expect(other.get("cache", "a")).rejects.toThrow("closed");
    await expect(other.list("cache")).rejects.toThrow("closed");
    await expect(other.commit([cacheChange("b")])).rejects.toThrow("closed");
    await expect(other.lease({ ttlMs: here.place.ttlMs })).rejects.toThrow("closed");
    expect(() => other.watch(0, watcher)).toThrow("closed");
    await other.close();
    expect(watcher.told).toEqual([]);
    expect(await ids()).toEqual(["a"]);
  });
}
