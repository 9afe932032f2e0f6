/**
 * A person's device: an XMPP client in a process of its own, so that it can be stopped (SIGSTOP: a
 * frozen phone), killed (a dead one) and thawed. It gives receipts as XEP-0184 has them, unless told
 * not to; what it got can be asked for. The other half of it is `deviceProcess.ts`.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Element } from "../../monitor/xmpp/xml.ts";
import { Running } from "./processes.ts";
import type { Prosody } from "./prosody.ts";

const DEADLINE_MS = 15_000;
const PROGRAM = `${import.meta.dirname}/deviceProcess.ts`;

export type DeviceOptions = {
  /** What tells the devices of a person apart. */
  resource?: string;
  /** Presence priority; below zero it gets no messages to the bare address. */
  priority?: number;
  /** False: a client that never answers requests for receipts. */
  givesReceipts?: boolean;
  /** Gets copies of what other devices of the person send and receive (XEP-0280). */
  wantsCarbons?: boolean;
};

/** A message as the device got it. */
export type DeviceMessage = {
  id: string;
  from: string;
  type: string;
  body: string;
  /** Kept by a server meanwhile. */
  isDelayed: boolean;
  isCarbon: boolean;
  /** Milliseconds since 1970. */
  atMs: number;
  stanza: Element;
};

export type DeviceEvent =
  | { kind: "up"; jid: string }
  | { kind: "down"; reason: string; detail: string }
  | { kind: "message"; message: DeviceMessage };

export type DeviceOrder = { kind: "raw"; xml: string } | { kind: "logOut" };

export type DeviceSettings = Required<DeviceOptions> & {
  host: string;
  port: number;
  domain: string;
  local: string;
  password: string;
  caFile: string;
};

export class Device {
  readonly messages: DeviceMessage[] = [];
  jid = "";
  readonly #running: Running;
  #isUp = false;
  #downReason = "";

  private constructor(settings: DeviceSettings) {
    const args = ["--disable-warning=ExperimentalWarning", PROGRAM, JSON.stringify(settings)];
    this.#running = new Running("device", process.execPath, args, { hasChannel: true });
    this.#running.child.on("message", (event: DeviceEvent) => this.#heard(event));
  }

  /** Logs `person` in and waits until that is done. */
  static async start(
    prosody: Prosody,
    person: string,
    options: DeviceOptions = {},
  ): Promise<Device> {
    const device = new Device({
      resource: options.resource ?? "phone",
      priority: options.priority ?? 0,
      givesReceipts: options.givesReceipts ?? true,
      wantsCarbons: options.wantsCarbons ?? false,
      host: prosody.host,
      port: prosody.port,
      domain: prosody.domain,
      local: person,
      password: prosody.password(person),
      caFile: prosody.caFile,
    });
    await device.#until(() => device.#isUp, `${person} to log in`);
    return device;
  }

  /** The first message that fits, once it has come: a text in its body, or a condition. */
  async message(
    fits: string | ((message: DeviceMessage) => boolean),
    deadlineMs = DEADLINE_MS,
  ): Promise<DeviceMessage> {
    const condition =
      typeof fits === "string" ? (one: DeviceMessage) => one.body.includes(fits) : fits;
    await this.#until(() => this.messages.some(condition), `a message ${fits}`, deadlineMs);
    return this.messages.find(condition) as DeviceMessage;
  }

  /** Writes a message, as a person does. */
  say(to: string, body: string, id = `said-${Math.random()}`): void {
    const marked = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    this.raw(`<message type="chat" to="${to}" id="${id}"><body>${marked(body)}</body></message>`);
  }

  /** Any stanza. */
  raw(xml: string): void {
    this.#order({ kind: "raw", xml });
  }

  displayed(message: DeviceMessage): void {
    const marker = `<displayed xmlns="urn:xmpp:chat-markers:0" id="${message.id}"/>`;
    this.raw(`<message to="${message.from}" type="chat">${marker}</message>`);
  }

  setPriority(priority: number): void {
    this.raw(`<presence><priority>${priority}</priority></presence>`);
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** A phone that its vendor froze: connected, silent. */
  freeze(): void {
    this.#running.child.kill("SIGSTOP");
  }

  thaw(): void {
    this.#running.child.kill("SIGCONT");
  }

  /** Gone without a goodbye. */
  async kill(): Promise<void> {
    await this.#running.stop("SIGKILL");
  }

  /** Logs out in order, and ends. */
  async stop(): Promise<void> {
    this.thaw();
    if (this.#running.exitCode === undefined) this.#order({ kind: "logOut" });
    await this.#running.exited;
  }

  #order(order: DeviceOrder): void {
    this.#running.child.send(order);
  }

  #heard(event: DeviceEvent): void {
    if (event.kind === "message") this.messages.push(event.message);
    else {
      this.#isUp = event.kind === "up";
      if (event.kind === "up") this.jid = event.jid;
      else this.#downReason = `${event.reason} ${event.detail}`;
    }
  }

  async #until(
    condition: () => boolean,
    what: string,
    deadlineMs: number = DEADLINE_MS,
  ): Promise<void> {
    const deadline = Date.now() + deadlineMs;
    while (!condition()) {
      const { exitCode, stderr } = this.#running;
      if (exitCode !== undefined) throw new Error(`the device ended: ${stderr}`);
      if (Date.now() > deadline) {
        const got = this.messages.map(({ body }) => body).join(" | ");
        throw new Error(`waited for ${what}; got: ${got} ${this.#downReason}`);
      }
      await sleep(5);
    }
  }
}
