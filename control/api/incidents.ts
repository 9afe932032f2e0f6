/** Endpoints about incidents: what is wrong, who was told and answered, and what to do about it. */
import { z } from "zod";
import {
  drillAnswer,
  incidentAnswer,
  incidentDetailAnswer,
  listDrills,
  listIncidents,
  listMonitors,
  listPeople,
  listSilences,
  monitorAnswer,
  personAnswer,
  showIncident,
  silenceAnswer,
} from "../operations/incidents.ts";
import {
  escalateInput,
  noteInput,
  orderAnswer,
  orderDrill,
  orderForIncident,
  orderSilence,
  orderUnsilence,
  resolveInput,
  type ShownOrder,
  silenceIncidentInput,
  silenceInput,
} from "../operations/orders.ts";
import { done } from "../operations/outcome.ts";
import { type Endpoint, endpoint } from "./endpoint.ts";

/** All orders: an operator's, answered when the monitor that speaks has obeyed. */
const ordered = {
  role: "operator",
  forCredential: false,
  answer: orderAnswer,
  isLate: ({ obeyed }: ShownOrder) => !obeyed,
} as const;

const READ = { role: "viewer", forCredential: false } as const;

export const INCIDENT_ENDPOINTS: readonly Endpoint[] = [
  endpoint({
    method: "GET",
    path: "/v1/incidents",
    summary: "Incidents, the newest first",
    ...READ,
    query: z.strictObject({
      all: z.enum(["true", "false"]).optional().describe("true: those that are over, too"),
    }),
    answer: z.strictObject({ incidents: z.array(incidentAnswer) }),
    run: ({ parts, query }) =>
      done({ incidents: listIncidents(parts, { all: query.all === "true" }) }, parts.view.revision),
  }),
  endpoint({
    method: "GET",
    path: "/v1/incidents/{incident}",
    summary: "One incident with its timeline: who was told when, on which device, and answered",
    ...READ,
    answer: incidentDetailAnswer,
    run: ({ parts, params }) => showIncident(parts, params["incident"] ?? ""),
  }),
  endpoint({
    method: "POST",
    path: "/v1/incidents/{incident}/ack",
    summary: "Take an incident: nobody else is paged until that expires",
    ...ordered,
    run: ({ parts, context, params }) =>
      orderForIncident(parts, context, params["incident"] ?? "", { verb: "ack" }),
  }),
  endpoint({
    method: "POST",
    path: "/v1/incidents/{incident}/unack",
    summary: "Give an incident back: people are paged again",
    ...ordered,
    run: ({ parts, context, params }) =>
      orderForIncident(parts, context, params["incident"] ?? "", { verb: "unack" }),
  }),
  endpoint({
    method: "POST",
    path: "/v1/incidents/{incident}/resolve",
    summary: "Close an incident; it opens again if it is still bad after 5 minutes",
    ...ordered,
    body: resolveInput,
    run: ({ parts, context, params, body }) =>
      orderForIncident(parts, context, params["incident"] ?? "", { verb: "resolve", ...body }),
  }),
  endpoint({
    method: "POST",
    path: "/v1/incidents/{incident}/silence",
    summary: "Tell nobody of this incident for a while, unless it gets worse",
    ...ordered,
    body: silenceIncidentInput,
    run: ({ parts, context, params, body: { seconds, text } }) =>
      orderForIncident(parts, context, params["incident"] ?? "", {
        verb: "silence",
        durationMs: seconds * 1000,
        text,
      }),
  }),
  endpoint({
    method: "POST",
    path: "/v1/incidents/{incident}/escalate",
    summary: "Tell the next level now, or one person",
    ...ordered,
    body: escalateInput,
    run: ({ parts, context, params, body }) =>
      orderForIncident(parts, context, params["incident"] ?? "", { verb: "escalate", ...body }),
  }),
  endpoint({
    method: "POST",
    path: "/v1/incidents/{incident}/note",
    summary: "Write a line into the timeline; all who were told read it",
    ...ordered,
    body: noteInput,
    run: ({ parts, context, params, body }) =>
      orderForIncident(parts, context, params["incident"] ?? "", { verb: "note", ...body }),
  }),
  endpoint({
    method: "GET",
    path: "/v1/silences",
    summary: "What nobody is told of, and until when",
    ...READ,
    answer: z.strictObject({ silences: z.array(silenceAnswer) }),
    run: ({ parts }) => done({ silences: listSilences(parts) }, parts.view.revision),
  }),
  endpoint({
    method: "POST",
    path: "/v1/silences",
    summary: "Tell nobody of something for a while, whether it is wrong now or not",
    ...ordered,
    body: silenceInput,
    run: ({ parts, context, body }) => orderSilence(parts, context, body),
  }),
  endpoint({
    method: "DELETE",
    path: "/v1/silences/{key}",
    summary: "End a silence",
    ...ordered,
    run: ({ parts, context, params }) => orderUnsilence(parts, context, params["key"] ?? ""),
  }),
  endpoint({
    method: "GET",
    path: "/v1/people",
    summary: "Who is on call and who can be reached, as the monitor knows",
    ...READ,
    answer: z.strictObject({ people: z.array(personAnswer) }),
    run: ({ parts }) => done({ people: listPeople(parts) }, parts.view.revision),
  }),
  endpoint({
    method: "POST",
    path: "/v1/people/{person}/drill",
    summary: "Send a test message that wants an answer, and measure both",
    ...ordered,
    run: ({ parts, context, params }) => orderDrill(parts, context, params["person"] ?? ""),
  }),
  endpoint({
    method: "GET",
    path: "/v1/people/{person}/drills",
    summary: "Drills of a person, the newest first",
    ...READ,
    answer: z.strictObject({ drills: z.array(drillAnswer) }),
    run: ({ parts, params }) => listDrills(parts, params["person"] ?? ""),
  }),
  endpoint({
    method: "GET",
    path: "/v1/monitors",
    summary: "Monitors that are alive, and which of them speaks to people",
    ...READ,
    answer: z.strictObject({ monitors: z.array(monitorAnswer) }),
    run: ({ parts }) => done({ monitors: listMonitors(parts) }, parts.view.revision),
  }),
];
