/**
 * What the cluster is told of the caches and logins of this proxy: counters of each cache, and who
 * is logged in with which credential from where. Collected in each worker, joined in the main
 * thread (usage.ts writes it). Looked at once a second, so nothing of it is on the way of a command.
 */

import { PROBE_CACHE } from "../core/cluster/internal.ts";
import { ADDRESS_USE_COUNT_MAX, type LastUse, type Usage } from "../core/cluster/records.ts";
import type { Services } from "./client/services.ts";
import type { Session } from "./client/session.ts";
import type { Login } from "./tenant/tenant.ts";

/** A credential that is only used, and nothing else changed, is told so not more often than this. */
export const USE_INTERVAL_MS = 60_000;
/** Addresses told of one credential by one worker; more are joined than a record holds. */
const ADDRESSES_MAX = 4 * ADDRESS_USE_COUNT_MAX;

/** How a credential is used in one worker. */
export type Use = Pick<LastUse, "cache" | "lastUsedAtMs" | "sessions" | "addresses">;

export interface Figures {
  /** Of all caches, by id. */
  usage: Map<string, Usage>;
  /** Of credentials whose use has changed since the last time, by username. */
  uses: Map<string, Use>;
}

type Known = { lastUsedAtMs: number; toldAtMs: number };

export class FiguresCollector {
  readonly #services: Services;
  readonly #known: WeakMap<Login, Known> = new WeakMap();

  constructor(services: Services) {
    this.#services = services;
  }

  collect(unixMs: number): Figures {
    const { directory, loginsChanged } = this.#services;
    const usage = new Map<string, Usage>();
    for (const { id, counters } of directory.tenants.values()) {
      if (id === PROBE_CACHE) continue; // Each second anew, and nobody wants to know.
      const { sessions, sessionsTotal, authCommands, authErrors } = counters;
      const { bytesRead, bytesWritten } = counters;
      const figures = { sessions, sessionsTotal, authCommands, authErrors };
      usage.set(id, { ...figures, bytesRead, bytesWritten });
    }
    for (const session of this.#services.serving) this.#addSession(session, usage, unixMs);
    const uses = new Map<string, Use>();
    for (const login of loginsChanged) {
      // Sessions of a login that is gone may still be ending: nothing is told of it any more.
      if (directory.login(login.username) !== login) continue;
      if (login.tenant.id === PROBE_CACHE) continue;
      uses.set(login.username, this.#useOf(login, unixMs));
    }
    loginsChanged.clear();
    return { usage, uses };
  }

  #addSession(session: Session, usage: Map<string, Usage>, unixMs: number): void {
    const { tenant, login, connection } = session;
    const figures = tenant === null ? undefined : usage.get(tenant.id);
    if (figures !== undefined) {
      figures.bytesRead += connection.readSize;
      figures.bytesWritten += connection.writtenSize;
    }
    if (login === null || session.notedReadSize === connection.readSize) return;
    session.notedReadSize = connection.readSize;
    const known = this.#knownOf(login);
    known.lastUsedAtMs = unixMs;
    if (unixMs - known.toldAtMs >= USE_INTERVAL_MS) this.#services.loginsChanged.add(login);
  }

  #useOf(login: Login, unixMs: number): Use {
    const known = this.#knownOf(login);
    // It changed without a session that we saw: one came and went meanwhile.
    if (known.lastUsedAtMs === 0) known.lastUsedAtMs = unixMs;
    known.toldAtMs = unixMs;
    const sessionsOf = new Map<string, number>();
    for (const { address } of login.members) {
      sessionsOf.set(address, (sessionsOf.get(address) ?? 0) + 1);
    }
    return {
      cache: login.tenant.id,
      lastUsedAtMs: known.lastUsedAtMs,
      sessions: login.members.size,
      addresses: busiest(sessionsOf, ADDRESSES_MAX),
    };
  }

  #knownOf(login: Login): Known {
    let known = this.#known.get(login);
    if (known === undefined) {
      known = { lastUsedAtMs: 0, toldAtMs: 0 };
      this.#known.set(login, known);
    }
    return known;
  }
}

/** The figures of a cache in all workers together. */
export function joinUsage(parts: readonly Usage[]): Usage {
  const sum = (name: keyof Usage): number => parts.reduce((total, part) => total + part[name], 0);
  return {
    sessions: sum("sessions"),
    sessionsTotal: sum("sessionsTotal"),
    authCommands: sum("authCommands"),
    authErrors: sum("authErrors"),
    bytesRead: sum("bytesRead"),
    bytesWritten: sum("bytesWritten"),
  };
}

/** The use of a credential in all workers together, as its record has it. */
export function joinUses(parts: readonly Use[], startedAtMs: number): LastUse {
  const sessionsOf = new Map<string, number>();
  for (const { address, sessions } of parts.flatMap((part) => part.addresses)) {
    sessionsOf.set(address, (sessionsOf.get(address) ?? 0) + sessions);
  }
  return {
    cache: parts[0]?.cache ?? "",
    lastUsedAtMs: Math.max(0, ...parts.map((part) => part.lastUsedAtMs)),
    startedAtMs,
    sessions: parts.reduce((total, part) => total + part.sessions, 0),
    addresses: busiest(sessionsOf, ADDRESS_USE_COUNT_MAX),
  };
}

function busiest(sessionsOf: ReadonlyMap<string, number>, countMax: number): Use["addresses"] {
  return Array.from(sessionsOf, ([address, sessions]) => ({ address, sessions }))
    .sort((a, b) => b.sessions - a.sessions || (a.address < b.address ? -1 : 1))
    .slice(0, countMax);
}
