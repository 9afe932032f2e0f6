/**
 * A whole worker of a proxy in this process, with shards of the test's choosing and a cluster state
 * that is changed by hand. What it holds can be looked at: slots, slabs, bytes.
 */

import { digestOf } from "../../core/cluster/credentials.ts";
import { emptied, newStamp } from "../../core/cluster/external.ts";
import {
  type Credential,
  cacheRecord,
  credentialRecord,
  type RecordInput,
  type Right,
  type Shard,
  type SuspicionReason,
} from "../../core/cluster/records.ts";
import type { Entry, Seen } from "../../core/cluster/state.ts";
import { SLAB_SIZE } from "../../core/io/arena.ts";
import { MirroredState } from "../../proxy/mirror.ts";
import { proxyOptions } from "../../proxy/options.ts";
import type { LinkState } from "../../proxy/routing/link.ts";
import { SlotState } from "../../proxy/routing/slots.ts";
import { type LinkName, Worker } from "../../proxy/worker.ts";
import { until } from "../core/io/pair.ts";
import { connect, saslPlain, type Wire } from "../harness/wire.ts";

export const PASSWORD = "a-password-of-the-test";
export const CACHE = "c1";

export type WorkerSetup = {
  /** Addresses of the shards, one node each. */
  shards: readonly string[];
  /** Rights by username; all of them share PASSWORD. */
  logins?: Record<string, readonly Right[]>;
  /** Key prefixes by username, of those that have one. */
  prefixes?: Record<string, string>;
  options?: Record<string, unknown>;
  /** The shards are servers of others. */
  isExternal?: boolean;
};

export class TestWorker {
  readonly worker: Worker;
  readonly state: MirroredState = new MirroredState();
  /** What this worker would not use now. */
  readonly suspicions: Map<string, SuspicionReason> = new Map();
  readonly linkEvents: { link: LinkName; to: LinkState; reason: string }[] = [];
  /** Where clients log in, and where they need not. */
  login = "";
  plain = "";
  #revision = 1;
  readonly #shards: Shard[];
  readonly #wires: Wire[] = [];

  constructor({
    shards,
    logins = { all: ["read", "write", "flush", "api"] },
    prefixes = {},
    options,
    isExternal = false,
  }: WorkerSetup) {
    this.#shards = shards.map((address, index) => ({
      ...shardOf(`node-${index}`, address),
      stamp: isExternal ? newStamp() : "",
    }));
    const entries: Entry[] = [
      this.#entry("cache", CACHE, cacheOf(isExternal ? { pool: "fleet" } : {})),
      ...this.#shards.map((shard) => this.#entry("shard", `${CACHE}/${shard.node}`, shard)),
      ...Object.entries(logins).map(([username, rights]) =>
        this.#entry("credential", username, credentialOf(rights, prefixes[username])),
      ),
    ];
    this.state.load(entries, this.#revision);
    const parsed = proxyOptions.parse({
      listen: ["127.0.0.1:0"],
      plain: [{ address: "127.0.0.1:0", cache: "test" }],
      ...options,
    });
    this.worker = new Worker(parsed, this.state, {
      linkChanged: (link, _from, to, reason) => this.linkEvents.push({ link, to, reason }),
      applied: () => {},
      suspected: (shardId, reason) => this.suspicions.set(shardId, reason),
      trusted: (shardId) => this.suspicions.delete(shardId),
      flushWanted: async () => this.restamp(),
    });
    checkFrees(this.worker.services.slots);
  }

  async start(): Promise<this> {
    const bound = await this.worker.start();
    this.login = bound.listen[0] ?? "";
    this.plain = bound.plain[0] ?? "";
    return this;
  }

  /** A connection that is closed when the test ends. */
  async open(address = this.plain): Promise<Wire> {
    const wire = await connect(address);
    this.#wires.push(wire);
    return wire;
  }

  async openAs(username: string, dialect: "text" | "binary"): Promise<Wire> {
    const wire = await this.open(this.login);
    if (dialect === "text") {
      const line = `set ${username} 0 0 ${PASSWORD.length}\r\n${PASSWORD}\r\n`;
      await wire.ask(line, "STORED\r\n");
    } else {
      await wire.ask(saslPlain({ username, password: PASSWORD }), "Authenticated");
    }
    return wire;
  }

  /** The record changes, or goes. */
  change(seen: Omit<Seen, "revision">): void {
    this.#revision++;
    this.state.changed([{ ...seen, revision: this.#revision } as Seen], this.#revision);
  }

  /** The record of the cache becomes the usual one with this in it. */
  changeCache(fields: Partial<RecordInput<"cache">>): void {
    this.change({ kind: "cache", id: CACHE, value: cacheOf(fields) } as Omit<Seen, "revision">);
  }

  disableCache(): void {
    this.changeCache({ enabled: false });
  }

  /** The record of a login becomes the usual one with this in it; its password may stay. */
  changeLogin(username: string, fields: Partial<RecordInput<"credential">>): void {
    const value = credentialRecord.parse({ ...credentialOf(["read", "write"]), ...fields });
    this.change({ kind: "credential", id: username, value } as Omit<Seen, "revision">);
  }

  deleteLogin(username: string): void {
    this.change({ kind: "credential", id: username, value: null } as Omit<Seen, "revision">);
  }

  /** The record of the shard on this node becomes the present one with this in it. */
  changeShard(node: string, fields: Partial<Shard>): void {
    const [tenant] = this.worker.services.directory.tenants.values();
    const value = { ...tenant!.shards.get(`${CACHE}/${node}`)!, ...fields };
    this.change({ kind: "shard", id: `${CACHE}/${node}`, value } as Omit<Seen, "revision">);
  }

  moveShard(index: number, address: string): void {
    const node = `node-${index}`;
    const value = shardOf(node, address);
    this.change({ kind: "shard", id: `${CACHE}/${node}`, value } as Omit<Seen, "revision">);
  }

  /** Other stamps for the shards, or for one of them: they are empty, as it were. */
  restamp(node?: string): boolean {
    for (const [index, shard] of this.#shards.entries()) {
      if (node !== undefined && shard.node !== node) continue;
      const value = emptied(shard);
      this.#shards[index] = value;
      this.change({ kind: "shard", id: `${CACHE}/${value.node}`, value } as Omit<Seen, "revision">);
    }
    return true;
  }

  get sessionCount(): number {
    const { anonymous, serving } = this.worker.services;
    return anonymous.size + serving.size;
  }

  /** When all clients have gone nothing may be left of what they wanted. */
  async untilNothingIsHeld(): Promise<void> {
    const { slots, loop, stash } = this.worker.services;
    await until("all slots are free", () => slots.usedCount === 0);
    await until("all slabs are back", () => loop.arena.usedCount <= 1);
    // A slab without pieces is filled from its start again.
    const at = stash.hold(Buffer.alloc(1), 0, 1);
    stash.release(at);
    if ((at - loop.arena.slabsAt) % SLAB_SIZE !== 0) throw new Error("the stash holds a piece");
    await until("nothing is unsent or kept", () => loop.unsentSize === 0 && loop.keptSize === 0);
  }

  async stop(): Promise<void> {
    for (const wire of this.#wires) wire.close();
    await this.worker.drain();
  }

  #entry(kind: Entry["kind"], id: string, value: unknown): Entry {
    return { kind, id, value, revision: this.#revision } as Entry;
  }
}

const cacheOf = (fields: Partial<RecordInput<"cache">>) =>
  cacheRecord.parse({ name: "test", bytes: 64 << 20, createdAtMs: 1, ...fields });

/** The same for all, so that a change of something else does not look like a new password. */
const DIGEST = digestOf(PASSWORD);

const shardOf = (node: string, address: string): Shard => ({
  cache: CACHE,
  node,
  address,
  bytes: 32 << 20,
  epoch: 1,
  flushedEpoch: 0,
  weight: 1,
  zone: "",
  statsEpoch: 0,
  process: null,
  clearedFor: "",
  layout: 0,
  emptySinceMs: 0,
  stamp: "",
  state: "ready",
});

const credentialOf = (rights: readonly Right[], keyPrefix = ""): Credential =>
  credentialRecord.parse({
    cache: CACHE,
    digest: DIGEST,
    rights: [...rights],
    keyPrefix,
    createdAtMs: 1,
  });

/** A slot that is freed twice would be two commands at once. */
function checkFrees(slots: Worker["services"]["slots"]): void {
  const free = slots.free.bind(slots);
  slots.free = (slot) => {
    if (slots.state[slot] === SlotState.free) throw new Error(`slot ${slot} is freed twice`);
    free(slot);
  };
}
