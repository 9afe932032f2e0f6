/**
 * The real parts that tests run against: memcached, nutcracker and whatever else Debian has. Every
 * process started here is killed by its pid when the test stops it, and at the latest when the
 * test process exits. A part that is not installed is named, never silently replaced.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { accessSync, chmodSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { hostname, constants as os, setPriority, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "./ports.ts";

const READY_DEADLINE_MS = 10_000;
const STOP_DEADLINE_MS = 10_000;
const OUTPUT_SIZE_MAX = 4 * 1024 * 1024;
/** Debian keeps daemons in sbin, which is not on everybody's path. */
const EXTRA_FOLDERS = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

const PACKAGE_OF: Record<string, string> = {
  etcd: "etcd-server",
  memcached: "memcached",
  memccapable: "libmemcached-tools",
  memcstat: "libmemcached-tools",
  nutcracker: "nutcracker",
  prosody: "prosody",
};

/** The full path of a program, or undefined when it is not installed. */
export function find(program: string): string | undefined {
  const folders = [...(process.env.PATH ?? "").split(delimiter), ...EXTRA_FOLDERS];
  return folders.map((folder) => join(folder, program)).find(isExecutable);
}

export function has(program: string): boolean {
  return find(program) !== undefined;
}

/** Why a suite that needs these programs cannot run here; undefined when it can. */
export function missing(...programs: string[]): string | undefined {
  const absent = programs.filter((program) => !has(program));
  if (absent.length === 0) return undefined;
  const packages = new Set(absent.map((program) => PACKAGE_OF[program] ?? program));
  return `${absent.join(", ")} not installed (apt-get install ${[...packages].join(" ")})`;
}

/** Debian's memcached checks logins only in a sasldb, which Perl's DB_File can write. */
export function missingForSasl(): string | undefined {
  const absent = missing("memcached", "perl");
  if (absent !== undefined) return absent;
  const probe = spawnSync("perl", ["-MDB_File", "-e", "1"]);
  return probe.status === 0 ? undefined : "perl has no DB_File (apt-get install perl)";
}

/** A child process with its output kept (bounded), killed at the end by its own pid. */
export class Running {
  readonly child: ChildProcess;
  readonly name: string;
  readonly exited: Promise<number | null>;
  stdout = "";
  stderr = "";
  #exitCode: number | null | undefined;

  constructor(name: string, file: string, args: readonly string[], options: SpawnOptions = {}) {
    this.name = name;
    this.child = spawn(file, args, {
      stdio: ["ignore", "pipe", "pipe", ...(options.hasChannel === true ? ["ipc" as const] : [])],
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
    });
    alive.add(this);
    this.child.stdout?.on("data", (chunk: Buffer) => {
      this.stdout = (this.stdout + chunk.toString()).slice(-OUTPUT_SIZE_MAX);
    });
    this.child.stderr?.on("data", (chunk: Buffer) => {
      this.stderr = (this.stderr + chunk.toString()).slice(-OUTPUT_SIZE_MAX);
    });
    this.exited = new Promise((resolve) => {
      this.child.once("error", (error) => {
        this.stderr += String(error);
        resolve(this.#ended(-1));
      });
      // "close" and not "exit": only then all of its output has been read.
      this.child.once("close", (code, signal) => resolve(this.#ended(signal === null ? code : -1)));
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Undefined while it runs; null or negative when a signal ended it. */
  get exitCode(): number | null | undefined {
    return this.#exitCode;
  }

  /** Asks it to end with `signal`, insists after a while, and answers its exit code. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    if (this.#exitCode === undefined) this.child.kill(signal);
    const insist = setTimeout(() => this.child.kill("SIGKILL"), STOP_DEADLINE_MS);
    const code = await this.exited;
    clearTimeout(insist);
    return code;
  }

  #ended(code: number | null): number | null {
    alive.delete(this);
    this.#exitCode = code;
    return code;
  }
}

/**
 * A shard that says nothing for 250 ms is not waited for, and on a machine that is busy with other
 * tests that happens to any process: these go first, where we may say so.
 */
export function favour(pid: number): void {
  try {
    setPriority(pid, os.priority.PRIORITY_HIGH);
  } catch {
    // Only root may: then the machine had better be calm.
  }
}

type SpawnOptions = {
  cwd?: string;
  env?: Record<string, string>;
  /** `child.send` and its "message" events work; for programs of Node. */
  hasChannel?: boolean;
};

const alive = new Set<Running>();
const temporaryFolders = new Set<string>();

function leaveNothing(): void {
  for (const running of alive) running.child.kill("SIGKILL");
  for (const folder of temporaryFolders) rmSync(folder, { recursive: true, force: true });
}
process.on("exit", leaveNothing);
// The test runner ends its workers by a signal, which is no "exit".
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
  process.once(signal, () => {
    leaveNothing();
    process.exit(1);
  });
}

/** A folder of its own under the system's temporary folder, removed when the tests end. */
export function temporaryFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `${name}-`));
  temporaryFolders.add(folder);
  return folder;
}

/** `host:port` or `unix:/path`, as the arguments of `net.connect`. */
export function endpoint(address: string): { path: string } | { host: string; port: number } {
  if (address.startsWith("unix:")) return { path: address.slice("unix:".length) };
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
  return { host, port: Number(address.slice(colon + 1)) };
}

/** Waits until somebody accepts connections at `address`; fails when `running` ends before. */
export async function waitForListener(
  address: string,
  running?: Running,
  deadlineMs = READY_DEADLINE_MS,
): Promise<void> {
  const deadline = Date.now() + deadlineMs;
  while (!(await accepts(address))) {
    if (running?.exitCode !== undefined) {
      throw new Error(`${running.name} ended with ${running.exitCode}: ${running.stderr}`);
    }
    if (Date.now() > deadline) throw new Error(`nobody listens on ${address}: ${running?.stderr}`);
    await sleep(15);
  }
}

function accepts(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(endpoint(address));
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

export type Memcached = { port: number; address: string; pid: number; stop(): Promise<void> };

export type MemcachedOptions = {
  /** Needs `missingForSasl()` to be undefined. Binary only: memcached has no text with SASL. */
  sasl?: { username: string; password: string };
  /** The text login of `memcached -Y`. */
  textLogin?: { username: string; password: string };
  args?: readonly string[];
};

export async function startMemcached(options: MemcachedOptions = {}): Promise<Memcached> {
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const args = ["-l", "127.0.0.1", "-p", String(port), "-U", "0", "-m", "256", "-t", "2"];
  if (process.getuid?.() === 0) args.push("-u", "nobody");
  const env: Record<string, string> = {};
  if (options.sasl !== undefined) {
    args.push("-S");
    env.SASL_CONF_PATH = writeSaslFolder(options.sasl);
  }
  if (options.textLogin !== undefined) args.push("-Y", writeTextLoginFile(options.textLogin));
  args.push(...(options.args ?? []));

  const running = new Running("memcached", find("memcached") ?? "memcached", args, { env });
  await waitForListener(address, running);
  const stop = async (): Promise<void> => {
    await running.stop();
  };
  return { port, address, pid: running.pid, stop };
}

const WRITE_SASLDB = `
use DB_File; my ($file, $key, $password) = @ARGV; my %entries;
tie %entries, 'DB_File', $file, O_RDWR|O_CREAT, 0644, $DB_HASH or die $!;
$key =~ s/:/\\0/g; $entries{$key} = $password; untie %entries;`;

/** Cyrus SASL looks a password up under user, realm (this host) and property name. */
function writeSaslFolder({ username, password }: { username: string; password: string }): string {
  const folder = temporaryFolder("memcached-sasl");
  chmodSync(folder, 0o755); // memcached reads it as nobody.
  const database = join(folder, "sasldb");
  const key = `${username}:${hostname()}:userPassword`;
  execFileSync("perl", ["-e", WRITE_SASLDB, database, key, password]);
  const lines = ["mech_list: plain", "pwcheck_method: auxprop", "auxprop_plugin: sasldb"];
  lines.push(`sasldb_path: ${database}`);
  writeFileSync(join(folder, "memcached.conf"), `${lines.join("\n")}\n`);
  return folder;
}

function writeTextLoginFile(login: { username: string; password: string }): string {
  const folder = temporaryFolder("memcached-login");
  chmodSync(folder, 0o755);
  const file = join(folder, "logins");
  writeFileSync(file, `${login.username}:${login.password}\n`);
  return file;
}

export type NutcrackerPool = {
  servers: readonly string[];
  hash?: string;
  distribution?: string;
  options?: Record<string, string | number | boolean>;
};
export type Nutcracker = {
  /** Listening address of each pool, by its name. */
  addresses: Record<string, string>;
  pid: number;
  stop(): Promise<void>;
};

/** `servers` as nutcracker writes them: `host:port:weight` or `host:port:weight name`. */
export async function startNutcracker({
  pools,
}: {
  pools: Record<string, NutcrackerPool>;
}): Promise<Nutcracker> {
  const folder = temporaryFolder("nutcracker");
  const addresses: Record<string, string> = {};
  const lines: string[] = [];
  for (const [name, pool] of Object.entries(pools)) {
    addresses[name] = `127.0.0.1:${await freePort()}`;
    lines.push(`${name}:`, `  listen: ${addresses[name]}`);
    lines.push(`  hash: ${pool.hash ?? "md5"}`);
    lines.push(`  distribution: ${pool.distribution ?? "ketama"}`);
    for (const [key, value] of Object.entries(pool.options ?? {})) lines.push(`  ${key}: ${value}`);
    lines.push("  servers:", ...pool.servers.map((server) => `   - ${server}`));
  }
  const file = join(folder, "nutcracker.yml");
  writeFileSync(file, `${lines.join("\n")}\n`);
  const statsPort = String(await freePort());
  const args = ["-c", file, "-s", statsPort, "-a", "127.0.0.1", "-v", "4"];
  const running = new Running("nutcracker", find("nutcracker") ?? "nutcracker", args);
  for (const address of Object.values(addresses)) await waitForListener(address, running);
  const stop = async (): Promise<void> => {
    await running.stop();
  };
  return { addresses, pid: running.pid, stop };
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false; // Not there, or not for us: the same to the caller.
  }
}
