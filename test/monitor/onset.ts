/**
 * A whole instance that pages: `memward up` on memcached, with people on a real XMPP server and
 * traffic on its cache, in which a node's memcached can be made to stand still.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Memward, startMemward } from "../harness/memward.ts";
import { temporaryFolder } from "../harness/processes.ts";
import type { Prosody } from "../harness/prosody.ts";
import { sectionFor } from "./monitors.ts";

const READ_INTERVAL_MS = 4;

export class PagingInstance {
  readonly memward: Memward;
  #isRunning = true;
  readonly #traffic: Promise<void>;

  private constructor(memward: Memward) {
    this.memward = memward;
    this.#traffic = this.#drive();
  }

  static async start(
    prosody: Prosody,
    { nodes = 4, over = {} }: { nodes?: number; over?: Record<string, unknown> } = {},
  ): Promise<PagingInstance> {
    const file = join(temporaryFolder("memward-paging"), "memward.json");
    writeFileSync(file, JSON.stringify({ monitor: sectionFor(prosody, over) }));
    const args = ["--config", file, "--engine", "memcached", "--nodes", String(nodes)];
    const memward = await startMemward({ proxies: 2, args });
    return new PagingInstance(memward);
  }

  /** Stops the process of a node's shard; the moment at which that was done. */
  async stall(index: number): Promise<{ node: string; atMs: number; heal(): void }> {
    const { name, shards = [] } = await this.memward.role("backend", index);
    const pids = shards.map(({ pid }) => pid);
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    const atMs = Date.now();
    return {
      node: name,
      atMs,
      heal: () => {
        for (const pid of pids) wake(pid);
      },
    };
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    await this.#traffic;
    await this.memward.stop();
  }

  /** Reads through each proxy, some hundred a second; what they answer does not matter here. */
  async #drive(): Promise<void> {
    const wires = [];
    for (const server of this.memward.servers) {
      wires.push(await this.memward.open("text", this.memward, server));
    }
    for (let at = 0; this.#isRunning; at++) {
      await Promise.all(wires.map((wire) => wire.line(`mg key-${at % 400}`).catch(() => "")));
      await sleep(READ_INTERVAL_MS);
    }
    for (const wire of wires) wire.close();
  }
}

/** Its node may have replaced it meanwhile. */
function wake(pid: number): void {
  try {
    process.kill(pid, "SIGCONT");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
