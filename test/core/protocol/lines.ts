/**
 * Text and meta command lines with what they are (protocol.txt). The expectations were made from
 * the document and are held against a real memcached in memcached.test.ts: what is framed here
 * it answers with exactly one reply, what is refused here it refuses in the same words.
 */
import type { Problem } from "../../../core/protocol/problem.ts";

export type LineRow = {
  /** The whole command; further bytes behind it are none of its business. */
  raw: string;
  command: string;
  key?: string;
  value?: string;
  quiet?: boolean;
  /** Why it is refused; framed if absent. */
  problem?: Problem;
  /** Said in words why memcached is not asked about this one. */
  alone?: string;
  /** The block is read as commands by memcached, and skipped by us. */
  skips?: boolean;
};

const K250 = "k".repeat(250);
const K251 = "k".repeat(251);
const framed = (raw: string, command: string, rest: Partial<LineRow> = {}): LineRow => ({
  raw,
  command,
  ...rest,
});
const refused = (
  raw: string,
  command: string,
  problem: Problem,
  rest: Partial<LineRow> = {},
): LineRow => ({ raw, command, problem, ...rest });

const storage: LineRow[] = [
  framed("set key 0 0 5\r\nhello\r\n", "set", { key: "key", value: "hello" }),
  framed("add key 1 2 3\r\nabc\r\n", "add", { key: "key", value: "abc" }),
  framed("replace key 1 2 3\r\nabc\r\n", "replace", { key: "key", value: "abc" }),
  framed("append key 1 2 3\r\nabc\r\n", "append", { key: "key", value: "abc" }),
  framed("prepend key 1 2 3\r\nabc\r\n", "prepend", { key: "key", value: "abc" }),
  framed("cas key 0 0 3 18446744073709551615\r\nabc\r\n", "cas", { key: "key", value: "abc" }),
  framed("cas key 0 0 3 1 noreply\r\nabc\r\n", "cas", { key: "key", value: "abc", quiet: true }),
  framed("set key 0 0 0\r\n\r\n", "set", { key: "key", value: "" }),
  framed("set key 0 0 4\r\n\r\n\r\n\r\n", "set", { key: "key", value: "\r\n\r\n" }),
  framed("set key 0 0 9\r\nEND\r\nSTO\n\r\n", "set", { key: "key", value: "END\r\nSTO\n" }),
  framed("set key 0 0 1\na\r\n", "set", { key: "key", value: "a" }),
  framed("set key 0 0 1 noreply\r\na\r\n", "set", { key: "key", value: "a", quiet: true }),
  framed("set key 0 0 1 whatever\r\na\r\n", "set", { key: "key", value: "a" }),
  framed("  set   key  0  0   1   noreply  \r\na\r\n", "set", {
    key: "key",
    value: "a",
    quiet: true,
  }),
  framed("set noreply 0 0 1\r\na\r\n", "set", { key: "noreply", value: "a" }),
  framed("set key 4294967295 -1 1\r\na\r\n", "set", { key: "key", value: "a" }),
  framed("set key 18446744073709551615 9223372036854775807 1\r\na\r\n", "set", {
    key: "key",
    value: "a",
  }),
  framed("set key +5 +5 1\r\na\r\n", "set", { key: "key", value: "a" }),
  framed("set key 0 0 +1\r\na\r\n", "set", { key: "key", value: "a" }),
  framed("set key 0 0 0000000001\r\na\r\n", "set", { key: "key", value: "a" }),
  framed(`set ${K250} 0 0 1\r\na\r\n`, "set", { key: K250, value: "a" }),
  framed("set \x01\x7f\xff\t\r 0 0 1\r\na\r\n", "set", { key: "\x01\x7f\xff\t\r", value: "a" }),
  refused("set\r\n", "set", "error"),
  refused("set key\r\n", "set", "error"),
  refused("set key 0 0\r\n", "set", "error"),
  refused("set key 0 0 1 2 3\r\n", "set", "error"),
  refused("cas key 0 0 1\r\n", "cas", "error"),
  refused("cas key 0 0 1 2 3 4\r\n", "cas", "error"),
  refused("set key 0 0 abc\r\n", "set", "badFormat"),
  refused("set key 0 0 1x\r\n", "set", "badFormat"),
  refused("set key 0 0 -1\r\n", "set", "badFormat"),
  refused("set key 0 0 -1 noreply\r\n", "set", "badFormat", { quiet: true }),
  refused("set key 0 0 noreply\r\n", "set", "badFormat", { quiet: true }),
  refused("set key 0 0 2147483648\r\n", "set", "badFormat"),
  refused("set key 0 0 99999999999999999999\r\n", "set", "badFormat"),
  refused("set key abc 0 1\r\na\r\n", "set", "badFormat", { skips: true }),
  refused("set key -1 0 1\r\na\r\n", "set", "badFormat", { skips: true }),
  refused("set key 18446744073709551616 0 1\r\na\r\n", "set", "badFormat", { skips: true }),
  refused("set key 0 abc 1\r\na\r\n", "set", "badFormat", { skips: true }),
  refused("set key 0 1.5 1 noreply\r\na\r\n", "set", "badFormat", { skips: true, quiet: true }),
  refused("set key 0 9223372036854775808 1\r\na\r\n", "set", "badFormat", { skips: true }),
  refused("set key 0 -9223372036854775809 1\r\na\r\n", "set", "badFormat", { skips: true }),
  refused("cas key 0 0 1 abc\r\na\r\n", "cas", "badFormat", { skips: true }),
  refused("cas key 0 0 1 -1\r\na\r\n", "cas", "badFormat", { skips: true }),
  refused("cas key 0 0 1 18446744073709551616\r\na\r\n", "cas", "badFormat", { skips: true }),
  refused("cas key 0 0 1 noreply\r\na\r\n", "cas", "badFormat", { skips: true, quiet: true }),
  refused(`set ${K251} 0 0 1\r\na\r\n`, "set", "badFormat", { skips: true }),
  refused("set key 0 0 3\r\nabcde", "set", "badChunk"),
  refused("set key 0 0 3\r\nabc\n\n", "set", "badChunk"),
  refused("set key 0 0 3\r\nabc\r\r", "set", "badChunk"),
  refused("set key 0 0 3 noreply\r\nabcde", "set", "badChunk", { quiet: true }),
];

const retrieval: LineRow[] = [
  framed("get key\r\n", "get", { key: "key" }),
  framed("get key\n", "get", { key: "key" }),
  framed("get a b c a\r\n", "get", { key: "a" }),
  framed(" get  a  b \r\n", "get", { key: "a" }),
  framed("gets key\r\n", "gets", { key: "key" }),
  framed("gat 0 key\r\n", "gat", { key: "key" }),
  framed("gat -1 key\r\n", "gat", { key: "key" }),
  framed("gats 2592001 a b\r\n", "gats", { key: "a" }),
  framed("gat 10\r\n", "gat"),
  framed("get key\r\r\n", "get", { key: "key\r" }),
  framed("get \r\r\n", "get", { key: "\r" }),
  framed(`get ${K250} ${K250}\r\n`, "get", { key: K250 }),
  framed(`get${" k".repeat(100)}\r\n`, "get", { key: "k" }),
  framed(`get${` ${K250}`.repeat(100)}\r\n`, "get", { key: K250 }),
  refused("get\r\n", "get", "error"),
  refused("get \r\n", "get", "error"),
  refused("gat\r\n", "gat", "error"),
  refused("gat key\r\n", "gat", "badExptime"),
  refused("gats abc key\r\n", "gats", "badExptime"),
  refused(`get ${K251}\r\n`, "get", "badFormat"),
  refused(`gat 0 ${K251}\r\n`, "gat", "badFormat"),
  refused(`get a ${K251}\r\n`, "get", "badFormat"),
  refused(`get${" k".repeat(30)} ${K251}\r\n`, "get", "badFormat"),
];

const keyLines: LineRow[] = [
  framed("delete key\r\n", "delete", { key: "key" }),
  framed("delete key 0\r\n", "delete", { key: "key" }),
  framed("delete key noreply\r\n", "delete", { key: "key", quiet: true }),
  framed("delete key 0 noreply\r\n", "delete", { key: "key", quiet: true }),
  framed("delete noreply\r\n", "delete", { key: "noreply" }),
  framed("incr key 5\r\n", "incr", { key: "key" }),
  framed("incr key 18446744073709551615\r\n", "incr", { key: "key" }),
  framed("decr key 5 noreply\r\n", "decr", { key: "key", quiet: true }),
  framed("incr key abc\r\n", "incr", { key: "key" }),
  framed("incr key -1\r\n", "incr", { key: "key" }),
  framed("incr noreply 1\r\n", "incr", { key: "noreply" }),
  framed("touch key 0\r\n", "touch", { key: "key" }),
  framed("touch key -1 noreply\r\n", "touch", { key: "key", quiet: true }),
  framed(`delete ${K250}\r\n`, "delete", { key: K250 }),
  refused("delete\r\n", "delete", "error"),
  refused("delete key 1 2 3\r\n", "delete", "error"),
  refused("incr key\r\n", "incr", "error"),
  refused("incr key 1 2 3\r\n", "incr", "error"),
  refused("touch key\r\n", "touch", "error"),
  refused("incr key noreply\r\n", "incr", "badFormat", { quiet: true }),
  refused("decr key noreply\r\n", "decr", "badFormat", { quiet: true }),
  refused("touch key noreply\r\n", "touch", "badFormat", { quiet: true }),
  refused("touch noreply noreply\r\n", "touch", "badFormat", { quiet: true }),
  refused("delete key noreply noreply\r\n", "delete", "badFormat", { quiet: true }),
  refused(`delete ${K251}\r\n`, "delete", "badFormat"),
  refused(`incr ${K251} 1\r\n`, "incr", "badFormat"),
  refused(`touch ${K251} 0 noreply\r\n`, "touch", "badFormat", { quiet: true }),
];

const meta: LineRow[] = [
  framed("mg key\r\n", "mg", { key: "key" }),
  framed("mg key v s k O123 f c\r\n", "mg", { key: "key" }),
  framed("mg key v q\r\n", "mg", { key: "key", quiet: true }),
  framed("mg key q v\r\n", "mg", { key: "key", quiet: true }),
  framed("mg key qqq v\r\n", "mg", { key: "key", quiet: true }),
  framed("mg  key   q   k \n", "mg", { key: "key", quiet: true }),
  framed("mg key Oq\r\n", "mg", { key: "key" }),
  framed("mg key N30 v\r\n", "mg_touch", { key: "key" }),
  framed("mg key T30\r\n", "mg_touch", { key: "key" }),
  framed("mg key !\r\n", "mg", { key: "key" }),
  framed("ms key 3\r\nabc\r\n", "ms", { key: "key", value: "abc" }),
  framed("ms key 0\r\n\r\n", "ms", { key: "key", value: "" }),
  framed("ms key 2 q T0 F5 MA\r\n\r\n\r\n", "ms", { key: "key", value: "\r\n", quiet: true }),
  framed("ms a2V5 3 b\r\nabc\r\n", "ms", { key: "a2V5", value: "abc" }),
  framed("ms key 3 MX !\r\nabc\r\n", "ms", { key: "key", value: "abc" }),
  framed("ms key +3\r\nabc\r\n", "ms", { key: "key", value: "abc" }),
  framed(`ms key 3${" P1".repeat(16)}\r\nabc\r\n`, "ms", { key: "key", value: "abc" }),
  framed("md key\r\n", "md", { key: "key" }),
  framed("md key q k\r\n", "md", { key: "key", quiet: true }),
  framed("ma key N0 J13 v\r\n", "ma", { key: "key" }),
  framed("ma key q\r\n", "ma", { key: "key", quiet: true }),
  framed("me key\r\n", "me", { key: "key" }),
  framed("me key q q\r\n", "me", { key: "key" }),
  framed(`mg ${K250} v\r\n`, "mg", { key: K250 }),
  framed("mn\r\n", "mn"),
  framed("mn with words\r\n", "mn"),
  refused("mg\r\n", "mg", "error"),
  refused("ms\r\n", "ms", "error"),
  refused("md \r\n", "md", "error"),
  refused("me\r\n", "me", "badFormat"),
  refused("ms key\r\n", "ms", "badFormat"),
  refused("ms key abc\r\n", "ms", "badFormat"),
  refused("ms key -1\r\n", "ms", "badFormat"),
  refused("ms key T0\r\n", "ms", "badFormat"),
  refused("ms key 3\r\nabcde", "ms", "badChunk"),
  refused(`mg ${K251}\r\n`, "mg", "badFormat"),
  refused(`md ${K251} q\r\n`, "md", "badFormat"),
  refused(`ms ${K251} 3\r\nabc\r\n`, "ms", "badFormat", { skips: true }),
  refused("mg key q q\r\n", "mg", "duplicateFlag"),
  refused("ms key 3 q qx\r\nabc\r\n", "ms", "duplicateFlag"),
  refused("md key q q\r\n", "md", "invalidOrDuplicateFlag"),
  refused("ma key q v q\r\n", "ma", "invalidOrDuplicateFlag"),
  refused(`mg key${" P1".repeat(18)}\r\n`, "mg", "flagsAreTooLong"),
  refused(`mg key${" P1".repeat(40)}\r\n`, "mg", "flagsAreTooLong"),
  refused(`md key${" P1".repeat(40)}\r\n`, "md", "flagsTooLong"),
  refused(`ms key 3${" P1".repeat(17)}\r\nabc\r\n`, "ms", "flagsTooLong", { skips: true }),
  refused(`ms key 3${" P1".repeat(40)}\r\nabc\r\n`, "ms", "flagsTooLong", { skips: true }),
];

const ANSWERED_HERE = "answered by the proxy itself";
const CUT_AT_NUL = "memcached ends the line at the NUL";

const others: LineRow[] = [
  framed("version\r\n", "version", { alone: ANSWERED_HERE }),
  framed("version and words\r\n", "version", { alone: ANSWERED_HERE }),
  framed("quit\r\n", "quit", { alone: ANSWERED_HERE }),
  framed("stats\r\n", "stats", { alone: ANSWERED_HERE }),
  framed("stats items\r\n", "stats", { alone: ANSWERED_HERE }),
  framed("verbosity 0\r\n", "verbosity"),
  framed("verbosity 0 noreply\r\n", "verbosity", { quiet: true }),
  framed("verbosity noreply\r\n", "verbosity", { quiet: true }),
  framed("flush_all\r\n", "flush_all"),
  framed("flush_all 0\r\n", "flush_all"),
  framed("flush_all -1\r\n", "flush_all"),
  framed("flush_all noreply\r\n", "flush_all", { quiet: true }),
  framed("flush_all 0 noreply\r\n", "flush_all", { quiet: true }),
  refused("flush_all abc\r\n", "flush_all", "badExptime"),
  refused("flush_all 1 2 3\r\n", "flush_all", "error"),
  refused("verbosity\r\n", "verbosity", "error"),
  refused("verbosity 1 2 3\r\n", "verbosity", "error"),
  refused("verbosity abc\r\n", "verbosity", "badFormat"),
  refused("\r\n", "invalid", "error"),
  refused("\n", "invalid", "error"),
  refused("   \r\n", "invalid", "error"),
  refused("unknown\r\n", "invalid", "error"),
  refused("GET key\r\n", "invalid", "error"),
  refused("getx key\r\n", "invalid", "error"),
  refused("ge key\r\n", "invalid", "error"),
  refused("mx key\r\n", "invalid", "error"),
  refused("m\r\n", "invalid", "error"),
  refused("set\tkey 0 0 1\r\n", "invalid", "error"),
  refused("\x80get key\r\n", "invalid", "error", { alone: "a binary packet to memcached" }),
  refused("set key\0 0 0 1\r\na\r\n", "set", "badFormat", { alone: CUT_AT_NUL }),
  refused("set key\0 0 0 1\r\nabc", "set", "badFormat", { alone: CUT_AT_NUL }),
  refused("get key\0\r\n", "get", "badFormat", { alone: CUT_AT_NUL }),
  refused("get a b\0c d\r\n", "get", "badFormat", { alone: CUT_AT_NUL }),
  refused("incr key 1 noreply\0\r\n", "incr", "badFormat", { alone: CUT_AT_NUL }),
  refused("mg key \0q\r\n", "mg", "badFormat", { alone: CUT_AT_NUL }),
  refused(`get${" k".repeat(40)} \0\r\n`, "get", "badFormat", { alone: CUT_AT_NUL }),
];

export const LINES: readonly LineRow[] = [
  ...storage,
  ...retrieval,
  ...keyLines,
  ...meta,
  ...others,
];
