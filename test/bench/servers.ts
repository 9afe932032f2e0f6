/**
 * The servers under test, each as a process of its own, all before the same two memcacheds. The
 * keys of both proxies lie on the same shards: names, points and key hash are the same, so even
 * what the memcacheds do is equal.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { z } from "zod";
import { CHANGES_MAX } from "../../core/cluster/changes.ts";
import { type Digest, newCredential } from "../../core/cluster/credentials.ts";
import { openSqliteState } from "../../core/cluster/sqlite.ts";
import type { Change } from "../../core/cluster/state.ts";
import { clock, sleep } from "../../core/runtime/clock.ts";
import { freePort } from "../harness/ports.ts";
import {
  find,
  Running,
  startMemcached,
  startNutcracker,
  temporaryFolder,
  waitForListener,
} from "../harness/processes.ts";
import { giveCore, standBack } from "./cores.ts";
import type { Target } from "./generator.ts";
import { processTree } from "./machine.ts";

export type Server = Target & {
  name: string;
  stop(): Promise<unknown>;
};

/**
 * Memward hashes keys with murmur, so nutcracker does too (it is one of its own choices, and a
 * cheap one): otherwise the ratio would compare hash functions. Everything else is its default,
 * one connection per server and 16 KB mbufs included.
 */
const NUTCRACKER_HASH = "murmur";

const CACHE = "default";
const STORM_CACHE = "storm";
const CACHE_BYTES = 512 * 1024 * 1024;
const SHARD_DEADLINE_MS = 10_000;
const START_DEADLINE_MS = 30_000;
/** Where the roles look for the cluster state in their data directory. */
const STATE_FILE = "state.db";
const MEMWARD = join(import.meta.dirname, "../../bin/memward");

/** Fills the compile cache as an installation does; without it a role is 18 MB larger. */
export async function warmMemward(): Promise<void> {
  const code = await new Running("memward warm", MEMWARD, ["warm"]).exited;
  if (code !== 0) throw new Error(`memward warm ended with ${code}`);
}

/** `-t 1`: one thread each, so that they do not take the cores from the proxy under test. */
export async function startShards(
  count = 2,
): Promise<{ addresses: string[]; pids: number[]; stop(): Promise<unknown> }> {
  // A connection for each cache, of which there may be thousands.
  const args = ["-t", "1", "-m", "256", "-c", "8192"];
  const shards = await Promise.all(Array.from({ length: count }, () => startMemcached({ args })));
  return {
    addresses: shards.map((shard) => shard.address),
    pids: shards.map((shard) => shard.pid),
    stop: () => Promise.all(shards.map((shard) => shard.stop())),
  };
}

export async function startPeerProxy(shards: readonly string[]): Promise<Server> {
  const servers = shards.map((address, index) => `${address}:1 ${nodeName(index)}`);
  const pool = { servers, hash: NUTCRACKER_HASH, distribution: "ketama" };
  const proxy = await startNutcracker({ pools: { bench: pool } });
  return {
    name: "nutcracker",
    pids: [proxy.pid],
    plain: proxy.addresses["bench"] ?? "",
    stop: proxy.stop,
  };
}

/** The proxy role alone, on a cluster state that names the memcacheds as its shards. */
export async function startMemwardProxy(
  shards: readonly string[],
  more: readonly Change[] = [],
): Promise<Server> {
  return (await startProxyFor(shards, [""], more))[0]!;
}

/** One proxy seen with two credentials: with a key prefix, and without. */
export async function startMemwardWithPrefix(
  shards: readonly string[],
): Promise<{ subject: Server; peer: Server }> {
  const [subject, peer] = await startProxyFor(shards, [KEY_PREFIX, ""]);
  const withLogin = ({ plain: _, ...server }: Server): Server => server;
  return { subject: withLogin(subject!), peer: withLogin(peer!) };
}

const KEY_PREFIX = "tenant-a:";

/** A proxy whose cache has two copies of each key. */
export async function startMemwardWithCopies(shards: readonly string[]): Promise<Server> {
  return (await startProxyFor(shards, [""], [], 2))[0]!;
}

/** One proxy with a credential for each of the key prefixes, and `more` in its state. */
async function startProxyFor(
  shards: readonly string[],
  keyPrefixes: readonly string[],
  more: readonly Change[] = [],
  copies: 1 | 2 = 1,
): Promise<Server[]> {
  const dataDir = newDataDir();
  const logins = keyPrefixes.map((keyPrefix) => ({ ...newCredential(), keyPrefix }));
  await seedState(dataDir, [
    cacheChange(CACHE, {}, copies),
    ...logins.map(({ username, digest, keyPrefix }) =>
      credentialChange(username, digest, CACHE, keyPrefix),
    ),
    ...shards.map((address, index) => shardChange(address, index)),
    ...more,
  ]);
  const listen = `127.0.0.1:${await freePort()}`;
  const plain = `127.0.0.1:${await freePort()}`;
  const proxy = {
    name: "proxy-1",
    listen: [listen],
    plain: [{ address: plain, cache: CACHE }],
    workers: 1,
  };
  const ops = `127.0.0.1:${await freePort()}`;
  const startedAtMs = clock.nowMs();
  const running = startRole("proxy", { dataDir, ops, proxy });
  await waitForListener(listen, running);
  const startMs = clock.nowMs() - startedAtMs;
  await waitForListener(plain, running);
  return logins.map(({ username, password }) => ({
    name: running.name,
    startMs,
    pids: processTree(running.pid),
    plain,
    login: { address: listen, username, password },
    stop: () => running.stop(),
  }));
}

/**
 * A proxy of two caches, each with memcacheds of its own: what one does to the other is done in the
 * proxy. `storm` is the second one; it may have limits.
 */
export async function startStormProxy(
  shards: readonly string[],
  limits = {},
): Promise<Server & { storm: Target }> {
  const others = await startShards();
  await Promise.all(others.pids.map(standBack));
  const { username, password, digest } = newCredential();
  const server = await startMemwardProxy(shards, [
    cacheChange(STORM_CACHE, limits),
    credentialChange(username, digest, STORM_CACHE),
    ...others.addresses.map((address, index) => shardChange(address, index, STORM_CACHE)),
  ]);
  const { pids, login } = server;
  await Promise.all(pids.map(giveCore));
  const storm = { pids, plain: "", login: { address: login?.address ?? "", username, password } };
  const stop = (): Promise<unknown> => Promise.all([server.stop(), others.stop()]);
  return { ...server, storm, stop };
}

/**
 * Two proxies before the same three memcacheds: one of a thousand caches, each with a login, and one
 * of a single cache. All caches have their shards on these memcacheds, with connections of their own.
 */
export async function startManyCaches(
  cacheCount: number,
): Promise<{ subject: Server; peer: Server }> {
  const shards = await startShards(3);
  const { username, password, digest } = newCredential();
  const caches = Array.from({ length: cacheCount }, (_, index) => {
    const cache = `cache-${index}`;
    return [
      cacheChange(cache),
      credentialChange(`${username}-${index}`, digest, cache),
      ...shards.addresses.map((address, shard) => shardChange(address, shard, cache)),
    ];
  });
  const subject = await startMemwardProxy(shards.addresses, caches.flat());
  const peer = await startMemwardProxy(shards.addresses);
  const address = subject.login?.address ?? "";
  const { plain: _, ...alone } = peer;
  return {
    subject: {
      name: subject.name,
      pids: subject.pids,
      login: { address, username, password, count: cacheCount },
      stop: () => Promise.all([subject.stop(), shards.stop()]),
    },
    peer: alone,
  };
}

/** A proxy that knows so many credentials more than the one that is used. */
export async function startCrowdedProxy(
  shards: readonly string[],
  credentialCount: number,
): Promise<Server> {
  const { digest } = newCredential();
  const more = Array.from({ length: credentialCount }, (_, index) =>
    credentialChange(`crowd-${index}`, digest),
  );
  return startMemwardProxy(shards, more);
}

/** Everything, as `npm start` runs it; the pid is that of the proxy process. */
export async function startMemwardUp(): Promise<Server> {
  const dataDir = newDataDir();
  const listen = `127.0.0.1:${await freePort()}`;
  const free = async (): Promise<string> => `127.0.0.1:${await freePort()}`;
  const ports = ["--listen", listen, "--ops", await free(), "--control", await free()];
  const running = new Running("memward up", MEMWARD, ["up", "--data-dir", dataDir, ...ports]);
  const deadlineMs = clock.nowMs() + START_DEADLINE_MS;
  while (!running.stdout.includes("memward ready")) {
    if (running.exitCode !== undefined || clock.nowMs() > deadlineMs) {
      throw new Error(`memward up does not serve: ${running.stderr}`);
    }
    await sleep(20);
  }
  const asked = new Running("memward status", MEMWARD, ["status", "--json", "--data-dir", dataDir]);
  await asked.exited;
  const { roles } = statusSchema.parse(JSON.parse(asked.stdout));
  const variables = parseEnv(readFileSync(join(dataDir, "default.env"), "utf8"));
  return {
    name: running.name,
    pids: roles.filter(({ role }) => role === "proxy").map(({ pid }) => pid),
    plain: listen,
    login: {
      address: listen,
      username: variables["MEMCACHIER_USERNAME"] ?? "",
      password: variables["MEMCACHIER_PASSWORD"] ?? "",
    },
    stop: () => running.stop(),
  };
}

const statusSchema = z.object({
  roles: z.array(z.object({ role: z.string(), pid: z.number() })),
});

/** The backend role alone; its agent makes the shard of the one cache that the state names. */
export async function startEmbeddedStore(): Promise<Server> {
  const dataDir = newDataDir();
  await seedState(dataDir, [cacheChange()]);
  const backend = { nodes: [{ name: nodeName(0), socketDir: join(dataDir, "sockets") }] };
  const running = startRole("backend", { dataDir, ops: `127.0.0.1:${await freePort()}`, backend });
  const plain = await shardAddress(dataDir, running);
  await waitForListener(plain, running);
  return { name: running.name, pids: processTree(running.pid), plain, stop: () => running.stop() };
}

/** On a unix socket too, so that neither store pays for TCP. */
export async function startPeerStore(): Promise<Server> {
  const path = join(temporaryFolder("memward-bench"), "memcached.sock");
  const args = ["-s", path, "-t", "1", "-m", "256", "-u", userInfo().username];
  const running = new Running("memcached", find("memcached") ?? "memcached", args);
  await waitForListener(`unix:${path}`, running);
  return {
    name: running.name,
    pids: [running.pid],
    plain: `unix:${path}`,
    stop: () => running.stop(),
  };
}

function startRole(role: "proxy" | "backend", config: RoleConfig): Running {
  const file = join(config.dataDir, `${role}.json`);
  writeFileSync(file, JSON.stringify(config));
  return new Running(`memward ${role}`, MEMWARD, [role, "--config", file]);
}

/** As operators run it: metrics on the ops port, the section named after the role. */
type RoleConfig = { dataDir: string; ops: string; proxy?: object; backend?: object };

function newDataDir(): string {
  const folder = join(temporaryFolder("memward-bench"), "data");
  mkdirSync(folder, { mode: 0o700 });
  return folder;
}

async function seedState(dataDir: string, changes: Change[]): Promise<void> {
  const state = openSqliteState({ path: join(dataDir, STATE_FILE) });
  for (let at = 0; at < changes.length; at += CHANGES_MAX) {
    const commit = await state.commit(changes.slice(at, at + CHANGES_MAX));
    if (!commit.ok) throw new Error(`the cluster state refused its records: ${commit.reason}`);
  }
  await state.close();
}

async function shardAddress(dataDir: string, running: Running): Promise<string> {
  const state = openSqliteState({ path: join(dataDir, STATE_FILE) });
  const deadlineMs = clock.nowMs() + SHARD_DEADLINE_MS;
  try {
    while (clock.nowMs() < deadlineMs && running.exitCode === undefined) {
      const { entries } = await state.list("shard");
      const ready = entries.find((entry) => entry.value.state === "ready");
      if (ready !== undefined) return ready.value.address;
      await sleep(20);
    }
    throw new Error(`no shard became ready: ${running.stderr}`);
  } finally {
    await state.close();
  }
}

const nodeName = (index: number): string => `node-${index + 1}`;

const cacheChange = (cache = CACHE, limits = {}, copies: 1 | 2 = 1): Change => ({
  kind: "cache",
  id: cache,
  value: { name: cache, bytes: CACHE_BYTES, limits, copies, createdAtMs: clock.unixMs() },
});

const credentialChange = (
  username: string,
  digest: Digest,
  cache = CACHE,
  keyPrefix = "",
): Change => ({
  kind: "credential",
  id: username,
  value: {
    cache,
    digest,
    rights: ["read", "write", "flush", "api"],
    keyPrefix,
    createdAtMs: clock.unixMs(),
  },
});

const shardChange = (address: string, index: number, cache = CACHE): Change => ({
  kind: "shard",
  id: `${cache}/${nodeName(index)}`,
  value: {
    cache,
    node: nodeName(index),
    address,
    bytes: CACHE_BYTES / 2,
    epoch: 0,
    state: "ready",
  },
});
