/**
 * One connection from TCP to its end: TLS from the first byte, a login that proves both sides,
 * then the session before resumed, or a new one with stream management. Nothing of ours is sent
 * before that counts stanzas; from then on silence of the server is noticed by its missing
 * acknowledgements. Every ending has a reason and is told once.
 *
 *     connecting -> opening -> authenticating -> opening -> resuming -> up
 *                                                       \-> binding -> enabling -> up -> closed
 */
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { domainToASCII } from "node:url";
import { clock } from "../../core/runtime/clock.ts";
import { secureBytes } from "../../core/runtime/random.ts";
import type { DownReason } from "./link.ts";
import { firstMessage, isProven, type Login, MECHANISM, type Proof, prove } from "./scram.ts";
import { UNAVAILABLE } from "./stanzas.ts";
import type { StreamManagement } from "./streamManagement.ts";
import { childOf, type Element, elementsOf, escaped, markup, StanzaReader, textOf } from "./xml.ts";

export interface Timings {
  /** TCP and TLS together, and then each answer until the session is up. */
  stepMsMax: number;
  /** How often an acknowledgement is asked for when nothing is sent, and how long it may take. */
  askIntervalMs: number;
  silenceMsMax: number;
  /** What is sent together is asked after together. */
  askDelayMs: number;
}

export const TIMINGS: Timings = {
  stepMsMax: 3_000,
  askIntervalMs: 5_000,
  silenceMsMax: 3_000,
  askDelayMs: 5,
};

export interface SessionOptions {
  readonly host: string;
  readonly port: number;
  /** The name in the server's certificate. */
  readonly domain: string;
  readonly local: string;
  readonly password: string;
  /** Authorities in PEM; undefined: those that Node knows. */
  readonly ca: string | undefined;
  /** Wished for; the server may choose another. */
  readonly resource: string;
  readonly timings: Timings;
  /** What is known of the session before, to resume it; outlives this connection. */
  readonly management: StreamManagement;
  /** Said first in a new session. */
  readonly presence: string;
}

export interface SessionEvents {
  /** `jid` is ours, with the resource. Where it was not resumed the server knows nothing of us. */
  up(jid: string, isResumed: boolean): void;
  /** A stanza of an established session; counted already. */
  stanza(stanza: Element): void;
  skipped(): void;
  accepted(id: string): void;
  unsure(id: string): void;
  ended(reason: DownReason, detail: string): void;
}

type State =
  | "connecting"
  | "opening"
  | "authenticating"
  | "resuming"
  | "binding"
  | "enabling"
  | "up"
  | "closing"
  | "closed";

const NS = {
  stream: "http://etherx.jabber.org/streams",
  streamErrors: "urn:ietf:params:xml:ns:xmpp-streams",
  client: "jabber:client",
  sasl: "urn:ietf:params:xml:ns:xmpp-sasl",
  bind: "urn:ietf:params:xml:ns:xmpp-bind",
  management: "urn:xmpp:sm:3",
} as const;
const STANZAS = ["message", "presence", "iq"];
const BIND_ID = "bind";
const NONCE_SIZE = 24;
const KEEP_ALIVE_MS = 30_000;
/** How long we wait for the server to say goodbye. */
const GOODBYE_MS_MAX = 500;
/** Seconds for which we would like to be able to resume. */
const RESUME_S = 300;
const DETAIL_LENGTH_MAX = 200;

export class Session {
  readonly #options: SessionOptions;
  readonly #events: SessionEvents;
  readonly #socket: TLSSocket;
  #reader: StanzaReader;
  #state: State = "connecting";
  #login: Login;
  #proof: Proof | undefined;
  #isAuthenticated = false;
  #jid = "";
  #step: NodeJS.Timeout | undefined;
  #asking: NodeJS.Timeout | undefined;
  #silence: NodeJS.Timeout | undefined;
  #interval: NodeJS.Timeout | undefined;
  /** Requests for an acknowledgement that were not answered yet. */
  #askedCount = 0;

  constructor(options: SessionOptions, events: SessionEvents, jidBefore: string) {
    this.#options = options;
    this.#events = events;
    this.#jid = jidBefore;
    const nonce = Buffer.from(secureBytes(NONCE_SIZE)).toString("base64url");
    this.#login = { username: options.local, password: options.password, nonce };
    this.#reader = this.#newReader();
    this.#socket = connect(tlsOptions(options));
    this.#socket.setNoDelay(true);
    this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#socket.on("secureConnect", () => this.#open());
    this.#socket.on("data", (bytes: Buffer) => this.#reader.push(bytes));
    this.#socket.on("error", (error: NodeJS.ErrnoException) => this.#failed(error));
    this.#socket.on("close", () => this.#end("closed", "the connection was closed"));
    this.#startStep();
  }

  get isUp(): boolean {
    return this.#state === "up";
  }

  /** Sends a stanza of an established session; the caller has looked at `isUp`. */
  send(xml: string, messageId: string | null): void {
    this.#options.management.sent({ xml, messageId, sentAtMs: clock.unixMs() });
    this.#write(xml);
    this.#asking ??= setTimeout(() => this.#ask(), this.#options.timings.askDelayMs);
  }

  /** Asks for an acknowledgement now. */
  ask(): void {
    if (this.isUp) this.#ask();
  }

  /** Says goodbye; the end is told as `stopped`. */
  close(): void {
    if (this.#state === "closed" || this.#state === "closing") return;
    if (this.#state !== "up") return this.#end("stopped", "");
    this.#state = "closing";
    this.#write(`${UNAVAILABLE}</stream:stream>`);
    this.#socket.end();
    this.#stopTimers();
    this.#step = setTimeout(() => this.#end("stopped", ""), GOODBYE_MS_MAX);
  }

  #open(): void {
    const { domain, local } = this.#options;
    this.#state = "opening";
    this.#startStep();
    const names = `to="${escaped(domain)}" from="${escaped(`${local}@${domain}`)}"`;
    const spaces = `xmlns="${NS.client}" xmlns:stream="${NS.stream}"`;
    this.#write(`<?xml version="1.0"?><stream:stream ${names} version="1.0" ${spaces}>`);
  }

  #newReader(): StanzaReader {
    const reader: StanzaReader = new StanzaReader({
      opened: (header) => {
        const isFine = header.name === "stream" && header.xmlns === NS.stream;
        if (!isFine) this.#end("malformed", "not a stream of XMPP");
      },
      stanza: (stanza) => this.#received(stanza),
      skipped: (name) => this.#skipped(name),
      ended: () => this.#end("closed", "the server ended the stream"),
      failed: (reason, detail) => this.#end(reason, detail),
    });
    return reader;
  }

  #received(stanza: Element): void {
    if (stanza.xmlns === NS.stream && stanza.name === "error") return this.#streamError(stanza);
    switch (this.#state) {
      case "opening":
        if (stanza.xmlns !== NS.stream || stanza.name !== "features") break;
        return this.#isAuthenticated ? this.#establish(stanza) : this.#authenticate(stanza);
      case "authenticating":
        if (stanza.xmlns !== NS.sasl) break;
        return this.#loginAnswer(stanza);
      case "resuming":
        if (stanza.xmlns !== NS.management) break;
        return this.#resumeAnswer(stanza);
      case "binding":
        if (stanza.name !== "iq" || stanza.attributes["id"] !== BIND_ID) break;
        return this.#bound(stanza);
      case "enabling":
        if (stanza.xmlns !== NS.management) break;
        return this.#enabled(stanza);
      case "up":
      case "closing":
        return this.#established(stanza);
    }
    this.#end("malformed", `<${stanza.name}> while ${this.#state}`);
  }

  /** Logging in */

  #authenticate(features: Element): void {
    const offer = childOf(features, "mechanisms", NS.sasl);
    const mechanisms = offer === undefined ? [] : elementsOf(offer).map(textOf);
    if (!mechanisms.includes(MECHANISM)) {
      return this.#end("no_mechanism", `offered: ${mechanisms.join(" ") || "nothing"}`);
    }
    this.#state = "authenticating";
    this.#startStep();
    const attributes = { xmlns: NS.sasl, mechanism: MECHANISM };
    this.#write(markup("auth", attributes, toBase64(firstMessage(this.#login))));
  }

  #loginAnswer(answer: Element): void {
    const message = Buffer.from(textOf(answer), "base64").toString();
    if (answer.name === "failure") return this.#loginFailed(answer);
    if (answer.name === "challenge" && this.#proof === undefined) {
      void this.#prove(message);
      return;
    }
    const isLast = answer.name === "success" || answer.name === "challenge";
    const proof = this.#proof;
    if (!isLast || proof === undefined) return this.#end("server_unproven", `<${answer.name}>`);
    // Some servers send their proof as a challenge and then an empty success.
    const wasProven = this.#isAuthenticated && message === "";
    if (!wasProven && !isProven(proof, message)) {
      return this.#end("server_unproven", "the server does not know the password");
    }
    this.#isAuthenticated = true;
    if (answer.name === "challenge") return this.#write(markup("response", { xmlns: NS.sasl }));
    this.#reader.close();
    this.#reader = this.#newReader();
    this.#open();
  }

  async #prove(challenge: string): Promise<void> {
    this.#startStep();
    const proof = await prove(this.#login, challenge).catch(() => undefined);
    if (this.#state !== "authenticating") return; // It ended meanwhile.
    if (proof === undefined) return this.#end("server_unproven", "a challenge we do not accept");
    this.#proof = proof;
    this.#write(markup("response", { xmlns: NS.sasl }, toBase64(proof.message)));
  }

  #loginFailed(failure: Element): void {
    const names = elementsOf(failure).map(({ name, children }) =>
      name === "text" ? children.join("") : name,
    );
    const isTemporary = names.includes("temporary-auth-failure");
    this.#end(isTemporary ? "stream_error" : "not_authorized", names.join(": "));
  }

  /** The session */

  #establish(features: Element): void {
    const { management } = this.#options;
    if (childOf(features, "sm", NS.management) === undefined) {
      return this.#end("no_stream_management", "the server does not offer XEP-0198");
    }
    if (management.id === "") return this.#bind();
    this.#state = "resuming";
    this.#startStep();
    const { id, handled } = management;
    const attributes = { xmlns: NS.management, previd: id, h: String(handled) };
    this.#write(markup("resume", attributes));
  }

  #resumeAnswer(answer: Element): void {
    const { management } = this.#options;
    const h = answer.attributes["h"];
    if (h !== undefined && !this.#acknowledge(h)) return;
    if (answer.name === "resumed") {
      this.#becomeUp();
      // Before anything new, so that the server counts in our order.
      for (const xml of management.resent(this.#jid)) this.#write(xml);
      if (management.unacknowledgedCount > 0) this.#ask();
      return this.#events.up(this.#jid, true);
    }
    if (answer.name !== "failed") return this.#end("malformed", `<${answer.name}> for a resume`);
    for (const { messageId } of management.abandon()) {
      if (messageId !== null) this.#events.unsure(messageId);
    }
    this.#bind();
  }

  #bind(): void {
    this.#state = "binding";
    this.#startStep();
    const resource = markup("resource", {}, escaped(this.#options.resource));
    const bind = markup("bind", { xmlns: NS.bind }, resource);
    this.#write(markup("iq", { type: "set", id: BIND_ID }, bind));
  }

  #bound(answer: Element): void {
    const bind = childOf(answer, "bind", NS.bind);
    const jid = bind === undefined ? undefined : childOf(bind, "jid", NS.bind);
    if (answer.attributes["type"] !== "result" || jid === undefined) {
      return this.#end("stream_error", "the server refused to bind a resource");
    }
    this.#jid = textOf(jid);
    this.#state = "enabling";
    this.#startStep();
    const attributes = { xmlns: NS.management, resume: "true", max: String(RESUME_S) };
    this.#write(markup("enable", attributes));
  }

  #enabled(answer: Element): void {
    if (answer.name !== "enabled") return this.#end("no_stream_management", `<${answer.name}>`);
    const { id = "", resume = "" } = answer.attributes;
    this.#options.management.begin(["true", "1"].includes(resume) ? id : "");
    this.#becomeUp();
    this.send(this.#options.presence, null);
    this.#events.up(this.#jid, false);
  }

  #becomeUp(): void {
    this.#state = "up";
    this.#stopTimers();
    this.#interval = setInterval(() => this.#ask(), this.#options.timings.askIntervalMs);
  }

  #established(stanza: Element): void {
    if (stanza.xmlns === NS.management) {
      if (stanza.name === "r") return this.#writeHandled();
      if (stanza.name === "a") this.#answered(stanza);
      return;
    }
    if (!STANZAS.includes(stanza.name) || stanza.xmlns !== NS.client) return;
    this.#options.management.handledOne();
    if (this.#state === "up") this.#events.stanza(stanza);
  }

  #skipped(name: string): void {
    if (this.#state !== "up") return this.#end("too_large", `<${name}> while ${this.#state}`);
    if (STANZAS.includes(name)) this.#options.management.handledOne();
    this.#events.skipped();
  }

  /** Acknowledgements */

  #writeHandled(): void {
    const h = String(this.#options.management.handled);
    if (this.#state === "up") this.#write(markup("a", { xmlns: NS.management, h }));
  }

  #ask(): void {
    clearTimeout(this.#asking);
    this.#asking = undefined;
    this.#askedCount += 1;
    this.#write(markup("r", { xmlns: NS.management }));
    if (this.#silence === undefined) this.#startSilence();
  }

  #answered(answer: Element): void {
    clearTimeout(this.#silence);
    this.#askedCount = Math.max(0, this.#askedCount - 1);
    this.#silence = undefined;
    if (this.#askedCount > 0) this.#startSilence();
    this.#acknowledge(answer.attributes["h"] ?? "");
  }

  /** Whether the count was possible; when not, this has ended. */
  #acknowledge(h: string): boolean {
    const count = /^\d{1,10}$/.test(h) ? Number(h) : Number.NaN;
    const accepted = this.#options.management.acknowledge(count);
    if (accepted === undefined) {
      // The counters disagree for good: resuming would repeat it for ever.
      for (const { messageId } of this.#options.management.abandon()) {
        if (messageId !== null) this.#events.unsure(messageId);
      }
      this.#end("malformed", "acknowledged more than was sent");
      return false;
    }
    for (const { messageId } of accepted) {
      if (messageId !== null) this.#events.accepted(messageId);
    }
    return true;
  }

  #startSilence(): void {
    const timer = this.#afterReading(this.#options.timings.silenceMsMax, () => {
      if (this.#silence === timer) this.#end("silent", "acknowledgements stopped coming");
    });
    this.#silence = timer;
  }

  /** Endings */

  #startStep(): void {
    clearTimeout(this.#step);
    const timer = this.#afterReading(this.#options.timings.stepMsMax, () => {
      if (this.#step === timer) this.#end("timed_out", `while ${this.#state}`);
    });
    this.#step = timer;
  }

  /** What came while this process was busy is read before the time counts as over. */
  #afterReading(delayMs: number, run: () => void): NodeJS.Timeout {
    return setTimeout(() => setImmediate(run), delayMs);
  }

  #streamError(error: Element): void {
    const conditions = elementsOf(error).filter(({ xmlns }) => xmlns === NS.streamErrors);
    const said = conditions.map((one) => (one.name === "text" ? textOf(one) : one.name));
    this.#end(said.includes("conflict") ? "conflict" : "stream_error", said.join(": "));
  }

  #failed(error: NodeJS.ErrnoException): void {
    const code = error.code ?? "";
    const row = Object.entries(REASONS).find(([, pattern]) => pattern.test(code));
    const reason = (row?.[0] ?? "closed") as DownReason;
    this.#end(reason, `${code} ${error.message}`.trim());
  }

  #write(text: string): void {
    // A failing write is told by the socket's "error" and "close".
    if (!this.#socket.destroyed && this.#socket.writable) this.#socket.write(text);
  }

  #stopTimers(): void {
    for (const timer of [this.#step, this.#asking, this.#silence]) clearTimeout(timer);
    clearInterval(this.#interval);
    this.#step = undefined;
    this.#asking = undefined;
    this.#silence = undefined;
    this.#askedCount = 0;
  }

  #end(reason: DownReason, detail: string): void {
    if (this.#state === "closed") return;
    const wasClosing = this.#state === "closing";
    this.#state = "closed";
    this.#stopTimers();
    this.#reader.close();
    this.#socket.destroy();
    const told = [...detail.slice(0, DETAIL_LENGTH_MAX)].map(printable).join("");
    this.#events.ended(wasClosing ? "stopped" : reason, wasClosing ? "" : told);
  }
}

/** Node's error codes by what they mean to us; the first row that fits. */
const REASONS = {
  unreachable: /^(ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENETDOWN|EADDRNOTAVAIL|ENOTFOUND|EAI_)/,
  timed_out: /^ETIMEDOUT$/,
  certificate: /CERT|UNABLE_TO_|SELF_SIGNED|ALTNAME|ERR_TLS_INVALID_CONTEXT/,
  malformed: /^(ERR_SSL_|EPROTO)/,
  closed: /^(ECONNRESET|EPIPE|ERR_STREAM)/,
} as const satisfies Partial<Record<DownReason, RegExp>>;

function tlsOptions({ host, port, domain, ca }: SessionOptions): ConnectionOptions {
  const servername = domainToASCII(domain) || domain;
  const options: ConnectionOptions = { host, port, minVersion: "TLSv1.2", servername };
  options.ALPNProtocols = ["xmpp-client"]; // XEP-0368; servers that do not know it ignore it.
  if (ca !== undefined) options.ca = ca;
  return options;
}

const toBase64 = (text: string): string => Buffer.from(text).toString("base64");

/** A server's words in our log: one line. */
const printable = (character: string): string => (character < " " ? " " : character);
