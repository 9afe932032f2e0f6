/**
 * Bytes that nobody here wrote: what stock clients send to real memcached, recorded in the test
 * run, connection by connection. Parsers are held against these and not against our serializer.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { memjs, run, textClient } from "../e2e/programs.ts";
import { startMemcached, temporaryFolder } from "../harness/processes.ts";
import { connect, startRelay } from "../harness/wire.ts";

export type Recording = {
  client: string;
  dialect: "binary" | "text";
  /** All that one connection sent. */
  sent: Buffer;
};

type Target = { address: string; username: string; password: string };
type Stranger = {
  client: string;
  dialect: Recording["dialect"];
  act(target: Target): Promise<unknown>;
};

const LOGIN = { username: "someone", password: "a-good-password" };

const tool = (program: string, ...args: string[]): Stranger => ({
  client: [program, ...args].join(" "),
  dialect: "binary",
  act: ({ address, username, password }) => {
    const dialect = program === "memcping" ? [] : ["--binary"];
    const login = [`--username=${username}`, `--password=${password}`];
    return run(program, [`--servers=${address}`, ...dialect, ...login, ...args]);
  },
});

function toolFile(): string {
  const file = join(temporaryFolder("memward-vector"), "vector-file");
  writeFileSync(file, Buffer.alloc(20_000, "vector\r\n"));
  return file;
}

const STRANGERS: readonly Stranger[] = [
  tool("memcping"),
  tool("memcstat"),
  tool("memccp", "--set", toolFile()),
  tool("memccp", "--add", toolFile()),
  tool("memccat", "vector-file"),
  tool("memcexist", "vector-file"),
  tool("memctouch", "--expire=100", "vector-file"),
  tool("memcrm", "vector-file"),
  tool("memcflush"),
  tool("memcslap", "--test=mget", "--concurrency=1", "--execute-number=5", "--initial-load=20"),
  {
    client: "memjs",
    dialect: "binary",
    act: async ({ address, ...login }) => {
      const client = memjs([address], login);
      await client.set("vector", Buffer.from("a\r\n\0b"), { expires: 100 });
      await client.add("vector", "again", {});
      await client.append("vector", "more");
      await client.increment("vector-count", 1, { initial: 5 });
      await client.touch("vector", 50);
      await Promise.all(["vector", "vector-none", "k".repeat(250)].map((key) => client.get(key)));
      await client.delete("vector");
      await new Promise((resolve) => client.stats(resolve));
      await new Promise((resolve) => client.flush(resolve));
      client.close();
    },
  },
  {
    client: "npm memcached",
    dialect: "text",
    act: async ({ address }) => {
      const client = textClient([address]);
      await client.call("set", "vector", "a\r\nget b\r\n", 100);
      await client.call("append", "vector", "more");
      const { cas } = (await client.call("gets", "vector")) as { cas: string };
      await client.call("cas", "vector", { a: 1 }, cas, 100);
      await client.call("getMulti", ["vector", "vector-none"]);
      await client.call("set", "vector-count", 1, 100);
      await client.call("incr", "vector-count", 2);
      await client.call("touch", "vector", 50);
      await client.call("del", "vector");
      await client.call("version");
      await client.call("stats");
      await client.call("flush");
      client.end();
    },
  },
];

/** Needs `missingForSasl()` and `missing("memcstat")` to be undefined. */
export async function recordStrangers(): Promise<Recording[]> {
  const binary = await startMemcached({ sasl: LOGIN });
  const text = await startMemcached();
  const recordings: Recording[] = [];
  for (const { client, dialect, act } of STRANGERS) {
    const upstream = dialect === "binary" ? binary.address : text.address;
    const sent: Buffer[][] = [];
    const relay = await startRelay({
      dial: () => connect(upstream),
      overhear: (chunk, connection) => {
        sent[connection] ??= [];
        sent[connection].push(chunk);
      },
    });
    await act({ address: relay.address, ...LOGIN });
    await relay.stop();
    for (const chunks of sent) {
      if (chunks !== undefined) recordings.push({ client, dialect, sent: Buffer.concat(chunks) });
    }
  }
  await Promise.all([binary.stop(), text.stop()]);
  return recordings;
}
