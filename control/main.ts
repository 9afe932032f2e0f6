/**
 * The control role: for now the health page and the ops rows of a whole instance. It only reads;
 * what it shows is handed in, so it knows no other role.
 */
import type { ClusterState } from "../core/cluster/state.ts";
import type { Logger } from "../core/runtime/log.ts";
import { createRegistry } from "../core/runtime/metrics.ts";
import { standardRows, startOps } from "../core/runtime/ops.ts";
import type { RoleView } from "../core/runtime/process.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import type { ControlOptions } from "./options.ts";
import { healthPage } from "./page.ts";

export interface ControlContext {
  state: ClusterState;
  log: Logger;
  /** The instance that is shown. */
  instance: {
    version: string;
    roles(): RoleView[];
    notReady(): string[];
    metrics(): Promise<string>;
  };
}

export async function startControl(
  options: ControlOptions,
  { log, instance }: ControlContext,
): Promise<RunningRole> {
  const page = {
    path: "/",
    type: "text/html",
    answer: async () => {
      const { version } = instance;
      const health = { version, roles: instance.roles(), notReady: instance.notReady() };
      return { status: 200, body: healthPage(health) };
    },
  };
  const ops = await startOps({
    address: options.ops,
    rows: [page, ...standardRows(instance)],
    log,
  });
  return {
    addresses: [ops.address],
    registry: createRegistry(),
    ready: () => true,
    drain: () => ops.close(),
  };
}
