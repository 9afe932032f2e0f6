/** The shards of all nodes, followed in the cluster state, as `memward status` shows them. */
import { AppliedByAll } from "../core/cluster/applied.ts";
import type { Cache, Shard } from "../core/cluster/records.ts";
import type { ClusterState, Entry, Seen } from "../core/cluster/state.ts";
import type { RoleView, ShardView } from "../core/runtime/process.ts";

export class ShardList {
  readonly #shards = new Map<string, Shard>();
  readonly #caches = new Map<string, Cache>();
  readonly #applied = new AppliedByAll();
  /** Of the last change of a shard. */
  #revision = 0;

  /** Whether every proxy has heard of all shards: until then it could refuse what it is asked. */
  get areKnownToAll(): boolean {
    return this.#applied.proxyCount > 0 && this.#applied.revision >= this.#revision;
  }

  /** From now on; `changed` is called after each change. */
  async follow(state: ClusterState, changed: () => void): Promise<void> {
    const caches = await state.list("cache");
    for (const { id, value } of caches.entries) this.#caches.set(id, value);
    for (const entry of (await state.list("shard")).entries) this.#see(entry);
    for (const entry of (await state.list("proxy")).entries) this.#see(entry);
    state.watch(caches.revision, {
      changed: (seen) => {
        for (const one of seen) this.#see(one);
        changed();
      },
      reset: () => {
        this.#shards.clear();
        this.#caches.clear();
        this.#applied.clear();
      },
    });
  }

  /** What we are told may be a moment behind what a role has done: looks at the state itself. */
  async catchUp(state: ClusterState): Promise<void> {
    for (const entry of (await state.list("shard")).entries) this.#see(entry);
  }

  #see(seen: Seen | Entry): void {
    if (seen.kind === "cache") put(this.#caches, seen.id, seen.value);
    else if (seen.kind === "proxy") this.#applied.proxySeen(seen.id, seen.value);
    else if (seen.kind === "shard") {
      put(this.#shards, seen.id, seen.value);
      this.#revision = Math.max(this.#revision, seen.revision);
    }
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
