/**
 * All ways to people, and what comes back on them: the link, the account elsewhere and the webhooks.
 * What comes becomes events of the pager, with what whoever takes over has to know from before:
 * whether the link is up and which devices are there. Rooms are entered whenever it comes up.
 */
import type { Logger } from "../../core/runtime/log.ts";
import type { PagingConfig } from "../config/paging.ts";
import type { Fallback } from "../fallback/fallback.ts";
import { Webhook } from "../fallback/webhook.ts";
import { XmppFallback } from "../fallback/xmppFallback.ts";
import type { PagerEvent } from "../incident/types.ts";
import type { MonitorCounters } from "../metrics.ts";
import type { MonitorOptions } from "../options.ts";
import { bareJid } from "../xmpp/jid.ts";
import type { XmppEvents, XmppLink } from "../xmpp/link.ts";
import { openXmppLink } from "../xmpp/open.ts";
import type { SendFallback } from "./outbox.ts";

/** Devices that are remembered; the group of a team has a few dozen. */
const DEVICE_COUNT_MAX = 1_000;

type Presence = Extract<PagerEvent, { kind: "presence" }>;

export interface ReceptionParts {
  readonly options: Pick<MonitorOptions, "name" | "xmpp" | "fallbackXmpp" | "webhooks">;
  readonly paging: PagingConfig;
  readonly counters: MonitorCounters;
  readonly log: Logger;
  tell(event: PagerEvent): void;
  /** The link came up or went down. */
  linkChanged(): void;
}

export class Reception {
  readonly #parts: ReceptionParts;
  readonly #present = new Map<string, Presence>();
  readonly #webhooks = new Map<string, Fallback>();
  readonly #linkElsewhere: XmppLink | undefined;
  readonly #elsewhere: XmppFallback | undefined;
  /** Bare JIDs that are reached over the account elsewhere. */
  readonly #jidsElsewhere: ReadonlySet<string>;
  /** Undefined where none is configured. */
  readonly link: XmppLink | undefined;

  private constructor(
    parts: ReceptionParts,
    links: { link: XmppLink | undefined; elsewhere: XmppLink | undefined },
  ) {
    this.#parts = parts;
    this.link = links.link;
    this.#linkElsewhere = links.elsewhere;
    if (links.elsewhere !== undefined) {
      this.#elsewhere = new XmppFallback("fallbackXmpp", links.elsewhere);
    }
    for (const [name, options] of Object.entries(parts.options.webhooks)) {
      this.#webhooks.set(name, new Webhook({ name, options }));
    }
    this.#jidsElsewhere = new Set(jidsElsewhere(parts.paging));
  }

  /** Nothing is connected before `start`. What XMPP costs is loaded where it is configured. */
  static async open(parts: ReceptionParts): Promise<Reception> {
    const { xmpp, fallbackXmpp, name } = parts.options;
    const resource = `memward-${name}`;
    const people = Object.values(parts.paging.people).map(({ jid }) => jid);
    const contacts = [...people, ...jidsElsewhere(parts.paging)];
    const open = (account: typeof xmpp) =>
      account && openXmppLink({ ...account, resource, contacts });
    return new Reception(parts, { link: await open(xmpp), elsewhere: await open(fallbackXmpp) });
  }

  start(): void {
    this.link?.start(this.#events());
    this.#elsewhere?.start(this.#eventsElsewhere());
  }

  async close(): Promise<void> {
    const ways = [this.link, this.#elsewhere, ...this.#webhooks.values()];
    await Promise.all(ways.map((way) => way?.close()));
  }

  /** Who wrote to us over the account elsewhere is answered there. */
  linkTo(jid: string): XmppLink | undefined {
    return this.#jidsElsewhere.has(bareJid(jid)) ? this.#linkElsewhere : this.link;
  }

  readonly sendFallback: SendFallback = async ({ channel, messageId, body, payload, person }) => {
    const isXmpp = "xmpp" in channel;
    const way = isXmpp ? this.#elsewhere : this.#webhooks.get(channel.webhook);
    const name = isXmpp ? `xmpp ${channel.xmpp}` : `webhook ${channel.webhook}`;
    if (way === undefined) return { isTaken: false, detail: `${name}: not configured` };
    const to = isXmpp ? channel.xmpp : person;
    const outcome = await way.send({ id: messageId, to, body, payload });
    if (outcome.ok) return { isTaken: true, detail: `${name} after ${Math.round(outcome.ms)} ms` };
    return { isTaken: false, detail: `${name}: ${outcome.failure} ${outcome.detail}`.trim() };
  };

  /** To the owner of a cache: an XMPP address or a URL of theirs. */
  async sendToOwner(message: { target: string; id: string; body: string }): Promise<boolean> {
    const { target, id, body } = message;
    if (!target.startsWith("xmpp:")) {
      const webhook = new Webhook({ name: "owner", options: { url: target } });
      const outcome = await webhook.send({ id, to: "owner", body });
      return outcome.ok;
    }
    if (this.link === undefined) return false;
    const to = target.slice("xmpp:".length);
    const sending = this.link.send({ id, to, body, wantsReceipt: false, isRoom: false });
    return sending.then(
      () => true,
      () => false,
    );
  }

  facts(): readonly PagerEvent[] {
    const isUp = this.link?.isUp === true;
    return [{ kind: "link", isUp }, ...(isUp ? this.#present.values() : [])];
  }

  #events(): XmppEvents {
    const { tell, counters, log } = this.#parts;
    return {
      up: () => this.#up(),
      down: (reason, detail) => {
        log.warn({ reason, detail }, "the link to the XMPP server is down");
        tell({ kind: "link", isUp: false });
        this.#parts.linkChanged();
      },
      accepted: (messageId) => tell({ kind: "accepted", messageId }),
      unsure: (messageId) => tell({ kind: "unsure", messageId }),
      received: (from, messageId) => tell({ kind: "delivered", messageId, from }),
      displayed: (from, messageId) => tell({ kind: "displayed", messageId, from }),
      bounced: (from, messageId, condition) =>
        tell({ kind: "bounced", messageId, from, condition }),
      text: (message) => tell({ kind: "text", message }),
      presence: (from, priority, show) => this.#seen({ kind: "presence", from, priority, show }),
      ignored: (reason) => counters.measured({ name: "ignored", reason }),
    };
  }

  /** Of that account only what people say counts: its messages are sent and resent on their own. */
  #eventsElsewhere(): XmppEvents {
    const { log } = this.#parts;
    const { received, displayed, text, ignored } = this.#events();
    return {
      received,
      displayed,
      text,
      ignored,
      up: () => log.info("the link to the fallback XMPP server is up"),
      down: (reason, detail) => {
        log.warn({ reason, detail }, "the link to the fallback XMPP server is down");
      },
      accepted: () => {},
      unsure: () => {},
      bounced: () => {},
      presence: () => {},
    };
  }

  #up(): void {
    const { tell, counters, log, paging, options } = this.#parts;
    counters.linkUps++;
    log.info({ account: options.xmpp?.jid }, "the link to the XMPP server is up");
    tell({ kind: "link", isUp: true });
    this.#parts.linkChanged();
    for (const room of roomsOf(paging)) {
      this.link?.join(room, `memward-${options.name}`).catch((error: unknown) => {
        log.warn({ err: error, room }, "the room cannot be entered");
      });
    }
  }

  #seen(presence: Presence): void {
    const { from, priority } = presence;
    if (priority === null) this.#present.delete(from);
    else if (this.#present.has(from) || this.#present.size < DEVICE_COUNT_MAX) {
      this.#present.set(from, presence);
    }
    this.#parts.tell(presence);
  }
}

function* jidsElsewhere({ people }: PagingConfig): Generator<string> {
  for (const { fallback } of Object.values(people)) {
    for (const channel of fallback) if ("xmpp" in channel) yield bareJid(channel.xmpp);
  }
}

function roomsOf({ policies }: PagingConfig): Set<string> {
  const rooms = Object.values(policies).flatMap(({ levels }) => levels.map(({ room }) => room));
  return new Set(rooms.filter((room) => room !== null));
}
