/**
 * A shard at its socket: bytes in, bytes out. The replies are those that memcached 1.6.18 gave to
 * the same bytes, save that packets and data blocks which it would take for commands are skipped.
 * Every case is also sent one byte at a time, and the shard may say nothing beyond the reply.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Counter } from "../../../backend/embedded/counters.ts";
import { type PacketFields, packet, printable, type Split, toBytes } from "../../harness/wire.ts";
import { type Served, serveShard } from "./serve.ts";

let served: Served;
beforeAll(async () => {
  served = await serveShard();
});
afterAll(() => served.stop());

type Case = readonly [name: string, sent: string | Buffer, replied: string | Buffer];

/** Sends all, closes its side, and reads until the shard closes: nothing may come after. */
async function converse(sent: string | Buffer, split: Split): Promise<string> {
  served.shard.store.flush(0);
  const wire = await served.open();
  await wire.send(sent, split);
  wire.finish();
  const { bytes, ended } = await wire.readToClose();
  expect(ended).toBe("closed");
  return printable(bytes);
}

function reply(fields: PacketFields & { status?: number }): Buffer {
  const bytes = packet({ ...fields, magic: 0x81 });
  bytes.writeUInt16BE(fields.status ?? 0, 6);
  return bytes;
}

function cases(title: string, rows: readonly Case[]): void {
  describe(title, () => {
    test.each(rows)("%s", async (_, sent, replied) => {
      const expected = printable(toBytes(replied));
      expect(await converse(sent, "whole")).toBe(expected);
      expect(await converse(sent, "bytes")).toBe(expected);
    });
  });
}

const SET_A = "set a 7 0 3\r\nabc\r\n";
const BAD_FORMAT = "CLIENT_ERROR bad command line format\r\n";
const NON_NUMERIC = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";

cases("text", [
  ["get of a hit and a miss", `${SET_A}get a b\r\n`, "STORED\r\nVALUE a 7 3\r\nabc\r\nEND\r\n"],
  ["get of a miss", "get a\r\n", "END\r\n"],
  [
    "get of the same key twice",
    `${SET_A}get a a\r\n`,
    "STORED\r\nVALUE a 7 3\r\nabc\r\nVALUE a 7 3\r\nabc\r\nEND\r\n",
  ],
  ["gat of no key", "gat 10\r\n", "END\r\n"],
  ["gat of a bad exptime", "gat x a\r\n", "CLIENT_ERROR invalid exptime argument\r\n"],
  [
    "many blanks and a bare newline",
    `${SET_A}  get   a   b \n`,
    "STORED\r\nVALUE a 7 3\r\nabc\r\nEND\r\n",
  ],
  ["empty value", "set a 0 0 0\r\n\r\nget a\r\n", "STORED\r\nVALUE a 0 0\r\n\r\nEND\r\n"],
  [
    "line ends in a value",
    "set a 0 0 6\r\n\r\nEND\n\r\nget a\r\n",
    "STORED\r\nVALUE a 0 6\r\n\r\nEND\n\r\nEND\r\n",
  ],
  [
    "noreply is silent, errors too",
    "set a 0 0 1 noreply\r\nx\r\nadd a 0 0 1 noreply\r\ny\r\nincr a 1 noreply\r\ntouch a x noreply\r\ndelete b noreply\r\n",
    "",
  ],
  [
    "add, replace, append, prepend",
    "replace a 0 0 1\r\nx\r\nappend a 0 0 1\r\nx\r\nadd a 0 0 1\r\nb\r\nadd a 0 0 1\r\nx\r\nappend a 9 9 1\r\nc\r\nprepend a 9 9 1\r\na\r\nget a\r\n",
    "NOT_STORED\r\nNOT_STORED\r\nSTORED\r\nNOT_STORED\r\nSTORED\r\nSTORED\r\nVALUE a 0 3\r\nabc\r\nEND\r\n",
  ],
  ["cas of a miss", "cas a 0 0 1 5\r\nx\r\n", "NOT_FOUND\r\n"],
  [
    "cas of an old unique",
    `${SET_A}cas a 0 0 1 18446744073709551615\r\nx\r\n`,
    "STORED\r\nEXISTS\r\n",
  ],
  ["a cas that is no number", "cas a 0 0 1 -1\r\nx\r\n", BAD_FORMAT],
  ["flags that are no number", "set a -1 0 1\r\nx\r\n", BAD_FORMAT],
  [
    "flags beyond 32 bits",
    "set a 4294967297 0 1\r\nx\r\nget a\r\n",
    "STORED\r\nVALUE a 1 1\r\nx\r\nEND\r\n",
  ],
  [
    "exptime beyond 31 bits is negative",
    "set a 0 2147483648 1\r\nx\r\nget a\r\n",
    "STORED\r\nEND\r\n",
  ],
  [
    "data block too long",
    "set a 0 0 1\r\nxyz\r\nget a\r\n",
    "CLIENT_ERROR bad data chunk\r\nERROR\r\nEND\r\n",
  ],
  [
    "incr and decr",
    "set n 0 0 2\r\n10\r\ndecr n 1\r\nincr n 91\r\nincr n 18446744073709551615\r\nincr m 1\r\nincr n x\r\nget n\r\n",
    "STORED\r\n9\r\n100\r\n99\r\nNOT_FOUND\r\nCLIENT_ERROR invalid numeric delta argument\r\nVALUE n 0 3\r\n99 \r\nEND\r\n",
  ],
  ["incr of no number", `${SET_A}incr a 1\r\n`, `STORED\r\n${NON_NUMERIC}`],
  [
    "delete and its old delay",
    `${SET_A}delete a 1\r\ndelete a 0\r\ndelete a\r\n`,
    "STORED\r\nCLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\nDELETED\r\nNOT_FOUND\r\n",
  ],
  [
    "touch",
    `${SET_A}touch a 0\r\ntouch b 0\r\ntouch a 5x\r\n`,
    "STORED\r\nTOUCHED\r\nNOT_FOUND\r\nCLIENT_ERROR invalid exptime argument\r\n",
  ],
  [
    "flush_all",
    `${SET_A}flush_all\r\nget a\r\nflush_all x\r\nflush_all 0 noreply\r\n`,
    "STORED\r\nOK\r\nEND\r\nCLIENT_ERROR invalid exptime argument\r\n",
  ],
  ["version, verbosity, mn", "version\r\nverbosity 1\r\nmn\r\n", "VERSION 1.6.18\r\nOK\r\nMN\r\n"],
  ["stats of what there is none of", "stats nonsense\r\n", "ERROR\r\n"],
  ["unknown command", "nonsense\r\n", "ERROR\r\n"],
]);

cases("meta", [
  [
    "mg of a miss",
    "mg a v\r\nmg a q\r\nmg a k O5\r\n",
    "EN\r\nEN kaO5\r\n".replace("kaO5", "ka O5"),
  ],
  [
    "mg with everything",
    "ms a 3 F5 T100\r\nabc\r\nmg a s v f t k O1 h l\r\n",
    "HD\r\nVA 3 s3 f5 t100 ka O1 h0 l0\r\nabc\r\n",
  ],
  [
    "mg hit before, and looking without using",
    "ms a 1\r\nx\r\nmg a h u\r\nmg a h\r\nmg a h\r\n",
    "HD\r\nHD h0\r\nHD h0\r\nHD h1\r\n",
  ],
  [
    "mg N wins once",
    "mg a N30 v t\r\nmg a N30 v t\r\nms a 1\r\nx\r\nmg a N30 v\r\n",
    "VA 0 t30 W\r\n\r\nVA 0 t30 Z\r\n\r\nHD\r\nVA 1\r\nx\r\n",
  ],
  [
    "mg R wins once before the end",
    "ms a 1 T10\r\nx\r\nmg a R9\r\nmg a R30\r\nmg a R30\r\n",
    "HD\r\nHD\r\nHD W\r\nHD Z\r\n",
  ],
  [
    "md I makes stale",
    "ms a 1\r\nx\r\nmd a I T30\r\nmg a v t\r\nmg a v\r\nms a 1\r\ny\r\nmg a v\r\n",
    "HD\r\nHD\r\nVA 1 t30 X W\r\nx\r\nVA 1 Z X\r\nx\r\nHD\r\nVA 1\r\ny\r\n",
  ],
  [
    "ms modes",
    "ms a 1 MR\r\nx\r\nms a 1 ME\r\nb\r\nms a 1 ME\r\nx\r\nms a 1 MA\r\nc\r\nms a 1 MP\r\na\r\nms a 1 MX\r\nx\r\nmg a v\r\n",
    "NS\r\nHD\r\nNS\r\nHD\r\nHD\r\nCLIENT_ERROR invalid mode for ms M token\r\nVA 3\r\nabc\r\n",
  ],
  [
    "quiet ms, md, mg",
    "ms a 1 q\r\nx\r\nms a 1 ME q\r\nx\r\nmg b q\r\nmd a q\r\nmd a q\r\nmn\r\n",
    "NS\r\nNF\r\nMN\r\n",
  ],
  [
    "keys in base64",
    "ms AAEC/w== 2 b k\r\nhi\r\nmg AAEC/w== b v k\r\nmd AAEC/w== b k\r\nmg ** b\r\n",
    "HD kAAEC/w== b\r\nVA 2 kAAEC/w== b\r\nhi\r\nHD kAAEC/w== b\r\nCLIENT_ERROR error decoding key\r\n",
  ],
  [
    "ma",
    "ma n\r\nma n N0 J13 v t\r\nma n D5 v k O1\r\nma n MD D100 v\r\nma n q\r\nmg n v\r\n",
    "NF\r\nVA 2 t-1\r\n13\r\nVA 2 kn O1\r\n18\r\nVA 1\r\n0\r\nVA 2\r\n1 \r\n",
  ],
  ["ma of no number", "ms a 1\r\nx\r\nma a q\r\n", `HD\r\n${NON_NUMERIC}`],
  [
    "bad flags",
    "mg a z\r\nmg a v v\r\nmd a z\r\nms a 1 T\r\nx\r\nma a Dx\r\n",
    "CLIENT_ERROR invalid flag\r\nCLIENT_ERROR duplicate flag\r\nCLIENT_ERROR invalid or duplicate flag\r\nCLIENT_ERROR bad token in command line format\r\nCLIENT_ERROR invalid or duplicate flag\r\n",
  ],
  [
    "an opaque of 32 bytes",
    `mg a O${"o".repeat(32)}\r\n`,
    "CLIENT_ERROR opaque token too long\r\n",
  ],
  [
    "text in between",
    `ms a 1\r\n5\r\nincr a 1\r\nget a\r\nmg a v\r\n`,
    "HD\r\n6\r\nVALUE a 0 1\r\n6\r\nEND\r\nVA 1\r\n6\r\n",
  ],
]);

const u32 = (...numbers: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * numbers.length);
  for (const [i, number] of numbers.entries()) bytes.writeUInt32BE(number, 4 * i);
  return bytes;
};
const counter = (delta: bigint, initial: bigint, exptime: number): Buffer => {
  const bytes = Buffer.alloc(20);
  bytes.writeBigUInt64BE(delta, 0);
  bytes.writeBigUInt64BE(initial, 8);
  bytes.writeUInt32BE(exptime, 16);
  return bytes;
};
const u64 = (number: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(number);
  return bytes;
};
const send = (...packets: PacketFields[]): Buffer => Buffer.concat(packets.map(packet));
const replies = (...packets: Parameters<typeof reply>[0][]): Buffer =>
  Buffer.concat(packets.map(reply));
const set = (fields: Partial<PacketFields> = {}): PacketFields => ({
  opcode: "setq",
  key: "a",
  value: "abc",
  extras: u32(0xdeadbeef, 0),
  ...fields,
});
const NOT_FOUND = { status: 1, value: "Not found" };
const EXISTS = { status: 2, value: "Data exists for key." };

/** Each case begins with an empty shard, but cas uniques go on. */
const cas = (): bigint => BigInt(served.shard.store.lastCas);

cases("binary", [
  [
    "misses",
    send(
      { opcode: "get", key: "a", opaque: 1 },
      { opcode: "getk", key: "a", opaque: 2 },
      { opcode: "getq", key: "a" },
      { opcode: "getkq", key: "a" },
      { opcode: "gatkq", key: "a", extras: u32(0) },
    ),
    replies(
      { opcode: "get", opaque: 1, ...NOT_FOUND },
      { opcode: "getk", opaque: 2, status: 1, key: "a" },
    ),
  ],
  [
    "quiet stores tell their failures",
    send(
      set({ opcode: "addq" }),
      set({ opcode: "addq", opaque: 3 }),
      set({ opcode: "replaceq", key: "b", opaque: 4 }),
      { opcode: "appendq", key: "b", value: "x", opaque: 5 },
      { opcode: "deleteq", key: "b", opaque: 6 },
      set({ cas: 1n, key: "b", opaque: 7 }),
    ),
    replies(
      { opcode: "addq", opaque: 3, ...EXISTS },
      { opcode: "replaceq", opaque: 4, ...NOT_FOUND },
      { opcode: "appendq", opaque: 5, status: 5, value: "Not stored." },
      { opcode: "deleteq", opaque: 6, ...NOT_FOUND },
      { opcode: "setq", opaque: 7, ...NOT_FOUND },
    ),
  ],
  [
    "increment of a miss that may not create",
    send({ opcode: "increment", key: "n", extras: counter(1n, 5n, 0xffff_ffff), opaque: 9 }),
    replies({ opcode: "increment", opaque: 9, ...NOT_FOUND }),
  ],
  [
    "increment of no number",
    send(set(), { opcode: "increment", key: "a", extras: counter(1n, 5n, 0) }),
    replies({
      opcode: "increment",
      status: 6,
      value: "Non-numeric server-side value for incr or decr",
    }),
  ],
  [
    "a packet of the wrong shape is skipped",
    send({ opcode: "get", opaque: 5 }, { opcode: "set", key: "a", value: "no extras", opaque: 6 }),
    replies(
      { opcode: "get", opaque: 5, status: 4, value: "Invalid arguments" },
      { opcode: "set", opaque: 6, status: 4, value: "Invalid arguments" },
    ),
  ],
  [
    "an unknown opcode with a body is skipped",
    send({ opcode: 0x77, value: "body", opaque: 8 }),
    replies({ opcode: 0x77, opaque: 8, status: 0x81, value: "Unknown command" }),
  ],
  [
    "logins are not for shards",
    send({ opcode: "saslList" }, { opcode: "saslAuth", key: "PLAIN", value: "\0u\0p" }),
    replies(
      { opcode: "saslList", status: 0x81, value: "Unknown command" },
      { opcode: "saslAuth", status: 0x81, value: "Unknown command" },
    ),
  ],
  [
    "version, noop, quiet flush",
    send(
      { opcode: "version" },
      { opcode: "noop", opaque: 2 },
      set(),
      { opcode: "flushq" },
      { opcode: "get", key: "a" },
    ),
    replies(
      { opcode: "version", value: "1.6.18" },
      { opcode: "noop", opaque: 2 },
      { opcode: "get", ...NOT_FOUND },
    ),
  ],
]);

describe("binary replies that carry a cas unique", () => {
  const ask = async (fields: PacketFields) => {
    const wire = await served.open();
    await wire.send(packet(fields));
    const answer = await wire.packet();
    wire.close();
    return answer;
  };

  test("set, get, touch, append", async () => {
    const stored = await ask(set({ opcode: "set", opaque: 7 }));
    expect(stored).toMatchObject({ status: 0, opaque: 7, cas: cas() });
    const got = await ask({ opcode: "getk", key: "a", opaque: 8 });
    expect(got).toMatchObject({ status: 0, opaque: 8, cas: cas(), extras: u32(0xdeadbeef) });
    expect([String(got?.key), String(got?.value)]).toEqual(["a", "abc"]);
    const touched = await ask({ opcode: "touch", key: "a", extras: u32(60) });
    expect(touched).toMatchObject({ status: 0, cas: cas(), extras: u32(0xdeadbeef) });
    const appended = await ask({ opcode: "append", key: "a", value: "d" });
    expect(appended).toMatchObject({ status: 0, cas: cas() });
    expect(String((await ask({ opcode: "gat", key: "a", extras: u32(0) }))?.value)).toBe("abcd");
  });

  test("a cas that matches stores, deletes and counts; another does not", async () => {
    await ask(set({ opcode: "set", key: "n", value: "5" }));
    const old = cas();
    const add = { opcode: "increment", key: "n", extras: counter(1n, 0n, 0) } as const;
    expect(await ask({ ...add, cas: old + 1n })).toMatchObject({ status: 2 });
    expect(await ask({ ...add, cas: old })).toMatchObject({ value: u64(6n), cas: old + 1n });
    expect(await ask(set({ opcode: "replace", key: "n", cas: old }))).toMatchObject({ status: 2 });
    expect(await ask(set({ opcode: "replace", key: "n", cas: old + 1n }))).toMatchObject({
      status: 0,
    });
    expect(await ask({ opcode: "delete", key: "n", cas: old })).toMatchObject({ status: 2 });
    expect(await ask({ opcode: "delete", key: "n", cas: cas() })).toMatchObject({
      status: 0,
      cas: 0n,
    });
  });

  test("counters are created with their initial value, and are 64 bits", async () => {
    const largest = 0xffff_ffff_ffff_ffffn;
    const made = await ask({ opcode: "increment", key: "c", extras: counter(9n, largest, 0) });
    expect(made).toMatchObject({ status: 0, value: u64(largest), cas: cas() });
    const wrapped = await ask({ opcode: "increment", key: "c", extras: counter(2n, 0n, 0) });
    expect(wrapped).toMatchObject({ status: 0, value: u64(1n), cas: cas() });
    const floored = await ask({ opcode: "decrement", key: "c", extras: counter(2n, 0n, 0) });
    expect(floored).toMatchObject({ status: 0, value: u64(0n) });
  });

  test("stat ends with an empty packet and tells the version", async () => {
    const wire = await served.open();
    await wire.send(packet({ opcode: "stat", opaque: 5 }));
    const rows = new Map<string, string>();
    for (;;) {
      const row = await wire.packet();
      expect(row).toMatchObject({ status: 0, opaque: 5 });
      if (row === undefined || row.key.length === 0) break;
      rows.set(String(row.key), String(row.value));
    }
    wire.close();
    expect(rows.get("version")).toBe("1.6.18");
    expect(rows.get("limit_maxbytes")).toBe(String(64 << 20));
    expect(Number(rows.get("cmd_set"))).toBeGreaterThan(0);
  });
});

describe("a connection", () => {
  test.each([
    ["text", "get a\r\nquit\r\nget a\r\n", "END\r\n"],
    [
      "binary",
      send({ opcode: "quit", opaque: 1 }, { opcode: "noop" }),
      replies({ opcode: "quit", opaque: 1 }),
    ],
    [
      "binary, quiet",
      send({ opcode: "noop" }, { opcode: "quitq" }, { opcode: "noop" }),
      replies({ opcode: "noop" }),
    ],
  ])("quit closes after what came before it (%s)", async (_, sent, replied) => {
    served.shard.store.flush(0);
    const wire = await served.open();
    await wire.send(sent);
    const { bytes, ended } = await wire.readToClose();
    expect([printable(bytes), ended]).toEqual([printable(toBytes(replied)), "closed"]);
  });

  test("half a close is answered, then closed", async () => {
    const wire = await served.open();
    await wire.send("set a 0 0 1\r\nx\r\nget a\r\nget half");
    wire.finish();
    const { bytes, ended } = await wire.readToClose();
    expect([printable(bytes), ended]).toEqual([
      "STORED\\r\\nVALUE a 0 1\\r\\nx\\r\\nEND\\r\\n",
      "closed",
    ]);
  });

  test("a wrong magic byte closes at once", async () => {
    const wire = await served.open();
    await wire.send(packet({ opcode: "noop", magic: 0x81 }));
    expect(await wire.readToClose()).toMatchObject({ ended: "closed", bytes: Buffer.alloc(0) });
  });

  test("a value that is too large takes the old one, and the session goes on", async () => {
    const wire = await served.open();
    await wire.send("set a 0 0 3\r\nold\r\n");
    for (const size of [1_048_517, 1_500_000]) {
      await wire.send(`set a 0 0 ${size}\r\n${"x".repeat(size)}\r\nget a\r\n`);
    }
    wire.finish();
    const { bytes } = await wire.readToClose();
    const refused = "SERVER_ERROR object too large for cache\r\nEND\r\n";
    expect(bytes.toString()).toBe(`STORED\r\n${refused}${refused}`);
  });

  test("5,000 pipelined commands are answered in order", async () => {
    const wire = await served.open();
    const sent: string[] = [];
    const expected: string[] = [];
    for (let i = 0; i < 5_000; i++) {
      sent.push(`set p${i % 50} ${i} 0 ${String(i).length}\r\n${i}\r\nget p${i % 50}\r\n`);
      expected.push(`STORED\r\nVALUE p${i % 50} ${i} ${String(i).length}\r\n${i}\r\nEND\r\n`);
    }
    const sending = wire.send(sent.join(""));
    const { bytes } = await wire.read(expected.join("").length);
    await sending;
    wire.close();
    expect(bytes.toString() === expected.join("")).toBe(true);
  });

  test("items expire by the clock that the shard was given", async () => {
    const wire = await served.open();
    await wire.ask("set a 0 1700000000 1\r\nx\r\n", "STORED\r\n");
    expect(await wire.line("get a")).toBe("END");
    await wire.ask("set a 0 1700000100 1\r\nx\r\n", "STORED\r\n");
    expect(await wire.line("mg a")).toBe("HD");
    wire.close();
  });

  test("connections and bytes are counted", async () => {
    const counting = await serveShard();
    const wire = await counting.open();
    await wire.ask("mn\r\n", "MN\r\n");
    const { store } = counting.shard;
    expect(counting.shard.connectionCount).toBe(1);
    const names = ["total_connections", "bytes_read", "bytes_written", "commands"] as const;
    expect(names.map((name) => store.counters[Counter[name]])).toEqual([1, 4, 4, 1]);
    await counting.stop();
    expect(counting.shard.connectionCount).toBe(0);
  });
});

describe("back-pressure", () => {
  const SIZE = 100_000;
  const value = "v".repeat(SIZE);
  const one = `VALUE big 0 ${SIZE}\r\n${value}\r\n`;

  /** What a shard holds for a connection whose other side does not read. */
  test.each([
    ["one retrieval line", `get ${"big ".repeat(400)}\r\n`, `${one.repeat(400)}END\r\n`],
    ["many commands", "get big\r\n".repeat(400), `${one}END\r\n`.repeat(400)],
  ])("%s of 40 MB waits in the request, not in memory", async (_, sent, expected) => {
    const wire = await served.open();
    await wire.ask(`set big 0 0 ${SIZE}\r\n${value}\r\n`, "STORED\r\n");
    wire.socket.pause();
    await wire.send(sent);
    let waiting = -1;
    while (served.loop.unsentSize !== waiting) {
      waiting = served.loop.unsentSize;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(waiting).toBeGreaterThan(0);
    expect(waiting).toBeLessThan(1024 * 1024);
    // Others are served meanwhile.
    const other = await served.open();
    expect(await other.line("mn")).toBe("MN");
    other.close();
    wire.socket.resume();
    const { bytes } = await wire.read(expected.length, 20_000);
    wire.close();
    expect(bytes.length).toBe(expected.length);
    expect(bytes.toString("latin1") === expected).toBe(true);
  });
});

describe("draining", () => {
  test("answers what was read, closes, and accepts no more", async () => {
    const draining = await serveShard();
    const [idle, busy] = [await draining.open(), await draining.open()];
    await busy.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    await idle.ask("mn\r\n", "MN\r\n");
    const sent = busy.send("get a\r\n".repeat(100));
    await sent;
    await new Promise((resolve) => setTimeout(resolve, 50));
    const drained = draining.drain();
    expect((await idle.readToClose()).ended).toBe("closed");
    const { bytes, ended } = await busy.readToClose();
    expect(ended).toBe("closed");
    expect(bytes.toString()).toBe("VALUE a 0 1\r\nx\r\nEND\r\n".repeat(100));
    await drained;
    await expect(draining.open()).rejects.toThrow();
    expect(draining.shard.connectionCount).toBe(0);
    await draining.stop().catch(() => {});
  });

  test("does not wait for who never reads", async () => {
    const draining = await serveShard();
    const stuck = await draining.open();
    await stuck.ask(`set a 0 0 500000\r\n${"x".repeat(500_000)}\r\n`, "STORED\r\n");
    stuck.socket.pause();
    await stuck.send("get a\r\n".repeat(100));
    await new Promise((resolve) => setTimeout(resolve, 100));
    await draining.drain();
    expect(draining.shard.connectionCount).toBe(0);
    stuck.close();
  });
});
