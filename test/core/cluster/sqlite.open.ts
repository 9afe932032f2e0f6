/** How a process of the contract test opens the SQLite state; the argument is JSON. */
import { openSqliteState, type SqliteStateOptions } from "../../../core/cluster/sqlite.ts";
import type { ClusterState } from "../../../core/cluster/state.ts";

export async function open(argument: string): Promise<ClusterState> {
  return openSqliteState(JSON.parse(argument) as SqliteStateOptions);
}
