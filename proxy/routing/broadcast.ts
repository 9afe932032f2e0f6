/**
 * A command that goes to every shard of a cache (`flush_all`, `stats`): asked in text on all of
 * them, joined by a function of its own when the last has answered. Rare, so written plainly.
 */
import type { Connection } from "../../core/io/connection.ts";
import { PROBLEMS, type Problem } from "../../core/protocol/problem.ts";
import type { Gather } from "./gather.ts";
import type { ReplyQueue } from "./replies.ts";
import type { Route } from "./route.ts";
import type { Slots } from "./slots.ts";

/** What one shard said: its reply, or why there is none. */
export type ShardAnswer = { ok: true; text: string } | { ok: false; problem: Problem };

const NO_SLOT = -1;

export class Broadcast implements Gather {
  readonly #queue: ReplyQueue;
  readonly #join: (answers: ShardAnswer[]) => Buffer;
  readonly #answers: ShardAnswer[] = [];
  #slot: number;
  #missingCount = 0;
  #abandoned = false;

  constructor(queue: ReplyQueue, slot: number, join: (answers: ShardAnswer[]) => Buffer) {
    this.#queue = queue;
    this.#slot = slot;
    this.#join = join;
    queue.slots.gather[slot] = this;
  }

  /** Sends `line` to all shards; a shard that cannot be asked has failed at once. */
  send(route: Route, slots: Slots, command: number, line: string, nowMs: number): void {
    const bytes = Buffer.from(line);
    // One more than there are shards, so that failing at once cannot end it before the last.
    this.#missingCount = route.shards.length + 1;
    for (const shard of route.shards) {
      const problem = slots.hasRoom(1) ? shard.text.refusal() : "queueFull";
      if (problem !== undefined) {
        this.fail(NO_SLOT, problem);
        continue;
      }
      const slot = slots.open(null, command, nowMs);
      slots.gather[slot] = this;
      shard.text.expect(slot);
      shard.text.append(bytes, 0, bytes.length);
    }
    this.#done();
  }

  take(_slot: number, _valueCount: number, bytes: Buffer, from: number, size: number): void {
    this.#answers.push({ ok: true, text: bytes.toString("latin1", from, from + size) });
    this.#done();
  }

  fail(_slot: number, problem: Problem): void {
    this.#answers.push({ ok: false, problem });
    this.#done();
  }

  #done(): void {
    if (--this.#missingCount === 0 && !this.#abandoned) this.#queue.gathered(this.#slot);
  }

  emit(connection: Connection): void {
    const bytes = this.#join(this.#answers);
    if (bytes.length > 0) connection.append(bytes, 0, bytes.length);
  }

  abandon(): void {
    this.#abandoned = true;
  }
}

/** The first thing that went wrong on any shard, as an error line without its end; else null. */
export function firstError(answers: readonly ShardAnswer[]): string | null {
  if (answers.length === 0) return PROBLEMS.noShard.text;
  for (const answer of answers) {
    if (!answer.ok) return PROBLEMS[answer.problem].text;
    if (/^(ERROR|CLIENT_ERROR|SERVER_ERROR)/.test(answer.text)) return answer.text.trimEnd();
  }
  return null;
}
