/** A connection to a shard under load: many commands in flight, and a shard that stops reading. */
import { describe, expect, test } from "vitest";
import { quiet, until } from "../../core/io/pair.ts";
import { expectNothingLeft, heard, type InFlight, useLinkRig } from "./linkRig.ts";

const at = useLinkRig();

describe("many commands", () => {
  test("in flight are answered in order, however the replies are cut", async () => {
    const link = at.rig.newLink(at.shard.address, "text");
    const clients = [await at.rig.newClient(), await at.rig.newClient(), await at.rig.newClient()];
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
    const connection = await at.shard.nextValid();
    for (let from = 0; from < replies.length; from += 997) {
      connection.write(replies.slice(from, from + 997));
      if (from % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    for (const [which, client] of clients.entries()) {
      await heard(client, expected[which] ?? "");
      expect(client.text).toBe(expected[which]);
    }
    expectNothingLeft(at.rig, link);
  });

  test("above the depth are refused until some are answered", async () => {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    const depthMax = 16 * 1024;
    for (let count = 0; count < depthMax; count++) client.send(link, "delete", "delete k\r\n");
    expect(link.refusal()).toBe("queueFull");
    const connection = await at.shard.nextValid();
    await until("it is ready", () => link.state === "ready");
    expect(link.refusal()).toBe("queueFull");
    connection.write("DELETED\r\n");
    await until("one is answered", () => link.depth === depthMax - 1);
    expect(link.refusal()).toBeUndefined();
    expect(link.queueFullCount).toBeGreaterThan(0);
    connection.write("DELETED\r\n".repeat(depthMax - 1));
    await heard(client, "DELETED\r\n".repeat(depthMax));
    expectNothingLeft(at.rig, link);
  });
});

describe("a shard that stops reading", () => {
  const LARGE = Buffer.from(`set k 0 0 1000000\r\n${"x".repeat(1_000_000)}\r\n`);

  async function jam(): Promise<InFlight & { count: number }> {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    client.send(link, "get", "get a\r\n");
    const connection = await at.shard.nextValid();
    await connection.takeText("get a\r\n");
    connection.socket.pause();
    let count = 0;
    while (at.rig.loop.unsentSize === 0 && count < 100) {
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
    expect(at.rig.loop.unsentSize).toBe(0);
    expectNothingLeft(at.rig, link);
  });

  test("wakes those who wait when it fails", async () => {
    const { link, connection } = await jam();
    const one = waiter();
    expect(link.isFullFor(one)).toBe(true);
    connection.reset();
    await until("it is woken", () => one.woken > 0);
    expect(link.state).toBe("waiting");
    await until("the slabs are back", () => at.rig.isNothingHeld);
    expect(at.rig.loop.unsentSize).toBe(0);
    expectNothingLeft(at.rig, link);
  });
});
