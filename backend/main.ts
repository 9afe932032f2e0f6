/** The backend role: the agents of its nodes and their metrics. Wiring only. */
import { resolve } from "node:path";
import type { ClusterState } from "../core/cluster/state.ts";
import { layerFacts } from "../core/io/layer.ts";
import { Loop } from "../core/io/loop.ts";
import type { Logger } from "../core/runtime/log.ts";
import { giveWayWhole, mayTakeBack } from "../core/runtime/nice.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { Agent } from "./agent.ts";
import { EmbeddedEngine } from "./embedded/engine.ts";
import type { Engine } from "./engine.ts";
import { endLeftovers, MemcachedEngine } from "./memcached/engine.ts";
import { createBackendRegistry } from "./metrics.ts";
import type { BackendOptions, NodeOptions } from "./options.ts";
import { SocketDirectory } from "./sockets.ts";

export { FOLLOWED_KINDS } from "./agent.ts";

export interface BackendContext {
  state: ClusterState;
  log: Logger;
}

/** Stand-ins have no time to wait for a process, and there may be a hundred at once. */
function standInEngineOf(engine: Engine, { node, sockets, loop }: Parts): Engine {
  const { host, advertise } = node;
  if (engine.name === "embedded") return engine;
  return new EmbeddedEngine({ loop, sockets, host, advertise, isGuest: true });
}

type Parts = { node: NodeOptions; sockets: SocketDirectory; loop: Loop; log: Logger };

const ENGINES: Record<NodeOptions["engine"], (parts: Parts) => Promise<Engine>> = {
  embedded: async ({ node: { name, host, advertise }, sockets, loop }) => {
    await endLeftovers(sockets.home, name); // The node may have had the other engine before.
    return new EmbeddedEngine({ loop, sockets, host, advertise });
  },
  memcached: (parts) => MemcachedEngine.start(parts),
};

/** How many steps nicer an agent is than the memcached processes that it starts, where it may be. */
const NICER = 10;

/** Rejects when a socket directory cannot be had or another process serves its shards. */
export async function startBackend(
  options: BackendOptions,
  { state, log }: BackendContext,
): Promise<RunningRole> {
  const loop = new Loop({ io: options.io });
  log.info(layerFacts(loop), "io layer");
  const isBesideShards = options.nodes.every(({ engine }) => engine === "memcached");
  if (isBesideShards && mayTakeBack()) giveWayWhole(NICER);
  const agents: Agent[] = [];
  const drain = async (): Promise<void> => {
    await Promise.all(agents.map((agent) => agent.drain()));
  };
  try {
    await Promise.all(options.abandonedDirs.map((path) => endLeftovers(resolve(path))));
    for (const node of options.nodes) {
      const nodeLog = log.child({ node: node.name });
      const sockets = await SocketDirectory.open(node.socketDir, node.name);
      const engine = await ENGINES[node.engine]({ node, sockets, loop, log: nodeLog }).catch(
        async (error) => {
          await sockets.close();
          throw error;
        },
      );
      const standInEngine = standInEngineOf(engine, { node, sockets, loop, log: nodeLog });
      const agent = new Agent({ options: node, state, log: nodeLog, engine, standInEngine });
      agents.push(agent);
      await agent.start();
    }
  } catch (error) {
    await drain();
    throw error;
  }
  return {
    get addresses() {
      return agents.flatMap((agent) =>
        [...agent.shards.values()].map(({ shard }) => shard.address),
      );
    },
    registry: createBackendRegistry(agents, loop),
    ready: () => agents.every((agent) => agent.isReady),
    drain,
  };
}
