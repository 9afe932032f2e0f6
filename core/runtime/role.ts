/**
 * What every role looks like from outside: started by its `main.ts`, asked whether it can serve,
 * scraped, drained. The supervisor and the command line know roles by this alone.
 */
import type { Registry } from "prom-client";
import type { StreamRow } from "./nearby.ts";

export interface RunningRole {
  /** Where it can be reached, as `host:port` or `unix:/path`; port 0 is resolved. */
  readonly addresses: readonly string[];
  /** Metrics read at scrape time; hot-path counters are typed arrays behind `collect`. */
  readonly registry: Registry;
  /** What it shows on its ops port beside what each role does. */
  readonly opsRows?: readonly StreamRow[];
  /** Its ops port is open: `host:port` or `unix:/path`. */
  opsOpened?(address: string): void;
  /** True while clients can be served (the answer of `/readyz`). */
  ready(): boolean;
  /** Stops accepting, finishes what was read, closes. Resolves when nothing is left. */
  drain(): Promise<void>;
}
