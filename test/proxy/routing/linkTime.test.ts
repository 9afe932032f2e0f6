/**
 * Deadlines and reconnecting of a connection to a shard. Time passes by `link.sweep` and by setting
 * the loop's moment, never by waiting.
 */
import { describe, expect, test } from "vitest";
import { Command } from "../../../core/protocol/command.ts";
import type { Link } from "../../../proxy/routing/link.ts";
import { quiet, until } from "../../core/io/pair.ts";
import { OPCODE, packet, readPackets } from "../../harness/wire.ts";
import type { Client } from "../rig.ts";
import { expectNothingLeft, failures, heard, twoInFlight, useLinkRig } from "./linkRig.ts";

const at = useLinkRig();

describe("its health is looked into", () => {
  test("when a command is in flight for long, and when it is given up", async () => {
    const { link } = await twoInFlight(at);
    const before = at.rig.stirredCount;
    const { nowMs } = at.rig.loop;
    at.rig.slots.startedAtMs.fill(nowMs);
    link.sweep(nowMs + 4);
    expect(at.rig.stirredCount).toBe(before);
    link.sweep(nowMs + 6);
    expect(at.rig.stirredCount).toBeGreaterThan(before);
    const afterLong = at.rig.stirredCount;
    link.sweep(nowMs + 251);
    expect(at.rig.stirredCount).toBeGreaterThan(afterLong);
  });

  test("when what was answered since the last look is much, or was slow", async () => {
    const { link, client, connection } = await twoInFlight(at);
    connection.write("END\r\nSTORED\r\n");
    await heard(client, "END\r\nSTORED\r\n");
    const { latency, slots, loop } = at.rig;
    /** Whether the answer to a command of so many milliseconds ago is worth a look. */
    const isLookedInto = async (sentBeforeMs: number): Promise<boolean> => {
      const [before, had] = [at.rig.stirredCount, client.text.length];
      client.send(link, "delete", "delete c\r\n");
      await connection.takeText("delete c\r\n");
      slots.startedAtMs.fill(loop.nowMs - sentBeforeMs);
      connection.write("DELETED\r\n");
      await until("it is answered", () => client.text.length > had);
      return at.rig.stirredCount > before;
    };
    // Before it was sent: however slow this machine is, that is quick.
    const quickMs = -10_000;
    latency.looked();
    expect(await isLookedInto(quickMs)).toBe(false);
    latency.looked();
    expect(await isLookedInto(1_000)).toBe(true);
    latency.looked();
    for (let count = 0; count < 28; count++) latency.observe(0.01);
    expect(await isLookedInto(quickMs)).toBe(false);
    expect(await isLookedInto(quickMs)).toBe(true);
  });
});

describe("a deadline", () => {
  test("that passes makes a miss of a read and an error of a write", async () => {
    const { link, client } = await twoInFlight(at);
    link.sweep(at.rig.loop.nowMs + 200);
    await quiet();
    expect(client.text).toBe("");
    link.sweep(at.rig.loop.nowMs + 251);
    await heard(client, "END\r\nSERVER_ERROR shard timed out\r\n");
    expect(client.text).toBe("END\r\nSERVER_ERROR shard timed out\r\n");
    expect(link.timedOutCount).toBe(2);
    expect(at.rig.slots.usedCount).toBe(0);
  });

  test("may be a shorter one, and then passes sooner", async () => {
    const { link, client } = await twoInFlight(at);
    at.rig.deadline.ms = 25;
    link.sweep(at.rig.loop.nowMs + 26);
    await heard(client, "END\r\nSERVER_ERROR shard timed out\r\n");
    expect(link.timedOutCount).toBe(2);
  });

  test("that passed leaves the reply to nobody, and the next reply to the next command", async () => {
    const { link, client, connection } = await twoInFlight(at);
    link.sweep(at.rig.loop.nowMs + 251);
    const late = "END\r\nSERVER_ERROR shard timed out\r\n";
    await heard(client, late);
    client.send(link, "get", "get c\r\n");
    client.send(link, "delete", "delete d\r\n");
    await connection.takeText("get c\r\ndelete d\r\n");
    await connection.trickle("VALUE a 0 4\r\nlate\r\nEND\r\nSTORED\r\n");
    connection.write("VALUE c 0 3\r\nnew\r\nEND\r\nDELETED\r\n");
    const all = `${late}VALUE c 0 3\r\nnew\r\nEND\r\nDELETED\r\n`;
    await heard(client, all);
    expect(client.text).toBe(all);
    expect(failures(link)).toEqual([]);
    expectNothingLeft(at.rig, link);
  });

  test("that passed is remembered with its command: only that tells where its reply ends", async () => {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    client.send(link, "mg", "mg a v\r\n");
    client.send(link, "ma", "ma b v\r\n");
    // As a broadcast asks: nobody's turn depends on it.
    link.expect(at.rig.slots.open(null, Command.stats, at.rig.loop.nowMs));
    link.append(Buffer.from("stats\r\n"), 0, 7);
    client.send(link, "gets", "gets c\r\n");
    const connection = await at.shard.nextValid();
    await connection.takeText("mg a v\r\nma b v\r\nstats\r\ngets c\r\n");
    link.sweep(at.rig.loop.nowMs + 251);
    const failed = "EN\r\nSERVER_ERROR shard timed out\r\nEND\r\n";
    await heard(client, failed);
    client.send(link, "get", "get d\r\n");
    const late =
      "VA 5\r\nEND\r\n\r\nVA 1 t-1\r\n7\r\nSTAT a 1\r\nSTAT b 2\r\nEND\r\nVALUE c 0 2 99\r\nab\r\nEND\r\n";
    await connection.trickle(late);
    connection.write("VALUE d 0 1\r\nd\r\nEND\r\n");
    await heard(client, `${failed}VALUE d 0 1\r\nd\r\nEND\r\n`);
    expect(client.text).toBe(`${failed}VALUE d 0 1\r\nd\r\nEND\r\n`);
    expect(failures(link)).toEqual([]);
    expectNothingLeft(at.rig, link);
  });

  test("of one does not touch those that came later", async () => {
    const { link, client, connection } = await twoInFlight(at);
    const before = at.rig.loop.nowMs;
    at.rig.loop.nowMs = before + 200;
    client.send(link, "get", "get c\r\n");
    link.sweep(before + 251);
    await heard(client, "END\r\nSERVER_ERROR shard timed out\r\n");
    expect(at.rig.slots.usedCount).toBe(1);
    connection.write("END\r\nSTORED\r\nVALUE c 0 1\r\nc\r\nEND\r\n");
    await heard(client, "END\r\nSERVER_ERROR shard timed out\r\nVALUE c 0 1\r\nc\r\nEND\r\n");
    expectNothingLeft(at.rig, link);
  });

  test("that passed before the connection broke is answered once", async () => {
    const { link, client, connection } = await twoInFlight(at);
    link.sweep(at.rig.loop.nowMs + 251);
    connection.reset();
    await until("the link is given up", () => link.state === "waiting");
    await quiet();
    expect(client.text).toBe("END\r\nSERVER_ERROR shard timed out\r\n");
    expectNothingLeft(at.rig, link);
  });

  test("in binary is a miss for a get, silent when the get was quiet, an error for a set", async () => {
    const link = at.rig.newLink(at.shard.address, "binary");
    const client = await at.rig.newClient("binary");
    const send = (command: "get" | "set", name: keyof typeof OPCODE, quietness: number): void => {
      const opaque = OPCODE[name];
      const slot = client.send(link, command, packet({ opcode: name, key: "a", opaque }), opaque);
      at.rig.slots.opcode[slot] = OPCODE[name];
      at.rig.slots.quiet[slot] = quietness;
    };
    send("get", "get", 0);
    send("get", "getkq", 3);
    send("get", "getk", 0);
    send("set", "set", 0);
    send("set", "setq", 3);
    await at.shard.nextValid();
    await until("it is ready", () => link.state === "ready");
    link.sweep(at.rig.loop.nowMs + 251);
    await until("all are answered", () => readPackets(client.pair.farBytes()).packets.length === 4);
    const answers = readPackets(client.pair.farBytes()).packets;
    const { get, getk, set, setq } = OPCODE;
    expect(answers.map(({ opcode, opaque, status }) => [opcode, opaque, status])).toEqual([
      [get, get, 0x01],
      [getk, getk, 0x01],
      [set, set, 0x86],
      [setq, setq, 0x86],
    ]);
    expect(at.rig.slots.usedCount).toBe(0);
  });
});

describe("after a failure", () => {
  /** The link has failed `count` times in a row; the last time it waits at most this long. */
  async function failTimes(link: Link, client: Client, count: number): Promise<void> {
    for (let done = 0; done < count; done++) {
      at.rig.loop.nowMs += 10_000;
      client.send(link, "get", "get a\r\n");
      (await at.shard.next()).reset();
      await until("it failed", () => link.state === "waiting");
    }
  }

  test.each([
    [1, 10],
    [2, 20],
    [5, 160],
    [20, 1_000],
  ])("number %i nothing is tried for %i ms at most", async (count, delayMs) => {
    at.rig.chance = 0.999_999;
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    await failTimes(link, client, count);
    const failedAtMs = at.rig.transitions.at(-1)?.atMs ?? 0;
    at.rig.loop.nowMs = failedAtMs + delayMs * 0.99;
    expect(link.refusal()).toBe("noShard");
    expect(link.state).toBe("waiting");
    at.rig.loop.nowMs = failedAtMs + delayMs;
    expect(link.refusal()).toBeUndefined();
    expect(link.state).toBe("connecting");
    await heard(client, "END\r\n".repeat(count));
    expect(client.text).toBe("END\r\n".repeat(count));
  });

  test("a good connection makes the next wait short again", async () => {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    await failTimes(link, client, 6);
    at.rig.loop.nowMs += 10_000;
    client.send(link, "get", "get a\r\n");
    const connection = await at.shard.nextValid();
    await until("it is ready", () => link.state === "ready");
    at.rig.chance = 0.999_999;
    connection.reset();
    await until("it failed", () => link.state === "waiting");
    at.rig.loop.nowMs = (at.rig.transitions.at(-1)?.atMs ?? 0) + 10;
    expect(link.refusal()).toBeUndefined();
  });

  test("a new connection starts with the new commands alone", async () => {
    const { link, client, connection } = await twoInFlight(at);
    connection.write("VALUE a 0 10\r\nhal");
    await quiet();
    connection.reset();
    const lost = "END\r\nSERVER_ERROR shard connection closed\r\n";
    await heard(client, lost);
    client.send(link, "get", "get c\r\n");
    const fresh = await at.shard.nextValid();
    await fresh.takeText("get c\r\n");
    fresh.write("VALUE c 0 1\r\nc\r\nEND\r\n");
    await heard(client, `${lost}VALUE c 0 1\r\nc\r\nEND\r\n`);
    expect(client.text).toBe(`${lost}VALUE c 0 1\r\nc\r\nEND\r\n`);
    expectNothingLeft(at.rig, link);
  });

  test("a shard that comes back is found again", async () => {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    await at.shard.stop();
    client.send(link, "get", "get a\r\n");
    await heard(client, "END\r\n");
    await at.shard.listen();
    at.rig.loop.nowMs += 1_000;
    client.send(link, "get", "get a\r\n");
    (await at.shard.nextValid()).write("VALUE a 0 1\r\nx\r\nEND\r\n");
    await heard(client, "END\r\nVALUE a 0 1\r\nx\r\nEND\r\n");
    expectNothingLeft(at.rig, link);
  });
});

describe("a connection that nobody uses", () => {
  test("is closed after a minute, is no failure, and the next command opens another", async () => {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    client.send(link, "get", "get a\r\n");
    const first = await at.shard.nextValid();
    await first.takeText("get a\r\n");
    link.closeIfIdle(at.rig.loop.nowMs + 61_000);
    expect(link.state, "a command is in flight").toBe("ready");
    first.write("END\r\n");
    await heard(client, "END\r\n");
    link.closeIfIdle(at.rig.loop.nowMs + 59_000);
    expect(link.state).toBe("ready");
    link.closeIfIdle(at.rig.loop.nowMs + 61_000);
    expect(link.state).toBe("idle");
    client.send(link, "get", "get b\r\n");
    const second = await at.shard.nextValid();
    await second.takeText("get b\r\n");
    second.write("END\r\n");
    await heard(client, "END\r\nEND\r\n");
    expect(failures(link)).toEqual([]);
    expectNothingLeft(at.rig, link);
  });
});
