/**
 * The memcached that is installed: which one, whether it fits, and how it is told what to be. Its
 * defaults are kept wherever nothing was measured to be better.
 */
import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, isAbsolute, join, resolve } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { Refusal } from "../../core/runtime/process.ts";
import type { MemcachedOptions } from "../options.ts";

/** What Memward was measured with; older ones speak other meta commands than it passes on. */
const VERSION_MIN = [1, 6, 18] as const;
const VERSION_MS_MAX = 5_000;
/** Daemons are kept there, which is not on everybody's path. */
const EXTRA_FOLDERS = ["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin", "/usr/local/bin"];
const MIB = 1 << 20;
/** `cache_memlimit` goes no lower (protocol.txt, "Cache memlimit"), so a start does not either. */
const MEGABYTES_MIN = 8;

/** The full path of the program. Throws a Refusal where it is missing or too old. */
export async function findMemcached({ path }: Pick<MemcachedOptions, "path">): Promise<string> {
  const found = candidates(path).find(isExecutable);
  if (found === undefined) {
    throw new Refusal(
      `the engine memcached needs memcached ${VERSION_MIN.join(".")} or later, and there is no ` +
        `program ${path} (on Debian: apt-get install memcached)`,
    );
  }
  const version = await versionOf(found);
  if (version === undefined) throw new Refusal(`${found} does not say which memcached it is`);
  if (isOlder(version)) {
    throw new Refusal(
      `${found} is memcached ${version.join(".")}; needed is ${VERSION_MIN.join(".")} or later`,
    );
  }
  return found;
}

async function versionOf(program: string): Promise<number[] | undefined> {
  const ask = promisify(execFile)(program, ["-V"], { timeout: VERSION_MS_MAX, env: {} });
  const { stdout } = await ask.catch(() => ({ stdout: "" })); // It is no memcached: said above.
  const match = /^memcached (\d+)\.(\d+)\.(\d+)/.exec(stdout);
  return match === null ? undefined : match.slice(1).map(Number);
}

function isOlder(version: readonly number[]): boolean {
  const at = VERSION_MIN.findIndex((part, index) => part !== version[index]);
  return at >= 0 && (version[at] ?? 0) < (VERSION_MIN[at] ?? 0);
}

function candidates(path: string): string[] {
  if (path.includes("/")) return [isAbsolute(path) ? path : resolve(path)];
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), ...EXTRA_FOLDERS];
  return folders.filter((folder) => folder !== "").map((folder) => join(folder, path));
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false; // Not there, or not for us: the same to whoever asked.
  }
}

/** `-m` for a shard of that many bytes: keys, heads and values, but neither index nor buffers. */
export function megabytesOf(bytes: number): number {
  return Math.max(MEGABYTES_MIN, Math.ceil(bytes / MIB));
}

export type ShardEndpoint = { path: string } | { host: string; port: number };

/**
 * All but the memory limit and what marks it as ours. As root it stays root, for nobody else may
 * enter the directory of its socket; otherwise it has our rights by itself.
 */
export function argumentsOf(
  { threads, connectionsMax }: Pick<MemcachedOptions, "threads" | "connectionsMax">,
  endpoint: ShardEndpoint,
): string[] {
  const where =
    "path" in endpoint
      ? ["-s", endpoint.path, "-a", "0700"]
      : ["-l", endpoint.host, "-p", String(endpoint.port)];
  const user = process.getuid?.() === 0 ? ["-u", "root"] : [];
  const bounds = ["-t", String(threads), "-c", String(connectionsMax), "-I", "1m"];
  return [...where, "-U", "0", ...user, ...bounds];
}
