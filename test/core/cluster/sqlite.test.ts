import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ClusterState } from "../../../core/cluster/state.ts";
import { clusterStateContract } from "./contract.ts";
import type { Place } from "./contract-place.ts";
import { cacheChange } from "./samples.ts";
import { open } from "./sqlite.open.ts";

/** Small enough to forget soon, large enough for every test that does not want to. */
const HISTORY_REVISIONS_MAX = 500;

async function makePlace(): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "memward-state-"));
  const path = join(folder, "state.db");
  const argument = JSON.stringify({ path, pollMs: 5, historyRevisionsMax: HISTORY_REVISIONS_MAX });
  const opened: ClusterState[] = [];
  return {
    child: { module: new URL("sqlite.open.ts", import.meta.url).href, argument },
    ttlMs: 1_500,
    async open() {
      const state = await open(argument);
      opened.push(state);
      return state;
    },
    async compact(state) {
      for (let count = 0; count <= HISTORY_REVISIONS_MAX; count++) {
        await state.commit([cacheChange("filler")]);
      }
    },
    async remove() {
      for (const state of opened) await state.close();
      rmSync(folder, { recursive: true });
    },
  };
}

clusterStateContract("SQLite", makePlace);
