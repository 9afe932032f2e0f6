/**
 * Mutations whose outcome nobody knows are made good: their keys are deleted until the shard has said
 * so. Time passes by `link.sweep` and by setting the loop's moment, never by waiting.
 */
import { describe, expect, test } from "vitest";
import { Command } from "../../../core/protocol/command.ts";
import type { Link } from "../../../proxy/routing/link.ts";
import { quiet, until } from "../../core/io/pair.ts";
import { packet } from "../../harness/wire.ts";
import type { Client } from "../rig.ts";
import { expectNothingLeft, heard, useLinkRig } from "./linkRig.ts";

const at = useLinkRig();
const LATE = "SERVER_ERROR shard timed out\r\n";
const SET = "set b 0 0 1\r\nx\r\n";

/** Gives the set of a key to `link` as a session does. */
function mutate(client: Client, link: Link, key = "b", dialect: "text" | "binary" = "text"): void {
  expect(link.refusal()).toBeUndefined();
  const { slots, loop } = at.rig;
  const slot = client.queue.open(Command.set, loop.nowMs);
  const name = Buffer.from(key, "latin1");
  link.expectMutation(slot, name, 0, name.length);
  const extras = Buffer.alloc(8);
  slots.opaque[slot] = 0;
  const bytes =
    dialect === "text"
      ? Buffer.from(`set ${key} 0 0 1\r\nx\r\n`)
      : packet({ opcode: "set", key, extras, value: "x" });
  link.append(bytes, 0, bytes.length);
}

/** A link with one set in flight that the shard has read. */
async function setInFlight(): Promise<{
  link: Link;
  client: Client;
  connection: Awaited<ReturnType<typeof at.shard.nextValid>>;
}> {
  const link = at.rig.newLink(at.shard.address, "text");
  const client = await at.rig.newClient();
  mutate(client, link);
  const connection = await at.shard.nextValid();
  await connection.takeText(SET);
  return { link, client, connection };
}

/** `ms` later by the clock of the loop. */
function later(link: Link, ms: number): void {
  at.rig.loop.turn();
  at.rig.loop.nowMs += ms;
  link.sweep(at.rig.loop.nowMs);
}

describe("a mutation past its deadline", () => {
  test("is followed by a deletion of its key on the same connection, and one is enough", async () => {
    const { link, client, connection } = await setInFlight();
    later(link, 251);
    await heard(client, LATE);
    await connection.takeText("delete b\r\n");
    expect(link.unknownCount).toBe(1);
    connection.write("STORED\r\nDELETED\r\n");
    await until("it is known", () => link.unknownCount === 0);
    later(link, 2_000);
    expect(link.sweep(at.rig.loop.nowMs)).toBe(false);
    expectNothingLeft(at.rig, link);
  });

  test("that never went out is followed by nothing", async () => {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    mutate(client, link);
    const connection = await at.shard.next();
    later(link, 251);
    connection.socket.destroy();
    await until("the link is given up", () => link.state === "waiting");
    expect(link.unknownCount).toBe(0);
    expectNothingLeft(at.rig, link);
  });

  test("is followed by a deletion, too, when the connection came to life after that", async () => {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    mutate(client, link);
    const connection = await at.shard.next();
    later(link, 251);
    await connection.validate();
    await until("it is ready", () => link.state === "ready");
    later(link, 260);
    await connection.takeText(`${SET}delete b\r\n`);
    connection.write("STORED\r\nNOT_FOUND\r\n");
    await until("it is known", () => link.unknownCount === 0);
    expectNothingLeft(at.rig, link);
  });
});

describe("a mutation whose connection broke", () => {
  test("has its key deleted on the next connection, and once more when what was on its way has come", async () => {
    const { link, client, connection } = await setInFlight();
    connection.reset();
    await heard(client, "SERVER_ERROR shard connection closed\r\n");
    expect(link.unknownCount).toBe(1);
    later(link, 20);
    const next = await at.shard.nextValid();
    await next.takeText("delete b\r\n");
    next.write("DELETED\r\n");
    await until("it was answered", () => link.depth === 0);
    later(link, 20);
    await quiet();
    expect(next.received.length).toBe(0);
    later(link, 50);
    await next.takeText("delete b\r\n");
    next.write("NOT_FOUND\r\n");
    await until("it is known", () => link.unknownCount === 0);
    expect(at.rig.unknownCount).toBe(0);
    expectNothingLeft(at.rig, link);
  });

  test("waits longer for what was on its way where it was us who gave up", async () => {
    const { link, connection } = await setInFlight();
    later(link, 251);
    later(link, 800);
    const next = await at.shard.nextValid();
    await until("it is ready", () => link.state === "ready");
    later(link, 1_200);
    await next.takeText("delete b\r\n");
    next.write("DELETED\r\n");
    await until("it was answered", () => link.depth === 0);
    later(link, 1_300);
    await quiet();
    expect(next.received.length).toBe(0);
    later(link, 2_500);
    await next.takeText("delete b\r\n");
    connection.socket.destroy();
  });

  test("is tried again after an error", async () => {
    const { link, connection } = await setInFlight();
    connection.reset();
    await until("the link is given up", () => link.state === "waiting");
    later(link, 20);
    const next = await at.shard.nextValid();
    await next.takeText("delete b\r\n");
    next.write("SERVER_ERROR out of memory\r\n");
    await until("it was answered", () => link.depth === 0);
    later(link, 100);
    await next.takeText("delete b\r\n");
    expect(link.unknownCount).toBe(1);
  });

  test("of a binary client has its key deleted in binary", async () => {
    const link = at.rig.newLink(at.shard.address, "binary");
    const client = await at.rig.newClient("binary");
    mutate(client, link, "b", "binary");
    const connection = await at.shard.nextValid();
    await connection.take(
      packet({ opcode: "set", key: "b", extras: Buffer.alloc(8), value: "x" }).length,
    );
    later(link, 251);
    const deletion = packet({ opcode: "delete", key: "b" });
    expect(await connection.take(deletion.length)).toEqual(deletion);
  });

  test("with a key that no text line can carry has it deleted in base64", async () => {
    const link = at.rig.newLink(at.shard.address, "text");
    const client = await at.rig.newClient();
    mutate(client, link, "b");
    mutate(client, link, "\u0001 \u00ff");
    const connection = await at.shard.nextValid();
    await until("both came", () => connection.received.length > SET.length * 2);
    await connection.take(connection.received.length);
    later(link, 251);
    await connection.takeText(
      `delete b\r\nmd ${Buffer.from("\u0001 \u00ff", "latin1").toString("base64")} b\r\n`,
    );
  });
});

describe("an outcome that stays unknown", () => {
  test("makes the shard fenced after a second, and is forgotten when it is out", async () => {
    const { link, connection } = await setInFlight();
    connection.reset();
    await until("the link is given up", () => link.state === "waiting");
    await at.shard.stop();
    for (let i = 0; i < 9; i++) later(link, 100);
    expect(at.rig.unknownCount).toBe(0);
    later(link, 2_500);
    expect(at.rig.unknownCount).toBe(1);
    link.eject();
    expect(link.unknownCount).toBe(0);
    later(link, 2_000);
    expect(at.rig.unknownCount).toBe(1);
  });
});
