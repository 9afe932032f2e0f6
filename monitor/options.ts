/**
 * Options of the monitor: the section `monitor:` of a configuration file. Its rows, whom to tell and
 * how, are in `config/schema.ts`; whether they fit together is told by `config/check.ts`.
 */
import type { z } from "zod";
import { monitorSection } from "./config/schema.ts";

export { checkMonitorSection } from "./config/check.ts";

export const monitorOptions = monitorSection;
export type MonitorOptions = z.output<typeof monitorOptions>;
