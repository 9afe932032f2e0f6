/** What all sessions of a worker share. */
import type { Loop } from "../../core/io/loop.ts";
import type { Roster } from "../../core/runtime/roster.ts";
import type { Slots } from "../routing/slots.ts";
import type { Stash } from "../routing/stash.ts";
import type { Directory } from "../tenant/directory.ts";
import type { Passwords } from "../tenant/passwords.ts";
import type { Login } from "../tenant/tenant.ts";
import type { Admission } from "./admission.ts";
import type { Session } from "./session.ts";
import type { Turns } from "./turns.ts";

/** Why a session ended: log field and metric label. */
export const CLOSE_REASONS = [
  "client_closed",
  "client_reset",
  "quit",
  "drained",
  "too_many_failed_logins",
  "login_timeout",
  "protocol_error",
  "credential_revoked",
  "credential_expired",
  "outside_network",
  "cache_disabled",
  "no_such_cache",
  "too_many_sessions",
  "output_hoarded",
] as const;
export type CloseReason = (typeof CLOSE_REASONS)[number];

/** What became of a login: metric label. */
export const LOGIN_OUTCOMES = [
  "ok",
  "wrong",
  "malformed",
  "disabled",
  "expired",
  "outside_network",
  "too_many_checks",
  "too_many_sessions",
  "too_many_new_sessions",
] as const;
export type LoginOutcome = (typeof LOGIN_OUTCOMES)[number];

export interface Services {
  loop: Loop;
  slots: Slots;
  stash: Stash;
  directory: Directory;
  passwords: Passwords;
  admission: Admission;
  turns: Turns;
  /** All sessions, by whether they have logged in. */
  anonymous: Roster<Session>;
  serving: Roster<Session>;
  /** Logins that sessions came to or left since somebody looked. */
  loginsChanged: Set<Login>;
  counters: SessionCounters;
  /** Empties a cache on servers of others; true when that is so through all proxies. */
  flush(cacheId: string): Promise<boolean>;
  /** Calls `session.proceed` when slots may be free again. */
  retryLater(session: Session): void;
}

export class SessionCounters {
  readonly closed: Float64Array = new Float64Array(CLOSE_REASONS.length);
  readonly logins: Float64Array = new Float64Array(LOGIN_OUTCOMES.length);
  accepted = 0;
  /** Connections refused because there were too many, or no descriptor was left. */
  dropped = 0;
  unauthenticated = 0;

  countClosed(reason: CloseReason): void {
    this.closed[CLOSE_REASONS.indexOf(reason)]!++;
  }

  countLogin(outcome: LoginOutcome): void {
    this.logins[LOGIN_OUTCOMES.indexOf(outcome)]!++;
  }
}
