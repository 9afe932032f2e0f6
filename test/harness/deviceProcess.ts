/** The process of a `Device`: one session; connected again when the server comes back. */
import { readFileSync } from "node:fs";
import { Session, TIMINGS } from "../../monitor/xmpp/session.ts";
import { answerMarkup } from "../../monitor/xmpp/stanzas.ts";
import { StreamManagement } from "../../monitor/xmpp/streamManagement.ts";
import { childOf, type Element, elementsOf, textOf } from "../../monitor/xmpp/xml.ts";
import type { DeviceEvent, DeviceMessage, DeviceOrder, DeviceSettings } from "./device.ts";

const RETRY_MS = 100;
const settings = JSON.parse(process.argv[2] ?? "{}") as DeviceSettings;
const management = new StreamManagement();
const ca = readFileSync(settings.caFile, "utf8");
let session: Session | undefined;
let jid = "";
let isLoggingOut = false;

function tell(event: DeviceEvent): void {
  process.send?.(event);
}

function connect(): void {
  const options = { ...settings, ca, timings: TIMINGS, management };
  const presence = `<presence><priority>${settings.priority}</priority></presence>`;
  session = new Session(
    { ...options, presence },
    {
      up: (own, isResumed) => {
        jid = own;
        if (!settings.wantsCarbons || isResumed) return tell({ kind: "up", jid });
        say('<iq type="set" id="carbons"><enable xmlns="urn:xmpp:carbons:2"/></iq>');
      },
      stanza: received,
      skipped: () => {},
      accepted: () => {},
      unsure: () => {},
      ended: (reason, detail) => {
        session = undefined;
        tell({ kind: "down", reason, detail });
        if (isLoggingOut) process.exit(0);
        setTimeout(connect, RETRY_MS);
      },
    },
    jid,
  );
}

function say(xml: string): void {
  if (session?.isUp === true) session.send(xml, null);
}

function received(stanza: Element): void {
  if (stanza.name === "iq") {
    const { type = "", id = "" } = stanza.attributes;
    if (id === "carbons") tell({ kind: "up", jid });
    if (type === "get" || type === "set") say(answerMarkup(stanza));
    return;
  }
  if (stanza.name !== "message") return;
  const copy = elementsOf(stanza).find(({ xmlns }) => xmlns === "urn:xmpp:carbons:2");
  const forwarded = copy && elementsOf(copy).find(({ name }) => name === "forwarded");
  const inner = forwarded && elementsOf(forwarded).find(({ name }) => name === "message");
  const message = read(inner ?? stanza, inner !== undefined);
  tell({ kind: "message", message });
  // Neither copies nor rooms get receipts, and errors are never answered.
  const { id = "", type = "normal", from = "" } = stanza.attributes;
  const asks = childOf(stanza, "request", "urn:xmpp:receipts") !== undefined && id !== "";
  if (!asks || !settings.givesReceipts || ["groupchat", "error"].includes(type)) return;
  say(
    `<message to="${from}" type="chat"><received xmlns="urn:xmpp:receipts" id="${id}"/></message>`,
  );
}

function read(stanza: Element, isCarbon: boolean): DeviceMessage {
  const { id = "", from = "", type = "normal" } = stanza.attributes;
  const body = elementsOf(stanza).find(({ name }) => name === "body");
  const isDelayed = childOf(stanza, "delay", "urn:xmpp:delay") !== undefined;
  const text = body === undefined ? "" : textOf(body);
  return { id, from, type, body: text, isDelayed, isCarbon, atMs: Date.now(), stanza };
}

process.on("message", (order: DeviceOrder) => {
  if (order.kind === "raw") say(order.xml);
  else {
    isLoggingOut = true;
    if (session === undefined) process.exit(0);
    session.close();
  }
});
process.on("disconnect", () => process.exit(0)); // The test is over.
connect();
