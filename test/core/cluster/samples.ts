/** Small records for the tests of the cluster state. */
import type { Cache } from "../../../core/cluster/records.ts";
import type { Change } from "../../../core/cluster/state.ts";

/** The short form of a cache; the state fills the defaults in. */
export function cacheValue(over: Partial<Cache> = {}): Cache {
  return { name: "sample", bytes: 1024 * 1024, createdAtMs: 0, ...over } as Cache;
}

export function cacheChange(id: string, over: Partial<Cache> = {}) {
  return { kind: "cache", id, value: cacheValue(over) } as const satisfies Change;
}

/** A record whose `createdAtMs` counts. */
export function counterChange(id: string, count: number, expected: number) {
  return { ...cacheChange(id, { createdAtMs: count }), expected } as const satisfies Change;
}
