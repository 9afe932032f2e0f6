/**
 * Conversations in the classic text dialect: retrieval, deletion, cas, counters, touch, expiry and
 * the session itself (protocol.txt, "Retrieval command" to "Other commands").
 */
import { type Conversation, dialectRows, type Row } from "./conversation.ts";
import {
  flagsAndBytes,
  GET_A,
  GETS_A,
  KIB,
  MIB,
  STORED_A,
  set,
  sizes,
  storage,
  store,
} from "./text-storage.ts";

const retrieval: Row[] = [
  ["get of a missing key", GET_A],
  ["gets of a missing key", GETS_A],
  ["get without a key", "get\r\n", "get \r\n", "gets\r\n"],
  ["get of two keys", STORED_A, set("<b>", "bcd"), "get <a> <b>\r\n", "get <b> <a>\r\n"],
  ["get of a hit between misses", STORED_A, "get <x> <a> <y>\r\n", "gets <x> <a> <y>\r\n"],
  ["get of the same key three times", STORED_A, "get <a> <a> <a>\r\n"],
  ["get of only misses", "get <x> <y> <z>\r\n"],
  ["get of 25 keys", STORED_A, `get${" <a>".repeat(24)} <b>\r\n`],
  [
    "get of 100 keys",
    STORED_A,
    set("<b>", "b"),
    set("<c>", "c"),
    `get${" <a> <x> <b> <c>".repeat(25)}\r\n`,
  ],
  [
    "gets of 100 keys",
    STORED_A,
    set("<b>", "b"),
    set("<c>", "c"),
    `gets${" <a> <x> <b> <c>".repeat(25)}\r\n`,
  ],
  [
    "get of 26 letters",
    ...[..."abcdefghijklmnopqrstuvwxyz"].map((k) => set(`<${k}>`, k)),
    `get${[..."abcdefghijklmnopqrstuvwxyz"].map((k) => ` <${k}>`).join("")}\r\n`,
  ],
  [
    "get of large and small values",
    set("<a>", "x".repeat(200 * KIB)),
    set("<b>", "y"),
    set("<c>", "z".repeat(70 * KIB)),
    "get <a> <b> <c>\r\n",
  ],
  ["get with many blanks", STORED_A, "get   <a>\r\n", "get <a>  \r\n", "  get <a>\r\n"],
  ["get with a key of 251 bytes", "get <251>\r\n"],
  ["get with a key of 251 bytes between good ones", STORED_A, "get <a> <251> <a>\r\n"],
  ["get in capitals", STORED_A, "GET <a>\r\n"],
  ["get with a tab", STORED_A, "get\t<a>\r\n"],
  ["line with a double carriage return", STORED_A, "get <a>\r\r\n"],
  ["values come back whole after a flood", STORED_A, GET_A.repeat(300)],
  ["gat of a missing key", "gat 100 <a>\r\n"],
  ["gat of a hit", STORED_A, "gat 100 <a>\r\n", "mg <a> t\r\n"],
  ["gat of several keys", STORED_A, set("<b>", "b"), "gat 100 <a> <x> <b>\r\n", "mg <b> t\r\n"],
  ["gats of several keys", STORED_A, set("<b>", "b"), "gats 100 <a> <x> <b>\r\n"],
  ["gats changes no cas", STORED_A, GETS_A, "gats 100 <a>\r\n", GETS_A],
  ["gat 0 never expires", STORED_A, "gat 100 <a>\r\n", "gat 0 <a>\r\n", "mg <a> t\r\n"],
  ["gat -1 expires", STORED_A, "gat -1 <a>\r\n", GET_A],
  ["gat bad forms", "gat\r\n", "gat 100\r\n", "gat abc <a>\r\n", "gats\r\n", "gat 100 <251>\r\n"],
];

const deletion: Row[] = [
  ["delete of a hit", STORED_A, "delete <a>\r\n", GET_A],
  ["delete of a miss", "delete <a>\r\n"],
  ["delete noreply", STORED_A, "delete <a> noreply\r\n", GET_A],
  ["delete noreply of a miss", "delete <a> noreply\r\n"],
  ["delete 0", STORED_A, "delete <a> 0\r\n", GET_A],
  ["delete 0 noreply", STORED_A, "delete <a> 0 noreply\r\n", GET_A],
  [
    "delete with a time",
    STORED_A,
    "delete <a> 1\r\n",
    "delete <a> -1\r\n",
    "delete <a> abc\r\n",
    GET_A,
  ],
  [
    "delete bad forms",
    "delete\r\n",
    "delete \r\n",
    "delete <a> 0 0\r\n",
    "delete <a> 0 noreply 1\r\n",
    "delete <a> <b>\r\n",
  ],
  ["delete with a key of 251 bytes", "delete <251>\r\n"],
  ["delete then add", STORED_A, "delete <a>\r\n", store("add <a> 0 0 #", "new"), GET_A],
];

const cas: Row[] = [
  ["cas matches", STORED_A, GETS_A, store("cas <a> 0 0 # <cas1>", "new"), GETS_A],
  ["cas mismatch", STORED_A, GETS_A, STORED_A, store("cas <a> 0 0 # <cas1>", "new"), GETS_A],
  ["cas of a missing key", store("cas <a> 0 0 # 1", "new"), GET_A],
  ["cas 0", STORED_A, store("cas <a> 0 0 # 0", "new"), GET_A],
  ["cas of 64 bits", STORED_A, store("cas <a> 0 0 # 18446744073709551615", "new"), GET_A],
  ["cas beyond 64 bits", STORED_A, store("cas <a> 0 0 # 18446744073709551616", "new"), GET_A],
  ["cas abc", STORED_A, store("cas <a> 0 0 # abc", "new"), GET_A],
  ["cas -1", STORED_A, store("cas <a> 0 0 # -1", "new"), GET_A],
  ["cas noreply", STORED_A, GETS_A, store("cas <a> 0 0 # <cas1>", "new", " noreply"), GET_A],
  [
    "cas noreply mismatch",
    STORED_A,
    GETS_A,
    STORED_A,
    store("cas <a> 0 0 # <cas1>", "new", " noreply"),
    GET_A,
  ],
  ["cas too few arguments", "cas <a> 0 0 3\r\n", "cas <a>\r\n", "cas\r\n"],
  ["cas too large", STORED_A, GETS_A, store("cas <a> 0 0 # <cas1>", "x".repeat(MIB)), GET_A],
  [
    "cas changes with each write",
    STORED_A,
    GETS_A,
    set("<a>", "1"),
    GETS_A,
    "incr <a> 1\r\n",
    GETS_A,
    store("append <a> 0 0 #", "0"),
    GETS_A,
    "touch <a> 100\r\n",
    GETS_A,
  ],
];

const number = (value: string, ...steps: string[]): string[] => [
  set("<a>", value),
  ...steps,
  GET_A,
];

const counters: Row[] = [
  ["incr", ...number("10", "incr <a> 5\r\n")],
  ["incr by 0", ...number("10", "incr <a> 0\r\n")],
  ["incr grows the length", ...number("99", "incr <a> 1\r\n")],
  ["incr keeps the flags", "set <a> 77 0 1\r\n5\r\n", "incr <a> 1\r\n", GET_A],
  ["incr noreply", ...number("10", "incr <a> 5 noreply\r\n")],
  ["incr of a missing key", "incr <a> 1\r\n", "decr <a> 1\r\n", GET_A],
  ["incr noreply of a missing key", "incr <a> 1 noreply\r\n", GET_A],
  ["incr wraps at 64 bits", ...number("18446744073709551615", "incr <a> 1\r\n")],
  ["incr to the largest", ...number("18446744073709551614", "incr <a> 1\r\n")],
  ["incr by the largest", ...number("5", "incr <a> 18446744073709551615\r\n")],
  ["incr beyond 53 bits", ...number("9007199254740993", "incr <a> 9007199254740993\r\n")],
  ["decr", ...number("10", "decr <a> 3\r\n")],
  ["decr stops at 0", ...number("10", "decr <a> 11\r\n")],
  [
    "decr pads to the old length",
    ...number("100", "decr <a> 1\r\n", "decr <a> 95\r\n", "incr <a> 1\r\n"),
  ],
  ["decr noreply", ...number("10", "decr <a> 1 noreply\r\n")],
  ["decr by the largest", ...number("10", "decr <a> 18446744073709551615\r\n")],
  ...[
    "abc",
    "",
    "12abc",
    " 12",
    "12 ",
    "1 2",
    "-5",
    "+5",
    "1.5",
    "0x10",
    "007",
    "18446744073709551616",
    "99999999999999999999999",
  ].map(
    (value): Row => [`incr on "${value}"`, ...number(value, "incr <a> 1\r\n", "decr <a> 2\r\n")],
  ),
  ...["-1", "abc", "1x", "", "1.5", "18446744073709551616"].map(
    (delta): Row => [`incr by "${delta}"`, ...number("10", `incr <a> ${delta}\r\n`)],
  ),
  [
    "incr bad forms",
    "incr\r\n",
    "incr <a>\r\n",
    "incr <a> 1 2 3\r\n",
    "incr <251> 1\r\n",
    "decr\r\n",
  ],
  ["incr with a third argument", ...number("10", "incr <a> 1 2\r\n")],
  ["a number that append made", ...number("1", store("append <a> 0 0 #", "5"), "incr <a> 1\r\n")],
];

const touch: Row[] = [
  ["touch of a hit", STORED_A, "touch <a> 100\r\n", "mg <a> t\r\n"],
  ["touch of a miss", "touch <a> 100\r\n"],
  ["touch 0", "set <a> 0 100 1\r\nx\r\n", "touch <a> 0\r\n", "mg <a> t\r\n"],
  ["touch -1", STORED_A, "touch <a> -1\r\n", GET_A],
  ["touch noreply", STORED_A, "touch <a> 100 noreply\r\n", "mg <a> t\r\n"],
  ["touch noreply of a miss", "touch <a> 100 noreply\r\n"],
  ["touch abc", STORED_A, "touch <a> abc\r\n", GET_A],
  ["touch bad forms", "touch\r\n", "touch <a>\r\n", "touch <a> 1 2 3\r\n", "touch <251> 100\r\n"],
];

/** A second more than the exptime of 2: clocks of servers tick once per second. */
const WAIT_MS = 3_200;
const waited = (send: string) => ({ send, waitMs: WAIT_MS });

const expiry: Row[] = [
  ["exptime 0", "set <a> 0 0 1\r\nx\r\n", "mg <a> t v\r\n"],
  ["exptime 100", "set <a> 0 100 1\r\nx\r\n", "mg <a> t v\r\n"],
  ["exptime -1", "set <a> 0 -1 1\r\nx\r\n", GET_A, store("add <a> 0 0 #", "y"), GET_A],
  ["exptime -1 over a value", STORED_A, "set <a> 0 -1 1\r\nx\r\n", GET_A],
  ["exptime -2147483648", "set <a> 0 -2147483648 1\r\nx\r\n", GET_A],
  ["exptime of exactly 30 days is relative", "set <a> 0 2592000 1\r\nx\r\n", "mg <a> t v\r\n"],
  ["exptime above 30 days is absolute", "set <a> 0 2592001 1\r\nx\r\n", GET_A],
  ["exptime absolute in the past", "set <a> 0 <now-100> 1\r\nx\r\n", GET_A],
  ["exptime absolute in the future", "set <a> 0 <now+95> 1\r\nx\r\n", "mg <a> t v\r\n"],
  ["exptime 2147483647", "set <a> 0 2147483647 1\r\nx\r\n", GET_A],
  ["exptime 4294967295 as Django sends it", "set <a> 0 4294967295 1\r\nx\r\n", GET_A],
  ["exptime 2 passes", "set <a> 0 2 1\r\nx\r\n", waited(GET_A), store("add <a> 0 0 #", "y"), GET_A],
  ["exptime 9 stays", "set <a> 0 9 1\r\nx\r\n", waited(GET_A)],
  ["exptime absolute passes", "set <a> 0 <now+2> 1\r\nx\r\n", waited(GET_A)],
  ["touch shortens", STORED_A, "touch <a> 2\r\n", waited(GET_A)],
  ["touch lengthens", "set <a> 0 2 1\r\nx\r\n", "touch <a> 100\r\n", waited(GET_A)],
  ["gat lengthens", "set <a> 0 2 1\r\nx\r\n", "gat 100 <a>\r\n", waited(GET_A)],
  [
    "append keeps the exptime",
    "set <a> 0 2 1\r\nx\r\n",
    store("append <a> 0 100 #", "y"),
    waited(GET_A),
  ],
  ["incr keeps the exptime", "set <a> 0 2 1\r\n5\r\n", "incr <a> 1\r\n", waited(GET_A)],
  [
    "expired: incr, decr, touch, delete, replace and append miss",
    "set <a> 0 2 1\r\n5\r\n",
    waited("incr <a> 1\r\n"),
    "decr <a> 1\r\n",
    "touch <a> 1\r\n",
    "delete <a>\r\n",
    store("replace <a> 0 0 #", "y"),
    store("append <a> 0 0 #", "y"),
  ],
];

const session: Row[] = [
  ["stats reset", "stats reset\r\n"],
  ["stats of a group that does not exist", "stats bogus\r\n"],
  ["version", "version\r\n", "version 1\r\n"],
  [
    "verbosity",
    "verbosity 0\r\n",
    "verbosity 0 noreply\r\n",
    "verbosity\r\n",
    "verbosity abc\r\n",
    "verbosity 0 1 2\r\n",
  ],
  ["quit", STORED_A, { send: "quit\r\n", end: "close" }],
  ["quit with an argument", { send: "quit now\r\n", end: "close" }],
  [
    "commands before a quit are answered",
    STORED_A,
    { send: `${GET_A}${GET_A}quit\r\n${GET_A}`, end: "close" },
  ],
  [
    "unknown command",
    "bogus\r\n",
    "bogus <a> 1 2\r\n",
    "getx <a>\r\n",
    "ge <a>\r\n",
    "sett <a> 0 0 1\r\n",
  ],
  ["unknown command with a data block", "store <a> 0 0 3\r\nabc\r\n"],
  ["empty line", "\r\n", "\n", "\r\n\r\n", " \r\n"],
  ["line of 3,000 bytes that is no get", `${"x".repeat(3_000)}\r\n`],
  ["endless line that is no get", { send: "x".repeat(20_000), end: "close" }],
  ["get of one key of 3,000 bytes", `get ${"x".repeat(3_000)}\r\n`],
  ["get line of 30 KB", STORED_A, `get${" <a> <x>".repeat(2_000)}\r\n`],
  [
    "pipeline of mixed commands",
    `${STORED_A}${GET_A}delete <a>\r\n${GET_A}${set("<b>", "5")}incr <b> 3\r\nget <a> <b>\r\nversion\r\nbogus\r\n${set("<c>", "c")}get <c> <b>\r\ntouch <c> 0\r\nmn\r\n`,
  ],
  [
    "pipeline with noreply",
    `set <a> 0 0 1 noreply\r\n1\r\nset <b> 0 0 1 noreply\r\n2\r\nincr <a> 1 noreply\r\nget <a> <b>\r\ndelete <b> noreply\r\nget <a> <b>\r\n`,
  ],
  [
    "pipeline with an error inside",
    `${STORED_A}set <b> 0 0 abc\r\n${GET_A}set <c> 0 0 1\r\nxyz\r\n${GET_A}`,
  ],
  [
    "pipeline of 1,000 sets and gets",
    Array.from(
      { length: 1_000 },
      (_, i) =>
        `set <a>${i % 37} 0 0 3\r\n${String(i).padStart(3, "0").slice(-3)}\r\nget <a>${i % 37} <a>${(i * 7) % 37}\r\n`,
    ).join(""),
  ],
];

/** These empty the whole cache, so they are held when nothing else is. */
const flush: Row[] = [
  ["flush_all", STORED_A, set("<b>", "b"), "flush_all\r\n", "get <a> <b>\r\n", STORED_A, GET_A],
  ["flush_all noreply", STORED_A, "flush_all noreply\r\n", GET_A],
  ["flush_all 0", STORED_A, "flush_all 0\r\n", GET_A, STORED_A, GET_A],
  ["flush_all 0 noreply", STORED_A, "flush_all 0 noreply\r\n", GET_A],
  ["flush_all later", STORED_A, "flush_all 100\r\n", GET_A, "flush_all 0\r\n"],
  [
    "flush_all after a second",
    STORED_A,
    "flush_all 1\r\n",
    { send: GET_A, waitMs: 2_150 },
    STORED_A,
    GET_A,
  ],
  ["flush_all bad forms", "flush_all abc\r\n", "flush_all 0 noreply 1\r\n", "flush_all 1 2\r\n"],
  ["flush_all -1", STORED_A, "flush_all -1\r\n", GET_A],
  [
    "flush_all then cas, incr, append miss",
    set("<a>", "1"),
    "flush_all\r\n",
    "incr <a> 1\r\n",
    store("append <a> 0 0 #", "x"),
    store("replace <a> 0 0 #", "x"),
    "touch <a> 0\r\n",
    "delete <a>\r\n",
    store("add <a> 0 0 #", "x"),
    GET_A,
  ],
];

export const textConversations: Conversation[] = [
  ...dialectRows("text", [
    ...storage,
    ...flagsAndBytes,
    ...sizes,
    ...retrieval,
    ...deletion,
    ...cas,
    ...counters,
    ...touch,
    ...expiry,
    ...session,
  ]),
  ...dialectRows("text", flush, true),
];
