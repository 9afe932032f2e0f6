/**
 * A command that goes to every shard of a cache (`flush_all`, `stats`): asked of all of them, joined
 * by a function of its own when the last has answered. Rare, so written plainly.
 */
import type { Connection } from "../../core/io/connection.ts";
import { HEADER_SIZE, Header } from "../../core/protocol/binary.ts";
import { PROBLEMS, type Problem, Status } from "../../core/protocol/problem.ts";
import type { Gather } from "./gather.ts";
import type { Dialect, ReplyQueue } from "./replies.ts";
import type { Route } from "./route.ts";

/** What one shard said: its reply, or why there is none. */
export type ShardAnswer = { ok: true; text: string } | { ok: false; problem: Problem };

const NO_SLOT = -1;

export class Broadcast implements Gather {
  readonly #queue: ReplyQueue;
  readonly #join: (answers: ShardAnswer[]) => Buffer;
  readonly #answers: ShardAnswer[] = [];
  readonly #slot: number;
  #dialect: Dialect = "text";
  #missingCount = 0;
  #abandoned = false;

  constructor(queue: ReplyQueue, slot: number, join: (answers: ShardAnswer[]) => Buffer) {
    this.#queue = queue;
    this.#slot = slot;
    this.#join = join;
    queue.slots.gather[slot] = this;
  }

  /**
   * Sends `bytes` to all shards, on the connections of `dialect`: those that keep a command in order
   * with others of its session. A shard that cannot be asked has failed at once.
   */
  send(route: Route, dialect: Dialect, command: number, bytes: Buffer, nowMs: number): void {
    const { slots } = this.#queue;
    this.#dialect = dialect;
    // A shard that is out comes back empty: there is nothing in it to ask about or to flush.
    const shards = route.shards.filter(({ isOut }) => !isOut);
    // One more than there are shards, so that failing at once cannot end it before the last.
    this.#missingCount = shards.length + 1;
    for (const shard of shards) {
      const problem = slots.hasRoom(1) ? shard[dialect].refusal() : "queueFull";
      if (problem !== undefined) {
        this.fail(NO_SLOT, problem);
        continue;
      }
      const slot = slots.open(null, command, nowMs);
      slots.gather[slot] = this;
      slots.opaque[slot] = 0;
      shard[dialect].expect(slot);
      shard[dialect].append(bytes, 0, bytes.length);
    }
    this.#done();
  }

  take(_slot: number, _valueCount: number, bytes: Buffer, from: number, size: number): void {
    const text = bytes.toString("latin1", from, from + size);
    this.#answers.push(this.#dialect === "text" ? { ok: true, text } : binaryAnswer(text));
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

/** A binary reply in the words of the text dialect. */
function binaryAnswer(packet: string): ShardAnswer {
  const status = packet.charCodeAt(Header.status) * 256 + packet.charCodeAt(Header.status + 1);
  const value = packet.slice(HEADER_SIZE);
  return { ok: true, text: status === Status.ok ? "OK\r\n" : `SERVER_ERROR ${value}\r\n` };
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
