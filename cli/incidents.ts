/**
 * `memward incident …`, `alert test`, `people`, `monitors`, `silence …`: what is wrong, who was told
 * and answered, and what to do about it. Whatever changes something is done by the monitor that
 * speaks; when none has done it in time, that is said and the exit code tells.
 */
import { z } from "zod";
import { clock, sleep } from "../core/runtime/clock.ts";
import { EXIT, Refusal } from "../core/runtime/process.ts";
import { type Answer, type Api, segment } from "./api.ts";
import { listAll } from "./change.ts";
import { type Command, print } from "./command.ts";
import { apiCommand, type Connection, printJson, show } from "./connection.ts";
import {
  type Column,
  facts,
  field,
  type Json,
  listField,
  numberField,
  table,
  textField,
} from "./table.ts";
import { age, durationOption } from "./values.ts";

const POLL_MS = 250;
const DRILL_WAIT_MS = 120_000;

export const INCIDENT_COLUMNS: readonly Column[] = [
  { title: "INCIDENT", cell: (row) => textField(row, "id") },
  { title: "SEVERITY", cell: (row) => textField(row, "severity") },
  { title: "STATE", cell: stateText },
  { title: "OPENED", cell: (row) => age(textField(row, "openedAt")) },
  { title: "TAKEN BY", cell: (row) => textField(row, "acknowledgedBy") },
  { title: "WHAT", cell: (row) => textField(row, "summary") },
];

const TIMES = ["queued", "sent", "accepted", "delivered", "displayed", "acknowledged"] as const;

const TOLD_COLUMNS: readonly Column[] = [
  { title: "WHO", cell: (row) => textField(row, "person") || textField(row, "room") },
  { title: "DEVICE", cell: (row) => textField(row, "jid") },
  { title: "STATE", cell: (row) => textField(row, "state") },
  ...TIMES.map((name) => ({
    title: name.toUpperCase(),
    cell: (row: Json) => timeOfDay(textField(row, `${name}At`)),
  })),
];

const LOG_COLUMNS: readonly Column[] = [
  { title: "TIME", cell: (row) => timeOfDay(textField(row, "at")) },
  { title: "EVENT", cell: (row) => textField(row, "event") },
  { title: "WHO", cell: (row) => textField(row, "person") },
  { title: "WHAT", cell: (row) => textField(row, "text") },
];

const PEOPLE_COLUMNS: readonly Column[] = [
  { title: "PERSON", cell: (row) => textField(row, "name") },
  { title: "ON CALL", cell: (row) => listField(row, "onCall").join(" ") },
  { title: "REACHABLE", cell: (row) => textField(row, "reachability") },
  { title: "SINCE", cell: (row) => age(textField(row, "since")) },
  { title: "DEVICES", cell: (row) => String(listField(row, "devices").length), right: true },
  { title: "LAST RECEIPT", cell: (row) => age(textField(row, "lastReceiptAt")) },
  { title: "LAST DRILL", cell: drillText },
];

const MONITOR_COLUMNS: readonly Column[] = [
  { title: "MONITOR", cell: (row) => textField(row, "name") },
  { title: "SPEAKS", cell: (row) => (field(row, "speaks") === true ? "yes" : "no") },
  { title: "XMPP", cell: xmppText },
  { title: "STARTED", cell: (row) => age(textField(row, "startedAt")) },
  { title: "SEEN", cell: (row) => age(textField(row, "seenAt")) },
];

const SILENCE_COLUMNS: readonly Column[] = [
  { title: "KEY", cell: (row) => textField(row, "key") },
  { title: "ENDS", cell: (row) => age(textField(row, "until")) },
  { title: "BY", cell: (row) => textField(row, "by") },
  { title: "WHY", cell: (row) => textField(row, "text") },
];

const ORDER_DETAILS = `The monitor that speaks does it. If none has after 2 seconds, it is done when one can, and the
exit code is 7.`;

const forRow = {
  for: durationOption().describe("how long, at most a day: 30m, 2h"),
};

export const INCIDENT_COMMANDS: readonly Command[] = [
  apiCommand({
    name: "incident list",
    summary: "list the incidents that are not over, the newest first",
    rows: { all: z.boolean().default(false).describe("those that are over, too") },
    run: async ({ api, options }) => {
      const query = { all: options.all ? "true" : undefined };
      const { text, body } = await api.call({ method: "GET", path: "/v1/incidents", query });
      if (options.json) printJson(text);
      else print(table(INCIDENT_COLUMNS, listField(body, "incidents")));
      return 0;
    },
  }),
  apiCommand({
    name: "incident show",
    summary: "show an incident: who was told when, on which device, and who answered",
    words: "INCIDENT",
    rows: {},
    run: (it) => show(it, pathOf(it.words), timeline),
  }),
  orderCommand("ack", "take an incident: nobody else is paged until that expires"),
  orderCommand("unack", "give an incident back: people are paged again"),
  orderCommand("resolve", "close an incident; it opens again if it is still bad in 5 minutes", {
    words: "INCIDENT [TEXT…]",
    body: (text) => (text === "" ? {} : { text }),
  }),
  apiCommand({
    name: "incident silence",
    summary: "tell nobody of an incident for a while, unless it gets worse",
    words: "INCIDENT [TEXT…]",
    details: ORDER_DETAILS,
    rows: forRow,
    run: async ({ api, options, words }) => {
      const text = words.slice(1).join(" ");
      const body = { seconds: Math.round(options.for / 1000), ...(text === "" ? {} : { text }) };
      const path = `${pathOf(words)}/silence`;
      return ordered(await api.call({ method: "POST", path, body }, { seconds: "--for" }), options);
    },
  }),
  apiCommand({
    name: "incident escalate",
    summary: "tell the next level now, or one person",
    words: "INCIDENT [PERSON]",
    details: ORDER_DETAILS,
    rows: {},
    run: async ({ api, options, words }) => {
      const body = words[1] === undefined ? {} : { person: words[1] };
      const path = `${pathOf(words)}/escalate`;
      return ordered(await api.call({ method: "POST", path, body }), options);
    },
  }),
  orderCommand("note", "write a line into the timeline of an incident", {
    words: "INCIDENT TEXT…",
    body: (text) => ({ text }),
  }),
  apiCommand({
    name: "alert test",
    summary: "send a person a test message, and measure receipt and answer",
    words: "PERSON",
    details: `It waits for the receipt of a device and for the person's answer, two minutes at most. The exit
code is 0 when both came, 7 when one did not.`,
    rows: { noWait: z.boolean().default(false).describe("send it and do not wait") },
    run: ({ api, options, words }) => drill(api, options, words[0] ?? ""),
  }),
  listing("people", "list who is on call and who can be reached", PEOPLE_COLUMNS),
  listing("monitors", "list the monitors, and which of them speaks to people", MONITOR_COLUMNS),
  {
    ...listing("silences", "list what nobody is told of, and until when", SILENCE_COLUMNS),
    name: "silence list",
  },
  apiCommand({
    name: "silence create",
    summary: "tell nobody of something for a while, like node:node-1",
    words: "KEY [TEXT…]",
    isNew: true,
    details: ORDER_DETAILS,
    rows: forRow,
    run: async ({ api, options, words }) => {
      const [key, ...rest] = words;
      const text = rest.join(" ");
      const seconds = Math.round(options.for / 1000);
      const body = { key, seconds, ...(text === "" ? {} : { text }) };
      const flags = { key: "KEY", seconds: "--for" };
      return ordered(
        await api.call({ method: "POST", path: "/v1/silences", body }, flags),
        options,
      );
    },
  }),
  apiCommand({
    name: "silence delete",
    summary: "end a silence",
    words: "KEY",
    details: ORDER_DETAILS,
    rows: {},
    run: async ({ api, options, words }) => {
      const path = `/v1/silences/${segment(words[0] ?? "")}`;
      return ordered(await api.call({ method: "DELETE", path }), options);
    },
  }),
];

/** An order about one incident that takes at most a text. */
function orderCommand(
  verb: string,
  summary: string,
  more: { words?: string; body?: (text: string) => Readonly<Record<string, unknown>> } = {},
): Command {
  return apiCommand({
    name: `incident ${verb}`,
    summary,
    words: more.words ?? "INCIDENT",
    details: ORDER_DETAILS,
    rows: {},
    run: async ({ api, options, words }) => {
      const body = more.body?.(words.slice(1).join(" "));
      const path = `${pathOf(words)}/${verb}`;
      return ordered(await api.call({ method: "POST", path, body }), options);
    },
  });
}

function listing(key: string, summary: string, columns: readonly Column[]): Command {
  return apiCommand({
    name: key,
    summary,
    rows: {},
    run: async ({ api, options }) => {
      const { text, body } = await listAll(api, { path: `/v1/${key}`, key });
      if (options.json) printJson(text);
      else print(table(columns, listField(body, key)));
      return 0;
    },
  });
}

/** What became of an order, and the exit code for it. */
function ordered({ text, body }: Answer, { json }: Pick<Connection, "json">): number {
  const monitor = textField(body, "monitor");
  const isObeyed = field(body, "obeyed") === true;
  if (json) printJson(text);
  else if (isObeyed) print(`${textField(body, "verb")}: done by ${monitor || "a monitor"}\n`);
  if (isObeyed) return EXIT.done;
  const who = monitor === "" ? "no monitor speaks now" : `${monitor} has not done it yet`;
  process.stderr.write(`memward: ${who}; it is done when one can\n`);
  return EXIT.notApplied;
}

async function drill(
  api: Api,
  options: Connection & { noWait: boolean },
  person: string,
): Promise<number> {
  const path = `/v1/people/${segment(person)}`;
  const before = await newestDrill(api, path);
  const answer = await api.call({ method: "POST", path: `${path}/drill` });
  if (options.noWait || field(answer.body, "obeyed") !== true) return ordered(answer, options);
  const deadlineMs = clock.nowMs() + DRILL_WAIT_MS;
  let isDeliveryTold = false;
  for (;;) {
    const found = await newestDrill(api, path);
    const isNew = textField(found, "id") !== textField(before, "id");
    const state = isNew ? textField(found, "state") : "waiting";
    const receiptMs = isNew ? numberField(found, "receiptMs") : undefined;
    if (receiptMs !== undefined && !isDeliveryTold && !options.json) {
      process.stderr.write(
        `${person}'s device had it after ${receiptMs} ms; waiting for an answer\n`,
      );
      isDeliveryTold = true;
    }
    if (state !== "waiting" || clock.nowMs() > deadlineMs)
      return drillEnded(found, options, person);
    await sleep(POLL_MS);
  }
}

async function newestDrill(api: Api, path: string): Promise<Json> {
  const { body } = await api.call({ method: "GET", path: `${path}/drills` });
  return listField(body, "drills").find((row) => textField(row, "purpose") === "drill");
}

function drillEnded(found: Json, { json }: Connection, person: string): number {
  const receiptMs = numberField(found, "receiptMs");
  const answerMs = numberField(found, "answerMs");
  if (json) printJson(JSON.stringify(found ?? null));
  else {
    const took = (ms: number | undefined) => (ms === undefined ? "none" : `after ${ms} ms`);
    print(
      facts([
        ["person", person],
        ["receipt", took(receiptMs)],
        ["answer", took(answerMs)],
        ["drill", textField(found, "state")],
      ]),
    );
  }
  return textField(found, "state") === "passed" ? EXIT.done : EXIT.notApplied;
}

function timeline(incident: Json): string {
  const told = listField(incident, "notifications").flatMap((one): Json[] => {
    const devices = listField(one, "devices");
    const own = { ...(one as object), jid: "" };
    // What is known of the person stands first, then each device.
    return [own, ...devices.map((device) => ({ ...(device as object), person: "", state: "" }))];
  });
  const at = (name: string) => textField(incident, name);
  const parts = [
    facts([
      ["incident", `${at("id")} ${at("severity")}`],
      ["state", stateText(incident)],
      ["what", at("summary")],
      ["key", at("key")],
      ["since", at("since")],
      ["opened", at("openedAt")],
      ["resolved", at("resolvedAt") || undefined],
      ["taken by", at("acknowledgedBy") || undefined],
      ["explained by", at("explainedBy") || undefined],
      ["policy", at("policy")],
      ["next", age(at("nextAt")) || undefined],
      ...listField(incident, "details").map((text) => ["", String(text)] as const),
    ]),
    told.length === 0 ? "" : table(TOLD_COLUMNS, told),
    table(LOG_COLUMNS, listField(incident, "log")),
  ];
  return parts.filter((part) => part !== "").join("\n");
}

function stateText(row: Json): string {
  const silenced = textField(row, "silencedUntil");
  const state = textField(row, "state");
  if (silenced !== "") return `${state}, silenced until ${timeOfDay(silenced)}`;
  return textField(row, "explainedBy") === ""
    ? state
    : `${state}, part of ${textField(row, "explainedBy")}`;
}

function drillText(row: Json): string {
  const state = textField(row, "lastDrill.state");
  return state === "" ? "never" : `${state} ${age(textField(row, "lastDrill.at"))}`;
}

function xmppText(row: Json): string {
  const isUp = field(row, "xmppIsUp");
  return isUp === true ? "up" : isUp === false ? "down" : "none";
}

/** `14:02:07.123` in UTC; what is older than a day is told by `opened`. */
function timeOfDay(moment: string): string {
  return moment.slice(11, 23);
}

const pathOf = ([incident = ""]: readonly string[]): string => {
  if (incident.replace(/^#/, "") === "") throw new Refusal("which incident? memward incident list");
  return `/v1/incidents/${segment(incident.replace(/^#/, ""))}`;
};
