/** The data directory: made if missing, private, writable, with short paths for sockets. */
import { createHash } from "node:crypto";
import { accessSync, chmodSync, constants, existsSync, mkdirSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { Refusal } from "../core/runtime/process.ts";

/** A socket's path must fit in `sun_path`: 104 bytes on BSD and macOS, 108 on Linux. */
export const SOCKET_PATH_SIZE_MAX = 104;
/** What a role puts behind the folder: `/<node>/<cache id>.sock`, with room. */
const SOCKET_NAME_SIZE_MAX = 48;

export interface Directory {
  path: string;
  /** Claims, status and sockets of the running instance; only our user can look inside. */
  runDir: string;
  socketDir: string;
  statePath: string;
}

export function openDirectory(dataDir: string): Directory {
  const path = resolve(dataDir);
  const runDir = join(path, "run");
  try {
    makeFolder(path);
    readdirSync(path); // A file in its place is told by its error.
    makeFolder(runDir);
    chmodSync(runDir, 0o700);
    accessSync(path, constants.W_OK);
    accessSync(runDir, constants.W_OK);
  } catch (error) {
    throw notWritable(dataDir, error);
  }
  return { path, runDir, socketDir: socketFolder(path, runDir), statePath: join(path, "state.db") };
}

export function notWritable(dataDir: string, error: unknown): Refusal {
  const reason = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
  return new Refusal(`the directory ${dataDir} is not writable (${reason})`);
}

/** Not `recursive`: below /proc, where nothing can be made, that never returns on Node 26. */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  if (dirname(path) !== path) makeFolder(dirname(path));
  mkdirSync(path, { mode: 0o700 });
}

function socketFolder(path: string, runDir: string): string {
  const near = join(runDir, "sockets");
  if (Buffer.byteLength(near) + SOCKET_NAME_SIZE_MAX <= SOCKET_PATH_SIZE_MAX) return near;
  const digest = createHash("sha256").update(path).digest("hex").slice(0, 12);
  return join(tmpdir(), `memward-${process.getuid?.() ?? "user"}-${digest}`);
}
