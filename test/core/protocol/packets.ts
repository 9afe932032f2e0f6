/**
 * Binary packets with what they are (protocol_binary.h, BinaryProtocolRevamped): every opcode that
 * memcached 1.6 answers in the shape it wants, and packets of wrong shape. Held against a real
 * memcached in memcached.test.ts.
 */
import type { Problem } from "../../../core/protocol/problem.ts";
import { type OPCODE, type PacketFields, packet } from "../../harness/wire.ts";

type Name = keyof typeof OPCODE;

export type PacketRow = {
  name: string;
  raw: Buffer;
  command: string;
  key: string;
  value: string;
  quiet: boolean;
  /** Why it is refused; framed if absent. */
  problem?: Problem;
  /** The size when refused, where it is not that of the packet as sent. */
  size?: number;
  /** Said in words why memcached is not asked about this one. */
  alone?: string;
  /** memcached closes behind its answer; we skip the body and go on. */
  closes?: boolean;
};

type Shape = Omit<PacketFields, "opcode" | "opaque">;

const uint32 = (...numbers: number[]): Buffer => {
  const bytes = Buffer.alloc(numbers.length * 4);
  numbers.forEach((number, index) => bytes.writeUInt32BE(number, index * 4));
  return bytes;
};

let opaque = 0x8000_0001;
function row(
  opcode: Name | number,
  command: string,
  fields: Shape,
  rest: Partial<PacketRow> = {},
): PacketRow {
  const { key = "", value = "" } = fields;
  return {
    name: `${opcode} ${rest.name ?? ""}`.trim(),
    raw: packet({ opcode, opaque: opaque++, ...fields }),
    command,
    key: key.toString("latin1"),
    value: value.toString("latin1"),
    quiet: typeof opcode === "string" && opcode.endsWith("q"),
    ...Object.fromEntries(Object.entries(rest).filter(([field]) => field !== "name")),
  };
}

const STORE = uint32(0xdead_beef, 0);
const COUNT = Buffer.concat([uint32(0, 1, 0, 40), uint32(0xffff_ffff)]);
const K250 = "k".repeat(250);
const K251 = "k".repeat(251);
const ANY_KEY = Buffer.from("\0\r\n \xff\x80key", "latin1");

const KEYED: [Name, string][] = [
  ...(["get", "getq", "getk", "getkq"] as const).map((name): [Name, string] => [name, "get"]),
  ["delete", "delete"],
  ["deleteq", "delete"],
];
const STORING = ["set", "setq", "add", "addq", "replace", "replaceq"] as const;
const JOINING = ["append", "appendq", "prepend", "prependq"] as const;
const COUNTING = ["increment", "incrementq", "decrement", "decrementq"] as const;
const TOUCHING = ["touch", "gat", "gatq", "gatk", "gatkq"] as const;
const loud = (name: string): string => name.replace(/q$/, "");
const countCommand = (name: string): string => (name.startsWith("inc") ? "incr" : "decr");
const touchCommand = (name: string): string => (name === "touch" ? "touch" : "gat");

const ANSWERED_HERE = "answered by the proxy itself";

const wellFormed: PacketRow[] = [
  ...KEYED.flatMap(([name, command]) => [
    row(name, command, { key: "key" }),
    row(name, command, { key: ANY_KEY, cas: 0xffff_ffff_ffff_ffffn }, { name: "of any bytes" }),
    row(name, command, { key: K250 }, { name: "of 250 bytes" }),
  ]),
  ...STORING.flatMap((name) => [
    row(name, loud(name), { key: "key", extras: STORE, value: "value" }),
    row(name, loud(name), { key: "key", extras: STORE, value: "" }, { name: "of nothing" }),
    row(
      name,
      loud(name),
      { key: "key", extras: STORE, value: "v", cas: 1n << 63n },
      { name: "with cas" },
    ),
    row(
      name,
      loud(name),
      { key: ANY_KEY, extras: STORE, value: "\x80\x01\0\r\n" },
      { name: "of any bytes" },
    ),
  ]),
  ...JOINING.map((name) => row(name, loud(name), { key: "key", value: "value" })),
  ...JOINING.map((name) => row(name, loud(name), { key: "key" }, { name: "of nothing" })),
  ...COUNTING.map((name) => row(name, countCommand(name), { key: "counter", extras: COUNT })),
  ...TOUCHING.map((name) => row(name, touchCommand(name), { key: "key", extras: uint32(100) })),
  row("noop", "noop", {}),
  row("version", "version", {}),
  row("flush", "flush_all", {}),
  row("flush", "flush_all", { extras: uint32(0) }, { name: "with a delay" }),
  row("flushq", "flush_all", {}),
  row("stat", "stats", {}, { alone: "answered by many packets" }),
  row("stat", "stats", { key: "items" }, { name: "items", alone: "answered by many packets" }),
  row("quit", "quit", {}, { alone: ANSWERED_HERE }),
  row("quitq", "quit", {}, { alone: ANSWERED_HERE }),
  row("verbosity", "verbosity", { extras: uint32(0) }, { alone: "memcached loses the framing" }),
  row("saslList", "mechanisms", {}, { alone: ANSWERED_HERE }),
  row("saslAuth", "login", { key: "PLAIN", value: "\0user\0pass" }, { alone: ANSWERED_HERE }),
  row("saslStep", "login", { key: "PLAIN", value: "\0user\0pass" }, { alone: ANSWERED_HERE }),
];

/** Refused as badFormat, after which memcached closes. */
const misshapen = (opcode: Name, command: string, fields: Shape, name: string): PacketRow =>
  row(opcode, command, fields, { name, problem: "badFormat", closes: true });

const refused: PacketRow[] = [
  misshapen("get", "get", {}, "without a key"),
  misshapen("get", "get", { key: "key", value: "value" }, "with a value"),
  misshapen("getkq", "get", { key: "key", extras: uint32(1) }, "with extras"),
  misshapen("get", "get", { key: K251 }, "of 251 bytes"),
  misshapen("set", "set", { key: "key", value: "value" }, "without extras"),
  misshapen(
    "setq",
    "set",
    { key: "key", extras: uint32(1), value: "value" },
    "with 4 bytes of extras",
  ),
  misshapen("set", "set", { extras: STORE, value: "value" }, "without a key"),
  misshapen("add", "add", { key: K251, extras: STORE, value: "value" }, "of 251 bytes"),
  misshapen("append", "append", { key: "key", extras: STORE, value: "v" }, "with extras"),
  misshapen("prependq", "prepend", { value: "value" }, "without a key"),
  misshapen("delete", "delete", { key: "key", extras: uint32(0) }, "with extras"),
  misshapen("delete", "delete", { key: "key", value: "v" }, "with a value"),
  misshapen("increment", "incr", { key: "key", extras: uint32(0, 1) }, "with 8 bytes of extras"),
  misshapen("decrement", "decr", { key: "key", extras: COUNT, value: "5" }, "with a value"),
  misshapen("touch", "touch", { key: "key" }, "without extras"),
  misshapen("gatkq", "gat", { extras: uint32(0) }, "without a key"),
  misshapen("noop", "noop", { value: "x" }, "with a value"),
  misshapen("version", "version", { key: "key" }, "with a key"),
  misshapen("flush", "flush_all", { extras: STORE }, "with 8 bytes of extras"),
  ...[0x1f, 0x25, 0x30, 0x50, 0x80, 0xff].map((opcode) =>
    row(opcode, "invalid", {}, { name: "is no opcode", problem: "error" }),
  ),
  row(
    0x50,
    "invalid",
    { key: "key", value: "value" },
    {
      name: "is no opcode, with a body",
      problem: "error",
      alone: "memcached reads the body as the next packet",
    },
  ),
];

export const PACKETS: readonly PacketRow[] = [...wellFormed, ...refused];
