/**
 * Fresh shards on this node for the keys of shards elsewhere that are out of routing. Each is made
 * empty for one ejection and goes with it, so nothing of an earlier one can ever be read. It has
 * the size of its part of what it stands in for; for a while the node uses that much more.
 *
 * Clients wait for them, and a node that dies takes a shard of every cache along: so all of them are
 * published in one commit.
 */
import { CHANGES_MAX } from "../core/cluster/changes.ts";
import type { Ejection, Shard as ShardRecord } from "../core/cluster/records.ts";
import type { Change, ClusterState } from "../core/cluster/state.ts";
import type { Logger } from "../core/runtime/log.ts";
import type { Engine, EngineShard } from "./engine.ts";

const BYTES_MIN = 1024 * 1024;

export interface KnownEjection {
  value: Ejection;
  revision: number;
}

interface StandInsParts {
  state: ClusterState;
  log: Logger;
  engine: Engine;
  /** Name of this node. */
  node: string;
}

type Open = {
  serial: string;
  shard: EngineShard;
  /** Once its ejection is over: the revision that all proxies have to know before it closes. */
  closeAfter: number | null;
};

export class StandIns {
  readonly #parts: StandInsParts;
  /** By id of the shard that is out. */
  readonly #open = new Map<string, Open>();
  /** Records that an earlier process of this node may have left have been looked for. */
  #isTidy = false;

  constructor(parts: StandInsParts) {
    this.#parts = parts;
  }

  get size(): number {
    return this.#open.size;
  }

  get shards(): readonly EngineShard[] {
    return [...this.#open.values()].map(({ shard }) => shard);
  }

  /** Makes stand-ins equal to what the ejections want; `revision` is now, for those that are over. */
  async reconcile(
    ejections: ReadonlyMap<string, KnownEjection>,
    {
      shards,
      revision,
      appliedByAll,
    }: { shards: ReadonlyMap<string, ShardRecord>; revision: number; appliedByAll: number },
  ): Promise<void> {
    if (!this.#isTidy) await this.#removeLeftovers();
    for (const [id, open] of [...this.#open]) {
      const ejection = ejections.get(id)?.value;
      if (ejection?.serial === open.serial && this.#isAsked(ejection)) continue;
      open.closeAfter ??= revision;
      // One of another serial takes its place: nobody may wait for the old one.
      if (ejection !== undefined || appliedByAll >= open.closeAfter) await this.#close(id, open);
    }
    const opened: Change[] = [];
    for (const [id, { value }] of ejections) {
      if (!this.#isAsked(value) || this.#open.has(id)) continue;
      const bytes = (shards.get(id)?.bytes ?? 0) / value.standIns.length;
      opened.push(await this.#openFor(id, value, Math.max(BYTES_MIN, Math.ceil(bytes))));
    }
    for (let at = 0; at < opened.length; at += CHANGES_MAX) {
      await this.#parts.state.commit(opened.slice(at, at + CHANGES_MAX));
    }
  }

  async close(): Promise<void> {
    for (const [id, open] of [...this.#open]) await this.#close(id, open);
  }

  #isAsked({ standIns }: Ejection): boolean {
    return standIns.includes(this.#parts.node);
  }

  /** Its record, to be written. */
  async #openFor(id: string, ejection: Ejection, bytes: number): Promise<Change> {
    const { engine, node, log } = this.#parts;
    const { serial, cache, node: ejected } = ejection;
    const shard = await engine.open({
      id: `${id}/${node}`,
      bytes,
      before: undefined,
      changed: () => {},
    });
    this.#open.set(id, { serial, shard, closeAfter: null });
    const value = { cache, node: ejected, host: node, serial, address: shard.address };
    log.info({ shard: id, address: shard.address, bytes }, "stand-in opened");
    return { kind: "standIn", id: `${id}/${node}`, value };
  }

  async #close(id: string, { shard }: Open): Promise<void> {
    const { node, state, log } = this.#parts;
    await state.commit([{ kind: "standIn", id: `${id}/${node}`, value: null }]);
    this.#open.delete(id);
    await shard.close();
    log.info({ shard: id }, "stand-in closed");
  }

  async #removeLeftovers(): Promise<void> {
    const { node, state } = this.#parts;
    for (const { id, value } of (await state.list("standIn")).entries) {
      if (value.host === node) await state.commit([{ kind: "standIn", id, value: null }]);
    }
    this.#isTidy = true;
  }
}
