/**
 * `XmppLink` over XMPP: one session after the other of one account, with growing pauses between
 * those that fail, and what outlives a session: its counters (so that it is resumed and nothing is
 * said twice), rooms, devices, pings. Incoming stanzas become events here.
 */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { clock, sleep } from "../../core/runtime/clock.ts";
import { type Random, random, secureBytes } from "../../core/runtime/random.ts";
import type { XmppOptions } from "../config/schema.ts";
import { readSecretFile } from "../secretFile.ts";
import { bareJid, parseBareJid } from "./jid.ts";
import type { DownReason, OutgoingMessage, XmppEvents, XmppLink } from "./link.ts";
import { Session, TIMINGS, type Timings } from "./session.ts";
import {
  AVAILABLE,
  answerMarkup,
  approvalMarkups,
  enterRoomMarkup,
  type Heard,
  hear,
  isPing,
  messageMarkup,
  openRoomMarkup,
  pingMarkup,
  receiptMarkup,
} from "./stanzas.ts";
import { StreamManagement } from "./streamManagement.ts";
import type { Element } from "./xml.ts";

const DELAY_MS_MIN = 100;
const DELAY_MS_MAX = 5_000;
/**
 * Longest pauses by what went wrong. A port that refuses costs nobody anything, and pages are due as
 * soon as it opens; what only a person can repair must not look like an attack.
 */
const DELAY_MS_MAX_FOR: Partial<Record<DownReason, number>> = {
  unreachable: 800,
  not_authorized: 30_000,
  no_mechanism: 30_000,
  no_stream_management: 30_000,
};
/** After these the session is over: resumed, it would go on with what ended it. */
const NEVER_RESUMED: ReadonlySet<DownReason> = new Set([
  "stopped",
  "malformed",
  "too_large",
  "conflict",
]);
/**
 * A session that lasted so long was a good one: the next pause is the shortest again. One that came
 * up at all shows that the server is there: the next pause is at most 0.8 s.
 */
const GOOD_SESSION_MS_MIN = 5_000;
const ATTEMPT_AFTER_SESSION_MAX = 3;
const ASKED_MAX = 256;
const DEVICES_MAX = 10_000;
const ROOMS_MAX = 16;
const JOIN_MS_MAX = 5_000;
/** We were thrown out of a room, or it has ended: knocked at again after this. */
const REJOIN_MS = 30_000;
/** How long a link that is closed waits for the server to acknowledge what it has. */
const LAST_ACKNOWLEDGEMENT_MS_MAX = 1_000;
const LOOK_INTERVAL_MS = 20;

export interface XmppClientOptions extends XmppOptions {
  /** What tells this process from others of the account; one of before is taken over. */
  readonly resource?: string | undefined;
  /** Bare addresses that may see whether we are there, when they ask; others are not answered. */
  readonly contacts?: readonly string[] | undefined;
  readonly timings?: Partial<Timings>;
  readonly random?: Random;
}

interface Request {
  readonly jid: string;
  readonly id: string;
  readonly xml: string;
  readonly timeoutMs: number;
}

interface Asked {
  readonly jid: string;
  readonly startedAtMs: number;
  readonly timer: NodeJS.Timeout;
  resolve(ms: number | null): void;
}

interface Room {
  readonly nick: string;
  joining: { resolve(): void; reject(error: Error): void } | undefined;
  retry: NodeJS.Timeout | undefined;
}

export class XmppClient implements XmppLink {
  readonly #options: XmppClientOptions;
  readonly #management = new StreamManagement();
  readonly #asked = new Map<string, Asked>();
  readonly #rooms = new Map<string, Room>();
  readonly #nicks = new Map<string, string>();
  /** Full JIDs that are available, as far as we were told. */
  readonly #devices = new Set<string>();
  #events: XmppEvents | undefined;
  #session: Session | undefined;
  #resource: string;
  #jid = "";
  #retry: NodeJS.Timeout | undefined;
  #attempt = 0;
  #upSinceMs = 0;
  #toldReason: DownReason | undefined;
  #isClosed = false;
  #closed = Promise.withResolvers<void>();
  #idCount = 0;

  constructor(options: XmppClientOptions) {
    this.#options = options;
    this.#resource = options.resource ?? randomResource();
  }

  start(events: XmppEvents): void {
    if (this.#events !== undefined) throw new Error("a link is started once");
    this.#events = events;
    this.#connect();
  }

  get isUp(): boolean {
    return this.#session?.isUp === true;
  }

  /** Ours, with the resource, as of the last login; "" before the first. */
  get jid(): string {
    return this.#jid;
  }

  async send(message: OutgoingMessage): Promise<void> {
    const session = this.#session;
    if (session === undefined || !session.isUp) throw new Error("the XMPP link is down");
    if (this.#management.isFull) throw new Error("too many messages wait for the XMPP server");
    session.send(messageMarkup(message), message.id);
  }

  ping(jid: string, timeoutMs: number): Promise<number | null> {
    const id = this.#nextId("ping");
    return this.#ask({ jid, id, xml: pingMarkup(jid, id), timeoutMs });
  }

  async join(room: string, nick: string): Promise<void> {
    const key = bareJid(room);
    if (this.#rooms.size >= ROOMS_MAX && !this.#rooms.has(key)) throw new Error("too many rooms");
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#rooms.get(key)?.joining?.reject(new Error("joined again meanwhile"));
    clearTimeout(this.#rooms.get(key)?.retry);
    this.#rooms.set(key, { nick, joining: { resolve, reject }, retry: undefined });
    this.#nicks.set(key, nick);
    // While down it is entered at the next login, whenever that is.
    if (this.isUp) this.#enter(key);
    const timer = setTimeout(() => reject(new Error(`no answer from ${room}`)), JOIN_MS_MAX);
    return promise.finally(() => clearTimeout(timer));
  }

  async close(): Promise<void> {
    if (this.#isClosed) return this.#closed.promise;
    this.#isClosed = true;
    clearTimeout(this.#retry);
    for (const { joining, retry } of this.#rooms.values()) {
      joining?.reject(new Error("the link is closed"));
      clearTimeout(retry);
    }
    const session = this.#session;
    if (session === undefined) {
      this.#closed.resolve();
      return;
    }
    session.ask();
    const deadlineMs = clock.nowMs() + LAST_ACKNOWLEDGEMENT_MS_MAX;
    while (session.isUp && this.#management.unacknowledgedCount > 0) {
      if (clock.nowMs() > deadlineMs) break;
      await sleep(LOOK_INTERVAL_MS);
    }
    session.close();
    return this.#closed.promise;
  }

  #connect(): void {
    if (this.#isClosed) return;
    const { jid, passwordFile, caFile, port } = this.#options;
    const { local, domain } = parseBareJid(jid) ?? { local: "", domain: "" };
    const password = readSecretFile(passwordFile);
    if (!password.ok) return this.#failed("password_file", password.problem);
    const ca =
      caFile === undefined ? { ok: true as const, text: undefined } : readAuthority(caFile);
    if (!ca.ok) return this.#failed("certificate", ca.problem);
    this.#session = new Session(
      {
        host: this.#options.host ?? domain,
        port,
        domain,
        local,
        password: password.text,
        ca: ca.text,
        resource: this.#resource,
        timings: { ...TIMINGS, ...this.#options.timings },
        management: this.#management,
        presence: AVAILABLE,
      },
      {
        up: (own, isResumed) => this.#up(own, isResumed),
        stanza: (stanza) => this.#heard(stanza),
        skipped: () => this.#events?.ignored("too_large"),
        accepted: (id) => this.#events?.accepted(id),
        unsure: (id) => this.#events?.unsure(id),
        ended: (reason, detail) => this.#ended(reason, detail),
      },
      this.#jid,
    );
  }

  #up(jid: string, isResumed: boolean): void {
    this.#jid = jid;
    this.#upSinceMs = clock.nowMs();
    this.#toldReason = undefined;
    if (!isResumed) {
      // A new session is told of those who are there, not of those who went meanwhile.
      for (const device of this.#devices) this.#events?.presence(device, null, "");
      this.#devices.clear();
      for (const room of this.#rooms.keys()) this.#enter(room);
    }
    this.#events?.up();
  }

  #ended(reason: DownReason, detail: string): void {
    if (this.#upSinceMs !== 0) {
      const wasGood = clock.nowMs() - this.#upSinceMs >= GOOD_SESSION_MS_MIN;
      this.#attempt = wasGood ? 0 : Math.min(this.#attempt, ATTEMPT_AFTER_SESSION_MAX);
    }
    this.#upSinceMs = 0;
    this.#session = undefined;
    for (const id of [...this.#asked.keys()]) this.#answered(id, null);
    // Two of one resource would throw each other out for ever.
    if (reason === "conflict") this.#resource = randomResource();
    if (this.#management.id === "" || NEVER_RESUMED.has(reason)) {
      for (const { messageId } of this.#management.abandon()) {
        if (messageId !== null) this.#events?.unsure(messageId);
      }
    }
    this.#failed(reason, detail);
  }

  #failed(reason: DownReason, detail: string): void {
    if (this.#toldReason !== reason) this.#events?.down(reason, detail);
    this.#toldReason = reason;
    if (this.#isClosed) return this.#closed.resolve();
    const delayMs = retryDelayMs(this.#attempt, reason, this.#options.random ?? random);
    this.#attempt += 1;
    this.#retry = setTimeout(() => this.#connect(), delayMs);
  }

  #heard(stanza: Element): void {
    this.#act(hear(stanza, { jid: this.#jid, rooms: this.#nicks }), stanza);
  }

  #act(heard: Heard, stanza: Element): void {
    const events = this.#events;
    switch (heard.kind) {
      case "ignored":
        return events?.ignored(heard.reason);
      case "received":
        return events?.received(heard.from, heard.id);
      case "displayed":
        return events?.displayed(heard.from, heard.id);
      case "bounced":
        return events?.bounced(heard.from, heard.id, heard.condition);
      case "text": {
        const { from, id } = heard.message;
        // A receipt shows that we are there: for those who may see that (XEP-0184, 8).
        if (heard.wantsReceipt && this.#devices.has(from)) this.#say(receiptMarkup(from, id));
        return events?.text(heard.message);
      }
      case "subscribe":
        return this.#subscribe(heard.from);
      case "presence":
        return this.#presence(heard.from, heard.priority, heard.show);
      case "entered":
        return this.#entered(heard.room, heard.isNew);
      case "leftRoom":
        return this.#leftRoom(heard.room, heard.condition);
      case "request":
        return this.#request(stanza);
      case "reply":
        return this.#reply(heard.from, heard.id, heard.condition);
    }
  }

  #subscribe(from: string): void {
    const isContact = this.#options.contacts?.some((contact) => bareJid(contact) === from);
    if (isContact !== true) return this.#events?.ignored("subscription");
    for (const xml of approvalMarkups(from)) this.#say(xml);
  }

  #presence(from: string, priority: number | null, show: string): void {
    const isKnown = this.#devices.has(from);
    const isOf = priority !== null ? isKnown || this.#devices.size < DEVICES_MAX : isKnown;
    // Servers mirror an absence for each contact at login: nobody has gone.
    if (!isOf) return this.#events?.ignored("unknown_device");
    if (priority === null) this.#devices.delete(from);
    else this.#devices.add(from);
    this.#events?.presence(from, priority, show);
  }

  #request(stanza: Element): void {
    this.#say(answerMarkup(stanza));
    if (!isPing(stanza)) this.#events?.ignored("request_refused");
  }

  /** Milliseconds until `jid` answered the request; null where it refused, or not in time. */
  #ask({ jid, id, xml, timeoutMs }: Request): Promise<number | null> {
    if (this.#asked.size >= ASKED_MAX || !this.#say(xml)) return Promise.resolve(null);
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#answered(id, null), timeoutMs);
      this.#asked.set(id, { jid, startedAtMs: clock.nowMs(), timer, resolve });
    });
  }

  #reply(from: string, id: string, condition: string | null): void {
    const asked = this.#asked.get(id);
    if (asked === undefined || asked.jid.toLowerCase() !== from.toLowerCase()) {
      return this.#events?.ignored("stray_reply");
    }
    // Who says that it does not know pings is there all the same.
    const isThere = condition === null || condition === "feature-not-implemented";
    this.#answered(id, isThere ? clock.nowMs() - asked.startedAtMs : null);
  }

  #answered(id: string, ms: number | null): void {
    const asked = this.#asked.get(id);
    if (asked === undefined) return;
    this.#asked.delete(id);
    clearTimeout(asked.timer);
    asked.resolve(ms);
  }

  #enter(key: string): void {
    const room = this.#rooms.get(key);
    if (room !== undefined) this.#say(enterRoomMarkup(key, room.nick, this.#nextId("join")));
  }

  #entered(key: string, isNew: boolean): void {
    const room = this.#rooms.get(key);
    const id = this.#nextId("open");
    const xml = openRoomMarkup(key, id);
    if (isNew) void this.#ask({ jid: key, id, xml, timeoutMs: JOIN_MS_MAX });
    room?.joining?.resolve();
    if (room !== undefined) room.joining = undefined;
  }

  #leftRoom(key: string, condition: string): void {
    const room = this.#rooms.get(key);
    if (room === undefined) return;
    if (room.joining === undefined) this.#events?.ignored("room_lost");
    room.joining?.reject(new Error(`${key} refused: ${condition}`));
    room.joining = undefined;
    clearTimeout(room.retry);
    room.retry = setTimeout(() => this.#enter(key), REJOIN_MS).unref();
  }

  /** Sends what nobody asks after; false while down. */
  #say(xml: string): boolean {
    const session = this.#session;
    if (session === undefined || !session.isUp || this.#management.isFull) return false;
    session.send(xml, null);
    return true;
  }

  #nextId(word: string): string {
    this.#idCount += 1;
    return `${word}-${this.#idCount}`;
  }
}

/** Pause before the attempt after `attempt` failures: doubled, at least half of it, capped. */
export function retryDelayMs(attempt: number, reason: DownReason, chance: Random): number {
  const ceilingMs = DELAY_MS_MAX_FOR[reason] ?? DELAY_MS_MAX;
  const delayMs = Math.min(ceilingMs, DELAY_MS_MIN * 2 ** Math.min(attempt, 30));
  return Math.floor(delayMs * (0.5 + chance.next() / 2));
}

function randomResource(): string {
  return `memward-${Buffer.from(secureBytes(4)).toString("hex")}`;
}

function readAuthority(path: string): { ok: true; text: string } | { ok: false; problem: string } {
  try {
    const text = readFileSync(path, "utf8");
    if (!text.includes("-----BEGIN")) return { ok: false, problem: `${path} holds no certificate` };
    createSecureContext({ ca: text }); // Throws at what is no certificate.
    return { ok: true, text };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { ok: false, problem: `${path} cannot be used (${code ?? message})` };
  }
}
