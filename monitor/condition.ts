/**
 * What is wrong right now, as detectors say it. They tell all that they see, again and again, and
 * remember nothing; making one incident of it, and knowing when it is over, is `incident/`.
 */

/** `crit` pages somebody and escalates; `warn` is told once and waits for working hours. */
export type Severity = "crit" | "warn";

export interface Condition {
  /** Like `node`, `shard`, `proxy`, `network`, `link`, `cacheDown`, `sloBurn`. */
  readonly kind: string;
  /** What it concerns: a node, `<cache>/<node>`, a proxy, a cache, a username. */
  readonly subject: string;
  readonly severity: Severity;
  /** One line, enough on a lock screen. Neither secrets nor values or keys of customers. */
  readonly summary: string;
  /** Further lines: evidence, what was done already. */
  readonly details: readonly string[];
  /** Milliseconds since 1970 at which it began, as far as can be told. */
  readonly sinceMs: number;
  /** Keys (`conditionKey`) of conditions that this one explains: listed under it, not paged. */
  readonly explains: readonly string[];
  /**
   * Of the alert of a cache: who wants to know, `xmpp:JID` or the URL of a webhook. It is told
   * there, once when it begins and once when it is over, and nobody is paged.
   */
  readonly target?: string;
}

/** Conditions of one key are one incident. */
export function conditionKey({ kind, subject }: Pick<Condition, "kind" | "subject">): string {
  return `${kind}:${subject}`;
}
