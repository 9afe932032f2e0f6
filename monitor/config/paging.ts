/**
 * Whom to tell, how and when: what the section `monitor:` of the configuration file says once it
 * has been checked. Lengths are milliseconds, moments milliseconds since 1970.
 */
import type { PolicySnapshot } from "../../core/cluster/incidents.ts";
import type { Severity } from "../condition.ts";

/** Another way to a person, for when the link is down: an account elsewhere, or a webhook. */
export type Channel = { readonly xmpp: string } | { readonly webhook: string };

export interface PersonConfig {
  /** Bare JID. */
  readonly jid: string;
  readonly fallback: readonly Channel[];
}

/** A moment of a wall clock, as `Date.UTC` would make it if that clock showed UTC. */
export type LocalMs = number;

export interface Rotation {
  readonly startLocalMs: LocalMs;
  readonly everyMs: number;
  readonly people: readonly string[];
}

export interface Override {
  readonly fromLocalMs: LocalMs;
  readonly toLocalMs: LocalMs;
  readonly person: string;
}

export interface Schedule {
  /** IANA name. */
  readonly timezone: string;
  readonly rotation: Rotation | null;
  readonly overrides: readonly Override[];
}

/** What is left out matches everything. */
export interface Match {
  readonly severity?: Severity | undefined;
  readonly kind?: string | undefined;
  /** May end with `*`. */
  readonly subject?: string | undefined;
}

export interface Route {
  readonly match: Match;
  readonly policy: string;
}

/** Announced work: nobody is told of what matches between two moments of a wall clock. */
export interface PlannedSilence {
  readonly match: Match;
  readonly fromMs: number;
  readonly toMs: number;
  readonly reason: string;
}

export interface PagingConfig {
  /** Name of the cluster in messages. */
  readonly cluster: string;
  readonly people: Readonly<Record<string, PersonConfig>>;
  /** `all` is always there. */
  readonly groups: Readonly<Record<string, readonly string[]>>;
  readonly schedules: Readonly<Record<string, Schedule>>;
  readonly policies: Readonly<Record<string, PolicySnapshot>>;
  /** The first that matches wins. */
  readonly routes: readonly Route[];
  readonly silences: readonly PlannedSilence[];
}
