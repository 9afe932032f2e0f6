/**
 * What every implementation of ClusterState promises. An implementation's test file calls
 * `clusterStateContract` with a way to make a fresh, empty place; everything goes through the
 * interface, several connections and several processes.
 */
import { describe } from "vitest";
import { leasesContract } from "./contract-leases.ts";
import { type Place, usePlace } from "./contract-place.ts";
import { recordsContract } from "./contract-records.ts";
import { watchingContract } from "./contract-watching.ts";

export function clusterStateContract(name: string, makePlace: () => Promise<Place>): void {
  describe(`the contract of the cluster state, kept by ${name}`, { timeout: 60_000 }, () => {
    const here = usePlace(makePlace);
    recordsContract(here);
    watchingContract(here);
    leasesContract(here);
  });
}
