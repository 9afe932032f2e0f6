/** The shards of all nodes, followed in the cluster state, as `memward status` shows them. */
import type { Cache, Shard } from "../core/cluster/records.ts";
import type { ClusterState } from "../core/cluster/state.ts";
import type { RoleView, ShardView } from "../core/runtime/process.ts";

export class ShardList {
  readonly #shards = new Map<string, Shard>();
  readonly #caches = new Map<string, Cache>();

  /** From now on; `changed` is called after each change. */
  async follow(state: ClusterState, changed: () => void): Promise<void> {
    const caches = await state.list("cache");
    for (const { id, value } of caches.entries) this.#caches.set(id, value);
    for (const { id, value } of (await state.list("shard")).entries) this.#shards.set(id, value);
    state.watch(caches.revision, {
      changed: (seen) => {
        for (const { kind, id, value } of seen) {
          if (kind === "shard") put(this.#shards, id, value);
          if (kind === "cache") put(this.#caches, id, value);
        }
        changed();
      },
      reset: () => {
        this.#shards.clear();
        this.#caches.clear();
      },
    });
  }

  /** A node that runs in the process of `role`. */
  nodeView(node: string, role: RoleView | undefined): RoleView {
    const pid = role?.pid ?? null;
    const shards = [...this.#shards.values()]
      .filter((shard) => shard.node === node)
      .map((shard) => this.#shardView(shard, pid));
    return {
      role: "backend",
      name: node,
      pid,
      addresses: shards.map(({ address }) => address),
      // It may have none: small caches sit on few nodes.
      ready: role?.ready === true && shards.every(({ state }) => state === "ready"),
      shards,
    };
  }

  /** Without a process of its own it is served by that of its node. */
  #shardView({ cache, address, state, process }: Shard, nodePid: number | null): ShardView {
    return {
      cache: this.#caches.get(cache)?.name ?? cache,
      pid: process === null ? nodePid : process.pid,
      address,
      state: process?.answers === false && state === "ready" ? "silent" : state,
    };
  }
}

function put<T>(into: Map<string, T>, id: string, value: T | null): void {
  if (value === null) into.delete(id);
  else into.set(id, value);
}
