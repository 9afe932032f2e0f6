/**
 * The engine that runs one real memcached for each shard. What an agent before this one left
 * behind is taken over with its values where the record of the shard says that it is exactly that
 * process, and ended in all other cases.
 */
import type { Loop } from "../../core/io/loop.ts";
import { every, type Timer } from "../../core/runtime/clock.ts";
import { formatAddress } from "../../core/runtime/config.ts";
import type { Logger } from "../../core/runtime/log.ts";
import { random } from "../../core/runtime/random.ts";
import type { Engine, EngineShard, OpenOptions } from "../engine.ts";
import type { NodeOptions } from "../options.ts";
import { fileNameOf, portOf, removeStaleSocket, type SocketDirectory } from "../sockets.ts";
import { findMarked, type Marked } from "./ours.ts";
import { argumentsOf, findMemcached, type ShardEndpoint } from "./program.ts";
import { Serving } from "./serving.ts";
import { MemcachedShard, type Place, type ShardParts } from "./shard.ts";

const POLL_INTERVAL_MS = 1_000;

export interface MemcachedParts {
  readonly node: NodeOptions;
  readonly sockets: SocketDirectory;
  readonly loop: Loop;
  readonly log: Logger;
}

export class MemcachedEngine implements Engine {
  readonly name = "memcached";
  readonly #parts: MemcachedParts;
  readonly #program: string;
  /** Processes of an agent before us that no shard has claimed yet. */
  readonly #leftovers: Set<Marked>;
  readonly #shards = new Set<MemcachedShard>();
  readonly #polling: Timer;

  private constructor(parts: MemcachedParts, program: string) {
    this.#parts = parts;
    this.#program = program;
    this.#leftovers = new Set(findMarked(parts.sockets.home, parts.node.name));
    this.#polling = every(POLL_INTERVAL_MS, () => {
      for (const shard of this.#shards) void shard.poll();
    });
  }

  /** Throws a Refusal where there is no memcached that fits. */
  static async start(parts: MemcachedParts): Promise<MemcachedEngine> {
    return new MemcachedEngine(parts, await findMemcached(parts.node.memcached));
  }

  async open(options: OpenOptions): Promise<EngineShard> {
    const name = fileNameOf(options.id);
    const leftovers = [...this.#leftovers].filter(({ mark }) => mark.shard === name);
    for (const one of leftovers) this.#leftovers.delete(one);
    const kept = leftovers.find((one) => this.#isServing(one, options));
    await endAll(leftovers.filter((one) => one !== kept));
    const shard = this.#newShard(options);
    if (kept !== undefined) {
      const endpoint = this.#endpointOf(options.id, portOf(options.before?.address));
      if (await shard.adopt(kept, { endpoint, address: this.#addressOf(endpoint) })) return shard;
      await endAll([kept]);
    }
    await shard.start().catch((error: unknown) => {
      this.#shards.delete(shard);
      throw error;
    });
    return shard;
  }

  #newShard(options: OpenOptions): MemcachedShard {
    const { node, sockets, loop, log } = this.#parts;
    const { id } = options;
    const parts: ShardParts = {
      program: this.#program,
      options: node.memcached,
      locate: (before) => this.#locate(id, before),
      mark: { home: sockets.home, node: node.name, shard: fileNameOf(id) },
      loop,
      log: log.child({ shard: id }),
      random,
      closed: () => void this.#shards.delete(shard),
    };
    const shard = new MemcachedShard(parts, options);
    this.#shards.add(shard);
    return shard;
  }

  /** Whether it is what the record says, and was started as it would be now. */
  #isServing({ pid, mark, args }: Marked, { id, before }: OpenOptions): boolean {
    if (before === undefined || before.process === null) return false;
    if (before.state !== "ready" && before.state !== "draining") return false;
    const endpoint = this.#endpointOf(id, portOf(before.address));
    const wanted = [...argumentsOf(this.#parts.node.memcached, endpoint), "-m"];
    return (
      before.process.pid === pid &&
      before.process.startedAtMs === mark.startedAtMs &&
      before.address === this.#addressOf(endpoint) &&
      args.slice(0, -1).join("\0") === wanted.join("\0")
    );
  }

  #endpointOf(id: string, port: number): ShardEndpoint {
    const { node, sockets } = this.#parts;
    return node.host === undefined ? { path: sockets.pathOf(id) } : { host: node.host, port };
  }

  #addressOf(endpoint: ShardEndpoint): string {
    if ("path" in endpoint) return `unix:${endpoint.path}`;
    return formatAddress({
      host: this.#parts.node.advertise ?? endpoint.host,
      port: endpoint.port,
    });
  }

  /** Where it was before if that is possible: then nobody needs to be told. */
  async #locate(id: string, before: string | undefined): Promise<Place> {
    const { loop } = this.#parts;
    let endpoint = this.#endpointOf(id, portOf(before));
    if ("path" in endpoint) {
      await removeStaleSocket(loop, endpoint.path);
    } else {
      const { host, port } = endpoint;
      const look = (wanted: number) =>
        loop.listen({ host, port: wanted }, { backlog: 1 }, { accepted: () => {} });
      const listening = await look(port).catch(() => look(0));
      listening.close();
      endpoint = { host, port: portOf(listening.address) };
    }
    return { endpoint, address: this.#addressOf(endpoint) };
  }

  async settled(): Promise<void> {
    await endAll([...this.#leftovers]);
    this.#leftovers.clear();
  }

  async close(): Promise<void> {
    this.#polling.stop();
    await this.#parts.sockets.close();
  }
}

/**
 * Ends what was left in a directory, by the agent of `node` or by all: nobody is there who wants
 * it any more. Resolves when all of it is gone.
 */
export function endLeftovers(home: string, node?: string): Promise<void> {
  return endAll(findMarked(home, node));
}

async function endAll(leftovers: readonly Marked[]): Promise<void> {
  await Promise.all(leftovers.map((one) => Serving.adopt(one).kill()));
}
