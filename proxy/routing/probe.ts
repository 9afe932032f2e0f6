/**
 * One look at a shard that is out of routing: on a connection of its own, a canary is stored and
 * read back. Live traffic never does this; a client should not pay for finding out.
 */
import type { Connection } from "../../core/io/connection.ts";
import type { Loop } from "../../core/io/loop.ts";
import { type Connecting, endpointOf } from "../../core/io/wire.ts";
import { clock } from "../../core/runtime/clock.ts";

/** A probe that takes longer has failed, unless told otherwise: the deadline of commands, too. */
export const PROBE_MS_MAX = 250;

/** Expires by itself; the blank-free name can be no client's by chance. */
const CANARY = Buffer.from("ms memward:canary 2 T1\r\nok\r\nmg memward:canary v\r\n");
const ANSWER = "HD\r\nVA 2\r\nok\r\n";

class Probe implements Connecting {
  readonly #connection: Connection;
  readonly #done: (durationMs: number | null) => void;
  readonly #startedAtMs = clock.nowMs();
  readonly #timer: NodeJS.Timeout;
  #isDone = false;

  constructor(
    loop: Loop,
    { address, msMax }: { address: string; msMax: number },
    done: (durationMs: number | null) => void,
  ) {
    this.#done = done;
    // Timers run before reads: an answer that is already here has a turn to be taken in.
    this.#timer = setTimeout(() => setImmediate(() => this.#end(null)), msMax);
    this.#connection = loop.connect(endpointOf(address), this);
  }

  opened(): void {
    this.#connection.greet(CANARY);
  }

  received(bytes: Buffer, from: number, to: number): number {
    const answer = bytes.toString("latin1", from, Math.min(to, from + ANSWER.length + 1));
    if (answer.length < ANSWER.length && ANSWER.startsWith(answer)) return from;
    this.#end(answer === ANSWER ? clock.nowMs() - this.#startedAtMs : null);
    return to;
  }

  drained(): void {}

  ended(): void {
    this.#end(null);
  }

  closed(): void {
    this.#end(null);
  }

  #end(durationMs: number | null): void {
    if (this.#isDone) return;
    this.#isDone = true;
    clearTimeout(this.#timer);
    // The connection may be told to be gone before the constructor has it.
    setImmediate(() => this.#connection.destroy());
    this.#done(durationMs);
  }
}

/** How long the canary took, in milliseconds; null when it failed or took too long. */
export function probe(
  loop: Loop,
  address: string,
  msMax: number = PROBE_MS_MAX,
): Promise<number | null> {
  return new Promise((resolve) => {
    new Probe(loop, { address, msMax }, resolve);
  });
}
