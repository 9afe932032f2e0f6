/**
 * Parts of a proxy's data path put together without its listener: a loop, slots that assert that
 * each is freed once, links to whatever address, and a client's end of a real socket.
 */
import assert from "node:assert/strict";
import { SLAB_SIZE } from "../../core/io/arena.ts";
import { Loop } from "../../core/io/loop.ts";
import { Command } from "../../core/protocol/command.ts";
import type { Random } from "../../core/runtime/random.ts";
import { CacheCounters, ShardLatency } from "../../proxy/routing/counters.ts";
import { DEADLINE_MS, Link, type LinkState } from "../../proxy/routing/link.ts";
import { type Dialect, type QueueOwner, ReplyQueue } from "../../proxy/routing/replies.ts";
import { SlotState, Slots } from "../../proxy/routing/slots.ts";
import { Stash } from "../../proxy/routing/stash.ts";
import { Sweep } from "../../proxy/routing/sweep.ts";
import { Collector, openPair, type Pair } from "../core/io/pair.ts";

/** A slot that is freed twice would be two commands at once. */
export class CheckedSlots extends Slots {
  override free(slot: number): void {
    assert(this.state[slot] !== SlotState.free, `slot ${slot} is freed twice`);
    super.free(slot);
  }
}

export type Transition = { from: LinkState; to: LinkState; reason: string; atMs: number };

export class Rig {
  readonly loop: Loop;
  readonly slots: CheckedSlots = new CheckedSlots();
  readonly stash: Stash;
  readonly transitions: Transition[] = [];
  /** What the links take for chance: how much of the longest delay is waited. */
  chance = 0;
  readonly deadline = { ms: DEADLINE_MS };
  /** How often a link has told that outcomes stay unknown, and that there is something to look into. */
  unknownCount = 0;
  stirredCount = 0;
  /** Of all links. */
  readonly latency: ShardLatency = new ShardLatency();
  readonly #sweep: Sweep;
  readonly #pairs: Pair[] = [];
  readonly #links: Link[] = [];

  constructor({ slabCount = 256 }: { slabCount?: number } = {}) {
    this.loop = new Loop({ slabCount });
    this.stash = new Stash(this.loop.arena);
    this.#sweep = new Sweep(this.loop);
    // Deadlines pass when a test says so, by link.sweep, and not because a machine is slow.
    this.#sweep.add = () => {};
  }

  newLink(address: string, dialect: Dialect): Link {
    const random: Random = { next: () => this.chance };
    const link = new Link(address, dialect, {
      loop: this.loop,
      slots: this.slots,
      random,
      sweep: this.#sweep,
      latency: this.latency,
      deadline: this.deadline,
      owner: {
        stirred: () => this.stirredCount++,
        answered: () => {},
        linkFailed: () => {},
        outcomesUnknown: () => this.unknownCount++,
      },
      events: {
        transition: (_link, from, to, reason) =>
          this.transitions.push({ from, to, reason, atMs: this.loop.nowMs }),
      },
    });
    this.#links.push(link);
    return link;
  }

  /** The replies of one client, and its end of the connection. */
  async newClient(dialect: Dialect = "text"): Promise<Client> {
    const pair = await openPair(this.loop, new Collector(), "accepted");
    this.#pairs.push(pair);
    return new Client(this, pair, dialect);
  }

  /** True when no slab is held but the one that the stash fills, and no piece in that one. */
  get isNothingHeld(): boolean {
    if (this.loop.arena.usedCount > 1) return false;
    // A slab without pieces is filled from its start again.
    const at = this.stash.hold(Buffer.alloc(1), 0, 1);
    if (at < 0) return false;
    this.stash.release(at);
    return (at - this.loop.arena.slabsAt) % SLAB_SIZE === 0;
  }

  close(): void {
    for (const link of this.#links) link.retire();
    for (const pair of this.#pairs) pair.close();
  }
}

export class Client implements QueueOwner {
  readonly rig: Rig;
  readonly pair: Pair;
  readonly queue: ReplyQueue;
  readonly counters: CacheCounters = new CacheCounters();
  mayProceedCount = 0;

  constructor(rig: Rig, pair: Pair, dialect: Dialect) {
    this.rig = rig;
    this.pair = pair;
    this.queue = new ReplyQueue(rig.slots, rig.stash, pair.near, this);
    this.queue.dialect = dialect;
    this.queue.counters = this.counters;
  }

  mayProceed(): void {
    this.mayProceedCount++;
  }

  /** Gives a command to `link` as a session does; returns its slot. */
  send(link: Link, command: keyof typeof Command, bytes: Buffer | string, opaque = 0): number {
    assert.equal(link.refusal(), undefined);
    const { slots, loop } = this.rig;
    const slot = this.queue.open(Command[command], loop.nowMs);
    slots.opaque[slot] = opaque;
    link.expect(slot);
    const buffer = Buffer.from(bytes);
    link.append(buffer, 0, buffer.length);
    return slot;
  }

  /** All that the client has read, as text. */
  get text(): string {
    return this.pair.farBytes().toString("latin1");
  }
}
