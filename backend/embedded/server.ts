/** The endpoint of a shard: listens, and gives each connection its session. */
import assert from "node:assert/strict";
import type { Loop } from "../../core/io/loop.ts";
import type { Endpoint, Listening } from "../../core/io/wire.ts";
import { sleep } from "../../core/runtime/clock.ts";
import { Session } from "./session.ts";
import type { Shard } from "./shard.ts";

const BACKLOG = 1024;
const DRAIN_MS_MAX = 2_000;

export class ShardServer {
  readonly #loop: Loop;
  readonly #shard: Shard;
  readonly #sessions = new Set<Session>();
  #listening: Listening | null = null;
  #whenEmpty: () => void = () => {};

  constructor(loop: Loop, shard: Shard) {
    this.#loop = loop;
    this.#shard = shard;
  }

  /** The address it listens on: `unix:/path` or `host:port`. Rejects with the system's error. */
  async listen(endpoint: Endpoint): Promise<string> {
    assert(this.#listening === null, "a shard has one endpoint");
    this.#listening = await this.#loop.listen(
      endpoint,
      { backlog: BACKLOG },
      {
        accepted: (attach) =>
          this.#sessions.add(new Session(this.#shard, attach, (closed) => this.#closed(closed))),
      },
    );
    return this.#listening.address;
  }

  #closed(session: Session): void {
    this.#sessions.delete(session);
    if (this.#sessions.size === 0) this.#whenEmpty();
  }

  /** Closes all connections: what they still bring is read by nobody. New ones are welcome. */
  disconnect(): void {
    for (const session of [...this.#sessions]) session.destroy();
  }

  /** Stops accepting, answers what was read, closes; who does not read does not hold us up. */
  async drain(): Promise<void> {
    this.#listening?.close();
    this.#listening = null;
    if (this.#sessions.size === 0) return;
    const empty = new Promise<void>((resolve) => {
      this.#whenEmpty = resolve;
    });
    for (const session of this.#sessions) session.drain();
    await Promise.race([empty, sleep(DRAIN_MS_MAX)]);
    for (const session of this.#sessions) session.destroy();
  }
}
