/**
 * Caches on servers that we do not run: several share the servers and see nothing of each other, or
 * of what others keep there, in any command of any dialect; `flush_all` and `stats` are the proxy's.
 */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { STAMP_SIZE } from "../../../core/cluster/external.ts";
import { describeWith } from "../../e2e/suite.ts";
import { binaryTranscript } from "../../fuzz/transcript.ts";
import { type Memcached, startMemcached } from "../../harness/processes.ts";
import { connect, readPackets, type Split, type Wire } from "../../harness/wire.ts";
import { TestWorker } from "../worker.ts";
import { base64, META, PACKETS, say, TEXT, tell, uint32 } from "./allCommands.ts";

const ALL = ["read", "write", "flush", "api"] as const;
const LOGINS = { all: ALL, app: ALL } as const;
const PREFIXES = { app: "app:é:" };
const SPLITS: [string, Split][] = [
  ["at once", "whole"],
  ["byte by byte", "bytes"],
];

describeWith(["memcached"], "caches on an external pool", () => {
  const servers: Memcached[] = [];
  /** Two caches on the same three servers. */
  let one: TestWorker;
  let other: TestWorker;
  /** Caches of their own, to compare with. */
  let oneAlone: TestWorker;
  let otherAlone: TestWorker;
  beforeAll(async () => {
    servers.push(...(await Promise.all(Array.from({ length: 7 }, () => startMemcached()))));
    const at = servers.map(({ address }) => address);
    const common = { logins: LOGINS, prefixes: PREFIXES };
    one = await new TestWorker({ ...common, shards: at.slice(0, 3), isExternal: true }).start();
    other = await new TestWorker({ ...common, shards: at.slice(0, 3), isExternal: true }).start();
    oneAlone = await new TestWorker({ ...common, shards: at.slice(3, 5) }).start();
    otherAlone = await new TestWorker({ ...common, shards: at.slice(5) }).start();
  });
  afterAll(async () => {
    for (const worker of [one, other, oneAlone, otherAlone]) await worker.stop();
    for (const server of servers) await server.stop();
  });

  const flush = async (): Promise<void> => {
    for (const worker of [one, other, oneAlone, otherAlone]) {
      const wire = await worker.open();
      expect(await wire.line("flush_all")).toBe("OK");
      wire.close();
    }
    // memcached's flush is by the second: what is stored in it is gone, too.
    await new Promise((resolve) => setTimeout(resolve, 1_050));
  };

  for (const username of ["all", "app"] as const) {
    test.each(SPLITS)(`answer as ours do, to ${username}, %s`, async (_, split) => {
      await flush();
      const text = await one.openAs(username, "text");
      for (const [sent, answer] of TEXT) expect(await say(text, sent, split), sent).toBe(answer);
      await flush();
      for (const [sent, answer] of META) expect(await say(text, sent, split), sent).toBe(answer);
      await flush();
      const binary = await one.openAs(username, "binary");
      const alone = await oneAlone.openAs(username, "binary");
      for (const fields of PACKETS) {
        const got = binaryTranscript(await tell(binary, [fields], split));
        expect(got).toEqual(binaryTranscript(await tell(alone, [fields])));
      }
      const again = binaryTranscript(await tell(binary, PACKETS, split));
      expect(again).toEqual(binaryTranscript(await tell(alone, PACKETS)));
    });
  }

  test("see nothing of each other, whatever is done in both", async () => {
    await flush();
    const lines = [...TEXT, ...META].map(([line]) => line);
    const pairs = await Promise.all(
      [
        [one, oneAlone],
        [other, otherAlone],
      ].map(async ([shared, alone]) => ({
        text: [await shared!.open(), await alone!.open()] as const,
        binary: [
          await shared!.openAs("all", "binary"),
          await alone!.openAs("all", "binary"),
        ] as const,
      })),
    );
    const step = fc.record({
      pair: fc.nat(1),
      command: fc.oneof(
        fc.record({ line: fc.nat(lines.length - 1) }),
        fc.record({ packet: fc.nat(PACKETS.length - 1) }),
      ),
    });
    const steps = fc.array(step, { minLength: 40, maxLength: 80 });
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        for (const { pair, command } of all) {
          const { text, binary } = pairs[pair]!;
          const answers: unknown[] = [];
          for (const wire of "line" in command ? text : binary) {
            answers.push(
              "line" in command
                ? await say(wire, lines[command.line]!)
                : binaryTranscript(await tell(wire, [PACKETS[command.packet]!])),
            );
          }
          expect(answers[0], JSON.stringify(command)).toEqual(answers[1]);
        }
      }),
      { numRuns: 15 },
    );
  });

  test("leave what others keep on the servers alone, and do not see it", async () => {
    const stranger = await connect(servers[0]!.address);
    expect(await stranger.line("set mine 0 0 1\r\nx")).toBe("STORED");
    const wire = await one.open();
    expect(await wire.line("get mine")).toBe("END");
    for (const dialect of ["text", "binary"] as const) {
      const session = await one.openAs("all", dialect);
      if (dialect === "text") expect(await session.line("flush_all")).toBe("OK");
      else await tell(session, [{ opcode: "flush" }]);
    }
    expect(await stranger.line("get mine")).toContain("VALUE mine 0 1");
    const stats = String(await (await connect(servers[0]!.address)).ask("stats\r\n", "END\r\n"));
    expect(stats).toContain("STAT cmd_flush 0\r\n");
  });

  test("are empty after flush_all, for commands behind it in the same segment, too", async () => {
    const wire = await one.open();
    const sent =
      "set a 0 0 3\r\nold\r\nget a\r\nflush_all\r\nget a\r\nadd a 0 0 3\r\nnew\r\nget a\r\n";
    expect(await say(wire, sent)).toBe(
      "STORED\r\nVALUE a 0 3\r\nold\r\nEND\r\nOK\r\nEND\r\nSTORED\r\nVALUE a 0 3\r\nnew\r\nEND\r\n",
    );
    expect(await say(wire, "flush_all noreply\r\nget a\r\n")).toBe("END\r\n");
    expect(await say(wire, "flush_all 10\r\n")).toBe(
      "CLIENT_ERROR a cache on an external pool cannot be flushed later\r\n",
    );
    expect(await say(wire, "flush_all 0\r\n")).toBe("OK\r\n");
    const binary = await one.openAs("all", "binary");
    const answers = readPackets(await tell(binary, [{ opcode: "flush" }, { opcode: "flushq" }]));
    expect(answers.packets.map(({ status }) => status)).toEqual([0]);
  });

  test("tell what was counted of them, and reset nothing", async () => {
    const wire = await one.open();
    await say(wire, "set counted 0 0 1\r\nx\r\nget counted\r\nget none\r\n");
    const stats = String(await wire.ask("stats\r\n", "END\r\n"));
    const figure = (name: string) => Number(new RegExp(`STAT ${name} (\\d+)`).exec(stats)?.[1]);
    expect(figure("get_hits")).toBeGreaterThan(0);
    expect(figure("cmd_get")).toBe(figure("get_hits") + figure("get_misses"));
    expect(stats).not.toContain("curr_items");
    expect(await wire.line("stats reset")).toMatch(/^SERVER_ERROR counters of a cache on an/);
    for (const argument of ["items", "slabs", "settings", "cachedump 1 9"]) {
      expect(await wire.line(`stats ${argument}`)).toBe("ERROR");
    }
  });

  test("take keys of 250 bytes less what stands before them, and say so", async () => {
    const refusal =
      "CLIENT_ERROR key is too long with the 12 bytes of the external pool and any key prefix\r\n";
    for (const [username, before] of [
      ["all", STAMP_SIZE],
      ["app", STAMP_SIZE + Buffer.byteLength(PREFIXES.app)],
    ] as const) {
      const fits = "k".repeat(250 - before);
      const wire = await one.openAs(username, "text");
      expect(await say(wire, `set ${fits} 0 0 1\r\nx\r\n`)).toBe("STORED\r\n");
      expect(await say(wire, `get ${fits} a\r\n`)).toContain(`VALUE ${fits} 0 1\r\nx`);
      for (const line of [`get ${fits}k`, `mg ${fits}k v`, `delete ${fits}k`, `get a ${fits}k`]) {
        expect(await say(wire, `${line}\r\n`)).toBe(refusal);
      }
      const encoded = base64("k".repeat(187 - before));
      expect(await say(wire, `mg ${encoded} v b\r\n`)).toBe(refusal);
      const binary = await one.openAs(username, "binary");
      const packets = [
        { opcode: "get", key: `${fits}k` },
        { opcode: "set", key: fits, extras: uint32(0, 0), value: "x" },
      ] as const;
      const answers = readPackets(await tell(binary, [...packets]));
      expect(answers.packets.map(({ status }) => status)).toEqual([0x04, 0]);
    }
  });

  test("get hundreds of keys in the order asked, in portions and from all servers", async () => {
    const wire = await one.open();
    const keys = Array.from({ length: 300 }, (_, index) => `many-${index}`);
    const present = keys.filter((_, index) => index % 3 !== 0);
    for (const key of present)
      await wire.send(`set ${key} 0 0 ${key.length} noreply\r\n${key}\r\n`);
    const blocks = present.map((key) => `VALUE ${key} 0 ${key.length}\r\n${key}\r\n`).join("");
    expect(await say(wire, `get ${keys.join(" ")}\r\n`)).toBe(`${blocks}END\r\n`);
    await heldBy(wire);
  });

  test("a server under another stamp has nothing of before, the others keep theirs", async () => {
    const wire = await one.open();
    const keys = Array.from({ length: 60 }, (_, index) => `part-${index}`);
    for (const key of keys) expect(await wire.line(`set ${key} 0 0 1\r\nx`)).toBe("STORED");
    one.restamp("node-1");
    const left = String(await wire.ask(`get ${keys.join(" ")}\r\n`, "END\r\n")).match(/VALUE/g);
    expect(left?.length).toBeGreaterThan(20);
    expect(left?.length).toBeLessThan(60);
  });
});

/** No byte is left. */
async function heldBy(wire: Wire): Promise<void> {
  expect(await say(wire, "")).toBe("");
}
