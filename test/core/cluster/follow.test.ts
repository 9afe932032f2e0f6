import { describe, expect, test } from "vitest";
import { follow } from "../../../core/cluster/follow.ts";
import type { ClusterState, Entry, Seen } from "../../../core/cluster/state.ts";

/** A state in which somebody writes while its kinds are listed, one after another. */
function stateThatMoves(): Pick<ClusterState, "list" | "watch"> & { watchedFrom: number[] } {
  let revision = 10;
  const watchedFrom: number[] = [];
  return {
    watchedFrom,
    list: async (kind) => {
      const entries = [{ kind, id: `${kind}-${revision}`, revision }] as Entry<typeof kind>[];
      return { entries, revision: revision++ };
    },
    watch: (fromRevision, watcher) => {
      watchedFrom.push(fromRevision);
      const seen = [{ kind: "node", id: "late", value: null, revision: 11 }] as Seen[];
      setImmediate(() => watcher.changed(seen, 11));
      setImmediate(() => watcher.reset?.());
      return { close: () => {} };
    },
  };
}

describe("who follows some kinds", () => {
  test("is told what there is, then everything since the oldest of the lists", async () => {
    const state = stateThatMoves();
    const told: string[] = [];
    await follow(state, ["cache", "node", "shard"], {
      listed: ({ id }) => told.push(id),
      loaded: (revision) => told.push(`loaded ${revision}`),
      changed: (seen, revision) => told.push(`${seen[0]?.id} ${revision}`),
      reset: () => told.push("reset"),
    });
    expect(told).toEqual(["cache-10", "node-11", "shard-12", "loaded 10"]);
    expect(state.watchedFrom).toEqual([10]);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    expect(told.slice(4)).toEqual(["late 11", "reset"]);
  });
});
