/** The backend role: the agent of one node and its metrics. Wiring only. */
import type { ClusterState } from "../core/cluster/state.ts";
import { Loop } from "../core/io/loop.ts";
import type { Logger } from "../core/runtime/log.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import { Agent } from "./agent.ts";
import { createBackendRegistry } from "./metrics.ts";
import type { BackendOptions } from "./options.ts";
import { SocketDirectory } from "./sockets.ts";

export interface BackendContext {
  state: ClusterState;
  log: Logger;
}

/** Rejects when the socket directory cannot be had or another process serves its shards. */
export async function startBackend(
  options: BackendOptions,
  { state, log }: BackendContext,
): Promise<RunningRole> {
  const sockets =
    options.host === undefined ? await SocketDirectory.open(options.socketDir) : null;
  const agent = new Agent({ options, state, log, loop: new Loop(), sockets });
  try {
    await agent.start();
  } catch (error) {
    await agent.drain();
    throw error;
  }
  return {
    get addresses() {
      return [...agent.shards.values()].map(({ address }) => address);
    },
    registry: createBackendRegistry(agent, options.name),
    ready: () => agent.isReady,
    drain: () => agent.drain(),
  };
}
