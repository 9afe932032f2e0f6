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

/** Expires by itself; in words that servers of any age know. */
const CANARY = Buffer.from("set memward:canary 0 2 2\r\nok\r\nget memward:canary\r\n");
const ANSWER = "STORED\r\nVALUE memward:canary 0 2\r\nok\r\nEND\r\n";

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
