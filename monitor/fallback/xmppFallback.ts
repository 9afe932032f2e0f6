/**
 * A second XMPP server, run by somebody else: another link, always connected, so that the moment
 * it is needed is not the moment its password turns out to be wrong. A message counts as taken when
 * that server has acknowledged it; receipts and answers go to the same events as the first link's.
 */
import { clock } from "../../core/runtime/clock.ts";
import type { XmppEvents, XmppLink } from "../xmpp/link.ts";
import type { Fallback, FallbackFailure, Notice, Outcome } from "./fallback.ts";

const TAKEN_MS_MAX = 10_000;
const IN_FLIGHT_MAX = 256;

type Ending = { ok: true } | { ok: false; failure: FallbackFailure; detail: string };

interface Waiting {
  readonly notice: Notice;
  readonly timer: NodeJS.Timeout;
  isSent: boolean;
  end(ending: Ending): void;
}

export class XmppFallback implements Fallback {
  readonly name: string;
  readonly #link: XmppLink;
  readonly #takenMsMax: number;
  readonly #waiting = new Map<string, Waiting>();

  constructor(name: string, link: XmppLink, takenMsMax: number = TAKEN_MS_MAX) {
    this.name = name;
    this.#link = link;
    this.#takenMsMax = takenMsMax;
  }

  /** Starts the link; everything it tells is passed on to `events`. */
  start(events: XmppEvents): void {
    this.#link.start({
      ...passedOn(events),
      up: () => {
        events.up();
        for (const waiting of this.#waiting.values()) this.#hand(waiting);
      },
      accepted: (id) => {
        this.#waiting.get(id)?.end({ ok: true });
        events.accepted(id);
      },
      unsure: (id) => {
        // Once more, with the same id: twice is better than never.
        const waiting = this.#waiting.get(id);
        if (waiting !== undefined) waiting.isSent = false;
        if (waiting !== undefined && this.#link.isUp) this.#hand(waiting);
        events.unsure(id);
      },
      bounced: (from, id, condition) => {
        this.#waiting.get(id)?.end({ ok: false, failure: "refused", detail: condition });
        events.bounced(from, id, condition);
      },
    });
  }

  send(notice: Notice): Promise<Outcome> {
    if (this.#waiting.size >= IN_FLIGHT_MAX || this.#waiting.has(notice.id)) {
      return Promise.resolve({ ok: false, failure: "busy", detail: notice.id });
    }
    const startedAtMs = clock.nowMs();
    return new Promise((resolve) => {
      const waiting: Waiting = {
        notice,
        isSent: false,
        timer: setTimeout(() => waiting.end(this.#late(waiting)), this.#takenMsMax),
        end: (ending) => {
          clearTimeout(waiting.timer);
          this.#waiting.delete(notice.id);
          const ms = clock.nowMs() - startedAtMs;
          resolve(ending.ok ? { ok: true, ms, attemptCount: 1 } : ending);
        },
      };
      this.#waiting.set(notice.id, waiting);
      if (this.#link.isUp) this.#hand(waiting);
    });
  }

  async close(): Promise<void> {
    await this.#link.close();
    for (const { end } of this.#waiting.values()) {
      end({ ok: false, failure: "stopped", detail: "" });
    }
  }

  #hand(waiting: Waiting): void {
    if (waiting.isSent) return;
    waiting.isSent = true;
    const message = { ...waiting.notice, wantsReceipt: true, isRoom: false };
    // What cannot be handed over now is handed over when the link is up again.
    this.#link.send(message).catch(() => {
      waiting.isSent = false;
    });
  }

  #late({ isSent }: Waiting): Ending {
    if (isSent) return { ok: false, failure: "timed_out", detail: "not acknowledged" };
    return { ok: false, failure: "unreachable", detail: "the second link is down" };
  }
}

function passedOn(events: XmppEvents): XmppEvents {
  return {
    up: () => events.up(),
    down: (reason, detail) => events.down(reason, detail),
    accepted: (id) => events.accepted(id),
    unsure: (id) => events.unsure(id),
    received: (from, id) => events.received(from, id),
    displayed: (from, id) => events.displayed(from, id),
    bounced: (from, id, condition) => events.bounced(from, id, condition),
    text: (message) => events.text(message),
    presence: (from, priority, show) => events.presence(from, priority, show),
    ignored: (reason) => events.ignored(reason),
  };
}
