/**
 * A connection to a shard, against a shard that does what the test says. Whatever a shard does, a
 * client gets the answer to its own command or an honest failure, in order, and the next connection
 * starts clean. Time passes by `link.sweep`, never by waiting.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Link, LinkFailure } from "../../../proxy/routing/link.ts";
import { LINK_FAILURES } from "../../../proxy/routing/link.ts";
import { quiet, until } from "../../core/io/pair.ts";
import { OPCODE, packet, readPackets } from "../../harness/wire.ts";
import { FakeShard } from "../fakeShard.ts";
import { type Client, Rig } from "../rig.ts";

let rig: Rig;
let shard: FakeShard;
beforeEach(async () => {
  rig = new Rig();
  shard = await FakeShard.start();
});
afterEach(async () => {
  rig.close();
  await shard.stop();
});

const DIALECTS = ["text", "binary"] as const;
const failures = (link: Link): LinkFailure[] =>
  LINK_FAILURES.filter((_, index) => (link.failureCounts[index] ?? 0) > 0);
const states = (): string[] => rig.transitions.map(({ to, reason }) => `${to}: ${reason}`);
const heard = (client: Client, text: string): Promise<void> =>
  until(`${JSON.stringify(text)} is heard`, () => client.text.length >= text.length);

/** Nothing waits any more, and nothing is held. */
function expectNothingLeft(link: Link): void {
  expect([rig.slots.usedCount, link.depth]).toEqual([0, 0]);
  expect(rig.isNothingHeld).toBe(true);
}

/** A get and a set that nobody has answered, on a link that is ready. */
async function twoInFlight(): Promise<{
  link: Link;
  client: Client;
  connection: Awaited<ReturnType<FakeShard["next"]>>;
}> {
  const link = rig.newLink(shard.address, "text");
  const client = await rig.newClient();
  client.send(link, "get", "get a\r\n");
  client.send(link, "set", "set b 0 0 1\r\nx\r\n");
  const connection = await shard.nextValid();
  await connection.takeText("get a\r\nset b 0 0 1\r\nx\r\n");
  return { link, client, connection };
}

describe("a fresh connection", () => {
  test.each(
    DIALECTS,
  )("sends nothing before the shard has shown what it is (%s)", async (dialect) => {
    const link = rig.newLink(shard.address, dialect);
    const client = await rig.newClient(dialect);
    expect(link.state).toBe("idle");
    const [command, reply] =
      dialect === "text"
        ? ["get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n"]
        : [
            packet({ opcode: "get", key: "a", opaque: 7 }).toString("latin1"),
            packet({ magic: 0x81, opcode: "get", opaque: 7, value: "x" }).toString("latin1"),
          ];
    client.send(link, "get", Buffer.from(command, "latin1"), 7);
    const connection = await shard.next();
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
    expectNothingLeft(link);
  });

  test.each(DIALECTS)("may be answered byte by byte from the start (%s)", async (dialect) => {
    const link = rig.newLink(shard.address, dialect);
    const client = await rig.newClient(dialect);
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
    const connection = await shard.next();
    await until("it asks", () => connection.received.length > 0);
    const version =
      dialect === "text"
        ? "VERSION 1.6.18\r\n"
        : packet({ magic: 0x81, opcode: "noop" }).toString("latin1");
    await connection.trickle(Buffer.from(version + replies.join(""), "latin1"));
    await heard(client, replies.join(""));
    expect(client.text).toBe(replies.join(""));
    expect(failures(link)).toEqual([]);
    expectNothingLeft(link);
  });

  test.each([
    ["another server", "220 mail.example ESMTP\r\n"],
    ["an error", "ERROR\r\n"],
    ["a line that never ends", "x".repeat(1_000)],
  ])("that is answered by %s is given up", async (_, reply) => {
    const link = rig.newLink(shard.address, "text");
    const client = await rig.newClient();
    client.send(link, "get", "get a\r\n");
    client.send(link, "set", "set a 0 0 1\r\nx\r\n");
    (await shard.next()).write(reply);
    const answers = "END\r\nSERVER_ERROR broken reply from shard\r\n";
    await heard(client, answers);
    expect(client.text).toBe(answers);
    expect(failures(link)).toEqual(["not_valid"]);
    expectNothingLeft(link);
  });
});

describe("a shard that fails", () => {
  test("by not being there", async () => {
    await shard.stop();
    const link = rig.newLink(shard.address, "text");
    const client = await rig.newClient();
    client.send(link, "get", "get a\r\n");
    client.send(link, "set", "set a 0 0 1\r\nx\r\n");
    client.send(link, "mg", "mg a v\r\n");
    const answers = "END\r\nSERVER_ERROR no live shard\r\nEN\r\n";
    await heard(client, answers);
    expect(client.text).toBe(answers);
    expect(failures(link)).toEqual(["refused"]);
    expectNothingLeft(link);
  });

  test.each([
    ["by closing", "closed_by_shard", "shard connection closed"],
    ["by resetting", "reset", "shard connection closed"],
  ] as const)("%s in the middle of a reply", async (_, reason, words) => {
    const { link, client, connection } = await twoInFlight();
    connection.write("VALUE a 0 100\r\nhalf of it");
    await quiet();
    if (reason === "reset") connection.reset();
    else connection.socket.end();
    const answers = `END\r\nSERVER_ERROR ${words}\r\n`;
    await heard(client, answers);
    expect(client.text).toBe(answers);
    expect(failures(link)).toEqual([reason]);
    expectNothingLeft(link);
  });

  test("by saying more than it was asked", async () => {
    const { link, client, connection } = await twoInFlight();
    connection.write("END\r\nSTORED\r\nSTORED\r\n");
    await heard(client, "END\r\nSTORED\r\n");
    expect(client.text).toBe("END\r\nSTORED\r\n");
    await until("the link is given up", () => link.state === "waiting");
    expect(failures(link)).toEqual(["trailing_data"]);
    expectNothingLeft(link);
  });

  test("by speaking when nobody asked", async () => {
    const { link, client, connection } = await twoInFlight();
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
    const { link, client, connection } = await twoInFlight();
    connection.write(reply);
    const answers = "END\r\nSERVER_ERROR broken reply from shard\r\n";
    await heard(client, answers);
    expect(client.text).toBe(answers);
    expect(failures(link)).toEqual(["broken_reply"]);
    expectNothingLeft(link);
  });

  test("by answering another command than the oldest", async () => {
    const link = rig.newLink(shard.address, "binary");
    const client = await rig.newClient("binary");
    for (const opaque of [1, 2, 3]) {
      const slot = client.send(link, "get", packet({ opcode: "get", key: "a", opaque }), opaque);
      rig.slots.opcode[slot] = OPCODE.get;
    }
    const connection = await shard.nextValid();
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
    expectNothingLeft(link);
  });

  test("by saying nothing for a second", async () => {
    const { link, client } = await twoInFlight();
    expect(link.sweep(rig.loop.nowMs + 900)).toBe(true);
    await heard(client, "END\r\nSERVER_ERROR shard timed out\r\n");
    expect(link.state).toBe("ready");
    link.sweep(rig.loop.nowMs + 1_100);
    expect(link.state).toBe("waiting");
    expect(failures(link)).toEqual(["stalled"]);
    expectNothingLeft(link);
  });

  test("by not letting anybody connect", async () => {
    const link = rig.newLink(shard.address, "text");
    const client = await rig.newClient();
    client.send(link, "set", "set a 0 0 1\r\nx\r\n");
    await shard.next();
    link.sweep(rig.loop.nowMs + 1_001);
    await heard(client, "SERVER_ERROR ");
    expect(failures(link)).toEqual(["connect_timeout"]);
    expectNothingLeft(link);
  });
});

describe("a deadline", () => {
  test("that passes makes a miss of a read and an error of a write", async () => {
    const { link, client } = await twoInFlight();
    link.sweep(rig.loop.nowMs + 200);
    await quiet();
    expect(client.text).toBe("");
    link.sweep(rig.loop.nowMs + 251);
    await heard(client, "END\r\nSERVER_ERROR shard timed out\r\n");
    expect(client.text).toBe("END\r\nSERVER_ERROR shard timed out\r\n");
    expect(link.timedOutCount).toBe(2);
    expect(rig.slots.usedCount).toBe(0);
  });

  test("that passed leaves the reply to nobody, and the next reply to the next command", async () => {
    const { link, client, connection } = await twoInFlight();
    link.sweep(rig.loop.nowMs + 251);
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
    expectNothingLeft(link);
  });

  test("that passed is remembered with its command: only that tells where its reply ends", async () => {
    const link = rig.newLink(shard.address, "text");
    const client = await rig.newClient();
    client.send(link, "mg", "mg a v\r\n");
    client.send(link, "ma", "ma b v\r\n");
    client.send(link, "stats", "stats\r\n");
    client.send(link, "gets", "gets c\r\n");
    const connection = await shard.nextValid();
    await connection.takeText("mg a v\r\nma b v\r\nstats\r\ngets c\r\n");
    link.sweep(rig.loop.nowMs + 251);
    const failed = "EN\r\nSERVER_ERROR shard timed out\r\nEN\r\nEND\r\n";
    await heard(client, failed);
    client.send(link, "get", "get d\r\n");
    const late =
      "VA 5\r\nEND\r\n\r\nVA 1 t-1\r\n7\r\nSTAT a 1\r\nSTAT b 2\r\nEND\r\nVALUE c 0 2 99\r\nab\r\nEND\r\n";
    await connection.trickle(late);
    connection.write("VALUE d 0 1\r\nd\r\nEND\r\n");
    await heard(client, `${failed}VALUE d 0 1\r\nd\r\nEND\r\n`);
    expect(client.text).toBe(`${failed}VALUE d 0 1\r\nd\r\nEND\r\n`);
    expect(failures(link)).toEqual([]);
    expectNothingLeft(link);
  });

  test("of one does not touch those that came later", async () => {
    const { link, client, connection } = await twoInFlight();
    const before = rig.loop.nowMs;
    rig.loop.nowMs = before + 200;
    client.send(link, "get", "get c\r\n");
    link.sweep(before + 251);
    await heard(client, "END\r\nSERVER_ERROR shard timed out\r\n");
    expect(rig.slots.usedCount).toBe(1);
    connection.write("END\r\nSTORED\r\nVALUE c 0 1\r\nc\r\nEND\r\n");
    await heard(client, "END\r\nSERVER_ERROR shard timed out\r\nVALUE c 0 1\r\nc\r\nEND\r\n");
    expectNothingLeft(link);
  });

  test("that passed before the connection broke is answered once", async () => {
    const { link, client, connection } = await twoInFlight();
    link.sweep(rig.loop.nowMs + 251);
    connection.reset();
    await until("the link is given up", () => link.state === "waiting");
    await quiet();
    expect(client.text).toBe("END\r\nSERVER_ERROR shard timed out\r\n");
    expectNothingLeft(link);
  });

  test("in binary is a miss for a get, silent when the get was quiet, an error for a set", async () => {
    const link = rig.newLink(shard.address, "binary");
    const client = await rig.newClient("binary");
    const send = (command: "get" | "set", name: keyof typeof OPCODE, quietness: number): void => {
      const opaque = OPCODE[name];
      const slot = client.send(link, command, packet({ opcode: name, key: "a", opaque }), opaque);
      rig.slots.opcode[slot] = OPCODE[name];
      rig.slots.quiet[slot] = quietness;
    };
    send("get", "get", 0);
    send("get", "getkq", 3);
    send("get", "getk", 0);
    send("set", "set", 0);
    send("set", "setq", 3);
    await shard.nextValid();
    await until("it is ready", () => link.state === "ready");
    link.sweep(rig.loop.nowMs + 251);
    await until("all are answered", () => readPackets(client.pair.farBytes()).packets.length === 4);
    const answers = readPackets(client.pair.farBytes()).packets;
    const { get, getk, set, setq } = OPCODE;
    expect(answers.map(({ opcode, opaque, status }) => [opcode, opaque, status])).toEqual([
      [get, get, 0x01],
      [getk, getk, 0x01],
      [set, set, 0x86],
      [setq, setq, 0x86],
    ]);
    expect(rig.slots.usedCount).toBe(0);
  });
});

describe("after a failure", () => {
  /** The link has failed `count` times in a row; the last time it waits at most this long. */
  async function failTimes(link: Link, client: Client, count: number): Promise<void> {
    for (let done = 0; done < count; done++) {
      rig.loop.nowMs += 10_000;
      client.send(link, "get", "get a\r\n");
      (await shard.next()).reset();
      await until("it failed", () => link.state === "waiting");
    }
  }

  test.each([
    [1, 10],
    [2, 20],
    [5, 160],
    [20, 1_000],
  ])("number %i nothing is tried for %i ms at most", async (count, delayMs) => {
    rig.chance = 0.999_999;
    const link = rig.newLink(shard.address, "text");
    const client = await rig.newClient();
    await failTimes(link, client, count);
    const failedAtMs = rig.transitions.at(-1)?.atMs ?? 0;
    rig.loop.nowMs = failedAtMs + delayMs * 0.99;
    expect(link.refusal()).toBe("noShard");
    expect(link.state).toBe("waiting");
    rig.loop.nowMs = failedAtMs + delayMs;
    expect(link.refusal()).toBeUndefined();
    expect(link.state).toBe("connecting");
    await heard(client, "END\r\n".repeat(count));
    expect(client.text).toBe("END\r\n".repeat(count));
  });

  test("a good connection makes the next wait short again", async () => {
    const link = rig.newLink(shard.address, "text");
    const client = await rig.newClient();
    await failTimes(link, client, 6);
    rig.loop.nowMs += 10_000;
    client.send(link, "get", "get a\r\n");
    const connection = await shard.nextValid();
    await until("it is ready", () => link.state === "ready");
    rig.chance = 0.999_999;
    connection.reset();
    await until("it failed", () => link.state === "waiting");
    rig.loop.nowMs = (rig.transitions.at(-1)?.atMs ?? 0) + 10;
    expect(link.refusal()).toBeUndefined();
  });

  test("a new connection starts with the new commands alone", async () => {
    const { link, client, connection } = await twoInFlight();
    connection.write("VALUE a 0 10\r\nhal");
    await quiet();
    connection.reset();
    const lost = "END\r\nSERVER_ERROR shard connection closed\r\n";
    await heard(client, lost);
    client.send(link, "get", "get c\r\n");
    const fresh = await shard.nextValid();
    await fresh.takeText("get c\r\n");
    fresh.write("VALUE c 0 1\r\nc\r\nEND\r\n");
    await heard(client, `${lost}VALUE c 0 1\r\nc\r\nEND\r\n`);
    expect(client.text).toBe(`${lost}VALUE c 0 1\r\nc\r\nEND\r\n`);
    expectNothingLeft(link);
  });

  test("a shard that comes back is found again", async () => {
    const link = rig.newLink(shard.address, "text");
    const client = await rig.newClient();
    await shard.stop();
    client.send(link, "get", "get a\r\n");
    await heard(client, "END\r\n");
    await shard.listen();
    rig.loop.nowMs += 1_000;
    client.send(link, "get", "get a\r\n");
    (await shard.nextValid()).write("VALUE a 0 1\r\nx\r\nEND\r\n");
    await heard(client, "END\r\nVALUE a 0 1\r\nx\r\nEND\r\n");
    expectNothingLeft(link);
  });
});

describe("many commands", () => {
  test("in flight are answered in order, however the replies are cut", async () => {
    const link = rig.newLink(shard.address, "text");
    const clients = [await rig.newClient(), await rig.newClient(), await rig.newClient()];
    const expected = clients.map(() => "");
    let replies = "";
    for (let index = 0; index < 5_000; index++) {
      const which = (index * 7) % clients.length;
      const reply =
        index % 5 === 0 ? "END\r\n" : `VALUE k 0 4\r\n${`${index}`.padStart(4)}\r\nEND\r\n`;
      clients[which]?.send(link, "get", `get ${index}\r\n`);
      expected[which] += reply;
      replies += reply;
    }
    expect(link.depth).toBe(5_000);
    const connection = await shard.nextValid();
    for (let at = 0; at < replies.length; at += 997) {
      connection.write(replies.slice(at, at + 997));
      if (at % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    for (const [which, client] of clients.entries()) {
      await heard(client, expected[which] ?? "");
      expect(client.text).toBe(expected[which]);
    }
    expectNothingLeft(link);
  });

  test("above the depth are refused until some are answered", async () => {
    const link = rig.newLink(shard.address, "text");
    const client = await rig.newClient();
    const depthMax = 16 * 1024;
    for (let count = 0; count < depthMax; count++) client.send(link, "delete", "delete k\r\n");
    expect(link.refusal()).toBe("queueFull");
    const connection = await shard.nextValid();
    await until("it is ready", () => link.state === "ready");
    expect(link.refusal()).toBe("queueFull");
    connection.write("DELETED\r\n");
    await until("one is answered", () => link.depth === depthMax - 1);
    expect(link.refusal()).toBeUndefined();
    expect(link.queueFullCount).toBeGreaterThan(0);
    connection.write("DELETED\r\n".repeat(depthMax - 1));
    await heard(client, "DELETED\r\n".repeat(depthMax));
    expectNothingLeft(link);
  });
});

describe("a shard that stops reading", () => {
  const LARGE = Buffer.from(`set k 0 0 1000000\r\n${"x".repeat(1_000_000)}\r\n`);

  async function jam(): Promise<{
    link: Link;
    client: Client;
    connection: Awaited<ReturnType<FakeShard["next"]>>;
    count: number;
  }> {
    const link = rig.newLink(shard.address, "text");
    const client = await rig.newClient();
    client.send(link, "get", "get a\r\n");
    const connection = await shard.nextValid();
    await connection.takeText("get a\r\n");
    connection.socket.pause();
    let count = 0;
    while (rig.loop.unsentSize === 0 && count < 100) {
      client.send(link, "set", LARGE);
      count++;
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { link, client, connection, count };
  }

  const waiter = (): { woken: number; linkDrained(): void } => ({
    woken: 0,
    linkDrained() {
      this.woken++;
    },
  });

  test("is full for those who ask, and wakes them once when it reads again", async () => {
    const { link, connection, count } = await jam();
    const [first, second] = [waiter(), waiter()];
    expect(link.isFullFor(first)).toBe(true);
    expect(link.isFullFor(second)).toBe(true);
    await quiet();
    expect([first.woken, second.woken]).toEqual([0, 0]);
    connection.socket.resume();
    await until("they are woken", () => first.woken > 0 && second.woken > 0);
    expect(link.isFullFor(first)).toBe(false);
    connection.write(`END\r\n${"STORED\r\n".repeat(count)}`);
    await until("all are answered", () => link.depth === 0);
    await quiet();
    expect([first.woken, second.woken]).toEqual([1, 1]);
    expect(rig.loop.unsentSize).toBe(0);
    expectNothingLeft(link);
  });

  test("wakes those who wait when it fails", async () => {
    const { link, connection } = await jam();
    const one = waiter();
    expect(link.isFullFor(one)).toBe(true);
    connection.reset();
    await until("it is woken", () => one.woken > 0);
    expect(link.state).toBe("waiting");
    await until("the slabs are back", () => rig.isNothingHeld);
    expect(rig.loop.unsentSize).toBe(0);
    expectNothingLeft(link);
  });
});

describe("a shard that is no longer wanted", () => {
  test("answers what is in flight with a failure and nothing more", async () => {
    const { link, client, connection } = await twoInFlight();
    link.retire();
    await heard(client, "END\r\nSERVER_ERROR shard connection closed\r\n");
    expect(link.state).toBe("closed");
    expect(link.refusal()).toBe("noShard");
    await until("the shard sees the end", () => connection.socket.destroyed);
    link.retire();
    expect(link.state).toBe("closed");
    expectNothingLeft(link);
  });

  test("is closed without a word when it was never used", () => {
    const link = rig.newLink(shard.address, "binary");
    link.retire();
    expect(link.refusal()).toBe("noShard");
    expect(states()).toEqual(["closed: retired"]);
  });
});

test("replies for a client that has gone are dropped, and others get theirs", async () => {
  const { link, client, connection } = await twoInFlight();
  const other = await rig.newClient();
  other.send(link, "get", "get c\r\n");
  client.queue.abandon();
  connection.write("VALUE a 0 1\r\na\r\nEND\r\nSTORED\r\nVALUE c 0 1\r\nc\r\nEND\r\n");
  await heard(other, "VALUE c 0 1\r\nc\r\nEND\r\n");
  expect([client.text, other.text]).toEqual(["", "VALUE c 0 1\r\nc\r\nEND\r\n"]);
  expectNothingLeft(link);
});
