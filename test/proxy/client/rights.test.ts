/** What a credential may do: each command needs its right, in both dialects, and says so. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Right } from "../../../core/cluster/records.ts";
import { COMMANDS, Command, RESULT_COUNT, Result } from "../../../core/protocol/command.ts";
import { describeWith } from "../../e2e/suite.ts";
import { type Memcached, startMemcached } from "../../harness/processes.ts";
import { OPCODE, type PacketFields, packet, readPackets, type Wire } from "../../harness/wire.ts";
import { TestWorker } from "../worker.ts";

const REFUSALS: Record<string, string> = {
  read: "credential may not read",
  write: "credential is read-only",
  flush: "credential may not flush",
};

/** A right; or what needs to write and to read: it answers the value and touches it. */
type Asked = Right | "touch";

/** Commands by the right they need; all are answered by one line or block when allowed. */
const LINES: [Asked, string][] = [
  ["read", "get k"],
  ["read", "gets k j"],
  ["read", "mg k v"],
  ["read", "mg k v k s t f c h l u O1"],
  ["read", "me k"],
  ["write", "set k 0 0 1\r\nx"],
  ["write", "add k 0 0 1\r\nx"],
  ["write", "replace k 0 0 1\r\nx"],
  ["write", "append k 0 0 1\r\nx"],
  ["write", "prepend k 0 0 1\r\nx"],
  ["write", "cas k 0 0 1 5\r\nx"],
  ["write", "delete k"],
  ["write", "incr k 1"],
  ["write", "decr k 1"],
  ["write", "touch k 0"],
  ["touch", "gat 0 k"],
  ["touch", "gats 0 k"],
  ["write", "ms k 1\r\nx"],
  ["write", "md k"],
  ["write", "ma k"],
  // A get that makes an item, or makes it live longer, writes.
  ["touch", "mg k N30 v"],
  ["touch", "mg k v T30"],
  ["flush", "flush_all"],
  ["flush", "flush_all 0"],
];

/** The first right that is missing: what answers a value and touches it needs both. */
const missingOf = (rights: readonly Right[], asked: Asked): Right | undefined =>
  (asked === "touch" ? (["write", "read"] as const) : [asked]).find(
    (right) => !rights.includes(right),
  );

const uint32 = (count: number): Buffer => Buffer.alloc(count * 4);
const PACKETS: [Asked, PacketFields][] = [
  ["read", { opcode: "get", key: "k" }],
  ["read", { opcode: "getk", key: "k" }],
  ["read", { opcode: "getq", key: "k" }],
  ["read", { opcode: "getkq", key: "k" }],
  ["write", { opcode: "set", key: "k", extras: uint32(2), value: "x" }],
  ["write", { opcode: "setq", key: "k", extras: uint32(2), value: "x" }],
  ["write", { opcode: "add", key: "k", extras: uint32(2), value: "x" }],
  ["write", { opcode: "replace", key: "k", extras: uint32(2), value: "x" }],
  ["write", { opcode: "addq", key: "k", extras: uint32(2), value: "x" }],
  ["write", { opcode: "replaceq", key: "k", extras: uint32(2), value: "x" }],
  ["write", { opcode: "append", key: "k", value: "x" }],
  ["write", { opcode: "appendq", key: "k", value: "x" }],
  ["write", { opcode: "prepend", key: "k", value: "x" }],
  ["write", { opcode: "prependq", key: "k", value: "x" }],
  ["write", { opcode: "delete", key: "k" }],
  ["write", { opcode: "deleteq", key: "k" }],
  ["write", { opcode: "increment", key: "k", extras: uint32(5) }],
  ["write", { opcode: "incrementq", key: "k", extras: uint32(5) }],
  ["write", { opcode: "decrement", key: "k", extras: uint32(5) }],
  ["write", { opcode: "decrementq", key: "k", extras: uint32(5) }],
  ["write", { opcode: "touch", key: "k", extras: uint32(1) }],
  ["touch", { opcode: "gat", key: "k", extras: uint32(1) }],
  ["touch", { opcode: "gatq", key: "k", extras: uint32(1) }],
  ["touch", { opcode: "gatk", key: "k", extras: uint32(1) }],
  ["touch", { opcode: "gatkq", key: "k", extras: uint32(1) }],
  ["flush", { opcode: "flush" }],
  ["flush", { opcode: "flushq" }],
];

const GRANTS: Record<string, readonly Right[]> = {
  none: [],
  reader: ["read"],
  writer: ["write"],
  flusher: ["flush"],
  "reader-writer": ["read", "write"],
  all: ["read", "write", "flush", "api"],
};

/** Of each command that says less when asked to: a refused noreply is silent, a refused q is not. */
const QUIET_LINES: [line: string, isTold: boolean][] = [
  ...["set", "add", "replace", "append", "prepend"].map((verb): [string, boolean] => [
    `${verb} k 0 0 4 noreply\r\nmn\r\n`,
    false,
  ]),
  ["cas k 0 0 4 1 noreply\r\nmn\r\n", false],
  ["delete k noreply", false],
  ["incr k 1 noreply", false],
  ["decr k 1 noreply", false],
  ["touch k 0 noreply", false],
  ["mg k N30 q", true],
  ["mg k T30 q k", true],
  ["ms k 4 q\r\nmn\r\n", true],
  ["md k q", true],
  ["ma k q", true],
];

describe("the tables of these tests", () => {
  test("know every command that needs a right", () => {
    const verbs = new Set(LINES.map(([, line]) => line.split(" ")[0]));
    const needed = COMMANDS.filter(({ access }) => access.length > 0).map(({ name }) => name);
    expect(needed.filter((name) => !verbs.has(name.replace("_touch", "")))).toEqual([]);
  });

  test("know every opcode that works on keys, or on all of them", () => {
    const known = new Set(PACKETS.map(([, { opcode }]) => opcode));
    const others = ["quit", "quitq", "noop", "version", "stat", "verbosity"];
    const needed = Object.keys(OPCODE).filter((name) => !/^sasl/.test(name));
    expect(needed.filter((name) => !known.has(name as "get") && !others.includes(name))).toEqual(
      [],
    );
  });
});

describeWith(["memcached"], "a credential", () => {
  let memcached: Memcached;
  let worker: TestWorker;
  beforeAll(async () => {
    memcached = await startMemcached();
    worker = await new TestWorker({ shards: [memcached.address], logins: GRANTS }).start();
  });
  afterAll(async () => {
    await worker.stop();
    await memcached.stop();
  });

  const refusedCount = (command: number): number => {
    const tenant = worker.worker.services.directory.tenantByName("test");
    return tenant?.counters.requests[command * RESULT_COUNT + Result.refused] ?? 0;
  };

  describe.each(Object.keys(GRANTS))("%s", (username) => {
    const rights = GRANTS[username] ?? [];

    test("may do in text what it has the right to, and nothing else", async () => {
      const wire = await worker.openAs(username, "text");
      for (const [right, line] of LINES) {
        // The line behind it shows that nothing of a refused value was taken for a command.
        const replies = String(await wire.ask(`${line}\r\nmn\r\n`, "MN\r\n"));
        const missing = missingOf(rights, right);
        const refusal = `CLIENT_ERROR ${missing && REFUSALS[missing]}\r\nMN\r\n`;
        if (missing === undefined) expect(replies, line).not.toContain("credential");
        else expect(replies, line).toBe(refusal);
      }
    });

    test("may do in binary what it has the right to, and nothing else", async () => {
      const wire = await worker.openAs(username, "binary");
      for (const [right, fields] of PACKETS) {
        const { first } = await answered(wire, fields);
        const what = `${fields.opcode}`;
        const missing = missingOf(rights, right);
        if (missing === undefined) {
          expect(String(first?.value ?? ""), what).not.toContain("credential");
        } else {
          // 0x05 is "not stored": stock clients report it without dropping the connection.
          expect([first?.status, String(first?.value)], what).toEqual([0x05, REFUSALS[missing]]);
        }
      }
    });

    test("may always ask what needs no right", async () => {
      const wire = await worker.openAs(username, "text");
      expect(await wire.line("mn")).toBe("MN");
      expect(await wire.line("version")).toMatch(/^VERSION /);
      expect(await wire.line("verbosity 1")).toBe("OK");
      expect(String(await wire.ask("stats\r\n", "END\r\n"))).toContain("STAT version ");
    });
  });

  test.each(QUIET_LINES)("that may only read says %j", async (line, isTold) => {
    const all = await worker.openAs("all", "text");
    await all.ask("set k 0 0 1\r\n5\r\nmn\r\n", "MN\r\n");
    const wire = await worker.openAs("reader", "text");
    const answer = isTold ? "CLIENT_ERROR credential is read-only\r\n" : "";
    for (const split of ["whole", "bytes"] as const) {
      await wire.send(`${line}\r\nget k\r\n`, split);
      const { bytes } = await wire.readUntil("END\r\n");
      expect(String(bytes)).toBe(`${answer}VALUE k 0 1\r\n5\r\nEND\r\n`);
    }
  });

  test("without the right to flush does not reset the figures of everybody", async () => {
    for (const [username, answer] of [
      ["reader-writer", "CLIENT_ERROR credential may not reset stats"],
      ["flusher", "RESET"],
    ] as const) {
      expect(await (await worker.openAs(username, "text")).line("stats reset")).toBe(answer);
      const wire = await worker.openAs(username, "binary");
      const { first } = await answered(wire, { opcode: "stat", key: "reset" });
      expect(first?.status).toBe(answer === "RESET" ? 0 : 0x05);
    }
  });

  test("that is refused is counted as refused", async () => {
    const before = refusedCount(Command.set);
    const wire = await worker.openAs("reader", "text");
    await wire.line("set k 0 0 1\r\nx");
    await wire.ask("set k 0 0 1 noreply\r\nx\r\nmn\r\n", "MN\r\n");
    expect(refusedCount(Command.set) - before).toBe(2);
  });

  test("that may only read does not drop a value by sending one that is too large", async () => {
    const writer = await worker.openAs("all", "text");
    await writer.line("set precious 0 0 1\r\nx");
    const reader = await worker.openAs("reader", "text");
    const large = `set precious 0 0 1048577\r\n${"x".repeat(1_048_577)}`;
    expect(await reader.line(large)).toMatch(/^(CLIENT|SERVER)_ERROR /);
    expect(await writer.line("get precious")).toContain("VALUE precious 0 1");
  });

  test("that may only read does not make an item by a meta get", async () => {
    const reader = await worker.openAs("reader", "text");
    await reader.line("mg made-by-a-reader N60 v");
    const writer = await worker.openAs("all", "text");
    expect(await writer.line("mg made-by-a-reader")).toBe("EN");
  });
});

/** The answer to a packet, and nothing of a quiet one that did what it should. */
async function answered(
  wire: Wire,
  fields: PacketFields,
): Promise<{ first: ReturnType<typeof readPackets>["packets"][0] | undefined }> {
  const end = packet({ opcode: "saslList", opaque: 0x7777_7777 });
  await wire.send(Buffer.concat([packet(fields), end]));
  const { packets } = readPackets((await wire.readUntil("PLAIN")).bytes);
  return { first: packets.length > 1 ? packets[0] : undefined };
}
