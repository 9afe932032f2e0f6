/** A shard behind a real unix socket, for tests, with a clock that is moved by hand. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Output } from "../../../backend/embedded/output.ts";
import { ShardServer } from "../../../backend/embedded/server.ts";
import { Shard } from "../../../backend/embedded/shard.ts";
import { Loop } from "../../../core/io/loop.ts";
import { clock } from "../../../core/runtime/clock.ts";
import { connect, type Wire } from "../../harness/wire.ts";

const START_MS = 1_700_000_000_000;

export interface Served {
  shard: Shard;
  loop: Loop;
  address: string;
  open(): Promise<Wire>;
  /** Answers what was read and closes; then the socket is gone. */
  drain(): Promise<void>;
  stop(): Promise<void>;
}

export async function serveShard({ bytes = 64 << 20 } = {}): Promise<Served> {
  const folder = await mkdtemp(join(tmpdir(), "memward-shard-"));
  const loop = new Loop({ slabCount: 64 });
  const nowMs = clock.nowMs();
  const shard = new Shard(new Output(loop), {
    bytes,
    seed: [3, 4],
    nowMs,
    clockOffsetMs: START_MS - nowMs,
  });
  const server = new ShardServer(loop, shard);
  const address = await server.listen({ path: join(folder, "shard.sock") });
  return {
    shard,
    loop,
    address,
    open: () => connect(address),
    drain: () => server.drain(),
    stop: async () => {
      await server.drain();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
