/**
 * A whole Memward in processes of its own, started as a user starts it: `memward up` with a data
 * directory, its three lines read from `default.env`. Tests see what a user sees (addresses,
 * exit codes, logs, /metrics, `memward status`); where a promise needs what no command offers yet
 * (a second cache, the address of a shard), they look into the cluster state.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { digestOf } from "../../core/cluster/credentials.ts";
import {
  type Credential,
  cacheRecord,
  credentialRecord,
  type Kind,
  type RecordOf,
} from "../../core/cluster/records.ts";
import { openSqliteState } from "../../core/cluster/sqlite.ts";
import type { ClusterState } from "../../core/cluster/state.ts";
import { freePort } from "./ports.ts";
import { Running, temporaryFolder, waitForListener } from "./processes.ts";
import { connect, OPCODE, saslPlain, type Wire } from "./wire.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const READY_DEADLINE_MS = 30_000;

export type Login = { username: string; password: string };
export type Role = {
  role: string;
  name: string;
  pid: number;
  addresses: string[];
  ready: boolean;
  shards?: { cache: string; pid: number; address: string; state: string }[];
};
export type Status = { running: boolean; roles: Role[] };
export type Exit = { code: number | null; stdout: string; stderr: string };

export type MemwardOptions = {
  dataDir?: string;
  /** How many proxies (`--listen` each). */
  proxies?: number;
  plain?: boolean;
  args?: readonly string[];
  env?: Record<string, string>;
};

export type Memward = Login & {
  dataDir: string;
  pid: number;
  /** Addresses of the proxies, as `default.env` lists them. */
  servers: string[];
  /** The first of them. */
  server: string;
  /** Address of the operations port: /metrics, /healthz, /readyz. */
  ops: string;
  /** The admin API as a URL, and the first owner's token for it. */
  control: string;
  token: string;
  /** The listener without login, bound to the cache `default`. */
  plain: string;
  /** Everything it printed and logged so far. */
  output(): string;
  status(): Promise<Status>;
  role(role: string, index?: number): Promise<Role>;
  /** A connection to a proxy, logged in with the default credential unless told otherwise. */
  open(dialect: "text" | "binary", login?: Login, server?: string): Promise<Wire>;
  openPlain(): Promise<Wire>;
  metrics(): Promise<string>;
  state<T>(use: (state: ClusterState) => Promise<T>): Promise<T>;
  /** Where the shards of the cache `default` listen, by node name. */
  shards(): Promise<{ node: string; address: string }[]>;
  stop(signal?: NodeJS.Signals): Promise<number | null>;
};

export async function startMemward(options: MemwardOptions = {}): Promise<Memward> {
  const dataDir = options.dataDir ?? join(temporaryFolder("memward"), "data");
  const listens = await addresses(options.proxies ?? 1);
  const [ops, plain, control] = await addresses(3);
  if (ops === undefined || plain === undefined || control === undefined) {
    throw new Error("no ports");
  }
  const args = ["up", "--data-dir", dataDir, "--ops", ops, "--control", control];
  for (const address of listens) args.push("--listen", address);
  if (options.plain !== false) args.push("--plain", plain);
  args.push(...(options.args ?? []));
  const running = spawnMemward(args, options.env);
  await waitForReady(running);

  const login = readDefaultEnv(dataDir);
  const open: Memward["open"] = async (dialect, as = login, server = listens[0] ?? "") => {
    const wire = await connect(server);
    return dialect === "binary" ? await logInBinary(wire, as) : await logInText(wire, as);
  };
  const status = (): Promise<Status> => readStatus(dataDir);
  const state: Memward["state"] = async (use) => {
    const opened = openSqliteState({ path: join(dataDir, "state.db") });
    try {
      return await use(opened);
    } finally {
      await opened.close();
    }
  };
  return {
    ...login,
    dataDir,
    pid: running.pid,
    server: login.servers[0] ?? "",
    ops,
    control: `http://${control}`,
    token: readFileSync(join(dataDir, "operator.token"), "utf8").trim(),
    plain,
    output: () => running.stdout + running.stderr,
    status,
    role: async (role, index = 0) => {
      const found = (await status()).roles.filter((one) => one.role === role)[index];
      if (found === undefined) throw new Error(`no ${role} number ${index}`);
      return found;
    },
    open,
    openPlain: () => connect(plain),
    metrics: async () => (await fetch(`http://${ops}/metrics`)).text(),
    state,
    shards: () => state((opened) => shardsOfDefault(opened)),
    stop: (signal) => running.stop(signal),
  };
}

export type BackendNode = { name: string; pid: number; stop(): Promise<number | null> };

/**
 * One more node in a process of its own, started alone as on another machine, that shares the
 * state of a running instance. Resolves when its shard of the cache `default` listens.
 */
export async function startNode(memward: Memward, name: string): Promise<BackendNode> {
  const folder = temporaryFolder("memward-node");
  const file = join(folder, "node.json");
  const backend = { nodes: [{ name, socketDir: join(folder, "sockets") }] };
  writeFileSync(file, JSON.stringify({ dataDir: memward.dataDir, backend }));
  const running = spawnMemward(["backend", "--config", file]);
  const deadline = Date.now() + READY_DEADLINE_MS;
  for (;;) {
    const shard = (await memward.shards()).find(({ node }) => node === name);
    if (shard !== undefined) {
      await waitForListener(shard.address, running);
      return { name, pid: running.pid, stop: () => running.stop() };
    }
    if (running.exitCode !== undefined || Date.now() > deadline) {
      throw new Error(`node ${name} does not serve: ${running.stdout}${running.stderr}`);
    }
    await sleep(30);
  }
}

/** Runs any `memward` command to its end. */
export async function runMemward(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Exit> {
  const running = spawnMemward(args, env);
  const code = await running.exited;
  return { code, stdout: running.stdout, stderr: running.stderr };
}

export function spawnMemward(args: readonly string[], env: Record<string, string> = {}): Running {
  return new Running("memward", join(ROOT, "bin/memward"), args, { cwd: ROOT, env });
}

async function waitForReady(running: Running): Promise<void> {
  const deadline = Date.now() + READY_DEADLINE_MS;
  while (!/^memward ready/m.test(running.stdout)) {
    const ended = running.exitCode !== undefined;
    if (ended || Date.now() > deadline) {
      const fate = ended ? `ended with ${running.exitCode}` : "did not become ready";
      await running.stop("SIGKILL");
      throw new Error(`memward ${fate}:\n${running.stdout}${running.stderr}`);
    }
    await sleep(15);
  }
}

async function addresses(count: number): Promise<string[]> {
  const found: string[] = [];
  while (found.length < count) found.push(`127.0.0.1:${await freePort()}`);
  return found;
}

/** The three KEY=VALUE lines, read as an application's start script would. */
export function readDefaultEnv(dataDir: string): Login & { servers: string[] } {
  const file = join(dataDir, "default.env");
  if (!existsSync(file)) throw new Error(`no ${file}`);
  const lines = readFileSync(file, "utf8").trim().split("\n");
  const values = new Map(lines.map((line) => [line.split("=", 1)[0], line.replace(/^[^=]*=/, "")]));
  const value = (name: string): string => values.get(`MEMCACHIER_${name}`) ?? "";
  return {
    servers: value("SERVERS").split(","),
    username: value("USERNAME"),
    password: value("PASSWORD"),
  };
}

export async function readStatus(dataDir: string): Promise<Status> {
  const { stdout } = await runMemward(["status", "--json", "--data-dir", dataDir]);
  return JSON.parse(stdout) as Status;
}

/** Logs in with SASL PLAIN and fails loudly; what is answered is checked where it is the point. */
export async function logInBinary(wire: Wire, login: Login): Promise<Wire> {
  await wire.send(saslPlain(login));
  const reply = await wire.packet();
  if (reply?.opcode !== OPCODE.saslAuth || reply.status !== 0) {
    throw new Error(`login was refused: status ${reply?.status}, session ${wire.state}`);
  }
  return wire;
}

export async function logInText(wire: Wire, { username, password }: Login): Promise<Wire> {
  const reply = await wire.ask(`set ${username} 0 0 ${password.length}\r\n${password}\r\n`, "\r\n");
  if (!reply.equals(Buffer.from("STORED\r\n"))) throw new Error(`login was refused: ${reply}`);
  return wire;
}

async function shardsOfDefault(state: ClusterState): Promise<{ node: string; address: string }[]> {
  const caches = (await state.list("cache")).entries;
  const cache = caches.find((entry) => entry.value.name === "default");
  const shards = (await state.list("shard")).entries.filter((one) => one.value.cache === cache?.id);
  return shards
    .map(({ value }) => ({ node: value.node, address: value.address }))
    .sort((a, b) => a.node.localeCompare(b.node));
}

/**
 * A second tenant: its cache and a credential, written where an API will write them. Waits until
 * each node serves its shard and the login works on every proxy.
 */
export async function addCache(
  memward: Memward,
  {
    name,
    login,
    rights = ["read", "write", "flush", "api"],
    bytes = 16 * 1024 * 1024,
  }: {
    name: string;
    login: Login;
    rights?: Credential["rights"];
    bytes?: number;
  },
): Promise<void> {
  const createdAtMs = Date.now();
  const cache = cacheRecord.parse({ name, bytes, createdAtMs });
  const id = `c-${name}`;
  await memward.state(async (state) => {
    await put(state, "cache", id, cache);
    await put(state, "credential", login.username, credential(id, login.password, rights));
  });
  await waitForLogin(memward, login);
}

/** One more credential of the cache `default`. */
export async function addCredential(
  memward: Memward,
  login: Login,
  rights: Credential["rights"],
  keyPrefix = "",
): Promise<void> {
  await memward.state(async (state) => {
    const caches = (await state.list("cache")).entries;
    const cache = caches.find((entry) => entry.value.name === "default");
    const value = credential(cache?.id ?? "", login.password, rights);
    await put(state, "credential", login.username, { ...value, keyPrefix });
  });
  await waitForLogin(memward, login);
}

const credential = (cache: string, password: string, rights: Credential["rights"]): Credential =>
  credentialRecord.parse({
    cache,
    digest: digestOf(password),
    rights,
    label: "test",
    createdAtMs: Date.now(),
  });

async function put<K extends Kind>(
  state: ClusterState,
  kind: K,
  id: string,
  value: RecordOf<K>,
): Promise<void> {
  const commit = await state.commit([{ kind, id, value } as Parameters<typeof state.commit>[0][0]]);
  if (!commit.ok) throw new Error(`${kind} ${id}: ${JSON.stringify(commit)}`);
}

/** Until it can log in to every proxy, and the shards of its cache answer. */
async function waitForLogin(memward: Memward, login: Login): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (const server of memward.servers) {
    while (!(await serves(memward, login, server))) {
      if (Date.now() > deadline) throw new Error(`${login.username} is not served on ${server}`);
      await sleep(30);
    }
  }
}

async function serves(memward: Memward, login: Login, server: string): Promise<boolean> {
  try {
    const wire = await memward.open("text", login, server);
    const reply = await wire.line("mg no-such-key");
    wire.close();
    return !reply.startsWith("SERVER_ERROR"); // A right to read may be missing, on purpose.
  } catch {
    return false; // Not yet: the caller asks again until its deadline.
  }
}
