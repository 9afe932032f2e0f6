/** The backend role: the agents of its nodes and their metrics. Wiring only. */
import type { ClusterState } from "../core/cluster/state.ts";
import { Loop } from "../core/io/loop.ts";
import type { Logger } from "../core/runtime/log.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { Agent } from "./agent.ts";
import { EmbeddedEngine } from "./embedded/engine.ts";
import { createBackendRegistry } from "./metrics.ts";
import type { BackendOptions } from "./options.ts";
import { SocketDirectory } from "./sockets.ts";

export { FOLLOWED_KINDS } from "./agent.ts";

export interface BackendContext {
  state: ClusterState;
  log: Logger;
}

/** Rejects when a socket directory cannot be had or another process serves its shards. */
export async function startBackend(
  options: BackendOptions,
  { state, log }: BackendContext,
): Promise<RunningRole> {
  const loop = new Loop();
  const agents: Agent[] = [];
  const drain = async (): Promise<void> => {
    await Promise.all(agents.map((agent) => agent.drain()));
  };
  try {
    for (const node of options.nodes) {
      const sockets = await SocketDirectory.open(node.socketDir);
      const { host, advertise } = node;
      const agent = new Agent({
        options: node,
        state,
        log: log.child({ node: node.name }),
        engine: new EmbeddedEngine({ loop, sockets, host, advertise }),
      });
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
    registry: createBackendRegistry(agents),
    ready: () => agents.every((agent) => agent.isReady),
    drain,
  };
}
