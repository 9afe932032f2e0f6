/**
 * The commands of all three dialects as one table, so that rights, metrics and routing treat a
 * binary SETQ, a text `set … noreply` and a meta `ms … q` alike.
 */

/** What a command does to the cache; the same words as the rights of a credential. */
export type Access = "read" | "write" | "flush";

/** Where a command goes. */
export type Target =
  | "local" // Answered by whoever frames it.
  | "key" // One key, one shard.
  | "keys" // Text retrieval with any number of keys.
  | "all"; // Every shard of the cache.

/** How the end of a reply on a text connection is found. */
export type ReplyShape = "line" | "values" | "stats" | "meta";

/** `mutates`: it may change an item, so an unknown outcome is an error and never a miss. */
export type CommandRow = {
  name: string;
  access: readonly Access[];
  target: Target;
  shape: ReplyShape;
  mutates: boolean;
};

const read = (name: string, target: Target, shape: ReplyShape): CommandRow => ({
  name,
  access: ["read"],
  target,
  shape,
  mutates: false,
});
const write = (name: string, target: Target = "key", shape: ReplyShape = "line"): CommandRow => ({
  name,
  access: ["write"],
  target,
  shape,
  mutates: true,
});
/** It answers the value and gives it a new time to live. */
const touch = (name: string, target: Target, shape: ReplyShape): CommandRow => ({
  ...read(name, target, shape),
  access: ["write", "read"],
  mutates: true,
});
const local = (name: string): CommandRow => ({
  name,
  access: [],
  target: "local",
  shape: "line",
  mutates: false,
});

/** The order is the number of the command: `Command` below must list the same names. */
export const COMMANDS: readonly CommandRow[] = [
  read("get", "keys", "values"),
  read("gets", "keys", "values"),
  touch("gat", "keys", "values"),
  touch("gats", "keys", "values"),
  write("set"),
  write("add"),
  write("replace"),
  write("append"),
  write("prepend"),
  write("cas"),
  write("delete"),
  write("incr"),
  write("decr"),
  write("touch"),
  read("mg", "key", "meta"),
  // mg with a flag that writes: N makes the item, T gives it a new time to live.
  touch("mg_touch", "key", "meta"),
  write("ms", "key", "meta"),
  write("md", "key", "meta"),
  write("ma", "key", "meta"),
  read("me", "key", "meta"),
  { name: "flush_all", access: ["flush"], target: "all", shape: "line", mutates: true },
  { name: "stats", access: [], target: "all", shape: "stats", mutates: false },
  local("mn"),
  local("version"),
  local("verbosity"),
  local("noop"),
  local("quit"),
  local("login"),
  local("mechanisms"),
  local("invalid"),
];

/** Numbers of the commands: indexes into `COMMANDS`. */
export const Command = {
  get: 0,
  gets: 1,
  gat: 2,
  gats: 3,
  set: 4,
  add: 5,
  replace: 6,
  append: 7,
  prepend: 8,
  cas: 9,
  delete: 10,
  incr: 11,
  decr: 12,
  touch: 13,
  mg: 14,
  mg_touch: 15,
  ms: 16,
  md: 17,
  ma: 18,
  me: 19,
  flush_all: 20,
  stats: 21,
  mn: 22,
  version: 23,
  verbosity: 24,
  noop: 25,
  quit: 26,
  login: 27,
  mechanisms: 28,
  invalid: 29,
} as const;
export const COMMAND_COUNT = COMMANDS.length;

/** What became of a command; the `result` label of the metrics. Order is the number. */
export const RESULTS = [
  "ok", // done: stored, deleted, touched, counted, answered
  "hit",
  "miss",
  "not_stored", // add, replace, append on the wrong kind of presence
  "exists", // cas mismatch
  "not_found",
  "client_error",
  "server_error",
  "refused", // a right is missing, or not logged in
  "failed", // the shard did not answer; see the failure counters
] as const;
export const Result = {
  ok: 0,
  hit: 1,
  miss: 2,
  notStored: 3,
  exists: 4,
  notFound: 5,
  clientError: 6,
  serverError: 7,
  refused: 8,
  failed: 9,
} as const;
export const RESULT_COUNT = RESULTS.length;
