/** Of the contract: what watchers are told, and in which order. */
import { describe, expect, test } from "vitest";
import type { Seen } from "../../../core/cluster/state.ts";
import { complete, type Here, until, Watcher } from "./contract-place.ts";
import { cacheChange } from "./samples.ts";

export function watchingContract(here: Here): void {
  const { put, newest, ids, startChild } = here;

  describe("watching", () => {
    test("tells changes in order, one call per revision, as they became", async () => {
      const watcher = new Watcher();
      here.state.watch(await newest(), watcher);
      const first = await put(cacheChange("a"), cacheChange("b"));
      const second = await put(cacheChange("a", { bytes: 2 ** 21 }));
      const third = await put({ kind: "cache", id: "b", value: null }, cacheChange("c"));
      await watcher.reached(third);
      expect(watcher.revisions).toEqual([first, second, third]);
      expect(watcher.told.map(({ seen }) => seen)).toEqual([
        [
          { kind: "cache", id: "a", value: complete(), revision: first },
          { kind: "cache", id: "b", value: complete(), revision: first },
        ],
        [{ kind: "cache", id: "a", value: complete({ bytes: 2 ** 21 }), revision: second }],
        [
          { kind: "cache", id: "b", value: null, revision: third },
          { kind: "cache", id: "c", value: complete(), revision: third },
        ],
      ]);
      expect(watcher.resetCount).toBe(0);
    });

    test("from an older revision begins with the history after it", async () => {
      const first = await put(cacheChange("a"));
      const second = await put(cacheChange("a"));
      const third = await put({ kind: "cache", id: "a", value: null });
      const watcher = new Watcher();
      here.state.watch(first, watcher);
      await watcher.reached(third);
      expect(watcher.revisions).toEqual([second, third]);
    });

    test("never calls from within watch, and not at all when there is nothing new", async () => {
      const base = await put(cacheChange("a"));
      const [behind, current] = [new Watcher(), new Watcher()];
      here.state.watch(base - 1, behind);
      here.state.watch(base, current);
      expect(behind.told).toEqual([]);
      await behind.reached(base);
      expect(current.told).toEqual([]);
    });

    test("tells what other connections and other processes commit", async () => {
      const watcher = new Watcher();
      here.state.watch(await newest(), watcher);
      const other = await here.place.open();
      const child = await startChild();
      await other.commit([cacheChange("by-connection")]);
      await child.ask("commit", [cacheChange("by-process")]);
      await watcher.reached((await here.state.list("cache")).revision);
      const told = watcher.told.flatMap(({ seen }) => seen.map(({ id }) => id));
      expect(told).toEqual(["by-connection", "by-process"]);
    });

    test("a list and a watch from its revision miss nothing and repeat nothing", async () => {
      const [one, two] = [await startChild(), await startChild()];
      const base = await newest();
      const writing = Promise.all([
        one.ask("append", { prefix: "one", count: 150 }),
        two.ask("append", { prefix: "two", count: 150 }),
      ]);
      await until(async () => (await newest()) > base + 20);
      const list = await here.state.list("cache");
      const watcher = new Watcher();
      watcher.changed(list.entries as Seen[], list.revision);
      here.state.watch(list.revision, watcher);
      await writing;
      await watcher.reached(base + 300);
      const expected = Array.from(
        { length: base + 300 - list.revision + 1 },
        (_, index) => list.revision + index,
      );
      expect(watcher.revisions).toEqual(expected);
      expect([...watcher.records.keys()].sort()).toEqual(
        (await ids()).map((id) => `cache ${id}`).sort(),
      );
      expect(watcher.records.size).toBe(300);
    });

    test("watchers of different processes hear the same in the same order", async () => {
      const watchers = [new Watcher(), new Watcher()] as const;
      const base = await newest();
      here.state.watch(base, watchers[0]);
      (await here.place.open()).watch(base, watchers[1]);
      const [one, two] = [await startChild(), await startChild()];
      await Promise.all([
        one.ask("append", { prefix: "one", count: 50 }),
        two.ask("append", { prefix: "two", count: 50 }),
      ]);
      for (const watcher of watchers) await watcher.reached(base + 100);
      expect(watchers[0].told).toEqual(watchers[1].told);
    });

    test("a watcher may commit, watch and close from where it is told", async () => {
      const base = await newest();
      const second = new Watcher();
      const first = here.state.watch(base, {
        changed(_seen, revision) {
          first.close();
          here.state.watch(revision, second);
          void here.state.commit([cacheChange("answer")]);
        },
      });
      await put(cacheChange("question"));
      await second.reached(base + 2);
      expect(second.told.flatMap(({ seen }) => seen.map(({ id }) => id))).toEqual(["answer"]);
      expect(await newest()).toBe(base + 2);
    });

    test("a watcher that closes itself while there is more to tell hears no more", async () => {
      const base = await newest();
      for (let count = 0; count < 3; count++) await put(cacheChange("a"));
      const told: number[] = [];
      const watch = here.state.watch(base, {
        changed(_seen, revision) {
          told.push(revision);
          watch.close();
        },
      });
      const other = new Watcher();
      here.state.watch(base, other);
      await other.reached(base + 3);
      expect(told).toEqual([base + 1]);
    });

    test("a closed watch hears nothing more, others go on", async () => {
      const [closed, open] = [new Watcher(), new Watcher()];
      const watch = here.state.watch(await newest(), closed);
      here.state.watch(await newest(), open);
      const first = await put(cacheChange("a"));
      await closed.reached(first);
      watch.close();
      const second = await put(cacheChange("b"));
      await open.reached(second);
      expect(closed.revisions).toEqual([first]);
    });

    test("a watcher behind the history is reset and told every live record", async () => {
      const old = await put(cacheChange("kept"), cacheChange("deleted"));
      await put({ kind: "cache", id: "deleted", value: null });
      await here.place.compact(here.state);
      const after = await put(cacheChange("late"));

      const watcher = new Watcher();
      watcher.records.set("cache imagined", {});
      here.state.watch(old - 1, watcher);
      await watcher.reached(after);
      expect(watcher.resetCount).toBe(1);
      expect(watcher.told).toHaveLength(1);
      expect(watcher.told[0]?.revision).toBe(after);
      expect([...watcher.records.keys()]).toEqual((await ids()).map((id) => `cache ${id}`));
      const kept = watcher.told[0]?.seen.find(({ id }) => id === "kept");
      expect(kept).toEqual({ kind: "cache", id: "kept", value: complete(), revision: old });

      const next = await put(cacheChange("later"));
      await watcher.reached(next);
      expect(watcher.revisions).toEqual([after, next]);
      expect(watcher.resetCount).toBe(1);
    });

    test("a watcher from a future that never was (a restored backup) is reset", async () => {
      const revision = await put(cacheChange("a"));
      const watcher = new Watcher();
      here.state.watch(revision + 1_000, watcher);
      await watcher.reached(revision);
      expect(watcher.resetCount).toBe(1);
      expect([...watcher.records.keys()]).toEqual(["cache a"]);
      await watcher.reached(await put(cacheChange("b")));
      expect([...watcher.records.keys()]).toEqual(["cache a", "cache b"]);
    });
  });
}
