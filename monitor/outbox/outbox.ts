/**
 * Carries out what the pager wants: messages over the link, fallback channels, pings; and tells it
 * what came of them. Nothing waits here: what the link cannot take now is told as unsure, and the
 * pager, whose documents are the queue, sends it again. A page is looked up once more before it
 * goes: who acknowledged in the same step is not rung for it.
 */
import { shownId } from "../../core/cluster/incidents.ts";
import type { Logger } from "../../core/runtime/log.ts";
import type { Channel } from "../config/paging.ts";
import { parseMessageId } from "../escalate/messageId.ts";
import type { Effect, Measure, PagerEvent, PagerState } from "../incident/types.ts";
import type { OutgoingMessage, XmppLink } from "../xmpp/link.ts";

/** Pings of one step; each is one of the 50 people's dozen devices. */
const PING_COUNT_MAX = 600;

/** One way beside the link; resolves with what became of it and never rejects. */
export type SendFallback = (message: {
  readonly channel: Channel;
  readonly person: string;
  readonly messageId: string;
  readonly body: string;
  readonly payload: Readonly<Record<string, string>>;
}) => Promise<{ readonly isTaken: boolean; readonly detail: string }>;

export interface OutboxParts {
  /** The link that reaches an address; undefined where none is configured. */
  linkTo(jid: string): XmppLink | undefined;
  readonly sendFallback: SendFallback;
  readonly log: Logger;
  tell(event: PagerEvent): void;
  measured(measure: Measure): void;
  /** Whether this monitor may still speak: asked before each message. */
  maySpeak(): boolean;
}

export class Outbox {
  readonly #parts: OutboxParts;
  /** Messages that were dropped at the last moment, because they were not wanted any more. */
  cancelledCount = 0;
  sentCount = 0;

  constructor(parts: OutboxParts) {
    this.#parts = parts;
  }

  carryOut(effects: readonly Effect[], state: PagerState): void {
    const wanted = wantedPages(state);
    for (const effect of effects) {
      switch (effect.kind) {
        case "send":
          if (wanted(effect.message.id)) this.#send(effect.message, true);
          else this.cancelledCount++;
          break;
        case "reply":
          this.#send(effect.message, false);
          break;
        case "fallback":
          for (const channel of effect.channels) void this.#fallBack(effect, channel);
          break;
        case "ping":
          for (const jid of effect.jids.slice(0, PING_COUNT_MAX)) void this.#ping(jid, effect);
          break;
        case "noted": {
          const { incident, event, person, text } = effect;
          this.#parts.log.info({ incident, event, person, text }, "incident");
          break;
        }
        case "measured":
          this.#parts.measured(effect.measure);
      }
    }
  }

  #send(message: OutgoingMessage, isSentAgain: boolean): void {
    const { maySpeak, tell, log } = this.#parts;
    const link = this.#parts.linkTo(message.to);
    const unsure = (): void => {
      if (isSentAgain) tell({ kind: "unsure", messageId: message.id });
    };
    if (link === undefined || !maySpeak()) return unsure();
    this.sentCount++;
    link.send(message).catch((error: unknown) => {
      log.debug({ err: error, message: message.id }, "not sent");
      unsure();
    });
  }

  async #fallBack(effect: Extract<Effect, { kind: "fallback" }>, channel: Channel): Promise<void> {
    const { sendFallback, tell, log } = this.#parts;
    const { messageId, body, payload, person } = effect;
    const { isTaken, detail } = await sendFallback({
      channel,
      person,
      messageId,
      body,
      payload,
    });
    log[isTaken ? "info" : "warn"]({ message: messageId, person, isTaken, detail }, "fallback");
    tell({ kind: "fellBack", messageId, isTaken, detail });
  }

  async #ping(jid: string, { timeoutMs }: { timeoutMs: number }): Promise<void> {
    const { tell, linkTo } = this.#parts;
    const roundTripMs =
      (await linkTo(jid)
        ?.ping(jid, timeoutMs)
        .catch(() => null)) ?? null;
    tell({ kind: "pinged", jid, roundTripMs });
  }
}

/** Whether a message is still to go, as the documents have it: pages end with their incident. */
function wantedPages(state: PagerState): (messageId: string) => boolean {
  let cancelled: Set<string> | undefined;
  return (messageId) => {
    const parsed = parseMessageId(messageId);
    if (parsed === undefined) return true;
    cancelled ??= cancelledPages(state);
    return !cancelled.has(`${parsed.subject}.${parsed.seq}.${parsed.person}`);
  };
}

function cancelledPages({ incidents }: PagerState): Set<string> {
  const found = new Set<string>();
  for (const incident of Object.values(incidents)) {
    if (incident.state === "open") continue;
    for (const { purpose, state, seq, person } of incident.notifications) {
      if (purpose !== "page" || state !== "cancelled") continue;
      found.add(`${shownId(incident)}.${seq}.${person}`);
    }
  }
  return found;
}
