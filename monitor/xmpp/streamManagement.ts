/**
 * What each side has of the other (XEP-0198): counters of stanzas, and those of ours that the
 * server has not acknowledged. Outlives connections, since a session can be resumed on a new one.
 * Pure. Counters wrap at 2^32 as the specification has them.
 */
import { markup } from "./xml.ts";

/** Stanzas of ours that may wait for an acknowledgement; then sending is refused. */
const UNACKNOWLEDGED_MAX = 1_000;
const DELAY = "urn:xmpp:delay";

export interface Outgoing {
  readonly xml: string;
  /** Of a message that somebody asks after; null for the rest. */
  readonly messageId: string | null;
  readonly sentAtMs: number;
}

export class StreamManagement {
  /** Session that the server would resume; "" when there is none. */
  id = "";
  #outgoing: Outgoing[] = [];
  #acknowledged = 0;
  #handled = 0;

  /** What we have handled of theirs: `h` of our acknowledgements. */
  get handled(): number {
    return this.#handled;
  }

  get unacknowledgedCount(): number {
    return this.#outgoing.length;
  }

  get isFull(): boolean {
    return this.#outgoing.length >= UNACKNOWLEDGED_MAX;
  }

  /** A session that begins: nothing said, nothing heard. */
  begin(id: string): void {
    this.id = id;
    this.#outgoing = [];
    this.#acknowledged = 0;
    this.#handled = 0;
  }

  sent(stanza: Outgoing): void {
    this.#outgoing.push(stanza);
  }

  handledOne(): void {
    this.#handled = (this.#handled + 1) >>> 0;
  }

  /** Those that `h` newly acknowledges; undefined when it counts more than we sent. */
  acknowledge(h: number): Outgoing[] | undefined {
    const count = (h - this.#acknowledged) >>> 0;
    if (!Number.isInteger(h) || count > this.#outgoing.length) return undefined;
    this.#acknowledged = h >>> 0;
    return this.#outgoing.splice(0, count);
  }

  /** The session is over: who knows whether these were delivered. */
  abandon(): Outgoing[] {
    const unsure = this.#outgoing;
    this.begin("");
    return unsure;
  }

  /** What has to be said again on a resumed session, with the time when it was said first. */
  resent(from: string): string[] {
    return this.#outgoing.map(({ xml, sentAtMs }) => {
      const stamp = new Date(sentAtMs).toISOString();
      const delay = markup("delay", { xmlns: DELAY, from, stamp });
      return xml.replace(/<\/message>$/, () => `${delay}</message>`);
    });
  }
}
