/**
 * A connection to a shard, against a shard that does what the test says. Whatever a shard does, a
 * client gets the answer to its own command or an honest failure, in order, and the next connection
 * starts clean. Time passes by `link.sweep`, never by waiting.
 */
import { describe, expect, test } from "vitest";
import { quiet, until } from "../../core/io/pair.ts";
import { OPCODE, packet, readPackets } from "../../harness/wire.ts";
import { expectNothingLeft, failures, heard, twoInFlight, useLinkRig } from "./linkRig.ts";

const at = useLinkRig();

const DIALECTS = ["text", "binary"] as const;
const states = (): string[] => at.rig.transitions.map(({ to, reason }) => `${to}: ${reason}`);

describe("a fresh connection", () => {
  test.each(
    DIALECTS,
  )("sends nothing before the shard has shown what it is (%s)", async (dialect) => {
    const link = at.rig.newLink(at.shard.address, dialect);
    const client = await at.rig.newClient(dialect);
    expect(link.state).toBe("idle");
    const [command, reply] =
      dialect === "text"
        ? ["get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n"]
        : [
            packet({ opcode: "get", key: "a", opaque: 7 }).toString("latin1"),
            packet({ magic: 0x81, opcode: "get", opaque: 7, value: "x" }).toString("latin1"),
          ];
    client.send(link, "get", Buffer.from(command, "latin1"), 7);
    const connection = await at.shard.next();
    await until("it asks", () => connection.received.length > 0);
    await quiet();
    const question =
      dialect === "text" ? "version\r\n" : packet({ opcode: "noop" }).toString("latin1");
    expect(connection.received.toString("latin1")).toBe(question);
    await connection.validate();
    await connection.takeText(command);
    connection.write(reply);
    await heard(client, reply);
    expect(client.text).toBe(reply);
    expect(states()).toEqual(["connecting: wanted", "validating: connected", "ready: validated"]);
    expectNothingLeft(at.rig, link);
  });

  test.each(DIALECTS)("may be answered byte by byte from the start (%s)", async (dialect) => {
    const link = at.rig.newLink(at.shard.address, dialect);
    const client = await at.rig.newClient(dialect);
    const replies = [0, 1, 2].map((index) =>
      dialect === "text"
        ? `VALUE a 0 5\r\n${index}\r\nE\n\r\nEND\r\n`
        : packet({ magic: 0x81, opcode: "get", opaque: index, value: `value ${index}` }).toString(
            "latin1",
          ),
    );
    for (const index of replies.keys()) {
      const request = dialect === "text" ? "get a\r\n" : packet({ opcode: "get", key: "a" });
      client.send(link, "get", request, index);
    }
    const connection = await at.shard.next();
    await until("it asks", () => connection.received.length > 0);
    const version =
      dialect === "text"
        ? "VERSION 1.6.18\r\n"
        : packet({ magic: 0x81, opcode: "noop" }).toString("latin1");
    await connection.trickle(Buffer.from(version + replies.join(""), "latin1"));
    await heard(client, replies.join(""));
    expect(client.text).toBe(replies.join(""));
    expect(failures(link)).toEqual([]);
    expectNothingLeft(at.rig, link);
  });

  test.each([
    ["another server", "220 mail.example ESMTP\r\n"],
    ["an error", "ERROR\r\n"],
    ["a line that never ends", "x".repeat(1_000)],
  ])("that is answered by %s is given up", async (_, reply) => {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    client.send(link, "get", "get a\r\n");
    client.send(link, "set", "set a 0 0 1\r\nx\r\n");
    (await at.shard.next()).write(reply);
    const answers = "END\r\nSERVER_ERROR broken reply from shard\r\n";
    await heard(client, answers);
    expect(client.text).toBe(answers);
    expect(failures(link)).toEqual(["not_valid"]);
    expectNothingLeft(at.rig, link);
  });
});

describe("a shard that fails", () => {
  test("by not being there", async () => {
    await at.shard.stop();
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    client.send(link, "get", "get a\r\n");
    client.send(link, "set", "set a 0 0 1\r\nx\r\n");
    client.send(link, "mg", "mg a v\r\n");
    const answers = "END\r\nSERVER_ERROR no live shard\r\nEN\r\n";
    await heard(client, answers);
    expect(client.text).toBe(answers);
    expect(failures(link)).toEqual(["refused"]);
    expectNothingLeft(at.rig, link);
  });

  test.each([
    ["by closing", "closed_by_shard", "shard connection closed"],
    ["by resetting", "reset", "shard connection closed"],
  ] as const)("%s in the middle of a reply", async (_, reason, words) => {
    const { link, client, connection } = await twoInFlight(at);
    connection.write("VALUE a 0 100\r\nhalf of it");
    await quiet();
    if (reason === "reset") connection.reset();
    else connection.socket.end();
    const answers = `END\r\nSERVER_ERROR ${words}\r\n`;
    await heard(client, answers);
    expect(client.text).toBe(answers);
    expect(failures(link)).toEqual([reason]);
    expectNothingLeft(at.rig, link);
  });

  test("by saying more than it was asked", async () => {
    const { link, client, connection } = await twoInFlight(at);
    connection.write("END\r\nSTORED\r\nSTORED\r\n");
    await heard(client, "END\r\nSTORED\r\n");
    expect(client.text).toBe("END\r\nSTORED\r\n");
    await until("the link is given up", () => link.state === "waiting");
    expect(failures(link)).toEqual(["trailing_data"]);
    expectNothingLeft(at.rig, link);
  });

  test("by speaking when nobody asked", async () => {
    const { link, client, connection } = await twoInFlight(at);
    connection.write("END\r\nSTORED\r\n");
    await heard(client, "END\r\nSTORED\r\n");
    connection.write("E");
    await until("the link is given up", () => link.state === "waiting");
    expect(failures(link)).toEqual(["trailing_data"]);
  });

  test.each([
    ["a value of no size", "VALUE a 0 x\r\n"],
    ["a value of an absurd size", "VALUE a 0 4000000000\r\n"],
    ["a line without an end", "y".repeat(9_000)],
  ])("by a reply that is none: %s", async (_, reply) => {
    const { link, client, connection } = await twoInFlight(at);
    connection.write(reply);
    const answers = "END\r\nSERVER_ERROR broken reply from shard\r\n";
    await heard(client, answers);
    expect(client.text).toBe(answers);
    expect(failures(link)).toEqual(["broken_reply"]);
    expectNothingLeft(at.rig, link);
  });

  test("by answering another command than the oldest", async () => {
    const link = at.rig.newLink(at.shard.address, "binary");
    const client = await at.rig.newClient("binary");
    for (const opaque of [1, 2, 3]) {
      const slot = client.send(link, "get", packet({ opcode: "get", key: "a", opaque }), opaque);
      at.rig.slots.opcode[slot] = OPCODE.get;
    }
    const connection = await at.shard.nextValid();
    const reply = (opaque: number): Buffer =>
      packet({ magic: 0x81, opcode: "get", opaque, value: `of ${opaque}` });
    connection.write(Buffer.concat([reply(1), reply(3), reply(2)]));
    await until("all are answered", () => readPackets(client.pair.farBytes()).packets.length === 3);
    const answers = readPackets(client.pair.farBytes()).packets;
    expect(answers.map(({ opaque, status }) => [opaque, status])).toEqual([
      [1, 0],
      [2, 1],
      [3, 1],
    ]);
    expect(failures(link)).toEqual(["opaque_mismatch"]);
    expectNothingLeft(at.rig, link);
  });

  test("by saying nothing for a second", async () => {
    const { link, client } = await twoInFlight(at);
    expect(link.sweep(at.rig.loop.nowMs + 900)).toBe(true);
    await heard(client, "END\r\nSERVER_ERROR shard timed out\r\n");
    expect(link.state).toBe("ready");
    link.sweep(at.rig.loop.nowMs + 1_100);
    expect(link.state).toBe("waiting");
    expect(failures(link)).toEqual(["stalled"]);
    expectNothingLeft(at.rig, link);
  });

  test("by not letting anybody connect", async () => {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    client.send(link, "set", "set a 0 0 1\r\nx\r\n");
    await at.shard.next();
    link.sweep(at.rig.loop.nowMs + 1_001);
    await heard(client, "SERVER_ERROR ");
    expect(failures(link)).toEqual(["connect_timeout"]);
    expectNothingLeft(at.rig, link);
  });
});

describe("a shard that is no longer wanted", () => {
  test("answers what is in flight with a failure and nothing more", async () => {
    const { link, client, connection } = await twoInFlight(at);
    link.retire();
    await heard(client, "END\r\nSERVER_ERROR shard connection closed\r\n");
    expect(link.state).toBe("closed");
    expect(link.refusal()).toBe("noShard");
    await until("the shard sees the end", () => connection.socket.destroyed);
    link.retire();
    expect(link.state).toBe("closed");
    expectNothingLeft(at.rig, link);
  });

  test("is closed without a word when it was never used", () => {
    const link = at.rig.newLink(at.shard.address, "binary");
    link.retire();
    expect(link.refusal()).toBe("noShard");
    expect(states()).toEqual(["closed: retired"]);
  });
});

test("replies for a client that has gone are dropped, and others get theirs", async () => {
  const { link, client, connection } = await twoInFlight(at);
  const other = await at.rig.newClient();
  other.send(link, "get", "get c\r\n");
  client.queue.abandon();
  connection.write("VALUE a 0 1\r\na\r\nEND\r\nSTORED\r\nVALUE c 0 1\r\nc\r\nEND\r\n");
  await heard(other, "VALUE c 0 1\r\nc\r\nEND\r\n");
  expect([client.text, other.text]).toEqual(["", "VALUE c 0 1\r\nc\r\nEND\r\n"]);
  expectNothingLeft(at.rig, link);
});
