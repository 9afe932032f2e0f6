/**
 * Incidents as the API shows them, and who is there to be told: all of it read. What operators want
 * done about an incident is an order to the monitor that speaks (`orders.ts`).
 */
import { z } from "zod";
import {
  type Device,
  DRILL_STATES,
  INCIDENT_STATES,
  type Incident,
  incidentId,
  type Notification,
  REACHABILITIES,
  SEVERITIES,
  shownId,
} from "../../core/cluster/incidents.ts";
import type { Kept, KnownIncident, View } from "../view.ts";
import type { Parts } from "./change.ts";
import { momentOrNull, momentText } from "./input.ts";
import { done, notFound, type Outcome, whenReachable } from "./outcome.ts";

const moment = z.string().nullable();

export const incidentAnswer = z.strictObject({
  id: z.string().describe("As people say it: 17, or 17@monitor-2 if opened without quorum"),
  key: z.string().describe("What is wrong with what, like node:node-1"),
  severity: z.enum(SEVERITIES).describe("crit pages and escalates, warn is told once"),
  state: z.enum(INCIDENT_STATES),
  summary: z.string(),
  since: z.string().describe("When it began, as far as can be told"),
  openedAt: z.string(),
  resolvedAt: moment,
  acknowledgedBy: z.string().nullable(),
  acknowledgedUntil: moment,
  silencedUntil: moment,
  explainedBy: z.string().nullable().describe("The incident that explains this one"),
  level: z.int().describe("How many levels of its policy were told"),
  nextAt: moment.describe("When something happens by itself if nobody answers"),
  revision: z.int(),
});
export type ShownIncident = z.output<typeof incidentAnswer>;

const deviceAnswer = z.strictObject({
  jid: z.string(),
  sentAt: moment,
  acceptedAt: moment,
  deliveredAt: moment,
  displayedAt: moment,
  bouncedAt: moment,
});

const notificationAnswer = z.strictObject({
  person: z.string().describe("Empty for a room"),
  room: z.string().nullable(),
  purpose: z.enum(["page", "update"]),
  state: z.string(),
  level: z.int(),
  round: z.int(),
  text: z.string(),
  queuedAt: z.string(),
  sentAt: moment,
  acceptedAt: moment.describe("The server had it"),
  deliveredAt: moment.describe("A device had it"),
  displayedAt: moment,
  acknowledgedAt: moment.describe("A person took it"),
  fallbackAt: moment.describe("Other channels were used"),
  fallbackTakenAt: moment,
  sendings: z.int(),
  devices: z.array(deviceAnswer),
});

export const incidentDetailAnswer = incidentAnswer.extend({
  details: z.array(z.string()),
  policy: z.string(),
  notifications: z.array(notificationAnswer),
  log: z.array(
    z.strictObject({ at: z.string(), event: z.string(), person: z.string(), text: z.string() }),
  ),
  logDropped: z.int().describe("Lines that are missing in the middle"),
});
export type ShownIncidentDetail = z.output<typeof incidentDetailAnswer>;

export const silenceAnswer = z.strictObject({
  key: z.string(),
  severity: z.enum(SEVERITIES).describe("What is worse is told all the same"),
  by: z.string(),
  text: z.string(),
  createdAt: z.string(),
  until: z.string(),
});

export const personAnswer = z.strictObject({
  name: z.string(),
  reachability: z.enum(REACHABILITIES),
  since: z.string(),
  onCall: z.array(z.string()).describe("Schedules in which this person is on call now"),
  devices: z.array(
    z.strictObject({ jid: z.string(), priority: z.int(), roundTripMs: z.number().nullable() }),
  ),
  lastReceiptAt: moment,
  lastDrill: z
    .strictObject({
      at: z.string(),
      state: z.enum(DRILL_STATES),
      receiptMs: z.number().nullable(),
      answerMs: z.number().nullable(),
    })
    .nullable(),
});

export const drillAnswer = z.strictObject({
  id: z.string(),
  purpose: z.string(),
  by: z.string(),
  state: z.enum(DRILL_STATES),
  startedAt: z.string(),
  receiptMs: z.number().nullable().describe("From when it was sent until a device had it"),
  answerMs: z.number().nullable().describe("Until the person answered"),
});
export type ShownDrill = z.output<typeof drillAnswer>;

export const monitorAnswer = z.strictObject({
  name: z.string(),
  speaks: z.boolean().describe("One of them speaks to people, the others watch"),
  xmppIsUp: z.boolean().nullable().describe("null: none is configured"),
  startedAt: z.string(),
  seenAt: z.string().describe("When it last said that it looks around"),
});

type Seeing = Pick<Parts, "view">;

/** The newest first. */
export function listIncidents({ view }: Seeing, { all }: { all: boolean }): ShownIncident[] {
  const found = [...view.incidents.values()].filter(({ value }) => all || isOpen(value));
  return found.sort((a, b) => b.value.openedAtMs - a.value.openedAtMs).map(shownIncident);
}

export const isOpen = ({ state }: Pick<Incident, "state">): boolean => state !== "resolved";

/** Id of the record of what people call 17 or 17@monitor-2; undefined if it is no such name. */
export function recordIdOf(shown: string): string | undefined {
  const [, number, origin = ""] = /^#?0*([1-9]\d{0,9})(?:@([a-z0-9-]{1,63}))?$/.exec(shown) ?? [];
  return number === undefined ? undefined : incidentId({ number: Number(number), origin });
}

export const noIncident = (shown: string) => notFound(`there is no incident ${shown}`);

export async function showIncident(
  { state }: Pick<Parts, "state">,
  shown: string,
): Promise<Outcome<ShownIncidentDetail>> {
  const id = recordIdOf(shown);
  if (id === undefined) return noIncident(shown);
  return whenReachable(async () => {
    const found = await state.get("incident", id);
    if (found === undefined) return noIncident(shown);
    const { value, revision } = found;
    return done(
      {
        ...shownIncident(found),
        details: value.details,
        policy: value.policy.name,
        notifications: value.notifications.map(shownNotification),
        log: value.log.map(({ atMs, ...line }) => ({ at: momentText(atMs), ...line })),
        logDropped: value.logDropped,
      },
      revision,
    );
  });
}

export function listSilences({ view }: Seeing): z.output<typeof silenceAnswer>[] {
  return [...view.silences.values()].map(({ value }) => ({
    key: value.key,
    severity: value.severity,
    by: value.by,
    text: value.text,
    createdAt: momentText(value.createdAtMs),
    until: momentText(value.untilMs),
  }));
}

export function listPeople({ view }: Seeing): z.output<typeof personAnswer>[] {
  return [...view.people.values()]
    .sort((a, b) => a.id.localeCompare(b.id, "en"))
    .map(({ id, value }) => ({
      name: id,
      // What a monitor knew that does not speak any more is not known.
      reachability: view.speakers.size === 0 ? "unknown" : value.reachability,
      since: momentText(value.sinceMs),
      onCall: value.onCall,
      devices: value.devices.map(({ jid, priority, roundTripMs }) => {
        return { jid, priority, roundTripMs };
      }),
      lastReceiptAt: momentOrNull(value.lastReceiptAtMs),
      lastDrill: value.lastDrill && {
        at: momentText(value.lastDrill.atMs),
        state: value.lastDrill.state,
        receiptMs: value.lastDrill.receiptMs,
        answerMs: value.lastDrill.answerMs,
      },
    }));
}

export const DRILLS_LENGTH_MAX = 200;

/** The newest first. */
export async function listDrills(
  { state, view }: Pick<Parts, "state" | "view">,
  person: string,
): Promise<Outcome<{ drills: ShownDrill[] }>> {
  if (!view.people.has(person)) return noPerson(person);
  return whenReachable(async () => {
    const { entries, revision } = await state.list("drill", {
      prefix: `${person}/`,
      descending: true,
      limit: DRILLS_LENGTH_MAX,
    });
    const drills = entries.map(({ id, value }) => {
      const sentAtMs = value.sentAtMs ?? value.createdAtMs;
      const since = (ms: number | null) => (ms === null ? null : ms - sentAtMs);
      return {
        id,
        purpose: value.purpose,
        by: value.by,
        state: value.state,
        startedAt: momentText(value.createdAtMs),
        receiptMs: since(value.deliveredAtMs),
        answerMs: since(value.answeredAtMs),
      };
    });
    return done({ drills }, revision);
  });
}

export const noPerson = (name: string) =>
  notFound(`no monitor knows a person named ${JSON.stringify(name)}`);

export function listMonitors({ view }: Seeing): z.output<typeof monitorAnswer>[] {
  const speaker = speakerOf(view);
  return [...view.monitors.values()]
    .sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }))
    .map(({ id, value }) => ({
      name: id,
      speaks: id === speaker,
      xmppIsUp: value.xmppIsUp,
      startedAt: momentText(value.startedAtMs),
      seenAt: momentText(value.seenAtMs),
    }));
}

/** Name of the monitor that speaks; undefined while none does. */
export function speakerOf(view: View): string | undefined {
  return [...view.speakers.values()][0]?.value.monitor;
}

export function shownIncident({
  value,
  revision,
}: Pick<Kept<KnownIncident>, "value" | "revision">): ShownIncident {
  return {
    id: shownId(value),
    key: value.key,
    severity: value.severity,
    state: value.state,
    summary: value.summary,
    since: momentText(value.sinceMs),
    openedAt: momentText(value.openedAtMs),
    resolvedAt: momentOrNull(value.resolvedAtMs),
    acknowledgedBy: value.ack?.by ?? null,
    acknowledgedUntil: momentOrNull(value.ack?.expiresAtMs ?? null),
    silencedUntil: momentOrNull(value.silence?.untilMs ?? null),
    explainedBy: value.explainedBy === null ? null : shownOf(value.explainedBy),
    level: value.level + 1,
    nextAt: momentOrNull(nextDeadline(value)),
    revision,
  };
}

/** A record's id as people say it. */
function shownOf(id: string): string {
  const [digits = "", origin = ""] = id.split("@");
  return shownId({ number: Number(digits), origin });
}

function nextDeadline({ deadlines }: KnownIncident): number | null {
  const moments = Object.values(deadlines).filter((one) => typeof one === "number");
  return moments.length === 0 ? null : Math.min(...moments);
}

function shownNotification(one: Notification): z.output<typeof notificationAnswer> {
  return {
    person: one.person,
    room: one.room,
    purpose: one.purpose,
    state: one.state,
    level: one.level + 1,
    round: one.round,
    text: one.text,
    queuedAt: momentText(one.queuedAtMs),
    sentAt: momentOrNull(one.sentAtMs),
    acceptedAt: momentOrNull(one.acceptedAtMs),
    deliveredAt: momentOrNull(one.deliveredAtMs),
    displayedAt: momentOrNull(one.displayedAtMs),
    acknowledgedAt: momentOrNull(one.acknowledgedAtMs),
    fallbackAt: momentOrNull(one.fallbackAtMs),
    fallbackTakenAt: momentOrNull(one.fallbackTakenAtMs),
    sendings: one.sendings,
    devices: one.devices.map(shownDevice),
  };
}

function shownDevice(device: Device): z.output<typeof deviceAnswer> {
  return {
    jid: device.jid,
    sentAt: momentOrNull(device.sentAtMs),
    acceptedAt: momentOrNull(device.acceptedAtMs),
    deliveredAt: momentOrNull(device.deliveredAtMs),
    displayedAt: momentOrNull(device.displayedAtMs),
    bouncedAt: momentOrNull(device.bouncedAtMs),
  };
}
