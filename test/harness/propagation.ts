/**
 * How long a change of a credential takes until it is in force on every proxy, as clients see it:
 * from the moment its commit is asked for until the login works on each of them; and until its
 * sessions are closed and its login is refused on each of them.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { digestOf } from "../../core/cluster/credentials.ts";
import { credentialRecord } from "../../core/cluster/records.ts";
import type { ClusterState } from "../../core/cluster/state.ts";
import { type Login, logInText } from "./memward.ts";
import { connect, type Wire } from "./wire.ts";

const DEADLINE_MS = 10_000;
/** Between two tries of a login; the figures are no finer than that and a login. */
const TRY_INTERVAL_MS = 2;

export type Propagation = { createdMs: number[]; deletedMs: number[] };

export async function measurePropagation(
  state: ClusterState,
  { servers, count, cache }: { servers: readonly string[]; count: number; cache: string },
): Promise<Propagation> {
  const found: Propagation = { createdMs: [], deletedMs: [] };
  for (let index = 0; index < count; index++) {
    const login = { username: `spread-${index}`, password: `password-that-spreads-${index}` };
    const createdAtMs = performance.now();
    const creating = create(state, cache, login);
    const sessions = await Promise.all(servers.map((server) => untilLoggedIn(server, login)));
    found.createdMs.push(performance.now() - createdAtMs);
    await creating;

    const deletedAtMs = performance.now();
    const deleting = commit(state, login.username, null);
    await Promise.all(sessions.map((session) => untilClosed(session)));
    await Promise.all(servers.map((server) => untilRefused(server, login)));
    found.deletedMs.push(performance.now() - deletedAtMs);
    await deleting;
  }
  return found;
}

function create(state: ClusterState, cache: string, { username, password }: Login): Promise<void> {
  const digest = digestOf(password);
  const value = { cache, digest, rights: ["read", "write"], createdAtMs: Date.now() };
  return commit(state, username, credentialRecord.parse(value));
}

async function commit(
  state: ClusterState,
  id: string,
  value: ReturnType<typeof credentialRecord.parse> | null,
): Promise<void> {
  const done = await state.commit([{ kind: "credential", id, value }]);
  if (!done.ok) throw new Error(JSON.stringify(done));
}

async function untilLoggedIn(server: string, login: Login): Promise<Wire> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const wire = await connect(server);
    try {
      return await logInText(wire, login);
    } catch (error) {
      wire.close();
      if (Date.now() > deadline) throw error;
    }
    await sleep(TRY_INTERVAL_MS);
  }
}

async function untilClosed(wire: Wire): Promise<void> {
  const { ended } = await wire.readToClose(DEADLINE_MS);
  if (ended !== "closed") throw new Error(`the session of a deleted credential: ${ended}`);
}

async function untilRefused(server: string, login: Login): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const wire = await connect(server);
    const isGood = await logInText(wire, login).then(
      () => true,
      () => false,
    );
    wire.close();
    if (!isGood) return;
    if (Date.now() > deadline) throw new Error(`${login.username} is still good on ${server}`);
    await sleep(TRY_INTERVAL_MS);
  }
}
