/** What a link told, in order, and waiting for it. */
import { setTimeout as sleep } from "node:timers/promises";
import type { XmppEvents } from "../../../monitor/xmpp/link.ts";

const DEADLINE_MS = 15_000;

export class Observed implements XmppEvents {
  readonly lines: string[] = [];
  readonly atMs: number[] = [];

  up = () => this.#told("up");
  down = (reason: string, detail: string) => this.#told(`down ${reason} ${detail}`);
  accepted = (id: string) => this.#told(`accepted ${id}`);
  unsure = (id: string) => this.#told(`unsure ${id}`);
  received = (from: string, id: string) => this.#told(`received ${from} ${id}`);
  displayed = (from: string, id: string) => this.#told(`displayed ${from} ${id}`);
  bounced = (from: string, id: string, condition: string) =>
    this.#told(`bounced ${from} ${id} ${condition}`);
  text: XmppEvents["text"] = ({ from, body, delayedAtMs, isRoom }) =>
    this.#told(`text ${from} ${isRoom} ${delayedAtMs === null ? "fresh" : "delayed"} ${body}`);
  presence = (from: string, priority: number | null, show: string) =>
    this.#told(`presence ${from} ${priority} ${show}`);
  ignored = (reason: string) => this.#told(`ignored ${reason}`);

  #told(line: string): void {
    this.lines.push(line.trim());
    this.atMs.push(performance.now());
  }

  count(pattern: RegExp): number {
    return this.lines.filter((line) => pattern.test(line)).length;
  }

  /** The index behind the line that fits, at or after `from`. */
  async until(pattern: RegExp, { from = 0, count = 1 } = {}): Promise<number> {
    const deadline = Date.now() + DEADLINE_MS;
    const found = () =>
      this.lines.flatMap((line, index) => (index >= from && pattern.test(line) ? [index] : []));
    while (found().length < count) {
      if (Date.now() > deadline) {
        throw new Error(`waited for ${pattern}; told:\n${this.lines.join("\n")}`);
      }
      await sleep(5);
    }
    return (found()[count - 1] ?? 0) + 1;
  }
}
