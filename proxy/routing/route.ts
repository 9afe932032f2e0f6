/**
 * The way from a key of one cache to its shard: the continuum of its nodes, and for each of them
 * the links in both dialects, opened on first use.
 */
import { Continuum } from "../../core/cluster/continuum.ts";
import { Histogram } from "./counters.ts";
import { Link, type LinkOptions } from "./link.ts";

export interface ShardTarget {
  node: string;
  address: string;
  /** Share of the keys, compared with the other shards; 1 if absent. */
  weight?: number;
}

/** One shard as seen from here. */
export class ShardLinks {
  readonly node: string;
  readonly address: string;
  readonly latency: Histogram = new Histogram();
  readonly text: Link;
  readonly binary: Link;

  constructor(target: ShardTarget, options: Omit<LinkOptions, "latency">) {
    this.node = target.node;
    this.address = target.address;
    const linkOptions = { ...options, latency: this.latency };
    this.text = new Link(target.address, "text", linkOptions);
    this.binary = new Link(target.address, "binary", linkOptions);
  }
}

export class Route {
  readonly #options: Omit<LinkOptions, "latency">;
  #continuum: Continuum = new Continuum([]);
  shards: ShardLinks[] = [];

  constructor(options: Omit<LinkOptions, "latency">) {
    this.#options = options;
  }

  /** Takes over the new list; shards that stay keep their connections and what is in flight. */
  update(targets: readonly ShardTarget[]): void {
    const before = new Map(this.shards.map((shard) => [`${shard.node} ${shard.address}`, shard]));
    const sorted = targets.toSorted((a, b) => (a.node < b.node ? -1 : 1));
    this.shards = sorted.map((shard) => {
      const id = `${shard.node} ${shard.address}`;
      const kept = before.get(id);
      before.delete(id);
      return kept ?? new ShardLinks(shard, this.#options);
    });
    this.#continuum = new Continuum(sorted.map(({ node, weight = 1 }) => ({ name: node, weight })));
    for (const gone of before.values()) {
      gone.text.retire();
      gone.binary.retire();
    }
  }

  /** Index into `shards` of the owner of the key in `bytes[from, to)`; -1 without shards. */
  ownerOfKey(bytes: Uint8Array, from: number, to: number): number {
    return this.#continuum.ownerOfKey(bytes, from, to);
  }

  retire(): void {
    this.update([]);
  }
}
