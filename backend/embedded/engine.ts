/**
 * The engine that needs nothing else: shards live in the agent's own process. It brings them the
 * time and lets them do what could wait, a bounded piece at a turn.
 */
import type { Loop } from "../../core/io/loop.ts";
import { clock, every, sleep, type Timer } from "../../core/runtime/clock.ts";
import { formatAddress } from "../../core/runtime/config.ts";
import { secureBytes } from "../../core/runtime/random.ts";
import type { Engine, EngineShard, Figures, Keeps, OpenOptions } from "../engine.ts";
import { portOf, removeStaleSocket, type SocketDirectory } from "../sockets.ts";
import { Counter } from "./counters.ts";
import { Output } from "./output.ts";
import { ShardServer } from "./server.ts";
import { Shard } from "./shard.ts";
import { resetStats } from "./stats.ts";

const TICK_INTERVAL_MS = 100;
/** While memory is being brought in line with a new limit: a turn of a millisecond in each. */
const BUSY_TICK_INTERVAL_MS = 10;
/** Buckets that a purge looks at in one turn: about two milliseconds. */
const PURGE_STEPS = 8192;
/** Cas uniques of a shard that starts anew are above all it gave out before, see `casStart`. */
const CAS_EPOCH_MS = 1_700_000_000_000;
const CAS_PER_MS = 1024;

export interface EmbeddedParts {
  readonly loop: Loop;
  readonly sockets: SocketDirectory;
  /** Listens on TCP here instead of unix sockets, reached by the name `advertise`. */
  readonly host?: string | undefined;
  readonly advertise?: string | undefined;
  /** The directory of the sockets is closed by somebody else. */
  readonly isGuest?: boolean;
}

export class EmbeddedEngine implements Engine {
  readonly name = "embedded";
  readonly #parts: EmbeddedParts;
  readonly #output: Output;
  readonly #shards = new Set<EmbeddedShard>();
  readonly #ticking: Timer;
  #isTickingBusily = false;
  #isClosed = false;

  constructor(parts: EmbeddedParts) {
    this.#parts = parts;
    this.#output = new Output(parts.loop);
    this.#ticking = every(TICK_INTERVAL_MS, () => this.#tick());
  }

  async open({ id, bytes, before }: OpenOptions): Promise<EngineShard> {
    const shard = new Shard(this.#output, {
      bytes,
      clockOffsetMs: clock.unixMs() - clock.nowMs(),
      nowMs: clock.nowMs(),
      seed: newSeed(),
      casStart: casStart(),
    });
    const server = new ShardServer(this.#parts.loop, shard);
    const address = await this.#listen(server, id, before?.address);
    const opened = new EmbeddedShard(shard, server, address, (closed) => {
      this.#shards.delete(closed);
    });
    this.#shards.add(opened);
    return opened;
  }

  /** Where it was before if that is possible: then nobody needs to be told. */
  async #listen(server: ShardServer, id: string, before: string | undefined): Promise<string> {
    const { host, advertise = host, sockets, loop } = this.#parts;
    if (host !== undefined) {
      const port = portOf(before);
      const address = await server
        .listen({ host, port })
        .catch(() => server.listen({ host, port: 0 }));
      return formatAddress({ host: advertise ?? host, port: portOf(address) });
    }
    const path = sockets.pathOf(id);
    await removeStaleSocket(loop, path);
    return server.listen({ path });
  }

  #tick(): void {
    const nowMs = clock.nowMs();
    let isBusy = false;
    for (const { shard } of this.#shards) isBusy = shard.tick(nowMs) || isBusy;
    if (isBusy && !this.#isTickingBusily) void this.#tickBusily();
  }

  async #tickBusily(): Promise<void> {
    this.#isTickingBusily = true;
    await sleep(BUSY_TICK_INTERVAL_MS);
    this.#isTickingBusily = false;
    if (!this.#isClosed) this.#tick();
  }

  async settled(): Promise<void> {}

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#ticking.stop();
    if (this.#parts.isGuest !== true) await this.#parts.sockets.close();
  }
}

class EmbeddedShard implements EngineShard {
  readonly shard: Shard;
  readonly address: string;
  readonly state = "ready";
  readonly process = null;
  generation = 1;
  readonly #server: ShardServer;
  readonly #closed: (shard: EmbeddedShard) => void;

  constructor(
    shard: Shard,
    server: ShardServer,
    address: string,
    closed: (shard: EmbeddedShard) => void,
  ) {
    this.shard = shard;
    this.#server = server;
    this.address = address;
    this.#closed = closed;
  }

  get bytes(): number {
    return this.shard.store.items.limit;
  }

  async resize(bytes: number): Promise<void> {
    this.shard.store.items.limit = bytes;
  }

  /**
   * Commands are executed as they are read. Those that were not read yet are on connections, in the
   * kernel or on the way: of a fenced shard they go with their connections.
   */
  async empty(reason: "flushed" | "fenced"): Promise<void> {
    if (reason === "fenced") this.#server.disconnect();
    this.shard.store.flush(0);
    this.generation++;
  }

  /** While it goes on its memory is not made smaller, and that is all it costs. */
  async purge(keeps: Keeps): Promise<number> {
    const go = this.shard.store.items.purge(keeps);
    for (;;) {
      const removedCount = go(PURGE_STEPS);
      if (removedCount !== null) return removedCount;
      await sleep(BUSY_TICK_INTERVAL_MS);
    }
  }

  async resetStats(): Promise<void> {
    resetStats(this.shard);
  }

  figures(): Figures {
    const { store, connectionCount } = this.shard;
    const sum = (...counters: number[]) =>
      counters.reduce((total, index) => total + store.counters[index]!, 0);
    return {
      items: store.items.count,
      bytes: store.items.size,
      limit: store.items.limit,
      connections: connectionCount,
      commands: sum(Counter.commands),
      hits: sum(Counter.get_hits, Counter.touch_hits),
      misses: sum(Counter.get_misses, Counter.touch_misses),
      evictions: sum(Counter.evictions),
      expired: sum(Counter.get_expired, Counter.crawler_reclaimed, Counter.reclaimed),
    };
  }

  async close(): Promise<void> {
    await this.#server.drain();
    this.#closed(this);
    void release(this.shard);
  }
}

/** Gives the memory of a closed shard back to the machine, in turns. */
async function release({ store }: Shard): Promise<void> {
  store.items.clear();
  while (!store.items.trim()) await sleep(BUSY_TICK_INTERVAL_MS);
}

function newSeed(): [number, number] {
  const bytes = Buffer.from(secureBytes(8));
  return [bytes.readInt32LE(0), bytes.readInt32LE(4)];
}

/**
 * A client may hold a cas unique from before a restart, and must not overwrite with it what others
 * stored since. A shard stores less than 1,024 items per millisecond in the long run, so a number
 * that grows by that every millisecond is above all that were given out.
 */
function casStart(): number {
  return Math.max(0, clock.unixMs() - CAS_EPOCH_MS) * CAS_PER_MS;
}
