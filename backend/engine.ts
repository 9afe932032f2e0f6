/**
 * What the agent of a node knows about whatever holds the values: an engine opens shards, a shard
 * is an endpoint that speaks memcached, with a limit of its own. The agent decides what should be,
 * an engine makes it so; none of its peculiarities is seen above this file.
 */
import type { Shard as ShardRecord } from "../core/cluster/records.ts";

export interface Engine {
  readonly name: "embedded" | "memcached";
  /**
   * Opens a shard where it was before, if that is possible. A shard that cannot serve yet is
   * "starting" and tries again by itself. Rejects when somebody else serves in its place.
   */
  open(options: OpenOptions): Promise<EngineShard>;
  /** All shards of this node are open: what else an agent before this one left can go. */
  settled(): Promise<void>;
  /** After the last shard: gives back what the engine holds. */
  close(): Promise<void>;
}

export interface OpenOptions {
  /** `<cache id>/<node>`. */
  readonly id: string;
  /** What its items may take. */
  readonly bytes: number;
  /** As it was published last: where it was, and by which process it was served. */
  readonly before: ShardRecord | undefined;
  /** Called when `state`, `generation`, `address` or `process` have changed by themselves. */
  changed(): void;
}

export interface EngineShard {
  /** `unix:/path` or `host:port`, as proxies reach it. */
  readonly address: string;
  /** The limit that it has caught up with. */
  readonly bytes: number;
  readonly state: "starting" | "ready";
  /** How often it began empty or was emptied; 0 while it is what `before` says. */
  readonly generation: number;
  /** The process that serves it, if that is not the agent's own. */
  readonly process: ShardRecord["process"];
  /** Afterwards `bytes` is the new limit; if it is not, `changed` will be called. */
  resize(bytes: number): Promise<void>;
  /**
   * Afterwards nothing that was stored before is served. A fenced shard may also hold commands that
   * it has read or will read from old connections: none of them may come to effect later.
   */
  empty(reason: "flushed" | "fenced"): Promise<void>;
  /**
   * Takes out the items whose key `keeps` refuses, and returns how many they were. Rejects when it
   * is not known that all are gone.
   */
  purge(keeps: Keeps): Promise<number>;
  /** What `stats` shows begins at zero; the counters of `figures` go on. */
  resetStats(): Promise<void>;
  figures(): Figures;
  /** Answers what was read, then closes; what it held is gone. */
  close(): Promise<void>;
}

/** Whether the key in `bytes[from, to)` stays. */
export type Keeps = (bytes: Buffer, from: number, to: number) => boolean;

/** Counters never go back while the shard is open. An engine leaves out what it cannot know. */
export interface Figures {
  items: number;
  /** Memory that the items take, and may take. */
  bytes: number;
  limit: number;
  connections: number;
  commands?: number;
  hits: number;
  misses: number;
  evictions: number;
  expired: number;
  /** Of its own process. */
  residentBytes?: number;
}
