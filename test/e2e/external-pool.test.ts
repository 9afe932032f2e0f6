/**
 * Promise: Memward in front of memcached servers that it does not run: caches on them are apart,
 * `flush` empties one of them through all proxies, and a server that was away brings nothing back.
 */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type Login, type Memward, startMemward } from "../harness/memward.ts";
import { type Memcached, startMemcached } from "../harness/processes.ts";
import { connect, type Wire } from "../harness/wire.ts";
import { memjs } from "./programs.ts";
import { describeWith } from "./suite.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });
const WAIT = { timeout: 20_000, interval: 50 };
const KEYS = Array.from({ length: 90 }, (_, index) => `k${index}`);

describeWith(["memcached"], "an external pool", () => {
  const servers: Memcached[] = [];
  let memward: Memward;
  const logins = new Map<string, Login>();
  beforeAll(async () => {
    for (let count = 0; count < 4; count++) servers.push(await startMemcached());
    memward = await startMemward({ proxies: 2, args: ["--nodes", "1"] });
    expect((await ask("POST", "/v1/pools", { name: "fleet", servers: named(3) })).status).toBe(201);
    for (const name of ["one", "other"]) {
      const body = { name, pool: "fleet", plan: "25mb" };
      expect((await ask("POST", "/v1/caches?wait=applied", body)).status).toBe(201);
      const made = await ask("POST", `/v1/caches/${name}/credentials?wait=applied`, {
        rights: ["read", "write", "flush", "api"],
      });
      logins.set(name, made.body as Login);
    }
  });
  afterAll(async () => {
    for (const server of servers) process.kill(server.pid, "SIGCONT");
    await memward.stop();
    for (const server of servers) await server.stop();
  });

  const named = (count: number) =>
    servers
      .slice(0, count)
      .map(({ address }, index) => ({ name: `old-${index}`, address, weight: 1 }));
  const loginOf = (cache: string): Login => logins.get(cache) as Login;
  const open = (cache: string, proxy = 0): Promise<Wire> =>
    memward.open("text", loginOf(cache), memward.servers[proxy]);

  async function ask(method: string, path: string, body?: object) {
    const answer = await fetch(`${memward.control}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${memward.token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    return { status: answer.status, body: text === "" ? null : (JSON.parse(text) as unknown) };
  }

  test("is named, shown with its servers, and says that its quota is best effort", async () => {
    const { body } = await ask("GET", "/v1/pools");
    expect(body).toMatchObject({
      pools: [
        { name: "managed", kind: "managed", quota: "enforced", caches: 1 },
        { name: "fleet", kind: "external", quota: "best effort", caches: 2, servers: named(3) },
      ],
    });
    expect((await ask("GET", "/v1/caches/one")).body).toMatchObject({
      pool: "fleet",
      quota: "best effort",
    });
    expect((await ask("DELETE", "/v1/pools/fleet")).status).toBe(403);
    expect((await ask("POST", "/v1/caches", { name: "x", pool: "no", plan: "25mb" })).status).toBe(
      404,
    );
    const twice = [...named(1), ...named(1)];
    expect((await ask("POST", "/v1/pools", { name: "bad", servers: twice })).status).toBe(400);
    expect((await ask("POST", "/v1/caches/one/stats/reset")).status).toBe(403);
    expect((await ask("GET", "/v1/audit?limit=20")).body).toMatchObject({
      records: expect.arrayContaining([expect.objectContaining({ action: "pool.create" })]),
    });
  });

  test("serves a stock client, on every server and under no key of the client's", async () => {
    const client = memjs(memward.servers, loginOf("one"));
    await Promise.all(KEYS.map((key) => client.set(key, `${key}!`, {})));
    const values = await Promise.all(KEYS.map((key) => client.get(key)));
    expect(values.map(({ value }) => String(value))).toEqual(KEYS.map((key) => `${key}!`));
    client.close();
    for (const { address } of servers.slice(0, 3)) {
      const wire = await connect(address);
      expect(String(await wire.ask(`get ${KEYS.join(" ")}\r\n`, "END\r\n"))).toBe("END\r\n");
      expect(String(await wire.ask("stats\r\n", "END\r\n"))).not.toContain("STAT curr_items 0\r");
      wire.close();
    }
    const other = await open("other");
    expect(await read(other)).toEqual(new Set());
  });

  test("flush_all through one proxy empties the cache through the other, and no other cache", async () => {
    const [first, second] = [await open("one", 0), await open("one", 1)];
    const other = await open("other");
    await storeAll(other, "kept");
    for (const round of ["aaaa", "bbbb", "cccc"]) {
      await storeAll(second, round);
      expect(await first.line("flush_all")).toBe("OK");
      expect(await read(first)).toEqual(new Set());
      expect(await read(second)).toEqual(new Set());
    }
    await storeAll(second, "dddd");
    expect((await ask("POST", "/v1/caches/one/flush?wait=applied")).status).toBe(200);
    expect(await read(first)).toEqual(new Set());
    expect(await read(other)).toEqual(new Set(["kept"]));
  });

  test("a server that stood still and comes back shows nothing of before", async () => {
    const [first, second] = [await open("one", 0), await open("one", 1)];
    await storeAll(first, "old1");
    const ill = servers[0] as Memcached;
    process.kill(ill.pid, "SIGSTOP");
    const troubled = async (): Promise<string[]> => {
      await Promise.allSettled([storeAll(first, "lost"), storeAll(second, "lost")]);
      return ejected("one");
    };
    await expect.poll(troubled, { ...WAIT, timeout: 30_000 }).toEqual(["old-0"]);
    await expect
      .poll(() => storeAll(first, "new1").then(() => "stored", String), WAIT)
      .toBe("stored");
    expect(await read(second)).toEqual(new Set(["new1"]));
    process.kill(ill.pid, "SIGCONT");
    await expect.poll(() => ejected("one"), { ...WAIT, timeout: 30_000 }).toEqual([]);
    await expect.poll(() => second.line("set back 0 0 1\r\nx"), WAIT).toBe("STORED");
    for (const wire of [first, second]) expect([...(await read(wire))]).not.toContain("old1");
    await expect
      .poll(() => storeAll(first, "new2").then(() => "stored", String), WAIT)
      .toBe("stored");
    expect(await read(second)).toEqual(new Set(["new2"]));
  });

  test("servers may come and go; no key finds an old value where it comes", async () => {
    const wire = await open("other");
    await storeAll(wire, "old1");
    await change(4);
    const moved = KEYS.length - (await count(wire));
    expect(moved).toBeGreaterThan(0);
    expect(moved).toBeLessThan(KEYS.length / 2);
    await storeAll(wire, "new1");
    await change(3);
    const found = await read(wire);
    expect([...found]).not.toContain("old1");
    await storeAll(wire, "new2");
    expect(await read(wire)).toEqual(new Set(["new2"]));
  });

  test("goes with its last cache", async () => {
    for (const name of ["one", "other"]) await ask("DELETE", `/v1/caches/${name}`);
    expect((await ask("DELETE", "/v1/pools/fleet")).status).toBe(204);
    const left = await memward.state(async (state) => [
      ...(await state.list("shard")).entries.filter(({ value }) => value.stamp !== ""),
      ...(await state.list("ejection")).entries,
    ]);
    expect(left).toEqual([]);
  });

  async function change(count: number): Promise<void> {
    const body = { servers: named(count) };
    expect((await ask("PATCH", "/v1/pools/fleet?wait=applied", body)).status).toBe(200);
    const wire = await open("other");
    await expect
      .poll(() => storeAll(wire, "probe", "probe-").then(() => "", String), WAIT)
      .toBe("");
  }

  const ejected = async (name: string): Promise<string[]> => {
    const { body } = await ask("GET", `/v1/caches/${name}`);
    const { id } = body as { id: string };
    return memward.state(async (state) => {
      const { entries } = await state.list("ejection", { prefix: `${id}/` });
      return entries.map(({ value }) => value.node);
    });
  };
});

async function storeAll(wire: Wire, value: string, prefix = ""): Promise<void> {
  const sets = KEYS.map((key) => `set ${prefix}${key} 0 0 ${value.length}\r\n${value}\r\n`);
  const reply = String(await wire.ask(`${sets.join("")}mn\r\n`, "MN\r\n"));
  expect(reply).toBe(`${"STORED\r\n".repeat(KEYS.length)}MN\r\n`);
}

const values = async (wire: Wire): Promise<string[]> => {
  const reply = String(await wire.ask(`get ${KEYS.join(" ")}\r\n`, "END\r\n"));
  return [...reply.matchAll(/^VALUE \S+ 0 \d+\r\n(.*)\r$/gm)].map(([, value = ""]) => value);
};
const read = async (wire: Wire): Promise<Set<string>> => new Set(await values(wire));
const count = async (wire: Wire): Promise<number> => (await values(wire)).length;
