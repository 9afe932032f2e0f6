/**
 * Another process with the same cluster state, for the contract test: obeys orders that come over
 * the channel of `fork`. Its arguments are a module that exports `open(argument)`, and that
 * argument.
 */
import type { Kind } from "../../../core/cluster/records.ts";
import type { Change, ClusterState, Lease } from "../../../core/cluster/state.ts";
import { cacheChange, counterChange } from "./samples.ts";

const [module, argument] = process.argv.slice(2) as [string, string];
const { open } = (await import(module)) as { open(argument: string): Promise<ClusterState> };
const state = await open(argument);
const leases = new Map<string, Lease>();

export type Orders = typeof ORDERS;

const ORDERS = {
  commit: (changes: Change[]) => state.commit(changes),

  list: (kind: Kind) => state.list(kind),

  /** Writes `count` records of its own, one revision each. */
  async append({ prefix, count }: { prefix: string; count: number }) {
    for (let index = 0; index < count; index++) {
      const commit = await state.commit([cacheChange(`${prefix}-${index}`)]);
      if (!commit.ok) throw new Error(commit.reason);
    }
  },

  /** Adds one to a shared record `count` times, each time from what it read before. */
  async increment({ id, count }: { id: string; count: number }) {
    for (let done = 0; done < count; ) {
      const entry = await state.get("cache", id);
      if (entry === undefined) throw new Error(`no ${id}`);
      const change = counterChange(id, entry.value.createdAtMs + 1, entry.revision);
      if ((await state.commit([change])).ok) done++;
    }
  },

  /** Takes a lease and puts records under it; "lost" is said when it ends. */
  async hold({ ttlMs, ids }: { ttlMs: number; ids: string[] }) {
    const lease = await state.lease({ ttlMs });
    leases.set(lease.id, lease);
    void lease.lost.then(() => process.send?.({ lost: true }));
    return state.commit(ids.map((id) => ({ ...cacheChange(id), lease })));
  },

  close: () => state.close(),
};

type Order = { number: number; order: keyof Orders; details: never };

process.on("message", async ({ number, order, details }: Order) => {
  try {
    process.send?.({ number, answer: await ORDERS[order](details) });
  } catch (error) {
    process.send?.({ number, failure: String(error) });
  }
});
process.send?.({ ready: true });
