/**
 * The section `monitor:` of the configuration file as zod rows: shapes, bounds, defaults and help.
 * Whether its names fit together is `check.ts`; what comes of it is `paging.ts`.
 */
import { z } from "zod";
import { LEVEL_COUNT_MAX, SILENCE_MS_MAX, TARGET_COUNT_MAX } from "../../core/cluster/incidents.ts";
import { NAME_PATTERN } from "../../core/cluster/records.ts";
import { parseDuration, parseLocal } from "./durations.ts";
import { isTimeZone } from "./localTime.ts";

export const PEOPLE_COUNT_MAX = 50;
const ENTRY_COUNT_MAX = 100;
const DAY_MS = 86_400_000;

const name = z.string().regex(NAME_PATTERN, "lower-case letters, digits and dashes, at most 63");
/** RFC 7622, without the resource: what people give each other. */
const bareJid = z
  .string()
  .max(1_023)
  .regex(/^[^\s@/"&'<>:]+@[^\s@/]+$/, "must be an address like alice@alert.example");

const duration = (minMs: number, maxMs: number) =>
  z.string().transform((text, context) => {
    const ms = parseDuration(text);
    if (ms !== undefined && ms >= minMs && ms <= maxMs) return ms;
    const message =
      ms === undefined
        ? "must be a duration like 30s, 15m or P7D"
        : `must be from ${minMs / 1_000} s to ${maxMs / 1_000} s`;
    context.issues.push({ code: "custom", message, input: text });
    return z.NEVER;
  });

const localTime = z.string().transform((text, context) => {
  const ms = parseLocal(text);
  if (ms !== undefined) return ms;
  const message = "must be a date and time like 2026-01-05T09:00, without a zone";
  context.issues.push({ code: "custom", message, input: text });
  return z.NEVER;
});

const timezone = z.string().max(100).refine(isTimeZone, "must be an IANA zone like Europe/Zurich");

export const personSchema = z.strictObject({
  jid: bareJid.describe("XMPP account, without a resource"),
  fallback: z
    .array(z.union([z.strictObject({ xmpp: bareJid }), z.strictObject({ webhook: name })]))
    .max(4)
    .default([])
    .describe("other ways, used when the link is down for 10 s"),
});

const groupSchema = z.array(name).min(1).max(PEOPLE_COUNT_MAX);

export const scheduleSchema = z.strictObject({
  timezone: timezone.default("UTC").describe("IANA zone of all times of this schedule"),
  rotation: z
    .strictObject({
      start: localTime,
      every: duration(3_600_000, 366 * DAY_MS),
      people: z.array(name).min(1).max(PEOPLE_COUNT_MAX),
    })
    .optional()
    .describe("who is on call in turn"),
  overrides: z
    .array(
      z
        .strictObject({ from: localTime, to: localTime, person: name })
        .refine(({ from, to }) => from < to, { path: ["to"], message: "must be after from" }),
    )
    .max(1_000)
    .default([])
    .describe("stretches of time that somebody else takes"),
});

const levelSchema = z.strictObject({
  to: z
    .array(
      z
        .string()
        .regex(
          /^(?:person|schedule|group):[a-z0-9-]+$/,
          "must be person:NAME, schedule:NAME or group:NAME",
        ),
    )
    .min(1)
    .max(TARGET_COUNT_MAX),
  room: bareJid.optional().describe("room that is told as well"),
  after: duration(100, DAY_MS).optional().describe("told when nobody acknowledged for so long"),
});

const timeout = duration(100, DAY_MS);
export const policySchema = z.strictObject({
  resend_after: timeout.prefault("5s").describe("no receipt: to each device"),
  receipt_timeout: timeout.prefault("30s").describe("no receipt: the next level"),
  receipt_timeout_away: timeout.prefault("10s").describe("the same, when no device is there"),
  ack_timeout: timeout.prefault("120s").describe("a receipt, but no answer: the next level"),
  ack_expires: timeout.prefault("15m").describe("an acknowledgement holds for so long"),
  levels: z.array(levelSchema).min(1).max(LEVEL_COUNT_MAX),
  repeat: z
    .strictObject({
      every: duration(1_000, DAY_MS).prefault("120s"),
      times: z.literal("forever"),
    })
    .partial({ times: true })
    .prefault({})
    .describe("once all levels were told"),
});

export const matchSchema = z.strictObject({
  severity: z.enum(["crit", "warn"]).optional(),
  kind: z.string().min(1).max(100).optional(),
  subject: z.string().min(1).max(200).optional().describe("may end with *"),
});

export const silenceSchema = z
  .strictObject({
    match: matchSchema,
    from: localTime,
    to: localTime,
    timezone: timezone.default("UTC"),
    reason: z.string().max(200).default(""),
  })
  .refine(({ from, to }) => from < to, { path: ["to"], message: "must be after from" })
  .refine(({ from, to }) => to - from <= SILENCE_MS_MAX, {
    path: ["to"],
    message: "must be at most 24 h after from",
  });

export const webhookSchema = z.strictObject({
  url: z.url({ protocol: /^https?$/, error: "must be an http or https URL" }).max(2_000),
  tokenFile: z.string().min(1).optional().describe("file with a token, sent as a bearer"),
  secretFile: z.string().min(1).optional().describe("file with a secret that signs each request"),
  caFile: z.string().min(1).optional().describe("authority that signed the URL's certificate"),
});
export type WebhookOptions = z.infer<typeof webhookSchema>;

export const xmppSchema = z.strictObject({
  jid: bareJid.describe("account of this monitor"),
  passwordFile: z.string().min(1).describe("file with its password"),
  host: z.string().min(1).max(255).optional().describe("server, if not the domain of the jid"),
  port: z.int().min(1).max(65_535).default(5223).describe("of direct TLS"),
  caFile: z.string().min(1).optional().describe("authority that signed its certificate"),
});
export type XmppOptions = z.infer<typeof xmppSchema>;

const named = <S extends z.ZodType>(schema: S, countMax = ENTRY_COUNT_MAX) =>
  z
    .record(name, schema)
    .refine((entries) => Object.keys(entries).length <= countMax, `at most ${countMax} entries`);

export const monitorSection = z.strictObject({
  name: name
    .default("monitor-1")
    .describe("name of this monitor in the cluster state; each has its own"),
  probe: z
    .boolean()
    .default(true)
    .describe("log in as a client would, and try every shard through every proxy, each second"),
  certificateFiles: z
    .array(z.string().min(1))
    .max(ENTRY_COUNT_MAX)
    .default([])
    .describe("certificates (PEM) that must not expire unseen"),
  cluster: z
    .string()
    .regex(/^[\w .-]{1,40}$/, "letters, digits, blanks, dots and dashes, at most 40")
    .default("memward")
    .describe("name of this cluster in messages"),
  people: named(personSchema, PEOPLE_COUNT_MAX).default({}).describe("who can be told"),
  groups: named(groupSchema).default({}).describe("lists of people; all is always there"),
  schedules: named(scheduleSchema).default({}).describe("who is on call when"),
  policies: named(policySchema).default({}).describe("who is told after whom, and when"),
  routes: z
    .array(z.strictObject({ match: matchSchema.default({}), policy: name }))
    .max(ENTRY_COUNT_MAX)
    .default([])
    .describe("which policy an incident takes; the first that matches"),
  silences: z.array(silenceSchema).max(ENTRY_COUNT_MAX).default([]).describe("announced work"),
  webhooks: named(webhookSchema).default({}).describe("URLs that people and alerts refer to"),
  xmpp: xmppSchema.optional().describe("the link that carries messages"),
  fallbackXmpp: xmppSchema.optional().describe("an account elsewhere, for when that link is down"),
  // Its rows belong to whoever reads it.
  alerts: z.unknown().optional().describe("alerts of customers, by cache"),
});
export type MonitorSection = z.infer<typeof monitorSection>;
