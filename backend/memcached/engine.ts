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
import { MemcachedShard } from "./shard.ts";

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
    const { node, sockets, loop, log } = this.#parts;
    const name = fileNameOf(options.id);
    const leftovers = [...this.#leftovers].filter(({ mark }) => mark.shard === name);
    for (const one of leftovers) this.#leftovers.delete(one);
    const kept = leftovers.find((one) => this.#isServing(one, options));
    await endAll(leftovers.filter((one) => one !== kept));
    const shardLog = log.child({ shard: options.id });
    const make = (endpoint: ShardEndpoint, address: string): MemcachedShard => {
      const mark = { home: sockets.home, node: node.name, shard: name };
      const rest = { program: this.#program, options: node.memcached, loop, random };
      const closed = (): void => void this.#shards.delete(shard);
      const parts = { ...rest, endpoint, address, mark, log: shardLog, closed };
      const shard = new MemcachedShard(parts, options);
      this.#shards.add(shard);
      return shard;
    };
    if (kept !== undefined && options.before !== undefined) {
      const { address } = options.before;
      const shard = make(this.#endpointOf(options.id, portOf(address)), address);
      if (await shard.adopt(kept)) {
        shardLog.info({ pid: kept.pid }, "memcached taken over with its values");
        return shard;
      }
      this.#shards.delete(shard);
      await endAll([kept]);
    }
    const endpoint = await this.#freeEndpoint(options);
    const shard = make(endpoint, this.#addressOf(endpoint));
    await shard.start();
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
  async #freeEndpoint({ id, before }: OpenOptions): Promise<ShardEndpoint> {
    const { loop } = this.#parts;
    const wanted = this.#endpointOf(id, portOf(before?.address));
    if ("path" in wanted) {
      await removeStaleSocket(loop, wanted.path);
      return wanted;
    }
    const look = (port: number) =>
      loop.listen({ host: wanted.host, port }, { backlog: 1 }, { accepted: () => {} });
    const listening = await look(wanted.port).catch(() => look(0));
    listening.close();
    return { host: wanted.host, port: portOf(listening.address) };
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
