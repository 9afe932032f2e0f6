/** How a process of the contract test opens the state in etcd; the argument is JSON. */
import { type EtcdStateOptions, openEtcdState } from "../../../core/cluster/etcd.ts";
import type { ClusterState } from "../../../core/cluster/state.ts";

export async function open(argument: string): Promise<ClusterState> {
  return openEtcdState(JSON.parse(argument) as EtcdStateOptions);
}
