/**
 * The contract on a real etcd. All places share one; each has a prefix of its own, and its keys
 * are deleted at its end, so that leases which end later have nothing to delete: revisions of the
 * running test are its own.
 */
import { Etcd3 } from "etcd3";
import { afterAll, beforeAll } from "vitest";
import type { ClusterState } from "../../../core/cluster/state.ts";
import { describeWith } from "../../e2e/suite.ts";
import { Etcd } from "../../harness/etcd.ts";
import { clusterStateContract } from "./contract.ts";
import type { Place } from "./contract-place.ts";
import { open } from "./etcd.open.ts";

/** The least that etcd grants: it must outlive an election. */
const TTL_MS = 2_000;

describeWith(["etcd"], "etcd", () => {
  let etcd: Etcd;
  let client: Etcd3;
  let placeCount = 0;

  beforeAll(async () => {
    etcd = await Etcd.start();
    client = new Etcd3({ hosts: etcd.endpoint });
  });
  afterAll(async () => {
    client.close();
    await etcd.stop();
  });

  async function makePlace(): Promise<Place> {
    const prefix = `/place-${++placeCount}/`;
    const argument = JSON.stringify({ endpoints: [etcd.endpoint], prefix });
    const opened: ClusterState[] = [];
    return {
      child: { module: new URL("etcd.open.ts", import.meta.url).href, argument },
      ttlMs: TTL_MS,
      async open() {
        const state = await open(argument);
        opened.push(state);
        return state;
      },
      async compact(state) {
        const { revision } = await state.list("cache");
        await client.kv.compact({ revision, physical: true });
      },
      async remove() {
        for (const state of opened) await state.close();
        await client.delete().prefix(prefix);
      },
    };
  }

  clusterStateContract("etcd", makePlace);
});
