/**
 * One turn of the event loop, as the data plane sees it: many reads, then one flush. Output of all
 * callbacks of a turn is collected and written once per connection by one `setImmediate`; doing it
 * at the end of each callback instead costs half as much CPU again per request. The clock is read
 * once per turn.
 */
import { clock } from "../runtime/clock.ts";
import { Arena } from "./arena.ts";
import type { Connection } from "./connection.ts";
import { openLayer } from "./layer.ts";
import type {
  Acceptor,
  Connecting,
  Endpoint,
  IoChoice,
  Layer,
  LayerName,
  Listening,
  ListenOptions,
} from "./wire.ts";

/** 256 MB of address space, of which only what was once in use at the same time is resident. */
const SLAB_COUNT = 8192;

interface LoopOptions {
  slabCount?: number;
  io?: IoChoice;
  /** Where a host that others name is reached from here, if not under that name. */
  hosts?: Readonly<Record<string, string>>;
}

export class Loop {
  readonly arena: Arena;
  /** Monotonic milliseconds, read at the first event of this turn. */
  nowMs: number = clock.nowMs();
  /** Bytes that the kernel did not take when they were flushed, over all connections. */
  unsentSize = 0;
  /** Bytes of half messages and of paused input, over all connections. */
  keptSize = 0;
  /** Writes given to the kernel since the start. */
  writeCount = 0;
  readonly #layer: Layer;
  readonly #hosts: Readonly<Record<string, string>>;
  /** Reused, and never shortened: an array that is emptied gives its memory back, each turn. */
  #dirty: (Connection | null)[] = [];
  #dirtyCount = 0;
  #flushing: (Connection | null)[] = [];
  #open = false;
  readonly #flushLater = (): void => this.flush();

  /** Throws when a layer is asked for that cannot be used here. */
  constructor({ slabCount = SLAB_COUNT, io = "auto", hosts = {} }: LoopOptions = {}) {
    this.arena = new Arena({ slabCount });
    this.#layer = openLayer(this, io);
    this.#hosts = hosts;
  }

  /** Who moves the bytes of this loop. */
  get io(): LayerName {
    return this.#layer.name;
  }

  /** Rejects with the system's error when the endpoint cannot be had. */
  listen(endpoint: Endpoint, options: ListenOptions, acceptor: Acceptor): Promise<Listening> {
    return this.#layer.listen(endpoint, options, acceptor);
  }

  /** The connection can be written to at once; it goes out when the other side has accepted. */
  connect(endpoint: Endpoint, receiver: Connecting): Connection {
    return this.#layer.connect(this.#asReached(endpoint), receiver);
  }

  #asReached(endpoint: Endpoint): Endpoint {
    if ("path" in endpoint) return endpoint;
    return { host: this.#hosts[endpoint.host] ?? endpoint.host, port: endpoint.port };
  }

  /**
   * So many connections of a group are read in a turn, 0 for all; accepted ones begin in group 0.
   * The native layer can do that, the other reads all.
   */
  limitReads(readsMax: number): void {
    this.#layer.limitReads(readsMax);
  }

  /** A turn that its layer begins, and ends by `flush`. */
  enter(): void {
    if (this.#open) return;
    this.#open = true;
    this.nowMs = clock.nowMs();
  }

  /** Every other callback that enters the data plane calls this first. */
  turn(): void {
    if (this.#open) return;
    this.enter();
    setImmediate(this.#flushLater);
  }

  markDirty(connection: Connection): void {
    this.#dirty[this.#dirtyCount++] = connection;
    if (!this.#open) this.turn();
  }

  /** Writes what the turn has collected. Receivers may make more while we write: again, then. */
  flush(): void {
    do {
      const batch = this.#dirty;
      const count = this.#dirtyCount;
      this.#dirty = this.#flushing;
      this.#dirtyCount = 0;
      this.#flushing = batch;
      for (let i = 0; i < count; i++) {
        const connection = batch[i]!;
        batch[i] = null;
        connection.flush();
      }
      this.#layer.flush();
    } while (this.#dirtyCount > 0);
    this.#open = false;
  }
}
