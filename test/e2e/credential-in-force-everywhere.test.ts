/**
 * Promise: a created credential can be used on every proxy, and a deleted one on none, its sessions
 * closed; with the state in etcd as in SQLite. How fast is measured by `npm run bench`, not here.
 */
import { describe, expect, test } from "vitest";
import { Cluster } from "../harness/cluster.ts";
import { startMemward } from "../harness/memward.ts";
import { measurePropagation } from "../harness/propagation.ts";
import { describeWith } from "./suite.ts";

const COUNT = 5;

describeWith(["etcd"], "with the state in etcd", () => {
  test("credentials come and go on three proxies of different machines", async () => {
    const cluster = await Cluster.start();
    try {
      const servers = cluster.proxies.map(({ address }) => address);
      const { cache, state } = cluster;
      const found = await measurePropagation(state, { servers, count: COUNT, cache });
      expect(found.deletedMs).toHaveLength(COUNT);
    } finally {
      await cluster.stop();
    }
  }, 60_000);
});

describe("with the state in SQLite", () => {
  test("credentials come and go on three proxies of one machine", async () => {
    const memward = await startMemward({ proxies: 3 });
    try {
      const { servers } = memward;
      const found = await memward.state(async (state) => {
        const cache = (await state.list("cache")).entries[0]?.id ?? "";
        return measurePropagation(state, { servers, count: COUNT, cache });
      });
      expect(found.deletedMs).toHaveLength(COUNT);
    } finally {
      await memward.stop();
    }
  }, 60_000);
});
