/**
 * Promise: any stock memcached client works, unmodified, with the three variables. The same tests
 * run against memcached itself with SASL (where this machine can have it), so that a failure here
 * is ours and not the client's.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";
import { missing, missingForSasl, startMemcached, temporaryFolder } from "../harness/processes.ts";
import { connect, type Relay, startRelay } from "../harness/wire.ts";
import { type Memjs, memjs, type Ran, run, type TextClient, textClient } from "./programs.ts";
import { describeWith } from "./suite.ts";

type Server = {
  servers: string[];
  username: string;
  password: string;
  /** Where text is spoken without a login. */
  plain: string;
  stop(): Promise<unknown>;
};

async function memcachedWithSasl(): Promise<Server> {
  const login = { username: "someone", password: "a-good-password" };
  const withLogin = await startMemcached({ sasl: login });
  const plain = await startMemcached();
  const stop = () => Promise.all([withLogin.stop(), plain.stop()]);
  return { ...login, servers: [withLogin.address], plain: plain.address, stop };
}

const SERVERS: readonly [name: string, start: () => Promise<Server>, absent?: string][] = [
  ["memcached itself", memcachedWithSasl, missingForSasl() ?? ""],
  ["Memward", () => startMemward({ proxies: 2 })],
];

describe.each(SERVERS)("stock clients of %s", (name, start, absent = "") => {
  if (absent !== "") return test.skip(`${name} [skipped: ${absent}]`, () => {});
  let server: Server;
  beforeAll(async () => {
    server = await start();
  }, 60_000);
  afterAll(() => server.stop());

  describe("memjs over SASL", () => {
    let client: Memjs;
    beforeAll(() => {
      client = memjs(server.servers, server);
    });
    afterAll(() => client.close());

    test("stores, reads, replaces and deletes", async () => {
      expect(await client.set("memjs", "one", { expires: 100 })).toBe(true);
      expect(String((await client.get("memjs")).value)).toBe("one");
      expect(await client.add("memjs", "two", {})).toBe(false);
      expect(await client.replace("memjs", "three", {})).toBe(true);
      expect(await client.append("memjs", "!")).toBe(true); // Its prepend is an append, too.
      expect(String((await client.get("memjs")).value)).toBe("three!");
      expect(await client.touch("memjs", 100)).toBe(true);
      expect(await client.delete("memjs")).toBe(true);
      expect(await client.delete("memjs")).toBe(false);
      expect(await client.get("memjs")).toEqual({ value: null, flags: null });
      expect(await client.replace("memjs", "four", {})).toBe(false);
      expect(await client.touch("memjs", 100)).toBe(false);
    });

    test("counts", async () => {
      const options = { initial: 10, expires: 100 };
      expect((await client.increment("memjs-count", 5, options)).value).toBe(10);
      expect((await client.increment("memjs-count", 5, options)).value).toBe(15);
      expect((await client.decrement("memjs-count", 20, options)).value).toBe(0);
    });

    test("carries keys of 250 bytes, any bytes of a value, and 1,000,000 bytes", async () => {
      const key = `memjs-${"k".repeat(244)}`;
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      await client.set(key, bytes, {});
      expect((await client.get(key)).value).toEqual(bytes);
      const large = Buffer.alloc(1_000_000, "memward");
      await client.set("memjs-large", large, {});
      expect((await client.get("memjs-large")).value?.equals(large)).toBe(true);
    });

    test("goes on after a value that is too large", async () => {
      const tooLarge = client.set("memjs-too-large", Buffer.alloc(1024 * 1024 + 1), {});
      await expect(tooLarge).rejects.toThrow(/too large/i);
      expect(await client.set("memjs-after", "fine", {})).toBe(true);
      expect(String((await client.get("memjs-after")).value)).toBe("fine");
    });

    test("answers 300 commands at once", async () => {
      const keys = Array.from({ length: 300 }, (_, index) => `memjs-many-${index}`);
      await Promise.all(keys.map((key) => client.set(key, key.repeat(20), {})));
      const values = await Promise.all(keys.map((key) => client.get(key)));
      expect(values.map(({ value }) => String(value))).toEqual(keys.map((key) => key.repeat(20)));
    });

    test("reads stats and flushes", async () => {
      await client.set("memjs-flush", "x", {});
      const stats = await new Promise<Record<string, string> | null>((resolve, reject) => {
        client.stats((error, _, found) => (error ? reject(error) : resolve(found)));
      });
      expect(stats).toMatchObject({ version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
      await new Promise<void>((resolve, reject) => {
        client.flush((error) => (error ? reject(error) : resolve()));
      });
      expect((await client.get("memjs-flush")).value).toBeNull();
    });

    test("is told about a wrong password", async () => {
      const stranger = memjs(server.servers, { ...server, password: "wrong" });
      await expect(stranger.get("memjs")).rejects.toThrow(/auth/i);
      stranger.close();
    });
  });

  describe("npm memcached, a text client without login", () => {
    let client: TextClient;
    beforeAll(() => {
      client = textClient([server.plain]);
    });
    afterAll(() => client.end());

    test("stores, reads, compares and deletes", async () => {
      expect(await client.call("set", "text", "one", 100)).toBe(true);
      expect(await client.call("get", "text")).toBe("one");
      await expect(client.call("add", "text", "two", 100)).rejects.toThrow(/not stored/i);
      expect(await client.call("replace", "text", "three", 100)).toBe(true);
      expect(await client.call("append", "text", "!")).toBe(true);
      expect(await client.call("prepend", "text", ">")).toBe(true);
      const found = (await client.call("gets", "text")) as { cas: string; text: string };
      expect(found.text).toBe(">three!");
      expect(await client.call("cas", "text", "four", found.cas, 100)).toBe(true);
      expect(await client.call("cas", "text", "five", found.cas, 100)).toBe(false);
      expect(await client.call("touch", "text", 100)).toBe(true);
      expect(await client.call("del", "text")).toBe(true);
      expect(await client.call("get", "text")).toBeUndefined();
    });

    test("keeps the types it encodes in the flags", async () => {
      await client.call("set", "text-json", { list: [1, "two"] }, 100);
      expect(await client.call("get", "text-json")).toEqual({ list: [1, "two"] });
      await client.call("set", "text-bytes", Buffer.from([0, 13, 10, 255]), 100);
      expect(await client.call("get", "text-bytes")).toEqual(Buffer.from([0, 13, 10, 255]));
    });

    test("counts and gets many", async () => {
      await client.call("set", "text-count", 5, 100);
      expect(await client.call("incr", "text-count", 2)).toBe(7);
      expect(await client.call("decr", "text-count", 3)).toBe(4);
      const keys = Array.from({ length: 100 }, (_, index) => `text-many-${index}`);
      await Promise.all(keys.map((key) => client.call("set", key, `${key} value`, 100)));
      const found = await client.call("getMulti", [...keys, "text-many-none"]);
      expect(found).toEqual(Object.fromEntries(keys.map((key) => [key, `${key} value`])));
    });

    test("reads version and stats, and flushes", async () => {
      const versions = (await client.call("version")) as { version: string }[];
      expect(versions[0]?.version).toMatch(/^\d+\.\d+\.\d+/);
      const stats = (await client.call("stats")) as Record<string, unknown>[];
      expect(stats[0]).toHaveProperty("get_hits");
      await client.call("set", "text-flush", "x", 100);
      await client.call("flush");
      expect(await client.call("get", "text-flush")).toBeUndefined();
    });
  });

  const noTools = missing("memcstat", "memccapable");
  const tools = noTools === undefined ? describe : describe.skip;
  tools(`libmemcached's tools${noTools === undefined ? "" : ` [skipped: ${noTools}]`}`, () => {
    const login = (): string[] => [
      `--servers=${server.servers.join(",")}`,
      "--binary",
      `--username=${server.username}`,
      `--password=${server.password}`,
    ];
    const tool = (program: string, ...args: string[]): Promise<Ran> =>
      run(program, [...login(), ...args]);

    test("memcping", async () => {
      // Its only dialect is binary, and it knows no such option.
      const args = login().filter((arg) => arg !== "--binary");
      expect(await run("memcping", args)).toMatchObject({ code: 0, stderr: "" });
    });

    test("memccp, memccat, memcexist, memctouch and memcrm", async () => {
      const folder = join(temporaryFolder("memccp"), "files");
      mkdirSync(folder);
      const file = join(folder, "tool-file");
      const content = Buffer.from(Array.from({ length: 70_000 }, (_, index) => (index * 7) % 256));
      writeFileSync(file, content);
      expect(await tool("memccp", file)).toMatchObject({ code: 0 });
      const copy = join(folder, "copy");
      expect(await tool("memccat", `--file=${copy}`, "tool-file")).toMatchObject({ code: 0 });
      expect(readFileSync(copy).equals(content)).toBe(true);
      expect(await tool("memcexist", "tool-file")).toMatchObject({ code: 0 });
      expect(await tool("memctouch", "--expire=100", "tool-file")).toMatchObject({ code: 0 });
      expect(await tool("memcrm", "tool-file")).toMatchObject({ code: 0 });
      expect((await tool("memcexist", "tool-file")).code).not.toBe(0);
      expect((await tool("memctouch", "--expire=100", "tool-file")).code).not.toBe(0);
      expect((await tool("memccat", "tool-file")).stdout).toBe("");
    });

    test("memcstat shows memcached's names", async () => {
      const { code, stdout } = await tool("memcstat");
      expect(code).toBe(0);
      for (const field of ["version", "curr_items", "cmd_get", "cmd_set", "get_hits", "bytes"]) {
        expect(stdout).toMatch(new RegExp(`^\\s*${field}: \\S`, "m"));
      }
    });

    test("memcflush", async () => {
      const client = memjs(server.servers, server);
      await client.set("tool-flush", "x", {});
      expect(await tool("memcflush")).toMatchObject({ code: 0 });
      expect((await client.get("tool-flush")).value).toBeNull();
      client.close();
    });

    test("memcslap sets, gets and multi-gets", async () => {
      for (const kind of ["set", "get", "mget"]) {
        const args = [`--test=${kind}`, "--concurrency=2", "--execute-number=50"];
        const { code, stderr } = await tool("memcslap", ...args, "--initial-load=200");
        expect({ kind, code, stderr }).toEqual({ kind, code: 0, stderr: "" });
      }
    });

    test("a wrong password is an authentication failure", async () => {
      const args = login().map((arg) => (arg.startsWith("--password") ? "--password=wrong" : arg));
      const { code, stderr } = await run("memcstat", args);
      expect(code).not.toBe(0);
      expect(stderr).toContain("AUTHENTICATION FAILURE");
    });
  });
});

/**
 * libmemcached's own conformance program. It knows no login and no unix sockets, so a relay dials
 * for it: to the listener without login, to a proxy as a session that has already logged in, and
 * to an embedded shard. None of its 54 tests is left out.
 */
describeWith(["memccapable"], "memccapable", () => {
  let memward: Memward;
  beforeAll(async () => {
    memward = await startMemward();
  }, 60_000);
  afterAll(() => memward.stop());

  const shard = async () => connect((await memward.shards())[0]?.address ?? "");
  const WAYS = [
    ["ascii", "the listener without login", () => memward.openPlain()],
    ["ascii", "a proxy, logged in", () => memward.open("text")],
    ["binary", "a proxy, logged in", () => memward.open("binary")],
    ["ascii", "an embedded shard", shard],
    ["binary", "an embedded shard", shard],
  ] as const;
  const COUNT = { ascii: 27, binary: 27 };

  test.each(WAYS)(
    "all %s tests against %s",
    async (dialect, _, dial) => {
      const relay: Relay = await startRelay({ dial });
      const [host = "", port = ""] = relay.address.split(":");
      const only = dialect === "ascii" ? "-a" : "-b";
      const { stdout } = await run("memccapable", ["-h", host, "-p", port, "-t", "5", only, "-v"]);
      await relay.stop();
      expect(stdout.match(/^.*\[(?!pass).*$/gm) ?? []).toEqual([]);
      expect(stdout.match(/\[pass\]/g)).toHaveLength(COUNT[dialect]);
    },
    60_000,
  );
});
