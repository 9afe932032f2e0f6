/**
 * One connection to a shard: the loop that frames commands and has them executed, in order, each
 * at once. The dialect is found by the first byte, as memcached does, and kept.
 *
 * A connection whose output is above the high-water mark is read no further until it is drained,
 * in the middle of a retrieval line if need be: what waits for a client that does not read is
 * bounded by the mark, one slab and one value.
 */
import type { Connection } from "../../core/io/connection.ts";
import type { Receiver } from "../../core/io/wire.ts";
import { frameBinary } from "../../core/protocol/binary.ts";
import { COMMANDS, Command } from "../../core/protocol/command.ts";
import { PROBLEMS } from "../../core/protocol/problem.ts";
import { Request, Verdict } from "../../core/protocol/request.ts";
import { frameText } from "../../core/protocol/text.ts";
import { answerBinaryProblem, BINARY_COMMANDS } from "./binary.ts";
import { Counter } from "./counters.ts";
import { META_COMMANDS } from "./meta.ts";
import type { Shard } from "./shard.ts";
import { answerTextProblem, Retrieval, TEXT_COMMANDS } from "./text.ts";

/** One command is framed and executed at a time, so one object serves all sessions. */
const request = new Request();

const EXECUTE = COMMANDS.map((_, command) => META_COMMANDS[command] ?? TEXT_COMMANDS[command]);
const isRetrieval = (command: number): boolean => COMMANDS[command]!.shape === "values";
const isMeta = (command: number): boolean => COMMANDS[command]!.shape === "meta";

export class Session implements Receiver {
  readonly connection: Connection;
  readonly #shard: Shard;
  readonly #closed: (session: Session) => void;
  #dialect: "unknown" | "binary" | "text" = "unknown";
  /** It ends when everything that was read is answered. */
  #isDraining = false;
  /** Nothing more is executed; what was answered is still sent. */
  #isEnding = false;
  /** Announced bytes of a refused command that are still to be dropped. */
  #skipSize = 0;
  #scannedSize = 0;
  /** Bytes of this connection that are counted already. */
  #readSize = 0;
  readonly #retrieval = new Retrieval();

  constructor(
    shard: Shard,
    connect: (receiver: Receiver) => Connection,
    closed: (session: Session) => void,
  ) {
    this.#shard = shard;
    this.#closed = closed;
    this.connection = connect(this);
    shard.connectionCount++;
    shard.store.counters[Counter.total_connections]!++;
  }

  received(bytes: Buffer, from: number, to: number): number {
    const { output, store } = this.#shard;
    store.counters[Counter.bytes_read]! += this.connection.readSize - this.#readSize;
    this.#readSize = this.connection.readSize;
    this.#shard.setTime(this.connection.loop.nowMs);
    output.open(this.connection);
    const sentBefore = output.sentSize;
    let at = from;
    while (at < to && !this.#isEnding) {
      const size = this.#step(bytes, at, to);
      if (size === 0) break;
      at += size;
      if (this.connection.unsentSize > 0 && this.connection.isFull) {
        this.connection.pause();
        break;
      }
    }
    output.send();
    store.counters[Counter.bytes_written]! += output.sentSize - sentBefore;
    if (this.#isEnding) this.#end();
    else this.#endIfDrained();
    return this.#isEnding ? to : at;
  }

  /** Does one thing with what stands at `at`; how many bytes that took, 0 if more must come. */
  #step(bytes: Buffer, at: number, to: number): number {
    const shard = this.#shard;
    if (this.#skipSize > 0) {
      const size = Math.min(this.#skipSize, to - at);
      this.#skipSize -= size;
      return size;
    }
    const begin = shard.output.begin();
    if (this.#retrieval.isOpen) return this.#retrieval.step(shard, bytes, at) - at;
    // No command of text begins with a byte that is not ASCII; a binary one with another magic
    // than a request's is refused at once.
    if (this.#dialect === "unknown") this.#dialect = bytes[at]! < 0x80 ? "text" : "binary";
    const isBinary = this.#dialect === "binary";
    request.scannedSize = this.#scannedSize;
    const verdict = isBinary
      ? frameBinary(request, bytes, at, to)
      : frameText(request, bytes, at, to);
    this.#scannedSize = request.scannedSize;
    if (verdict === Verdict.incomplete) {
      this.connection.sizeNeeded = request.sizeNeeded;
      return 0;
    }
    shard.store.counters[Counter.commands]!++;
    if (verdict === Verdict.refused) return this.#refuse(bytes, begin, to - at);
    if (request.command === Command.quit) this.#isEnding = true;
    if (isBinary) {
      BINARY_COMMANDS[request.command]!(shard, request, bytes);
    } else if (isRetrieval(request.command)) {
      return this.#retrieval.open(shard, request, bytes) ? request.keyAt - at : request.size;
    } else {
      EXECUTE[request.command]?.(shard, request, bytes);
      if (request.quiet && !isMeta(request.command)) shard.output.rewind(begin);
    }
    return request.size;
  }

  #refuse(bytes: Buffer, begin: number, sizeHere: number): number {
    const { output } = this.#shard;
    if (this.#dialect === "binary") {
      answerBinaryProblem(this.#shard, request, bytes);
    } else {
      answerTextProblem(this.#shard, request, bytes);
      if (request.quiet && !isMeta(request.command)) output.rewind(begin);
    }
    if (PROBLEMS[request.problem].closes) this.#isEnding = true;
    const size = Math.min(request.size, sizeHere);
    this.#skipSize = request.size - size;
    return size;
  }

  drained(): void {
    this.connection.resume();
    this.#endIfDrained();
  }

  /** As memcached: the other side's last byte is the end of the session; what came is answered. */
  ended(): void {
    this.drain();
  }

  /** Answers what was read, then closes. */
  drain(): void {
    this.#isDraining = true;
    this.#endIfDrained();
  }

  #endIfDrained(): void {
    if (this.#isDraining && !this.connection.paused && !this.#isEnding) this.#end();
  }

  /** Closes when the answers are with the kernel and the other side has closed, or lingers. */
  #end(): void {
    this.#isEnding = true;
    this.connection.end();
  }

  /** Closes now, answered or not. */
  destroy(): void {
    this.connection.destroy();
  }

  closed(): void {
    this.#shard.connectionCount--;
    this.#closed(this);
  }
}
