/** Nodes with their agents in this process, on a real cluster state in a file of their own. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { startBackend } from "../../backend/main.ts";
import { backendOptions, type NodeOptions } from "../../backend/options.ts";
import { type Cache, cacheRecord, type Shard } from "../../core/cluster/records.ts";
import { openSqliteState } from "../../core/cluster/sqlite.ts";
import type { Change, ClusterState } from "../../core/cluster/state.ts";
import { createLog } from "../../core/runtime/log.ts";
import type { RunningRole } from "../../core/runtime/role.ts";
import { connect } from "../harness/wire.ts";

export const MIB = 1 << 20;
export const WAIT_MS_MAX = 5_000;
export const log = createLog({ name: "test", level: "silent" });

export let folder: string;
export let state: ClusterState;
export const running: RunningRole[] = [];
const states: ClusterState[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "memward-agent-"));
  state = openState();
});

afterEach(async () => {
  for (const role of running.splice(0)) await role.drain();
  for (const open of states.splice(0)) await open.close();
  await rm(folder, { recursive: true, force: true });
});

export function openState(): ClusterState {
  const open = openSqliteState({ path: join(folder, "state.db"), pollMs: 5 });
  states.push(open);
  return open;
}

export const nodeOf = (name: string, given: Partial<NodeOptions> = {}) => ({
  name,
  socketDir: join(folder, name),
  ...given,
});

export async function start(
  name: string,
  {
    given = {},
    through = openState(),
  }: { given?: Partial<NodeOptions>; through?: ClusterState } = {},
): Promise<RunningRole> {
  const options = backendOptions.parse({ nodes: [nodeOf(name, given)] });
  const role = await startBackend(options, { state: through, log });
  running.push(role);
  return role;
}

export async function stop(role: RunningRole): Promise<void> {
  running.splice(running.indexOf(role), 1);
  await role.drain();
}

export async function change(...changes: Change[]): Promise<void> {
  expect(await state.commit(changes)).toMatchObject({ ok: true });
}

export const cache = (bytes = 8 * MIB, name = "shop"): Cache =>
  cacheRecord.parse({ name, bytes, createdAtMs: 1 });
export const putCache = (id: string, value: Cache | null): Promise<void> =>
  change({ kind: "cache", id, value } as Change);

export async function eventually(
  check: () => Promise<void> | void,
  waitMsMax = WAIT_MS_MAX,
): Promise<void> {
  const giveUpAt = Date.now() + waitMsMax;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > giveUpAt) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

export async function shard(id: string): Promise<Shard> {
  const entry = await state.get("shard", id);
  if (entry === undefined) throw new Error(`no shard ${id}`);
  return entry.value;
}
export const shardSoon = async (id: string, expected: Partial<Shard> = {}): Promise<Shard> => {
  await eventually(async () =>
    expect(await shard(id)).toMatchObject({ state: "ready", ...expected }),
  );
  return shard(id);
};

export async function ask(address: string, command: string, ending = "\r\n"): Promise<string> {
  const wire = await connect(address);
  try {
    return (await wire.ask(command, ending)).toString("latin1");
  } finally {
    wire.close();
  }
}
