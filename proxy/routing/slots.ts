/**
 * One slot for each command that awaits a reply, as a struct of arrays: no object, closure or
 * promise per command. A slot stands in two queues at once:
 *
 *     session  (order of commands)   head -> slot -> slot -> slot <- tail     ReplyQueue
 *     link     (order of replies)    fifo: slot, slot, slot                   Link
 *
 * A gathered command (a multi-get over several shards) has one slot in the session's queue and,
 * for each shard, one in that shard's link; a `Gather` joins them. A slot has one owner and is
 * freed once, by whoever settles it.
 */
import type { Gather } from "./gather.ts";
import type { ReplyQueue } from "./replies.ts";

export const SLOT_COUNT_MAX = 64 * 1024;

export const SlotState = { free: 0, waiting: 1, settled: 2 } as const;

/** What `quiet` keeps to itself. */
export const Quiet = {
  no: 0,
  /** Text noreply: everything. */
  all: 1,
  /** Meta q: the nominal result. */
  meta: 2,
  /** Binary: misses of gets, success of the others. */
  binary: 3,
} as const;

export class Slots {
  readonly state: Uint8Array = new Uint8Array(SLOT_COUNT_MAX);
  readonly command: Uint8Array = new Uint8Array(SLOT_COUNT_MAX);
  readonly quiet: Uint8Array = new Uint8Array(SLOT_COUNT_MAX);
  /** Binary: the opcode and opaque that the client sent. */
  readonly opcode: Uint8Array = new Uint8Array(SLOT_COUNT_MAX);
  readonly opaque: Uint32Array = new Uint32Array(SLOT_COUNT_MAX);
  /** Keys asked for: 1, or the keys of a retrieval. */
  readonly keyCount: Uint16Array = new Uint16Array(SLOT_COUNT_MAX);
  /** Bytes to take off the key that the reply repeats, if any; and the size of the stored key. */
  readonly prefixSize: Uint8Array = new Uint8Array(SLOT_COUNT_MAX);
  readonly keySize: Uint8Array = new Uint8Array(SLOT_COUNT_MAX);
  readonly startedAtMs: Float64Array = new Float64Array(SLOT_COUNT_MAX);
  /** Next in the session's queue, or next free. */
  readonly next: Int32Array = new Int32Array(SLOT_COUNT_MAX);
  /** What joins the parts of this command; and which part this is. */
  readonly gather: (Gather | null)[] = [];
  readonly part: Uint16Array = new Uint16Array(SLOT_COUNT_MAX);
  /** The held reply of a settled slot that waits for its turn: in the stash, or a buffer. */
  readonly heldAt: Int32Array = new Int32Array(SLOT_COUNT_MAX);
  readonly heldSize: Int32Array = new Int32Array(SLOT_COUNT_MAX);
  readonly held: (Buffer | null)[] = [];
  /** Whose command it is; null when the client has gone, or for commands of our own. */
  readonly queue: (ReplyQueue | null)[] = [];
  #freeHead = -1;
  #usedMax = 0;
  usedCount = 0;

  /** Room for `count` more. */
  hasRoom(count: number): boolean {
    return this.usedCount + count <= SLOT_COUNT_MAX;
  }

  /** Takes a slot; the caller made sure with `hasRoom`. */
  open(queue: ReplyQueue | null, command: number, nowMs: number): number {
    let slot = this.#freeHead;
    if (slot >= 0) {
      this.#freeHead = this.next[slot]!;
    } else {
      slot = this.#usedMax++;
      this.held.push(null);
      this.queue.push(null);
      this.gather.push(null);
    }
    this.usedCount++;
    this.state[slot] = SlotState.waiting;
    this.command[slot] = command;
    this.quiet[slot] = Quiet.no;
    this.keyCount[slot] = 1;
    this.prefixSize[slot] = 0;
    this.startedAtMs[slot] = nowMs;
    this.next[slot] = -1;
    this.heldSize[slot] = 0;
    this.queue[slot] = queue;
    return slot;
  }

  free(slot: number): void {
    this.state[slot] = SlotState.free;
    this.queue[slot] = null;
    this.gather[slot] = null;
    this.held[slot] = null;
    this.next[slot] = this.#freeHead;
    this.#freeHead = slot;
    this.usedCount--;
  }
}
