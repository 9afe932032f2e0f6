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
import { type Claim, claim } from "../core/runtime/lock.ts";
import { Refusal } from "../core/runtime/process.ts";

const PATH_SIZE_MAX = 107;
const OWNER_ONLY = 0o700;
const NAME_SIZE = 16;
const SUFFIX = ".sock";

export class SocketDirectory {
  /** The directory that was asked for, whose owner we are; the sockets may be elsewhere. */
  readonly home: string;
  readonly path: string;
  readonly #claim: Claim;

  private constructor(home: string, path: string, claimed: Claim) {
    this.home = home;
    this.path = path;
    this.#claim = claimed;
  }

  /** Rejects when an agent for the same node uses the directory already. */
  static async open(wanted: string, node: string): Promise<SocketDirectory> {
    const home = resolve(wanted);
    await mkdir(home, { recursive: true, mode: OWNER_ONLY });
    await chmod(home, OWNER_ONLY);
    const claimed = claim(home, node);
    if (claimed === undefined) throw new Refusal(`another agent of ${node} runs in ${home}`);
    const fits = Buffer.byteLength(join(home, "x".repeat(NAME_SIZE) + SUFFIX)) <= PATH_SIZE_MAX;
    const path = fits ? home : await mkdtemp(join(tmpdir(), "memward-"));
    return new SocketDirectory(home, path, claimed);
  }

  /** The path of the socket of a shard; the same after a restart. */
  pathOf(shardId: string): string {
    return join(this.path, fileNameOf(shardId) + SUFFIX);
  }

  async close(): Promise<void> {
    // One under the temporary directory is ours alone, so it goes when we do.
    if (this.path !== this.home) await rm(this.path, { recursive: true, force: true });
    this.#claim.release();
  }
}

/** A short name for the files of a shard. */
export function fileNameOf(shardId: string): string {
  return createHash("sha256").update(shardId).digest("hex").slice(0, NAME_SIZE);
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
