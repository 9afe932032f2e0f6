/** Of the contract: claims on being alive, and how they end. */
import { describe, expect, test } from "vitest";
import { clock, sleep } from "../../../core/runtime/clock.ts";
import { type Here, until, Watcher } from "./contract-place.ts";
import { cacheChange } from "./samples.ts";

export function leasesContract(here: Here): void {
  const { put, newest, ids, startChild } = here;

  describe("leases", () => {
    test("a record lives as long as its holder, far beyond the time to live", async () => {
      const watcher = new Watcher();
      const child = await startChild();
      here.state.watch(await newest(), watcher);
      const commit = await child.ask("hold", { ttlMs: here.place.ttlMs, ids: ["leased"] });
      expect(commit.ok).toBe(true);
      await sleep(here.place.ttlMs * 2);
      expect(await ids()).toEqual(["leased"]);
      expect(watcher.told).toHaveLength(1);
    });

    test("the moment until which a lease surely lives moves on with each renewal", async () => {
      const { ttlMs } = here.place;
      const askedAtMs = clock.nowMs();
      const lease = await here.state.lease({ ttlMs });
      const first = lease.livesUntilMs;
      expect(first).toBeGreaterThanOrEqual(askedAtMs + ttlMs);
      expect(first).toBeLessThanOrEqual(clock.nowMs() + ttlMs);
      await until(() => lease.livesUntilMs > first);
      await lease.revoke();
    });

    test("revoking deletes the lease's records in one revision, and no others", async () => {
      const lease = await here.state.lease({ ttlMs: here.place.ttlMs });
      const other = await here.state.lease({ ttlMs: here.place.ttlMs });
      let isLost = false;
      void lease.lost.then(() => {
        isLost = true;
      });
      await put({ ...cacheChange("a"), lease }, { ...cacheChange("b"), lease });
      await put({ ...cacheChange("others"), lease: other }, cacheChange("free"));
      const base = await newest();
      const watcher = new Watcher();
      here.state.watch(base, watcher);
      await lease.revoke();
      await watcher.reached(base + 1);
      expect(watcher.told).toEqual([
        {
          revision: base + 1,
          seen: [
            { kind: "cache", id: "a", value: null, revision: base + 1 },
            { kind: "cache", id: "b", value: null, revision: base + 1 },
          ],
        },
      ]);
      expect(await ids()).toEqual(["free", "others"]);
      await sleep(here.place.ttlMs);
      expect(isLost).toBe(false);
      await other.revoke();
      expect(await ids()).toEqual(["free"]);
    });

    test("a record written again without the lease outlives it", async () => {
      const [lease, heir] = [
        await here.state.lease({ ttlMs: here.place.ttlMs }),
        await here.state.lease({ ttlMs: here.place.ttlMs }),
      ];
      await put(
        { ...cacheChange("freed"), lease },
        { ...cacheChange("inherited"), lease },
        { ...cacheChange("left"), lease },
      );
      await put(cacheChange("freed"), { ...cacheChange("inherited"), lease: heir });
      await lease.revoke();
      expect(await ids()).toEqual(["freed", "inherited"]);
      await heir.revoke();
      expect(await ids()).toEqual(["freed"]);
    });

    test("an ended lease takes no more records", async () => {
      const lease = await here.state.lease({ ttlMs: here.place.ttlMs });
      await lease.revoke();
      // This one does not get the id of the one that ended.
      await here.state.lease({ ttlMs: here.place.ttlMs });
      const commit = await here.state.commit([cacheChange("free"), { ...cacheChange("a"), lease }]);
      expect(commit).toMatchObject({ ok: false, reason: "invalid", id: "a" });
      expect(await ids()).toEqual([]);
      await lease.revoke();
    });

    test("when its holder is killed, a lease ends: its records go in one revision", async () => {
      const child = await startChild();
      await child.ask("hold", { ttlMs: here.place.ttlMs, ids: ["a", "b"] });
      await put(cacheChange("free"));
      const base = await newest();
      const watcher = new Watcher();
      here.state.watch(base, watcher);
      await child.kill();
      await watcher.reached(base + 1);
      expect(watcher.told).toHaveLength(1);
      expect(watcher.told[0]?.seen.map(({ id, value }) => [id, value])).toEqual([
        ["a", null],
        ["b", null],
      ]);
      expect(await ids()).toEqual(["free"]);
    });

    test("when its holder's connection is closed, a lease ends as well", async () => {
      const child = await startChild();
      await child.ask("hold", { ttlMs: here.place.ttlMs, ids: ["a"] });
      await child.ask("close");
      await until(async () => (await ids()).length === 0);
    });

    test("a holder that stood still too long learns that it lost its lease", async () => {
      const child = await startChild();
      await child.ask("hold", { ttlMs: here.place.ttlMs, ids: ["a"] });
      child.signal("SIGSTOP");
      await until(async () => (await ids()).length === 0);
      child.signal("SIGCONT");
      await child.lost;
      expect(await ids()).toEqual([]);
    });
  });
}
