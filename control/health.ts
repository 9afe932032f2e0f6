/** The ops port of a whole instance: its health page beside the rows that every role has. */
import type { Logger } from "../core/runtime/log.ts";
import { type Ops, standardRows, startOps } from "../core/runtime/ops.ts";
import type { RoleView } from "../core/runtime/process.ts";
import { healthPage } from "./page.ts";

/** The instance that is shown. */
export interface ShownInstance {
  version: string;
  roles(): RoleView[];
  notReady(): string[];
  metrics(): Promise<string>;
}

export async function startHealth(
  { ops }: { ops: string },
  { log, instance }: { log: Logger; instance: ShownInstance },
): Promise<Ops> {
  const page = {
    path: "/",
    type: "text/html",
    answer: async () => {
      const { version } = instance;
      const health = { version, roles: instance.roles(), notReady: instance.notReady() };
      return { status: 200, body: healthPage(health) };
    },
  };
  return startOps({ address: ops, rows: [page, ...standardRows(instance)], log });
}
