/**
 * The other direction: what comes over the link becomes events of the pager, with what whoever takes
 * over has to know from before: whether the link is up and which devices are there. Rooms of the
 * policies are entered whenever it comes up.
 */
import type { Logger } from "../../core/runtime/log.ts";
import type { PagingConfig } from "../config/paging.ts";
import type { PagerEvent } from "../incident/types.ts";
import type { MonitorCounters } from "../metrics.ts";
import type { MonitorOptions } from "../options.ts";
import type { XmppEvents, XmppLink } from "../xmpp/link.ts";
import { openXmppLink } from "../xmpp/open.ts";

/** Devices that are remembered; the group of a team has a few dozen. */
const DEVICE_COUNT_MAX = 1_000;

type Presence = Extract<PagerEvent, { kind: "presence" }>;

export interface ReceptionParts {
  readonly options: Pick<MonitorOptions, "name" | "xmpp">;
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
  #link: XmppLink | undefined;

  constructor(parts: ReceptionParts) {
    this.#parts = parts;
  }

  /** The link, not started yet; undefined where none is configured. */
  async open(): Promise<XmppLink | undefined> {
    const { xmpp, name } = this.#parts.options;
    if (xmpp === undefined) return undefined;
    this.#link = await openXmppLink({ ...xmpp, resource: `memward-${name}` });
    return this.#link;
  }

  start(): void {
    this.#link?.start(this.#events());
  }

  async close(): Promise<void> {
    await this.#link?.close();
  }

  facts(): readonly PagerEvent[] {
    const isUp = this.#link?.isUp === true;
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

  #up(): void {
    const { tell, counters, log, paging, options } = this.#parts;
    counters.linkUps++;
    log.info({ account: options.xmpp?.jid }, "the link to the XMPP server is up");
    tell({ kind: "link", isUp: true });
    this.#parts.linkChanged();
    for (const room of roomsOf(paging)) {
      this.#link?.join(room, `memward-${options.name}`).catch((error: unknown) => {
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

function roomsOf({ policies }: PagingConfig): Set<string> {
  const rooms = Object.values(policies).flatMap(({ levels }) => levels.map(({ room }) => room));
  return new Set(rooms.filter((room) => room !== null));
}
