/**
 * Other ways to a person, for when the link is down: what they have in common. Each tries for a
 * bounded time and says how it ended; whether that counts as reached is decided elsewhere.
 */

export interface Notice {
  /** The same for every attempt at the same thing, so that whoever gets it twice can tell. */
  readonly id: string;
  /** Whom it is for: an address on the other server, a person's name for a webhook. */
  readonly to: string;
  readonly body: string;
  readonly payload?: Readonly<Record<string, string>>;
}

export type FallbackFailure =
  | "unreachable" // Nobody listens there, or the second link never came up in time.
  | "timed_out"
  | "certificate"
  | "closed" // The connection ended before an answer.
  | "refused" // An answer that asking again would not change.
  | "unavailable" // HTTP 5xx and 429, to the last attempt.
  | "redirected" // Never followed: the other place was not configured.
  | "secret_file" // Not readable, or readable by everybody.
  | "busy" // Too many under way.
  | "stopped";

export type Outcome =
  | { readonly ok: true; readonly ms: number; readonly attemptCount: number }
  | { readonly ok: false; readonly failure: FallbackFailure; readonly detail: string };

export interface Fallback {
  /** As configured; for logs and labels. */
  readonly name: string;
  /** Resolves when the other side took it, or when trying is over; never rejects. */
  send(notice: Notice): Promise<Outcome>;
  /** Ends what is under way as `stopped`. */
  close(): Promise<void>;
}
