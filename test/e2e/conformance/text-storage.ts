/**
 * Conversations in the classic text dialect about storing: the storage commands, their flags,
 * lengths and data blocks (protocol.txt, "Storage commands").
 */
import type { Row } from "./conversation.ts";

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const ALL_BYTES = String.fromCharCode(...Array.from({ length: 256 }, (_, byte) => byte));

/** A storage command with its data block, the declared size being the true one. */
export const store = (line: string, value: string, noreply = ""): string =>
  `${line.replace("#", String(value.length))}${noreply}\r\n${value}\r\n`;
export const set = (key: string, value: string): string => store(`set ${key} 0 0 #`, value);
export const STORED_A = set("<a>", "abc");
export const GET_A = "get <a>\r\n";
export const GETS_A = "gets <a>\r\n";

export const storage: Row[] = [
  ["set and get", STORED_A, GET_A],
  ["set twice keeps the second", STORED_A, set("<a>", "second"), GET_A],
  ["set noreply", "set <a> 0 0 3 noreply\r\nabc\r\n", GET_A],
  ["set of an empty value", set("<a>", ""), GET_A],
  ["set keeps CRLF inside the value", set("<a>", "a\r\nget b\r\n\r\nEND\r\n"), GET_A],
  ["set keeps all 256 byte values", set("<a>", ALL_BYTES), GET_A],
  ["set of 100 KiB", set("<a>", "x".repeat(100 * KIB)), GET_A],
  ["add of a new key", store("add <a> 5 0 #", "abc"), GET_A],
  ["add of a key that exists", STORED_A, store("add <a> 0 0 #", "new"), GET_A],
  ["add noreply of a new key", store("add <a> 0 0 #", "abc", " noreply"), GET_A],
  ["add noreply of a key that exists", STORED_A, store("add <a> 0 0 #", "new", " noreply"), GET_A],
  ["replace of a missing key", store("replace <a> 0 0 #", "abc"), GET_A],
  ["replace of a key that exists", STORED_A, store("replace <a> 7 0 #", "longer value"), GET_A],
  ["replace noreply", STORED_A, store("replace <a> 7 0 #", "new", " noreply"), GET_A],
  ["append to a missing key", store("append <a> 0 0 #", "abc"), GET_A],
  [
    "append keeps the flags",
    store("set <a> 9 0 #", "abc"),
    store("append <a> 1 0 #", "def"),
    GET_A,
  ],
  ["append noreply", STORED_A, store("append <a> 0 0 #", "def", " noreply"), GET_A],
  ["append of nothing", STORED_A, store("append <a> 0 0 #", ""), GET_A],
  ["prepend to a missing key", store("prepend <a> 0 0 #", "abc"), GET_A],
  [
    "prepend keeps the flags",
    store("set <a> 9 0 #", "abc"),
    store("prepend <a> 1 0 #", "x"),
    GET_A,
  ],
  ["prepend noreply", STORED_A, store("prepend <a> 0 0 #", "def", " noreply"), GET_A],
  ["key of 250 bytes", set("<250>", "abc"), "get <250>\r\n", "delete <250>\r\n", "get <250>\r\n"],
  ["set with a key of 251 bytes", set("<251>", "abc"), "get <a>\r\n"],
  [
    "keys may hold any printable byte",
    set("<a>/:;\x7f\xff\xc3\xa9", "v"),
    "get <a>/:;\x7f\xff\xc3\xa9\r\n",
  ],
];

export const flagsAndBytes: Row[] = [
  ...["0", "1", "65535", "65536", "2147483648", "4294967295", "007"].map(
    (flags): Row => [`flags ${flags}`, `set <a> ${flags} 0 1\r\nx\r\n`, GET_A],
  ),
  ...["4294967296", "18446744073709551615", "-1", "abc", "1x", "1.5"].map(
    (flags): Row => [`flags ${flags} are no 32-bit number`, `set <a> ${flags} 0 1\r\nx\r\n`, GET_A],
  ),
  ["bytes -1", STORED_A, "set <a> 0 0 -1\r\n", GET_A],
  ["bytes abc", STORED_A, "set <a> 0 0 abc\r\n", GET_A],
  ["bytes abc with a data block", "set <a> 0 0 abc\r\nversion\r\n", GET_A],
  ["bytes 2147483647", "set <a> 0 0 2147483647\r\n", GET_A],
  ["bytes 4294967296", STORED_A, "set <a> 0 0 4294967296\r\n", GET_A],
  ["exptime abc", "set <a> 0 abc 1\r\nx\r\n", GET_A],
  ["exptime 99999999999", "set <a> 0 99999999999 1\r\nx\r\n", GET_A],
  ["too few arguments", "set <a> 0 0\r\n", "set <a> 0\r\n", "set <a>\r\n", "set\r\n", "set \r\n"],
  ["too many arguments", "set <a> 0 0 3 noreply more\r\n", "set <a> 0 0 3 more\r\nabc\r\n", GET_A],
  ["data block longer than announced", "set <a> 0 0 3\r\nabcdef\r\n", GET_A],
  ["data block much longer than announced", "set <a> 0 0 3\r\nabcdefghijklmn\r\n", GET_A],
  [
    "data block shorter than announced",
    { send: "set <a> 0 0 10\r\nabc\r\n", end: "held" },
    "defgh\r\n",
    GET_A,
  ],
  ["bad data block keeps the old value", STORED_A, "set <a> 0 0 1\r\nxyz\r\n", GET_A],
  ["bad data block of a noreply set", "set <a> 0 0 1 noreply\r\nxyz\r\n", GET_A],
  [
    "data block ended by a bare newline",
    { send: "set <a> 0 0 3\r\nabc\n", end: "held" },
    "bogus\r\n",
    GET_A,
  ],
  ["command line ended by a bare newline", "set <a> 0 0 3\nabc\r\n", "get <a>\n"],
  [
    "command and data block arrive apart",
    { send: "set <a> 0 0 3\r\n", end: "held" },
    "abc\r\n",
    GET_A,
  ],
];

export const sizes: Row[] = [
  ["value of 1,000,000 bytes", set("<a>", "x".repeat(1_000_000)), GET_A],
  ["value of 1 MiB less 512", set("<a>", "x".repeat(MIB - 512)), GET_A],
  ["value of 1 MiB is too large", set("<a>", "x".repeat(MIB)), GET_A],
  ["value of 1 MiB and 1 is too large", set("<a>", "x".repeat(MIB + 1)), GET_A],
  ["value of 3 MiB is swallowed", set("<a>", "x".repeat(3 * MIB)), GET_A],
  ["too large drops the old value", STORED_A, set("<a>", "x".repeat(MIB)), GET_A],
  ["too large with noreply", store("set <a> 0 0 #", "x".repeat(MIB), " noreply"), GET_A],
  ["too large add drops nothing else", STORED_A, store("add <a> 0 0 #", "x".repeat(MIB)), GET_A],
  ["too large replace", STORED_A, store("replace <a> 0 0 #", "x".repeat(MIB)), GET_A],
  ["too large append", STORED_A, store("append <a> 0 0 #", "x".repeat(MIB)), GET_A],
  [
    "append beyond the limit",
    set("<a>", "x".repeat(600 * KIB)),
    store("append <a> 0 0 #", "y".repeat(600 * KIB)),
    GET_A,
  ],
  [
    "prepend beyond the limit",
    set("<a>", "x".repeat(600 * KIB)),
    store("prepend <a> 0 0 #", "y".repeat(600 * KIB)),
    GET_A,
  ],
];
