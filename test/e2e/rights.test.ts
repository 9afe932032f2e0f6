/**
 * Promise: what stock clients make of a credential that may not do everything. A refusal is "not
 * stored" to them, the connection stays, and what is allowed goes on working on it. And a
 * credential with a key prefix is a memcached of its own to them, but for flushing.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { addCredential, type Login, type Memward, startMemward } from "../harness/memward.ts";
import { temporaryFolder } from "../harness/processes.ts";
import { connect, type Relay, startRelay } from "../harness/wire.ts";
import { type Memjs, memjs, type Ran, run, textClient } from "./programs.ts";
import { describeWith } from "./suite.ts";

const PASSWORD = "a-password-for-rights";
const reader: Login = { username: "reader", password: PASSWORD };
const writer: Login = { username: "writer", password: PASSWORD };
const team: Login = { username: "team", password: PASSWORD };

let memward: Memward;
let all: Memjs;
/** Through it goes all that clients say; it counts their connections. */
let relay: Relay;
let connectionCount = 0;

beforeAll(async () => {
  memward = await startMemward();
  await addCredential(memward, reader, ["read"]);
  await addCredential(memward, writer, ["write"]);
  await addCredential(memward, team, ["read", "write", "flush"], "team:");
  all = memjs(memward.servers, memward);
  relay = await startRelay({
    dial: () => {
      connectionCount++;
      return connect(memward.server);
    },
  });
}, 60_000);
afterAll(async () => {
  all.close();
  await relay.stop();
  await memward.stop();
});

const textOf = async (client: Memjs, key: string): Promise<string> =>
  String((await client.get(key)).value);

describe("a read-only credential", () => {
  test("is told by memjs that nothing is stored, and reads on on the same connection", async () => {
    await all.set("read", "before", {});
    await all.set("count", "5", {});
    const before = connectionCount;
    const client = memjs([relay.address], reader);
    const refused: (() => Promise<unknown>)[] = [
      () => client.set("read", "after", {}),
      () => client.set("new", "x".repeat(100_000), {}),
      () => client.add("new", "x", {}),
      () => client.replace("read", "after", {}),
      () => client.append("read", "!"),
      () => client.delete("read"),
      () => client.increment("count", 1, {}),
      () => client.decrement("count", 1, {}),
      () => client.touch("read", 1),
    ];
    for (const write of refused) {
      await expect(write()).rejects.toThrow("Item not stored");
      expect(await textOf(client, "read")).toBe("before");
    }
    // memjs does not look at what a flush is answered.
    await new Promise<void>((resolve) => client.flush(() => resolve()));
    expect(await textOf(client, "count")).toBe("5");
    expect(await textOf(client, "new")).toBe("null");
    client.close();
    expect(connectionCount - before).toBe(1);
  });

  test("is told so by npm's memcached, which logs in by its first set", async () => {
    await all.set("read", "before", {});
    await all.set("count", "5", {});
    const before = connectionCount;
    const client = textClient([relay.address]);
    expect(await client.call("set", reader.username, reader.password, 0)).toBe(true);
    const refused: [method: string, ...args: unknown[]][] = [
      ["set", "read", "after", 10],
      ["add", "new", "x", 10],
      ["replace", "read", "after", 10],
      ["append", "read", "x"],
      ["prepend", "read", "x"],
      ["cas", "read", "x", "1", 10],
      ["incr", "count", 1],
      ["decr", "count", 1],
      ["touch", "read", 10],
      ["del", "read"],
    ];
    for (const [method, ...args] of refused) {
      await expect(client.call(method, ...args), method).rejects.toThrow("credential is read-only");
      expect(await client.call("get", "read")).toBe("before");
    }
    await expect(client.call("flush")).rejects.toSatisfy((error) =>
      String(error).includes("credential may not flush"),
    );
    expect(await client.call("getMulti", ["read", "count", "new"])).toEqual({
      read: "before",
      count: "5",
    });
    client.end();
    expect(connectionCount - before).toBe(1);
  });
});

test("a credential that may only write is told so when it reads, and writes on", async () => {
  await all.set("unread", "secret", {});
  const client = memjs(memward.servers, writer);
  await expect(client.get("unread")).rejects.toThrow("Item not stored");
  expect(await client.set("unread", "written", {})).toBe(true);
  client.close();
  const text = textClient(memward.servers);
  expect(await text.call("set", writer.username, writer.password, 0)).toBe(true);
  await expect(text.call("get", "unread")).rejects.toThrow("credential may not read");
  expect(await text.call("append", "unread", "!")).toBe(true);
  text.end();
  expect(await textOf(all, "unread")).toBe("written!");
});

describeWith(["memcstat"], "libmemcached's tools", () => {
  const tool = (login: Login, program: string, ...args: string[]): Promise<Ran> =>
    run(program, [
      `--servers=${relay.address}`,
      "--binary",
      `--username=${login.username}`,
      `--password=${login.password}`,
      ...args,
    ]);
  let folder: string;
  beforeAll(() => {
    folder = join(temporaryFolder("rights"), "files");
    mkdirSync(folder);
    for (const name of ["tool-a", "tool-b"]) writeFileSync(join(folder, name), `new ${name}`);
  });
  const files = (): string[] => ["tool-a", "tool-b"].map((name) => join(folder, name));

  test("say NOT STORED to a read-only credential, and go on reading", async () => {
    await all.set("tool-a", "old a", {});
    await all.set("tool-b", "old b", {});
    const stored = await tool(reader, "memccp", ...files());
    expect(stored).toMatchObject({ code: 1, stderr: expect.stringContaining("NOT STORED") });
    expect((await tool(reader, "memcrm", "tool-a", "tool-b")).code).toBe(1);
    expect((await tool(reader, "memctouch", "--expire=1", "tool-a")).code).toBe(1);
    await tool(reader, "memcflush");
    const before = connectionCount;
    expect(await tool(reader, "memccat", "tool-a", "tool-b")).toMatchObject({
      code: 0,
      stdout: "old a\nold b\n",
    });
    expect(connectionCount - before).toBe(1);
    expect(await textOf(all, "tool-b")).toBe("old b");
  });

  test("see keys of a prefix under their own names", async () => {
    await all.set("tool-a", "not the team's", {});
    expect(await tool(team, "memccp", ...files())).toMatchObject({ code: 0, stderr: "" });
    expect(await tool(team, "memccat", "tool-a", "tool-b")).toMatchObject({
      code: 0,
      stdout: "new tool-a\nnew tool-b\n",
    });
    expect(await textOf(all, "team:tool-a")).toBe("new tool-a");
    expect((await tool(team, "memcexist", "tool-b")).code).toBe(0);
    expect((await tool(team, "memctouch", "--expire=100", "tool-b")).code).toBe(0);
    expect((await tool(team, "memcrm", "tool-b")).code).toBe(0);
    expect((await tool(team, "memcexist", "tool-b")).code).not.toBe(0);
    // It tells no error of a flush; nothing was flushed.
    await tool(team, "memcflush");
    expect(await textOf(all, "team:tool-a")).toBe("new tool-a");
    expect(await textOf(all, "tool-a")).toBe("not the team's");
  });

  test("memjs too, in all it can do", async () => {
    const client = memjs(memward.servers, team);
    const key = "k".repeat(250 - "team:".length);
    expect(await client.set(key, "one", {})).toBe(true);
    expect(await client.append(key, "!")).toBe(true);
    expect(await textOf(client, key)).toBe("one!");
    expect(await textOf(all, `team:${key}`)).toBe("one!");
    await expect(client.set(`${key}k`, "one", {})).rejects.toThrow();
    const keys = Array.from({ length: 200 }, (_, index) => `many-${index}`);
    await Promise.all(keys.map((one) => client.set(one, one, {})));
    expect(await Promise.all(keys.map((one) => textOf(client, one)))).toEqual(keys);
    expect(await client.delete(key)).toBe(true);
    client.close();
  });
});

describeWith(["memccapable"], "memccapable as a credential with a key prefix", () => {
  test.each([
    ["-a", "text"],
    ["-b", "binary"],
  ] as const)(
    "passes all tests but the two that flush (%s)",
    // Again where the machine stood still for longer than a shard may take.
    { timeout: 60_000, retry: 2 },
    async (flag, dialect) => {
      const loggedIn = await startRelay({ dial: () => memward.open(dialect, team) });
      const [host = "", port = ""] = loggedIn.address.split(":");
      const { stdout } = await run("memccapable", ["-h", host, "-p", port, "-t", "5", flag, "-v"]);
      await loggedIn.stop();
      const passed = stdout.match(/^.*\[pass\]/gm) ?? [];
      expect(passed).toHaveLength(25);
      expect(passed.filter((line) => line.includes("flush"))).toEqual([]);
    },
  );
});
