/**
 * The tables of lines.ts and packets.ts held against a real memcached: a command that is framed
 * gets exactly one reply from it once its quiet word is left out, and one that is refused is
 * refused by it in the same words. Two replies for one command, or none, would give every later
 * command of a shared connection the reply of another.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { loudOpcode } from "../../../core/protocol/binary.ts";
import { PROBLEMS } from "../../../core/protocol/problem.ts";
import { Request, Verdict } from "../../../core/protocol/request.ts";
import { frameText } from "../../../core/protocol/text.ts";
import { describeWith } from "../../e2e/suite.ts";
import { type Memcached, startMemcached } from "../../harness/processes.ts";
import { connect, type Packet, packet, printable, readPackets } from "../../harness/wire.ts";
import { LINES, type LineRow } from "./lines.ts";
import { bytesOf } from "./look.ts";
import { PACKETS, type PacketRow } from "./packets.ts";

let memcached: Memcached;

describeWith(["memcached"], "as memcached takes it", () => {
  beforeAll(async () => {
    memcached = await startMemcached();
  });
  afterAll(() => memcached.stop());

  /** All that is answered before the reply to a last command that no row sends. */
  async function answers(bytes: Buffer): Promise<string> {
    const wire = await connect(memcached.address);
    const end = "NF Oend\r\n";
    const all = await wire.ask(Buffer.concat([bytes, Buffer.from("md no-key Oend\r\n")]), end);
    wire.close();
    return all.toString("latin1").slice(0, -end.length);
  }

  /** How many replies a text is made of: lines, and the blocks they announce. */
  function replyCount(text: string): number {
    let count = 0;
    let at = 0;
    while (at < text.length) {
      const end = text.indexOf("\r\n", at);
      const line = text.slice(at, end);
      at = end + 2;
      const size = /^VALUE \S+ \d+ (\d+)( \d+)?$/.exec(line) ?? /^VA (\d+)/.exec(line);
      if (size !== null) at += Number(size[1]) + 2;
      if (!line.startsWith("VALUE ")) count++;
    }
    return count;
  }

  const asked = LINES.filter(({ alone }) => alone === undefined);
  const named = (rows: readonly LineRow[]): [string, LineRow][] =>
    rows.map((row) => [printable(row.raw).slice(0, 70), row]);

  test.each(
    named(asked.filter(({ problem }) => problem === undefined)),
  )("%s gets one reply", async (_, { raw }) => {
    const request = new Request();
    const bytes = bytesOf(raw);
    expect(frameText(request, bytes, 0, bytes.length)).toBe(Verdict.framed);
    const quietAt = request.quiet ? request.quietAt : 0;
    const behind = quietAt + (request.quiet ? request.quietSize : 0);
    const loud = Buffer.concat([bytes.subarray(0, quietAt), bytes.subarray(behind)]);
    const text = await answers(loud);
    expect(replyCount(text), printable(text)).toBe(1);
  });

  test.each(
    named(asked.filter(({ problem }) => problem !== undefined)),
  )("%s is refused in the same words", async (_, { raw, problem, quiet, skips }) => {
    const line = raw.slice(0, raw.indexOf("\n") + 1);
    const text = await answers(bytesOf(skips ? line : raw));
    const words = PROBLEMS[problem ?? "none"].text;
    expect(text).toBe(quiet ? "" : `${words}\r\n`);
  });

  test("a refused line whose block we skip has it run as commands by memcached", async () => {
    for (const { raw, quiet } of LINES.filter(({ skips }) => skips)) {
      const line = raw.slice(0, raw.indexOf("\n") + 1);
      expect(replyCount(await answers(bytesOf(`${line}mn\r\n`))), raw).toBe(quiet ? 1 : 2);
    }
  });

  // ---- binary -------------------------------------------------------------------------------

  const LAST = packet({ opcode: "noop", opaque: 0xffff_fffe });
  const LAST_ANSWER = packet({ opcode: "noop", opaque: 0xffff_fffe, magic: 0x81 });

  /** Packets answered before the last NOOP; null when the connection ends instead. */
  async function packets(bytes: Buffer): Promise<Packet[] | null> {
    const wire = await connect(memcached.address);
    await wire.send(Buffer.concat([bytes, LAST]));
    const read = await wire.readUntil(LAST_ANSWER, 1_000);
    wire.close();
    return read.ended === "matched" ? readPackets(read.bytes).packets.slice(0, -1) : null;
  }

  const binaryRows = PACKETS.filter(({ alone }) => alone === undefined);
  const namedPackets = (rows: readonly PacketRow[]): [string, PacketRow][] =>
    rows.map((row) => [row.name, row]);

  test.each(
    namedPackets(binaryRows.filter(({ problem }) => problem === undefined)),
  )("%s, made loud, gets one reply", async (_, { raw }) => {
    const loud = Buffer.from(raw);
    loud[1] = loudOpcode(raw[1] ?? 0);
    const replies = await packets(loud);
    expect(replies).toHaveLength(1);
    expect(replies?.[0]).toMatchObject({ opcode: loud[1], opaque: raw.readUInt32BE(12) });
  });

  test.each(
    namedPackets(binaryRows.filter(({ problem }) => problem !== undefined)),
  )("%s is refused with the same status and words", async (_, { raw, problem, closes }) => {
    const { status, statusText } = PROBLEMS[problem ?? "none"];
    const wire = await connect(memcached.address);
    await wire.send(raw);
    const header = (await wire.read(24)).bytes;
    const body = (await wire.read(header.readUInt32BE(8))).bytes;
    const [reply] = readPackets(Buffer.concat([header, body])).packets;
    expect(reply).toMatchObject({ opcode: raw[1], status, opaque: raw.readUInt32BE(12) });
    expect(String(reply?.value)).toBe(statusText);
    if (closes) expect((await wire.readToClose()).ended).not.toBe("deadline");
    wire.close();
  });
});
