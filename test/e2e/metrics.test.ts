/**
 * Promise: /metrics counts what was done, by command, result and cache, and neither it nor logs nor
 * status nor the cluster state's file ever hold a secret.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Memward, runMemward, startMemward } from "../harness/memward.ts";
import { connect, packet, saslPlain } from "../harness/wire.ts";
import { samples } from "./observe.ts";

const EXTRAS = Buffer.alloc(8);
const KEY = "key-that-must-not-be-told";
const VALUE = "value-that-must-not-be-told";
const WRONG = "wrong-password-that-must-not-be-told";

let memward: Memward;
beforeAll(async () => {
  memward = await startMemward({ args: ["--log-level", "trace"] });
}, 60_000);
afterAll(() => memward.stop());

/** Sum of the samples of `name` that carry all of `labels`. */
async function read(name: string, labels: Record<string, string> = {}): Promise<number> {
  return samples(await memward.metrics())
    .filter((sample) => sample.name === name)
    .filter((sample) =>
      Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
    )
    .reduce((sum, { value }) => sum + value, 0);
}

async function grown(
  name: string,
  labels: Record<string, string>,
  act: () => Promise<void>,
): Promise<number> {
  const before = await read(name, labels);
  await act();
  return (await read(name, labels)) - before;
}

const requests = (command: string, result: string) => ({ cache: "default", command, result });

describe("memward_proxy_requests_total", () => {
  const NAME = "memward_proxy_requests_total";
  const CASES: readonly [command: string, result: string, count: number, lines: string][] = [
    ["set", "ok", 3, "set m 0 0 1\r\n5\r\n".repeat(3)],
    ["get", "hit", 4, "get m\r\nget m m m\r\n"],
    ["get", "miss", 2, "get m-none m m-none\r\n"],
    ["add", "not_stored", 1, "add m 0 0 1\r\n6\r\n"],
    ["incr", "ok", 2, "incr m 1\r\nincr m 1\r\n"],
    ["incr", "not_found", 1, "incr m-none 1\r\n"],
    ["cas", "exists", 1, "cas m 0 0 1 1\r\n7\r\n"],
    ["touch", "ok", 1, "touch m 100\r\n"],
    ["mg", "hit", 2, "mg m v\r\nmg m\r\n"],
    ["mg", "miss", 2, "mg m-none v\r\nmg m-none v q\r\n"],
    ["ms", "ok", 1, "ms m 1\r\n5\r\n"],
    ["delete", "ok", 1, "delete m\r\n"],
    ["delete", "not_found", 1, "delete m-none\r\n"],
  ];

  test.each(CASES)("%s %s", async (command, result, count, lines) => {
    const setup = await memward.openPlain();
    await setup.ask("set m 0 0 1\r\n5\r\n", "STORED\r\n");
    setup.close();
    const counted = await grown(NAME, requests(command, result), async () => {
      const wire = await memward.openPlain();
      await wire.ask(`${lines}mn\r\n`, "MN\r\n");
      wire.close();
    });
    expect(counted).toBe(count);
  });

  test("quiet and loud binary commands count alike", async () => {
    const act = async (): Promise<void> => {
      const wire = await memward.open("binary");
      const packets = [
        packet({ opcode: "setq", key: "b", value: "1", extras: EXTRAS }),
        packet({ opcode: "set", key: "b", value: "1", extras: EXTRAS }),
        packet({ opcode: "getkq", key: "b" }),
        packet({ opcode: "getq", key: "b-none" }),
        packet({ opcode: "noop" }),
      ];
      await wire.ask(Buffer.concat(packets), packet({ opcode: "noop", magic: 0x81 }));
      wire.close();
    };
    expect(await grown(NAME, requests("set", "ok"), act)).toBe(2);
    expect(await grown(NAME, requests("get", "hit"), act)).toBe(1);
    expect(await grown(NAME, requests("get", "miss"), act)).toBe(1);
  });
});

test("logins by outcome", async () => {
  const act = async (): Promise<void> => {
    const good = await memward.open("binary");
    const goodText = await memward.open("text");
    const bad = await connect(memward.server);
    await bad.send(saslPlain({ ...memward, password: WRONG }));
    await bad.packet();
    await bad.close();
    good.close();
    goodText.close();
  };
  expect(await grown("memward_proxy_logins_total", { outcome: "ok" }, act)).toBe(2);
  expect(await grown("memward_proxy_logins_total", { outcome: "wrong" }, act)).toBe(1);
});

test("sessions that are open, and bytes both ways", async () => {
  const before = await read("memward_proxy_sessions", { cache: "default" });
  const wires = await Promise.all(Array.from({ length: 5 }, () => memward.open("binary")));
  expect((await read("memward_proxy_sessions", { cache: "default" })) - before).toBe(5);
  const wire = wires[0];
  const written = await grown(
    "memward_proxy_client_bytes_total",
    { cache: "default", direction: "read" },
    async () => {
      const set = packet({ opcode: "set", key: "b", value: "x".repeat(5_000), extras: EXTRAS });
      await wire?.send(set);
      await wire?.packet();
    },
  );
  expect(written).toBe(24 + 8 + 1 + 5_000);
  for (const each of wires) each.close();
});

test("latency by cache and shard, one observation for each command that a shard answered", async () => {
  const labels = { cache: "default" };
  const counted = await grown("memward_proxy_shard_latency_seconds_count", labels, async () => {
    const wire = await memward.openPlain();
    for (let index = 0; index < 100; index++) await wire.line(`mg latency-${index}`);
    wire.close();
  });
  expect(counted).toBe(100);
  const shards = samples(await memward.metrics())
    .filter(({ name }) => name === "memward_proxy_shard_latency_seconds_count")
    .map(({ labels: found }) => found.shard);
  expect([...new Set(shards)].sort()).toEqual(["node-1", "node-2"]);
});

test("shard connections, depth and failures are told", async () => {
  const names = new Set(samples(await memward.metrics()).map(({ name }) => name));
  for (const name of ["connections", "depth", "failures_total"]) {
    expect(names).toContain(`memward_proxy_shard_${name}`);
  }
});

test("no secret, key or value is in metrics, logs, status or the files of the state", async () => {
  const wire = await memward.open("text");
  await wire.ask(`set ${KEY} 0 0 ${VALUE.length}\r\n${VALUE}\r\n`, "STORED\r\n");
  await wire.ask(`get ${KEY}\r\n`, "END\r\n");
  const stranger = await connect(memward.server);
  await stranger.line(`set ${memward.username} 0 0 ${WRONG.length}\r\n${WRONG}`);
  const binary = await connect(memward.server);
  await binary.send(saslPlain({ username: memward.username, password: WRONG }));
  await binary.packet();
  for (const each of [wire, stranger, binary]) each.close();

  const status = await runMemward(["status", "--json", "--data-dir", memward.dataDir]);
  // The three lines are printed once, for the person who starts it; the log must not repeat them.
  const log = memward.output().replace(`MEMCACHIER_PASSWORD=${memward.password}`, "");
  const places: [string, string][] = [
    ["metrics", await memward.metrics()],
    ["status", status.stdout + status.stderr],
    ["log", log],
    ...filesBelow(memward.dataDir)
      .filter((file) => !file.endsWith("default.env"))
      .map((file): [string, string] => [file, readFileSync(file, "latin1")]),
  ];
  for (const [place, text] of places) {
    for (const secret of [memward.password, WRONG, KEY, VALUE]) {
      expect(text.includes(secret), `${secret} in ${place}`).toBe(false);
    }
  }
});

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((file) => join(folder, file))
    .filter((file) => statSync(file).isFile());
}
