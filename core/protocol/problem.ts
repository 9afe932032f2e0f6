/**
 * What can be wrong with a command, and the answer in each dialect. The words are memcached's
 * wherever memcached has an answer; clients match on some of them.
 */

export type ProblemRow = {
  /** Text and meta reply, without line end. */
  text: string;
  /** Binary status and its value. */
  status: number;
  statusText: string;
  /** The stream can not be trusted after this: answer, then close. */
  closes: boolean;
};

/** Binary statuses: protocol_binary.h and BinaryProtocolRevamped, "Response Status". */
export const Status = {
  ok: 0x00,
  notFound: 0x01,
  exists: 0x02,
  tooLarge: 0x03,
  invalidArguments: 0x04,
  notStored: 0x05,
  nonNumeric: 0x06,
  authError: 0x20,
  authContinue: 0x21,
  unknownCommand: 0x81,
  outOfMemory: 0x82,
  busy: 0x85,
  temporaryFailure: 0x86,
} as const;

const row = (text: string, status: number, statusText: string, closes = false): ProblemRow => ({
  text,
  status,
  statusText,
  closes,
});

export const PROBLEMS = {
  none: row("", 0, ""),
  error: row("ERROR", Status.unknownCommand, "Unknown command"),
  badFormat: row(
    "CLIENT_ERROR bad command line format",
    Status.invalidArguments,
    "Invalid arguments",
  ),
  badChunk: row("CLIENT_ERROR bad data chunk", Status.invalidArguments, "Invalid arguments"),
  badExptime: row(
    "CLIENT_ERROR invalid exptime argument",
    Status.invalidArguments,
    "Invalid arguments",
  ),
  badKeyEncoding: row("CLIENT_ERROR error decoding key", Status.invalidArguments, ""),
  duplicateFlag: row("CLIENT_ERROR duplicate flag", Status.invalidArguments, ""),
  invalidOrDuplicateFlag: row(
    "CLIENT_ERROR invalid or duplicate flag",
    Status.invalidArguments,
    "",
  ),
  flagsTooLong: row("CLIENT_ERROR options flags too long", Status.invalidArguments, ""),
  flagsAreTooLong: row("CLIENT_ERROR options flags are too long", Status.invalidArguments, ""),
  tooLarge: row("SERVER_ERROR object too large for cache", Status.tooLarge, "Too large."),
  absurdSize: row("SERVER_ERROR object too large for cache", Status.tooLarge, "Too large.", true),
  lineTooLong: row(
    "CLIENT_ERROR line too long",
    Status.invalidArguments,
    "Invalid arguments",
    true,
  ),
  badMagic: row("CLIENT_ERROR bad magic byte", Status.invalidArguments, "Invalid arguments", true),
  badLengths: row(
    "CLIENT_ERROR lengths contradict each other",
    Status.invalidArguments,
    "Invalid arguments",
    true,
  ),
  unauthenticated: row("CLIENT_ERROR unauthenticated", Status.authError, "Auth failure."),
  loginFailed: row("CLIENT_ERROR authentication failed", Status.authError, "Auth failure."),
  loginAbandoned: row(
    "CLIENT_ERROR too many failed logins",
    Status.authError,
    "Auth failure.",
    true,
  ),
  tooManyLogins: row(
    "SERVER_ERROR too many logins at once",
    Status.busy,
    "too many logins at once",
  ),
  tooManySessions: row("SERVER_ERROR too many sessions", Status.busy, "too many sessions"),
  tooManyNewSessions: row(
    "SERVER_ERROR too many new sessions",
    Status.busy,
    "too many new sessions",
  ),
  tlsUnavailable: row(
    "CLIENT_ERROR TLS is not configured on this port",
    Status.invalidArguments,
    "",
    true,
  ),
  readOnly: row(
    "CLIENT_ERROR credential is read-only",
    Status.notStored,
    "credential is read-only",
  ),
  noRead: row("CLIENT_ERROR credential may not read", Status.notStored, "credential may not read"),
  noFlush: row(
    "CLIENT_ERROR credential may not flush",
    Status.notStored,
    "credential may not flush",
  ),
  noFlushOfPrefix: row(
    "CLIENT_ERROR credential has a key prefix and may not flush",
    Status.notStored,
    "credential has a key prefix and may not flush",
  ),
  noReset: row(
    "CLIENT_ERROR credential may not reset stats",
    Status.notStored,
    "credential may not reset stats",
  ),
  prefixedKeyTooLong: row(
    "CLIENT_ERROR key is too long with the key prefix of the credential",
    Status.invalidArguments,
    "Key is too long with the key prefix of the credential",
  ),
  stampedKeyTooLong: row(
    "CLIENT_ERROR key is too long with the 12 bytes of the external pool and any key prefix",
    Status.invalidArguments,
    "Key is too long with the 12 bytes of the external pool and any key prefix",
  ),
  externalStats: row(
    "SERVER_ERROR counters of a cache on an external pool cannot be reset",
    Status.notStored,
    "counters of a cache on an external pool cannot be reset",
  ),
  externalDelay: row(
    "CLIENT_ERROR a cache on an external pool cannot be flushed later",
    Status.invalidArguments,
    "a cache on an external pool cannot be flushed later",
  ),
  notFlushed: row(
    "SERVER_ERROR not flushed: not all proxies have confirmed it",
    Status.temporaryFailure,
    "not flushed: not all proxies have confirmed it",
  ),
  notFound: row("NOT_FOUND", Status.notFound, "Not found"),
  noShard: row("SERVER_ERROR no live shard", Status.temporaryFailure, "no live shard"),
  timedOut: row("SERVER_ERROR shard timed out", Status.temporaryFailure, "shard timed out"),
  connectionClosed: row(
    "SERVER_ERROR shard connection closed",
    Status.temporaryFailure,
    "shard connection closed",
  ),
  brokenReply: row(
    "SERVER_ERROR broken reply from shard",
    Status.temporaryFailure,
    "broken reply from shard",
  ),
  queueFull: row("SERVER_ERROR shard queue is full", Status.busy, "shard queue is full"),
} as const satisfies Record<string, ProblemRow>;

export type Problem = keyof typeof PROBLEMS;
