/** Listening sockets: every accepted connection becomes a session. */
import type { Listening } from "../../core/io/wire.ts";
import type { Services } from "./services.ts";
import { Session } from "./session.ts";

const BACKLOG = 4096;
const KEEP_ALIVE_DELAY_MS = 60_000;

export interface ListenOptions {
  host: string;
  port: number;
  /** Share the port with other workers. */
  reusePort: boolean;
  /** Connections at most; more are closed as they come. */
  sessionsMax: number;
  /** A session that needs no login belongs to this cache; undefined when one is needed. */
  cache?: string;
}

/** Rejects with the system's error when the address cannot be had. */
export function listen(services: Services, options: ListenOptions): Promise<Listening> {
  const { host, port, reusePort, sessionsMax, cache } = options;
  return services.loop.listen(
    { host, port },
    {
      backlog: BACKLOG,
      reusePort,
      connectionsMax: sessionsMax,
      keepAliveDelayMs: KEEP_ALIVE_DELAY_MS,
    },
    {
      accepted: (attach) => accept(services, new Session(services, attach), cache),
      dropped: () => services.counters.dropped++,
    },
  );
}

function accept(services: Services, session: Session, cache: string | undefined): void {
  if (cache === undefined) return;
  const tenant = services.directory.tenantByName(cache);
  if (tenant?.isEnabled) session.admitUnnamed(tenant);
  else session.destroy("no_such_cache");
}
