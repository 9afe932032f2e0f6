/**
 * Where the unix sockets of the shards of a node are. A path may have 107 bytes only (sun_path in
 * unix(7)), so files are named by a hash, and a directory that is too deep is replaced by one
 * under the system's temporary directory. Only the owner may enter: whoever can connect to a
 * shard needs no login.
 */
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Loop } from "../core/io/loop.ts";

const PATH_SIZE_MAX = 107;
const OWNER_ONLY = 0o700;
const NAME_SIZE = 16;
const SUFFIX = ".sock";

export class SocketDirectory {
  readonly path: string;
  /** It is ours alone, so it goes when we do. */
  readonly #isTemporary: boolean;

  private constructor(path: string, isTemporary: boolean) {
    this.path = path;
    this.#isTemporary = isTemporary;
  }

  static async open(wanted: string): Promise<SocketDirectory> {
    const path = resolve(wanted);
    if (Buffer.byteLength(join(path, "x".repeat(NAME_SIZE) + SUFFIX)) > PATH_SIZE_MAX) {
      return new SocketDirectory(await mkdtemp(join(tmpdir(), "memward-")), true);
    }
    await mkdir(path, { recursive: true, mode: OWNER_ONLY });
    await chmod(path, OWNER_ONLY);
    return new SocketDirectory(path, false);
  }

  /** The path of the socket of a shard; the same after a restart. */
  pathOf(shardId: string): string {
    const name = createHash("sha256").update(shardId).digest("hex").slice(0, NAME_SIZE);
    return join(this.path, name + SUFFIX);
  }

  async close(): Promise<void> {
    if (this.#isTemporary) await rm(this.path, { recursive: true, force: true });
  }
}

/** Removes what a killed process left at `path`. Rejects if somebody still listens there. */
export async function removeStaleSocket(loop: Loop, path: string): Promise<void> {
  const isServed = await new Promise<boolean>((answer) => {
    const probe = loop.connect(
      { path },
      {
        opened: () => {
          answer(true);
          probe.destroy();
        },
        closed: () => answer(false),
        received: (_bytes, _from, to) => to,
        drained: () => {},
        ended: () => {},
      },
    );
  });
  if (isServed) throw new Error(`another process serves ${path}`);
  await rm(path, { force: true });
}

/** The port of `host:port`; 0 of a path, or without an address. */
export function portOf(address: string | undefined): number {
  if (address === undefined || address.startsWith("unix:")) return 0;
  return Number(address.slice(address.lastIndexOf(":") + 1));
}
