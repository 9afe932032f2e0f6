/**
 * Framing of replies, recorded from a real memcached in this run: the end of each must be found
 * exactly, with other replies behind it and whatever part of it has come, and its result known.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { Command, RESULTS, Result } from "../../../core/protocol/command.ts";
import { isQuietMetaResult } from "../../../core/protocol/meta.ts";
import { describeWith } from "../../e2e/suite.ts";
import { type Memcached, startMemcached } from "../../harness/processes.ts";
import { connect, type PacketFields, packet, printable, type Wire } from "../../harness/wire.ts";
import { bytesOf, type Dialect, lookAtEveryCutOfReply, lookAtReply } from "./look.ts";

type CommandName = keyof typeof Command;
type ResultName = (typeof RESULTS)[number];

let memcached: Memcached;
let wire: Wire;
let keyCount = 0;

/** Each reply recorded so far, with its command: pipelines are made of them. */
const recorded: Record<Dialect, { command: number; raw: Buffer }[]> = { text: [], binary: [] };

const UNIQUE_END = "md never-stored Oend\r\n";
const UNIQUE_END_ANSWER = "NF Oend\r\n";

/** The reply of memcached to `line`, to the byte. `setup` is sent before and its replies dropped. */
async function recordText(setup: string, line: string): Promise<Buffer> {
  const end = Buffer.from(UNIQUE_END_ANSWER);
  if (setup !== "") await wire.ask(setup + UNIQUE_END, end);
  const answer = await wire.ask(line + UNIQUE_END, end);
  return answer.subarray(0, answer.length - end.length);
}

const LAST = packet({ opcode: "noop", opaque: 0xffff_fffe });
const LAST_ANSWER = packet({ opcode: "noop", opaque: 0xffff_fffe, magic: 0x81 });

async function recordBinary(setup: Buffer, request: Buffer): Promise<Buffer> {
  const other = await connect(memcached.address);
  await other.ask(Buffer.concat([setup, LAST]), LAST_ANSWER);
  const answer = await other.ask(Buffer.concat([request, LAST]), LAST_ANSWER);
  other.close();
  return answer.subarray(0, answer.length - LAST_ANSWER.length);
}

function expectFramed(
  dialect: Dialect,
  command: CommandName,
  raw: Buffer,
  { result, valueCount = 0 }: { result: ResultName; valueCount?: number },
): void {
  const number = Command[command];
  const expected = {
    verdict: "framed",
    size: raw.length,
    result: RESULTS.indexOf(result),
    valueCount,
  };
  expect(raw.length, "memcached said nothing").toBeGreaterThan(0);
  expect(lookAtReply(dialect, number, raw), printable(raw).slice(0, 200)).toEqual(expected);
  lookAtEveryCutOfReply(dialect, number, raw);
  for (const behind of [raw, raw.subarray(0, 1), Buffer.from("\r\n"), Buffer.alloc(30, 0x81)]) {
    const both = Buffer.concat([raw, behind]);
    expect(lookAtReply(dialect, number, both)).toEqual(expected);
  }
  recorded[dialect].push({ command: number, raw });
}

/** `K` becomes a key of its own, `set` its storing with the value 10. */
type TextCase = [
  command: CommandName,
  line: string,
  result: ResultName,
  setup?: string,
  valueCount?: number,
];

const SET = "set K 5 0 2\r\n10\r\n";
const BIG = "x".repeat(200_000);
const AWKWARD = "END\r\nVALUE K 0 3\r\nSTORED\r\n\0\n";
const KEYS = Array.from({ length: 30 }, (_, index) => `K${index}`);

const TEXT: TextCase[] = [
  ["get", "get K\r\n", "miss"],
  ["get", "get K\r\n", "hit", SET, 1],
  ["get", "get K nothing K K2\r\n", "hit", SET, 2],
  [
    "get",
    `get ${KEYS.join(" ")}\r\n`,
    "hit",
    KEYS.map((key) => SET.replace("K", key)).join(""),
    30,
  ],
  ["get", "get K\r\n", "hit", "set K 0 0 0\r\n\r\n", 1],
  ["get", "get K\r\n", "hit", `set K 0 0 ${AWKWARD.length}\r\n${AWKWARD}\r\n`, 1],
  ["get", "get K\r\n", "hit", `set K 4294967295 0 ${BIG.length}\r\n${BIG}\r\n`, 1],
  ["get", "get K K\r\n", "hit", `set K 0 0 1048000\r\n${"y".repeat(1_048_000)}\r\n`, 2],
  ["gets", "gets K\r\n", "hit", SET, 1],
  ["gets", "gets K nothing K\r\n", "hit", SET, 2],
  ["gets", "gets K\r\n", "miss"],
  ["gat", "gat 0 K\r\n", "hit", SET, 1],
  ["gat", "gat 0 K\r\n", "miss"],
  ["gats", "gats 100 K K\r\n", "hit", SET, 2],
  ["gat", "gat 99999999999999999999 K\r\n", "client_error", SET],
  ["set", SET, "ok"],
  ["set", `set K 0 0 1048576\r\n${"x".repeat(1_048_576)}\r\n`, "server_error"],
  ["add", "add K 0 0 1\r\nx\r\n", "ok"],
  ["add", "add K 0 0 1\r\nx\r\n", "not_stored", SET],
  ["replace", "replace K 0 0 1\r\nx\r\n", "not_stored"],
  ["append", "append K 0 0 1\r\nx\r\n", "not_stored"],
  ["prepend", "prepend K 0 0 1\r\nx\r\n", "ok", SET],
  ["cas", "cas K 0 0 1 99999999\r\nx\r\n", "exists", SET],
  ["cas", "cas K 0 0 1 99999999\r\nx\r\n", "not_found"],
  ["delete", "delete K\r\n", "ok", SET],
  ["delete", "delete K\r\n", "not_found"],
  ["delete", "delete K 5\r\n", "client_error"],
  ["incr", "incr K 5\r\n", "ok", SET],
  ["incr", "incr K 18446744073709551605\r\n", "ok", SET],
  ["decr", "decr K 5\r\n", "ok", SET],
  ["decr", "decr K 5\r\n", "not_found"],
  ["incr", "incr K abc\r\n", "client_error", SET],
  ["incr", "incr K 1\r\n", "client_error", "set K 0 0 3\r\nabc\r\n"],
  ["touch", "touch K 0\r\n", "ok", SET],
  ["touch", "touch K 0\r\n", "not_found"],
  ["touch", "touch K abc\r\n", "client_error"],
  ["mg", "mg K\r\n", "miss"],
  ["mg", "mg K v k O77 s\r\n", "miss"],
  ["mg", "mg K O1\r\n", "miss"],
  ["mg", "mg K\r\n", "hit", SET],
  ["mg", "mg K v\r\n", "hit", SET],
  ["mg", "mg K s v f c t k O12 h l\r\n", "hit", SET],
  ["mg", "mg K v k\r\n", "hit", `set K 0 0 ${AWKWARD.length}\r\n${AWKWARD}\r\n`],
  ["mg", "mg K v s\r\n", "hit", "set K 0 0 0\r\n\r\n"],
  ["mg", "mg K v s\r\n", "hit", `set K 0 0 ${BIG.length}\r\n${BIG}\r\n`],
  ["mg", "mg K !\r\n", "client_error", SET],
  ["mg_touch", "mg K N30 v t\r\n", "hit"],
  ["mg_touch", "mg K T30 v t\r\n", "hit", SET],
  ["mg_touch", "mg K T30 v t\r\n", "miss"],
  ["ms", "ms K 2\r\nab\r\n", "ok"],
  ["ms", "ms K 2 k c O9\r\nab\r\n", "ok"],
  ["ms", "ms K 2 ME\r\nab\r\n", "not_stored", SET],
  ["ms", "ms K 2 MR k O3\r\nab\r\n", "not_stored"],
  ["ms", "ms K 2 C999999 k\r\nab\r\n", "exists", SET],
  ["ms", "ms K 2 C999999\r\nab\r\n", "not_found"],
  ["ms", "ms K 2 !\r\nab\r\n", "client_error"],
  ["ms", "ms K 2 MX\r\nab\r\n", "client_error"],
  ["md", "md K\r\n", "ok", SET],
  ["md", "md K k O5\r\n", "not_found"],
  ["md", "md K C999999\r\n", "exists", SET],
  ["md", "md K !\r\n", "client_error"],
  ["ma", "ma K\r\n", "ok", SET],
  ["ma", "ma K v t c k O1\r\n", "hit", SET],
  ["ma", "ma K\r\n", "not_found"],
  ["ma", "ma K N0 J13 v\r\n", "hit"],
  ["ma", "ma K\r\n", "client_error", "set K 0 0 3\r\nabc\r\n"],
  ["me", "me K\r\n", "ok", SET],
  ["me", "me K\r\n", "miss"],
  ["mn", "mn\r\n", "ok"],
  ["stats", "stats\r\n", "ok"],
  ["stats", "stats settings\r\n", "ok"],
  ["stats", "stats items\r\n", "ok"],
  ["stats", "stats reset\r\n", "ok"],
  ["stats", "stats nonsense\r\n", "client_error"],
  ["verbosity", "verbosity 0\r\n", "ok"],
  ["flush_all", "flush_all abc\r\n", "client_error"],
  ["get", "gex K\r\n", "client_error"],
];

type BinaryCase = [
  command: CommandName,
  request: PacketFields,
  result: ResultName,
  setup?: PacketFields[],
];

const EXTRAS = Buffer.alloc(8);
const STORE = { key: "K", extras: EXTRAS, value: "10" } as const;
const BINARY_SET: PacketFields[] = [{ opcode: "set", ...STORE }];
const countExtras = (exptime: number): Buffer => {
  const extras = Buffer.alloc(20);
  extras.writeUInt32BE(exptime, 16);
  return extras;
};

const BINARY: BinaryCase[] = [
  ["get", { opcode: "get", key: "K" }, "miss"],
  ["get", { opcode: "get", key: "K" }, "hit", BINARY_SET],
  ["get", { opcode: "getk", key: "K" }, "hit", BINARY_SET],
  ["get", { opcode: "getk", key: "K" }, "miss"],
  ["get", { opcode: "get", key: "K" }, "hit", [{ opcode: "set", ...STORE, value: BIG }]],
  ["get", { opcode: "get", key: "K" }, "hit", [{ opcode: "set", ...STORE, value: "" }]],
  ["set", { opcode: "set", ...STORE }, "ok"],
  ["set", { opcode: "set", ...STORE, cas: 99_999_999n }, "exists", BINARY_SET],
  ["set", { opcode: "set", ...STORE, cas: 99_999_999n }, "not_found"],
  ["set", { opcode: "set", ...STORE, value: "x".repeat(1_048_600) }, "client_error"],
  ["add", { opcode: "add", ...STORE }, "not_stored", BINARY_SET],
  ["replace", { opcode: "replace", ...STORE }, "not_found"],
  ["append", { opcode: "append", key: "K", value: "x" }, "not_stored"],
  ["prepend", { opcode: "prepend", key: "K", value: "x" }, "ok", BINARY_SET],
  ["delete", { opcode: "delete", key: "K" }, "ok", BINARY_SET],
  ["delete", { opcode: "delete", key: "K" }, "not_found"],
  ["incr", { opcode: "increment", key: "K", extras: countExtras(0) }, "ok"],
  ["incr", { opcode: "increment", key: "K", extras: countExtras(0xffff_ffff) }, "not_found"],
  [
    "decr",
    { opcode: "decrement", key: "K", extras: countExtras(0) },
    "client_error",
    [{ opcode: "set", ...STORE, value: "abc" }],
  ],
  ["touch", { opcode: "touch", key: "K", extras: Buffer.alloc(4) }, "ok", BINARY_SET],
  ["touch", { opcode: "touch", key: "K", extras: Buffer.alloc(4) }, "not_found"],
  ["gat", { opcode: "gat", key: "K", extras: Buffer.alloc(4) }, "hit", BINARY_SET],
  ["gat", { opcode: "gatk", key: "K", extras: Buffer.alloc(4) }, "miss"],
  ["stats", { opcode: "stat" }, "ok"],
  ["stats", { opcode: "stat", key: "settings" }, "ok"],
  ["stats", { opcode: "stat", key: "items" }, "ok"],
  ["stats", { opcode: "stat", key: "nonsense" }, "not_found"],
  ["noop", { opcode: "noop" }, "ok"],
  ["version", { opcode: "version" }, "ok"],
  ["flush_all", { opcode: "flush" }, "ok"],
  ["invalid", { opcode: 0x70 }, "client_error"],
];

describeWith(["memcached"], "a reply of memcached", () => {
  beforeAll(async () => {
    memcached = await startMemcached();
    wire = await connect(memcached.address);
  });
  afterAll(async () => {
    wire.close();
    await memcached.stop();
  });

  const title = (text: string): string => printable(text).slice(0, 40);

  test.each(
    TEXT.map((row): [string, ResultName, TextCase] => [title(row[1]), row[2], row]),
  )("to %j: %s", async (_, __, [command, line, result, setup = "", valueCount = 0]) => {
    const key = `text-${keyCount++}-`;
    const named = (text: string): string => text.replace(/\bK/g, key);
    // The value goes on being what its announced size says: only lines name keys.
    const setupNamed = setup.includes(AWKWARD) ? setup.replace("K", key) : named(setup);
    const raw = await recordText(setupNamed, named(line));
    expectFramed("text", command, raw, { result, valueCount });
  });

  test.each(
    BINARY.map((row): [string, ResultName, BinaryCase] => [`${row[1].opcode}`, row[2], row]),
  )("to binary %s: %s", async (_, __, [command, request, result, setup = []]) => {
    const key = `binary-${keyCount++}`;
    const named = (fields: PacketFields): Buffer =>
      packet(fields.key === "K" ? { ...fields, key } : fields);
    const opaque = 0xf000_0000 + keyCount;
    const raw = await recordBinary(Buffer.concat(setup.map(named)), named({ ...request, opaque }));
    expectFramed("binary", command, raw, { result });
    expect(raw.readUInt32BE(12)).toBe(opaque);
  });

  test.each(["text", "binary"] as const)("ends where the next begins (%s)", (dialect) => {
    const replies = recorded[dialect];
    expect(replies.length).toBeGreaterThan(20);
    const pipeline = Buffer.concat(replies.map(({ raw }) => raw));
    let rest = pipeline;
    for (const { command, raw } of replies) {
      const seen = lookAtReply(dialect, command, rest);
      expect(seen).toMatchObject({ verdict: "framed", size: raw.length });
      rest = rest.subarray(raw.length);
    }
    expect(rest).toHaveLength(0);
  });

  test("with a wrong byte in its first line never ends elsewhere than it did", () => {
    for (const { command, raw } of recorded.text) {
      // A value may say anything, even that it has ended.
      if (raw.includes(AWKWARD)) continue;
      const lineSize = Math.min(raw.indexOf("\n") + 1, 60);
      for (let at = 0; at < lineSize - 1; at++) {
        for (const byte of [0x00, 0x0a, 0x0d, 0x20, 0x30, 0x39, 0x41, 0x56, raw[at]! ^ 1]) {
          const wrong = Buffer.concat([raw, Buffer.from("NOT_FOUND\r\n")]);
          wrong[at] = byte;
          const seen = lookAtReply("text", command, wrong);
          if (seen.verdict === "framed") expect(seen.size, printable(wrong)).toBe(raw.length);
        }
      }
    }
  });

  /** What memcached keeps to itself when asked by q; ma that creates is another matter. */
  const QUIET: [command: "mg" | "ms" | "md" | "ma", line: string, setup?: string][] = [
    ["mg", "mg K"],
    ["mg", "mg K v k", SET],
    ["mg", "mg K k O1"],
    ["ms", "ms K 1"],
    ["ms", "ms K 1 ME", SET],
    ["ms", "ms K 1 MR"],
    ["ms", "ms K 1 C99999", SET],
    ["ms", "ms K 1 C99999"],
    ["md", "md K", SET],
    ["md", "md K"],
    ["md", "md K C99999", SET],
    ["ma", "ma K", SET],
    ["ma", "ma K v", SET],
    ["ma", "ma K"],
    ["ma", "ma K C99999", SET],
  ];

  test.each(
    QUIET,
  )("to a quiet %s (%s) is kept back as memcached does", async (name, line, setup = "") => {
    const block = name === "ms" ? "x\r\n" : "";
    const command = Command[name];
    const reply = async (flags: string): Promise<Buffer> => {
      const key = `quiet-${keyCount++}`;
      const text = `${line}${flags}\r\n${block}`.replace("K", key);
      return recordText(setup.replace("K", key), text);
    };
    const told = await reply("");
    const seen = lookAtReply("text", command, told);
    if (seen.verdict !== "framed") throw new Error(`${seen.verdict}: ${printable(told)}`);
    const isSilent = (await reply(" q")).length === 0;
    expect(isQuietMetaResult(command, seen.result), printable(told)).toBe(isSilent);
  });
});

test("a reply that is none is refused, not waited for", () => {
  const broken: [Dialect, CommandName, string][] = [
    ["text", "get", "VALUE key 0 abc\r\n"],
    ["text", "get", "VALUE key 0 99999999999\r\n"],
    ["text", "mg", "VA abc\r\nabc\r\n"],
    ["text", "mg", "VA 2000000\r\n"],
    ["text", "set", "x".repeat(10_000)],
    // Whatever comes next would be somebody else's.
    ["text", "get", "STORED\r\n"],
    ["text", "get", "VALXE key 0 1\r\nx\r\nEND\r\n"],
    ["text", "get", "VALUE key 0 1\r\nxyz\r\nEND\r\n"],
    ["text", "get", "VALUE key 0 1\nx\r\nEND\r\n"],
    ["text", "get", "1\r\n"],
    ["text", "get", "ENDE\r\n"],
    ["text", "set", "END\r\n"],
    ["text", "set", "STORED \r\n"],
    ["text", "set", "STORED\n"],
    ["text", "set", "\r\n"],
    ["text", "set", "a value\r\n"],
    ["text", "delete", "5\r\n"],
    ["text", "incr", "5x\r\n"],
    ["text", "incr", "-5\r\n"],
    ["text", "mg", "STORED\r\n"],
    ["text", "mg", "VA 1\r\nxyz\r\n"],
    ["text", "stats", "STAR pid 1\r\nEND\r\n"],
    ["binary", "get", "\x80\0".padEnd(24, "\0")],
    ["binary", "get", "VALUE key 0 9\r\na value\r\n\r\nEND\r\n"],
    ["binary", "get", `\x81\0\0\0\0\0\0\0\x7f${"\0".repeat(15)}`],
    ["binary", "get", `\x81\0\0\x09\0\0\0\0\0\0\0\x08${"\0".repeat(20)}`],
  ];
  for (const [dialect, command, raw] of broken) {
    const seen = lookAtReply(dialect, Command[command], bytesOf(raw));
    expect(seen, printable(raw).slice(0, 60)).toEqual({ verdict: "refused" });
  }
});

test("a long line is refused however it comes", () => {
  const line = bytesOf(`CLIENT_ERROR ${"x".repeat(6_000)}\r\n`);
  expect(lookAtReply("text", Command.set, line)).toEqual({ verdict: "refused" });
  expect(lookAtReply("text", Command.set, line, 5_000)).toEqual({ verdict: "refused" });
});

test("the numbers of results are those of their names", () => {
  const names = RESULTS.map((name) =>
    name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
  );
  expect(Object.keys(Result)).toEqual(names);
  expect(Object.values(Result)).toEqual(RESULTS.map((_, index) => index));
});
