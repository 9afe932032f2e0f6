/**
 * A link without a network: what becomes of each message is scripted by its addressee, and told in
 * an order that the test decides. Time moves by `advance`; with `isLive` it moves by itself.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { bareJid, resourceOf } from "../../monitor/xmpp/jid.ts";
import type { DownReason, OutgoingMessage, XmppEvents, XmppLink } from "../../monitor/xmpp/link.ts";

export const BEHAVIOURS = [
  /** Accepted, and a receipt of one device. */
  "receipt",
  /** As before, and then it was displayed. */
  "displayed",
  /** Accepted; a device that is dead or frozen says nothing. */
  "silence",
  /** Accepted, then an error stanza with our id. */
  "bounce",
  /** The session is lost, and with it all knowledge of the message; it was not delivered. */
  "unsure",
  /** As before, but it had been delivered: the receipt was lost with the server. */
  "unsureDelivered",
  /** Two receipts, from two devices. */
  "duplicate",
  /** A receipt after everybody has stopped waiting. */
  "late",
  /** Receipts of two messages come the other way round. */
  "reordered",
  /** `send` rejects. */
  "rejects",
] as const;
export type Behaviour = (typeof BEHAVIOURS)[number];

const ACCEPTED_AFTER_MS = 1;
const RECEIPT_AFTER_MS = 5;
const LATE_AFTER_MS = 31_000;

type Due = { atMs: number; run: (events: XmppEvents) => void };

export class FakeLink implements XmppLink {
  /** Everything that was handed over, in order; also what then got lost. */
  readonly sent: OutgoingMessage[] = [];
  /** What people have on their screens, by bare JID. */
  readonly delivered = new Map<string, OutgoingMessage[]>();
  /** Milliseconds that pings of this full or bare JID take; null and unknown: no answer. */
  readonly pings = new Map<string, number | null>();
  readonly rooms = new Set<string>();
  isUp = false;
  isClosed = false;
  readonly #behaviours = new Map<string, Behaviour>();
  readonly #isLive: boolean;
  readonly #isUpAtOnce: boolean;
  #events: XmppEvents | undefined;
  #due: Due[] = [];
  #nowMs = 0;
  #held: OutgoingMessage[] = [];
  #saidCount = 0;

  constructor({ isLive = false, isUp = true }: { isLive?: boolean; isUp?: boolean } = {}) {
    this.#isLive = isLive;
    this.#isUpAtOnce = isUp;
  }

  /** From now on, for messages to this address (bare or full; full counts first), or to all. */
  behave(jid: string | "*", behaviour: Behaviour): void {
    this.#behaviours.set(jid, behaviour);
  }

  start(events: XmppEvents): void {
    this.#events = events;
    if (this.#isUpAtOnce) this.#after(0, () => this.comeUp());
  }

  comeUp(): void {
    if (this.isUp || this.isClosed) return;
    this.isUp = true;
    this.#events?.up();
  }

  goDown(reason: DownReason = "closed", detail = "scripted"): void {
    if (!this.isUp) return;
    this.isUp = false;
    this.#events?.down(reason, detail);
  }

  async send(message: OutgoingMessage): Promise<void> {
    const behaviour = this.#behaviourFor(message.to);
    if (!this.isUp || behaviour === "rejects") throw new Error("the XMPP link is down");
    this.sent.push(message);
    this.#follow(message, message.isRoom && behaviour === "receipt" ? "silence" : behaviour);
  }

  async ping(jid: string, timeoutMs: number): Promise<number | null> {
    const ms = this.pings.get(jid) ?? this.pings.get(bareJid(jid)) ?? null;
    return !this.isUp || ms === null || ms > timeoutMs ? null : ms;
  }

  async join(room: string): Promise<void> {
    if (this.#behaviourFor(room) === "rejects") throw new Error(`${room} refused: forbidden`);
    this.rooms.add(bareJid(room));
  }

  async close(): Promise<void> {
    this.isClosed = true;
    this.goDown("stopped", "");
    this.#due = [];
  }

  /** Somebody writes to us: a person, a stranger, a room, an error of no message of ours. */
  say(
    from: string,
    body: string,
    more: { id?: string; delayedAtMs?: number | null; isRoom?: boolean } = {},
  ): string {
    this.#saidCount += 1;
    const { id = `said-${this.#saidCount}`, delayedAtMs = null, isRoom = false } = more;
    this.#events?.text({ id, from, body, delayedAtMs, isRoom });
    return id;
  }

  presence(from: string, priority: number | null, show = ""): void {
    this.#events?.presence(from, priority, show);
  }

  /** Any event, as it comes. */
  tell(run: (events: XmppEvents) => void): void {
    if (this.#events !== undefined) run(this.#events);
  }

  /** Time passes; what is due is told in its order. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const next = this.#due.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#due.splice(this.#due.indexOf(next), 1);
      this.#nowMs = next.atMs;
      this.tell(next.run);
    }
    this.#nowMs = untilMs;
  }

  #follow(message: OutgoingMessage, behaviour: Behaviour): void {
    const { id, to } = message;
    const device = resourceOf(to) === "" ? `${to}/phone` : to;
    const receipt = (from: string, afterMs: number) =>
      this.#after(afterMs, (events) => {
        this.#deliver(message);
        if (message.wantsReceipt) events.received(from, id);
      });
    if (behaviour === "unsure" || behaviour === "unsureDelivered") {
      if (behaviour === "unsureDelivered") this.#deliver(message);
      this.#after(ACCEPTED_AFTER_MS, () => this.goDown());
      this.#after(RECEIPT_AFTER_MS, (events) => {
        events.unsure(id);
        this.comeUp();
      });
      return;
    }
    this.#after(ACCEPTED_AFTER_MS, (events) => events.accepted(id));
    if (message.isRoom) this.#deliver(message);
    switch (behaviour) {
      case "receipt":
        return receipt(device, RECEIPT_AFTER_MS);
      case "displayed":
        receipt(device, RECEIPT_AFTER_MS);
        return this.#after(2 * RECEIPT_AFTER_MS, (events) => events.displayed(device, id));
      case "bounce":
        return this.#after(RECEIPT_AFTER_MS, (events) =>
          events.bounced(bareJid(to), id, "service-unavailable"),
        );
      case "duplicate":
        receipt(device, RECEIPT_AFTER_MS);
        return this.#after(2 * RECEIPT_AFTER_MS, (events) =>
          events.received(`${bareJid(to)}/laptop`, id),
        );
      case "late":
        return receipt(device, LATE_AFTER_MS);
      case "reordered":
        return this.#hold(message);
    }
  }

  /** The receipt of the first of two comes after that of the second. */
  #hold(message: OutgoingMessage): void {
    this.#held.push(message);
    if (this.#held.length < 2) return;
    for (const [index, { id, to }] of this.#held.reverse().entries()) {
      this.#after(RECEIPT_AFTER_MS + index, (events) =>
        events.received(`${bareJid(to)}/phone`, id),
      );
    }
    for (const one of this.#held) this.#deliver(one);
    this.#held = [];
  }

  #deliver(message: OutgoingMessage): void {
    const person = bareJid(message.to);
    this.delivered.set(person, [...(this.delivered.get(person) ?? []), message]);
  }

  #behaviourFor(jid: string): Behaviour {
    const names = [jid, bareJid(jid), "*"];
    return names.map((one) => this.#behaviours.get(one)).find((one) => one) ?? "receipt";
  }

  #after(ms: number, run: Due["run"]): void {
    if (!this.#isLive) this.#due.push({ atMs: this.#nowMs + ms, run });
    else void sleep(ms, undefined, { ref: false }).then(() => !this.isClosed && this.tell(run));
  }
}
