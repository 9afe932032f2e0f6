/**
 * The agent's own connection to a memcached: one command after the other, each with a deadline.
 * Once a reply is late the connection is given up, for the next reply would be taken for it.
 */
import type { Connection } from "../../core/io/connection.ts";
import type { Loop } from "../../core/io/loop.ts";
import type { Connecting, Endpoint } from "../../core/io/wire.ts";
import { sleep } from "../../core/runtime/clock.ts";

const REPLY_SIZE_MAX = 1024 * 1024;
const CRLF = "\r\n";
/** What ends a reply: its only line, or the line END (an error is a single line all the same). */
export type Until = "line" | "END";

interface Asked {
  until: Until;
  answer(reply: string): void;
  fail(error: Error): void;
}

export class Control implements Connecting {
  readonly #connection: Connection;
  #waiting: Asked[] = [];
  #text = "";
  #closedFor = "";

  constructor(loop: Loop, endpoint: Endpoint) {
    this.#connection = loop.connect(endpoint, this);
  }

  get isClosed(): boolean {
    return this.#closedFor !== "";
  }

  /** The reply without its last line end. Rejects when none came in time. */
  async ask(command: string, until: Until, limitMs: number): Promise<string> {
    if (this.isClosed) throw new Error(`no connection: ${this.#closedFor}`);
    let isAnswered = false;
    const reply = new Promise<string>((answer, fail) => {
      this.#waiting.push({ until, answer, fail });
    }).finally(() => {
      isAnswered = true;
    });
    const bytes = Buffer.from(command + CRLF, "latin1");
    this.#connection.append(bytes, 0, bytes.length);
    // A turn later than it is due: timers run before reads, and the reply may be here already.
    void sleep(limitMs).then(async () => {
      if (!isAnswered) await sleep(0);
      if (!isAnswered) this.#close(`nothing said for ${limitMs} ms`);
    });
    return reply;
  }

  close(): void {
    this.#close("closed by us");
  }

  #close(reason: string): void {
    if (this.isClosed) return;
    this.#closedFor = reason;
    this.#connection.destroy();
    for (const { fail } of this.#waiting.splice(0)) fail(new Error(reason));
  }

  opened(): void {}
  drained(): void {}

  received(bytes: Buffer, from: number, to: number): number {
    this.#text += bytes.toString("latin1", from, to);
    if (this.#text.length > REPLY_SIZE_MAX) this.#close("reply too large");
    for (let size = this.#replySize(); size > 0; size = this.#replySize()) {
      const reply = this.#text.slice(0, size - CRLF.length);
      this.#text = this.#text.slice(size);
      this.#waiting.shift()?.answer(reply);
    }
    return to;
  }

  /** Size of the reply at the front with its line end; 0 while it is not whole. */
  #replySize(): number {
    const asked = this.#waiting[0];
    const lineEnd = this.#text.indexOf(CRLF);
    if (asked === undefined || lineEnd < 0) return 0;
    const isWhole = asked.until === "line" || !this.#text.startsWith("STAT ");
    if (isWhole) return lineEnd + CRLF.length;
    const end = this.#text.indexOf(`${CRLF}END${CRLF}`);
    return end < 0 ? 0 : end + 2 * CRLF.length + "END".length;
  }

  ended(): void {
    this.#close("ended by the other side");
  }

  closed(reason: string): void {
    this.#close(reason);
  }
}

/** The rows of a `stats` reply. */
export function statsOf(reply: string): Map<string, string> {
  const rows = reply.split(CRLF).map((line) => /^STAT (\S+) (.*)$/.exec(line));
  return new Map(rows.flatMap((row) => (row === null ? [] : [[row[1] ?? "", row[2] ?? ""]])));
}
