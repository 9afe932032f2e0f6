/**
 * Conversations in the binary dialect (protocol_binary.h and BinaryProtocolRevamped): every
 * opcode, quiet and loud, extras and cas, and packets of the wrong shape. Opaques are echoed, so
 * each packet carries one of its own.
 */
import {
  append,
  arithmetic,
  bare,
  expiring,
  GET_A,
  KIB,
  key,
  LARGEST,
  MIB,
  type Name,
  NO_CREATION,
  STORED_A,
  set,
  store,
  touch,
  uint32,
  waited,
} from "./binary-packets.ts";
import { type Conversation, dialectRows, type Row } from "./conversation.ts";

const retrieval: Row[] = [
  ["get of a hit", STORED_A, GET_A],
  ["get of a miss", GET_A],
  ["getk of a hit", STORED_A, key("getk")],
  ["getk of a miss", key("getk")],
  ["getq of a hit", STORED_A, key("getq")],
  ["getq of a miss", key("getq")],
  ["getkq of a hit", STORED_A, key("getkq")],
  ["getkq of a miss", key("getkq")],
  ["get of an empty value", set(""), GET_A, key("getk")],
  [
    "get echoes opaque of all bits",
    STORED_A,
    key("get", { opaque: 0xffff_ffff }),
    key("get", { opaque: 0x8000_0001 }),
  ],
  ["get ignores cas", STORED_A, key("get", { cas: LARGEST })],
  [
    "get of large and small values",
    set("x".repeat(200 * KIB)),
    set("y", { key: "<b>" }),
    [key("getk"), key("getk", { key: "<b>" }), key("getkq", { key: "<x>" })],
  ],
  [
    "keys of any bytes",
    set("v", { key: Buffer.from("\0\r\n \xff\x80\t\x7f conformance", "latin1") }),
    key("getk", { key: Buffer.from("\0\r\n \xff\x80\t\x7f conformance", "latin1") }),
    key("delete", { key: Buffer.from("\0\r\n \xff\x80\t\x7f conformance", "latin1") }),
  ],
  [
    "key of 250 bytes",
    set("v", { key: "<250>" }),
    key("getk", { key: "<250>" }),
    key("delete", { key: "<250>" }),
  ],
  [
    "100 getkq and a noop",
    set("1"),
    set("2", { key: "<b>" }),
    [
      ...Array.from({ length: 100 }, (_, i) =>
        key("getkq", { key: `<${"abxy"[i % 4]}>`, opaque: i }),
      ),
      bare("noop"),
    ],
  ],
  [
    "100 getq and a getk",
    set("1"),
    set("2", { key: "<b>" }),
    [
      ...Array.from({ length: 100 }, (_, i) =>
        key("getq", { key: `<${"abxy"[i % 4]}>`, opaque: i }),
      ),
      key("getk"),
    ],
  ],
  [
    "get of 26 letters",
    [
      ...[..."abcdefghijklmnopqrstuvwxyz"].map((k, i) => set(k, { key: `<${k}>`, opaque: i })),
      ...[..."abcdefghijklmnopqrstuvwxyz"].map((k, i) =>
        key("getkq", { key: `<${k}>`, opaque: i }),
      ),
    ],
  ],
  [
    "1,000 pipelined sets and gets",
    Array.from({ length: 1_000 }, (_, i) =>
      i % 3 === 0
        ? set(String(i), { key: `<a>${i % 37}`, opaque: i })
        : key("getk", { key: `<a>${(i * 7) % 37}`, opaque: i }),
    ),
  ],
];

const STORAGE = ["set", "add", "replace"] as const;
const JOINS = ["append", "prepend"] as const;
const quiet = (opcode: (typeof STORAGE | typeof JOINS)[number]): Name => `${opcode}q`;

const storage: Row[] = [
  ...STORAGE.flatMap((opcode): Row[] => [
    [`${opcode} on a miss`, store(opcode, "new"), GET_A],
    [`${opcode} on a hit`, STORED_A, store(opcode, "new"), GET_A],
    [`${quiet(opcode)} on a miss`, store(quiet(opcode), "new"), GET_A],
    [`${quiet(opcode)} on a hit`, STORED_A, store(quiet(opcode), "new"), GET_A],
    [`${opcode} with the right cas`, STORED_A, GET_A, store(opcode, "new", { cas: 1n }), GET_A],
    [
      `${opcode} with an old cas`,
      STORED_A,
      GET_A,
      STORED_A,
      store(opcode, "new", { cas: 1n }),
      GET_A,
    ],
    [
      `${quiet(opcode)} with an old cas`,
      STORED_A,
      GET_A,
      STORED_A,
      store(quiet(opcode), "new", { cas: 1n }),
      GET_A,
    ],
    [`${opcode} with a cas on a miss`, store(opcode, "new", { cas: 12345n }), GET_A],
    [`${quiet(opcode)} with a cas on a miss`, store(quiet(opcode), "new", { cas: 12345n }), GET_A],
    [`${opcode} too large`, STORED_A, store(opcode, "x".repeat(MIB + 1)), GET_A],
    [`${quiet(opcode)} too large`, STORED_A, store(quiet(opcode), "x".repeat(MIB + 1)), GET_A],
  ]),
  ...JOINS.flatMap((opcode): Row[] => [
    [`${opcode} on a miss`, append(opcode, "new"), GET_A],
    [`${opcode} on a hit`, STORED_A, append(opcode, "new"), GET_A],
    [`${quiet(opcode)} on a miss`, append(quiet(opcode), "new"), GET_A],
    [`${quiet(opcode)} on a hit`, STORED_A, append(quiet(opcode), "new"), GET_A],
    [`${opcode} with the right cas`, STORED_A, GET_A, append(opcode, "new", { cas: 1n }), GET_A],
    [
      `${opcode} with an old cas`,
      STORED_A,
      GET_A,
      STORED_A,
      append(opcode, "new", { cas: 1n }),
      GET_A,
    ],
    [`${opcode} of nothing`, STORED_A, append(opcode, ""), GET_A],
    [
      `${opcode} beyond the limit`,
      set("x".repeat(600 * KIB)),
      append(opcode, "y".repeat(600 * KIB)),
      GET_A,
    ],
  ]),
  ["set answers the cas that get shows", STORED_A, GET_A, set("def"), GET_A],
  [
    "set keeps all byte values",
    set(Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))),
    GET_A,
  ],
  [
    "set keeps flags of 32 bits",
    set("x", { extras: uint32(0xffff_ffff, 0) }),
    GET_A,
    set("x", { extras: uint32(0x8000_0000, 0) }),
    GET_A,
  ],
  ["set of 1,000,000 bytes", set("x".repeat(1_000_000)), GET_A],
  ["set of 1 MiB", STORED_A, set("x".repeat(MIB)), GET_A],
  ["set of 3 MiB is swallowed", STORED_A, set("x".repeat(3 * MIB)), GET_A],
  [
    "cas changes with each write",
    STORED_A,
    GET_A,
    set("1"),
    GET_A,
    arithmetic("increment", {}),
    GET_A,
    append("append", "0"),
    GET_A,
    touch("touch", 100),
    GET_A,
  ],
  ["cas of 64 bits", STORED_A, set("new", { cas: LARGEST }), GET_A],
  [
    "quiet sets and a noop",
    [
      store("setq", "1"),
      store("setq", "2", { key: "<b>" }),
      store("addq", "3", { opaque: 9 }),
      store("replaceq", "4", { key: "<x>", opaque: 10 }),
      store("addq", "5", { key: "<c>" }),
      bare("noop"),
    ],
    [key("getk"), key("getk", { key: "<b>" }), key("getk", { key: "<c>" })],
  ],
];

const deletion: Row[] = [
  ["delete of a hit", STORED_A, key("delete"), GET_A],
  ["delete of a miss", key("delete")],
  ["deleteq of a hit", STORED_A, key("deleteq"), GET_A],
  ["deleteq of a miss", key("deleteq")],
  ["delete with the right cas", STORED_A, GET_A, key("delete", { cas: 1n }), GET_A],
  [
    "delete with an old cas",
    STORED_A,
    GET_A,
    STORED_A,
    key("delete", { cas: 1n }),
    key("deleteq", { cas: 1n }),
    GET_A,
  ],
];

const COUNTERS = ["increment", "decrement"] as const;

const counters: Row[] = [
  ...COUNTERS.flatMap((opcode): Row[] => [
    [
      `${opcode} on a miss creates`,
      arithmetic(opcode, { delta: 5n, initial: 40n }),
      arithmetic(opcode, { delta: 5n, initial: 40n }),
      GET_A,
    ],
    [`${opcode} on a miss without creation`, arithmetic(opcode, { exptime: NO_CREATION }), GET_A],
    [`${opcode}q on a miss creates`, arithmetic(`${opcode}q`, { initial: 40n }), GET_A],
    [`${opcode}q on a miss without creation`, arithmetic(`${opcode}q`, { exptime: NO_CREATION })],
    [`${opcode} on a hit`, set("100"), arithmetic(opcode, {}), GET_A],
    [
      `${opcode} on a hit keeps its flags`,
      set("100", { extras: uint32(77, 0) }),
      arithmetic(opcode, {}),
      GET_A,
    ],
    [`${opcode}q on a hit`, set("100"), arithmetic(`${opcode}q`, { delta: 10n }), GET_A],
    [`${opcode} by 0`, set("100"), arithmetic(opcode, { delta: 0n }), GET_A],
    [`${opcode} by the largest`, set("100"), arithmetic(opcode, { delta: LARGEST }), GET_A],
    [`${opcode} from the largest`, set("18446744073709551615"), arithmetic(opcode, {}), GET_A],
    [`${opcode} creates the largest`, arithmetic(opcode, { initial: LARGEST }), GET_A],
    [
      `${opcode} on no number`,
      STORED_A,
      arithmetic(opcode, {}),
      arithmetic(`${opcode}q`, {}),
      GET_A,
    ],
    [`${opcode} on an empty value`, set(""), arithmetic(opcode, {}), GET_A],
    [`${opcode} with the right cas`, set("7"), GET_A, arithmetic(opcode, {}, { cas: 1n }), GET_A],
    [
      `${opcode} with an old cas`,
      set("7"),
      GET_A,
      set("7"),
      arithmetic(opcode, {}, { cas: 1n }),
      GET_A,
    ],
    [`${opcode} with a cas on a miss`, arithmetic(opcode, { initial: 3n }, { cas: 12345n }), GET_A],
    [
      `${opcode} creates with an expiry that passes`,
      arithmetic(opcode, { initial: 3n, exptime: 2 }),
      waited(GET_A),
    ],
  ]),
  [
    "decrement pads to the old length",
    set("100"),
    arithmetic("decrement", { delta: 95n }),
    GET_A,
    arithmetic("increment", {}),
    GET_A,
  ],
];

const times: Row[] = [
  ["touch of a hit", STORED_A, touch("touch", 100), GET_A],
  ["touch of a miss", touch("touch", 100)],
  ["gat of a hit", STORED_A, touch("gat", 100), GET_A],
  ["gat of a miss", touch("gat", 100)],
  ["gatq of a hit", STORED_A, touch("gatq", 100)],
  ["gatq of a miss", touch("gatq", 100)],
  ["gatk of a hit", STORED_A, touch("gatk", 100)],
  ["gatk of a miss", touch("gatk", 100)],
  ["gatkq of a hit", STORED_A, touch("gatkq", 100)],
  ["gatkq of a miss", touch("gatkq", 100)],
  ["touch shortens", STORED_A, touch("touch", 2), waited(GET_A)],
  ["gat lengthens", expiring(2), touch("gat", 100), waited(GET_A)],
  ["expiry passes", expiring(2), waited(GET_A)],
  ["expiry 9 stays", expiring(9), waited(GET_A)],
  ["expiry above 30 days is absolute", expiring(2_592_001), GET_A],
  ["expiry of exactly 30 days is relative", expiring(2_592_000), GET_A],
  ["expiry 0x7fffffff", expiring(0x7fff_ffff), GET_A],
  ["expiry 0xffffffff as Django sends it", expiring(0xffff_ffff), GET_A],
  ["touch 0xffffffff", STORED_A, touch("touch", 0xffff_ffff), GET_A],
];

const session: Row[] = [
  ["noop", bare("noop"), bare("noop", { opaque: 0xffff_ffff })],
  ["version", bare("version")],
  ["stat reset", bare("stat", { key: "reset" })],
  ["stat of a group that does not exist", bare("stat", { key: "bogus" })],
  ["quit", { send: bare("quit"), end: "close" }],
  ["quitq", { send: bare("quitq"), end: "close" }],
  [
    "commands before a quit are answered",
    STORED_A,
    { send: [GET_A, key("getkq"), bare("quit"), GET_A], end: "close" },
  ],
  [
    "unknown opcodes without a body",
    ...[0x1f, 0x25, 0x30, 0x3d, 0x40, 0x60, 0x80, 0xff].map((opcode) => bare(opcode)),
  ],
  ["unknown opcode with a body", bare(0x50, { key: "key", value: "value" }), GET_A],
  ["text in a binary session", { send: "get a\r\nget b\r\nget c\r\nget d\r\n", end: "close" }],
  ["magic of a response", { send: bare("get", { magic: 0x81, key: "<a>" }), end: "close" }],
];

/** Packets whose parts do not fit their opcode; each is followed by a get on the same session. */
const shapes: Row[] = [
  ["get without a key", bare("get"), GET_A],
  ["get with extras", key("get", { extras: uint32(1) }), GET_A],
  ["get with a value", key("get", { value: "value" }), GET_A],
  ["set without extras", key("set", { value: "value" }), GET_A],
  ["set with 4 bytes of extras", key("set", { value: "value", extras: uint32(1) }), GET_A],
  ["set with 12 bytes of extras", key("set", { value: "value", extras: uint32(1, 2, 3) }), GET_A],
  ["set without a key", bare("set", { extras: uint32(0, 0), value: "value" }), GET_A],
  ["add without extras", key("add", { value: "value" }), GET_A],
  ["replace without extras", key("replace", { value: "value" }), GET_A],
  ["append with extras", append("append", "x", { extras: uint32(0, 0) }), GET_A],
  ["append without a key", bare("append", { value: "value" }), GET_A],
  ["delete without a key", bare("delete"), GET_A],
  ["delete with extras", key("delete", { extras: uint32(0) }), GET_A],
  ["delete with a value", key("delete", { value: "value" }), GET_A],
  ["increment without extras", key("increment"), GET_A],
  ["increment with 8 bytes of extras", key("increment", { extras: uint32(0, 1) }), GET_A],
  ["increment with a value", arithmetic("increment", {}, { value: "5" }), GET_A],
  ["increment without a key", arithmetic("increment", {}, { key: "" }), GET_A],
  ["touch without extras", key("touch"), GET_A],
  ["touch with 8 bytes of extras", key("touch", { extras: uint32(0, 0) }), GET_A],
  ["touch without a key", bare("touch", { extras: uint32(100) }), GET_A],
  ["gat without extras", key("gat"), GET_A],
  ["gat with a value", touch("gat", 100, { value: "x" }), GET_A],
  ["noop with a key", bare("noop", { key: "key" }), GET_A],
  ["noop with a value", bare("noop", { value: "value" }), GET_A],
  ["version with a key", bare("version", { key: "key" }), GET_A],
  ["quit with a key", bare("quit", { key: "key" }), GET_A],
  ["flush with 8 bytes of extras", bare("flush", { extras: uint32(0, 0) }), GET_A],
  ["flush with a key", bare("flush", { key: "key" }), GET_A],
  ["verbosity", bare("verbosity", { extras: uint32(0) }), GET_A],
  ["verbosity without extras", bare("verbosity"), GET_A],
  ["key of 251 bytes", key("get", { key: "<251>" }), GET_A],
  ["set with a key of 251 bytes", set("abc", { key: "<251>" }), GET_A],
  ["getkq with a key of 251 bytes", key("getkq", { key: "<251>" }), GET_A],
  ["set with a key of 3,000 bytes", set("abc", { key: "<3000>" }), GET_A],
  [
    "key size beyond the body",
    { send: bare("get", { keySize: 20, bodySize: 4, value: "abcd" }), end: "close" },
  ],
  [
    "extras size beyond the body",
    { send: bare("set", { extrasSize: 20, bodySize: 4, value: "abcd" }), end: "close" },
  ],
  [
    "body of 4 GB",
    {
      send: bare("set", { keySize: 1, extrasSize: 8, bodySize: 0xffff_ffff, value: "abcd" }),
      end: "close",
    },
  ],
  [
    "body of 2 GB of an unknown opcode",
    { send: bare(0x50, { bodySize: 0x8000_0000 }), end: "close" },
  ],
  ["vbucket is ignored", STORED_A, key("get", { vbucket: 0x1234 })],
  ["data type is ignored", STORED_A, key("get", { dataType: 1 })],
];

const flush: Row[] = [
  ["flush", STORED_A, bare("flush"), GET_A, STORED_A, GET_A],
  ["flushq", STORED_A, bare("flushq"), GET_A],
  ["flush with extras 0", STORED_A, bare("flush", { extras: uint32(0) }), GET_A],
  ["flushq with extras 0", STORED_A, bare("flushq", { extras: uint32(0) }), GET_A],
  ["flush later", STORED_A, bare("flush", { extras: uint32(100) }), GET_A, bare("flush")],
  [
    "flush after a second",
    STORED_A,
    bare("flush", { extras: uint32(1) }),
    { send: GET_A, waitMs: 2_150 },
    STORED_A,
    GET_A,
  ],
];

export const binaryConversations: Conversation[] = [
  ...dialectRows("binary", [
    ...retrieval,
    ...storage,
    ...deletion,
    ...counters,
    ...times,
    ...session,
    ...shapes,
  ]),
  ...dialectRows("binary", flush, true),
];
