/** Operations on a real cluster state in a folder of its own, with a clock that tests move. */
import { join } from "node:path";
import { Writable } from "node:stream";
import type { Context } from "../../../control/operations/change.ts";
import type { Outcome, Problem } from "../../../control/operations/outcome.ts";
import { PLANS } from "../../../control/operations/plans.ts";
import type { UpkeepParts } from "../../../control/upkeep.ts";
import { View } from "../../../control/view.ts";
import { openSqliteState } from "../../../core/cluster/sqlite.ts";
import type { ClusterState } from "../../../core/cluster/state.ts";
import { createLog } from "../../../core/runtime/log.ts";
import { secureBytes } from "../../../core/runtime/random.ts";
import { temporaryFolder } from "../../harness/processes.ts";

export const OPERATOR: Context = { actor: "token:tester", from: "192.0.2.1" };

export type Desk = UpkeepParts & {
  readonly path: string;
  /** Sets the clock forward. */
  pass(ms: number): void;
  close(): Promise<void>;
};

/** `wrap` stands between operations and state, to make it fail. */
export async function openDesk({
  path = join(temporaryFolder("memward-control"), "state.db"),
  wrap = (state: ClusterState): ClusterState => state,
} = {}): Promise<Desk> {
  const state = wrap(openSqliteState({ path }));
  const view = new View();
  await view.start(state);
  let aheadMs = 0;
  return {
    path,
    state,
    view,
    clock: { nowMs: () => performance.now(), unixMs: () => Date.now() + aheadMs },
    secureBytes,
    plans: PLANS,
    servers: ["cache.example:11211"],
    auditDays: 400,
    log: createLog({ name: "control", to: new Writable({ write: (_, __, done) => done() }) }),
    pass: (ms) => {
      aheadMs += ms;
    },
    close: async () => {
      view.close();
      await state.close();
    },
  };
}

export function resultOf<T>(outcome: Outcome<T>): T {
  if (outcome.ok) return outcome.value;
  throw new Error(JSON.stringify(outcome.problem));
}

export function problemOf(outcome: Outcome<unknown>): Problem {
  if (!outcome.ok) return outcome.problem;
  throw new Error(`done: ${JSON.stringify(outcome.value)}`);
}

/** What the audit log says was done, oldest first. */
export async function actionsOf({ state }: Pick<Desk, "state">): Promise<string[]> {
  return (await state.list("audit")).entries.map(({ value }) => value.action);
}
