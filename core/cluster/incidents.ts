/**
 * The records of the monitor: incidents with everybody who was told of them and what became of
 * that, silences, drills, what is known of people, and who speaks. An incident is one document:
 * whoever loads it can go on where another monitor stopped, as all its deadlines are moments
 * (milliseconds since 1970), never lengths. Everything in it is bounded.
 */
import { z } from "zod";

export const SEVERITIES = ["warn", "crit"] as const;
const severity = z.enum(SEVERITIES);

export const SUMMARY_LENGTH_MAX = 300;
export const DETAIL_COUNT_MAX = 10;
export const LOG_COUNT_MAX = 200;
export const NOTIFICATION_COUNT_MAX = 150;
export const DEVICE_COUNT_MAX = 12;
export const HANDLED_COUNT_MAX = 40;
/** A level of a policy names at most so many people, schedules and groups. */
export const TARGET_COUNT_MAX = 20;
export const LEVEL_COUNT_MAX = 10;

const atMs = z.int().min(0);
const moment = atMs.nullable();
const count = z.int().min(0);
const line = z.string().max(SUMMARY_LENGTH_MAX);
const word = z.string().max(100);
/** A key of conditions, `<kind>:<subject>`. */
const key = z.string().max(300);
/** RFC 7622: three parts of at most 1,023 bytes each. */
const jid = z.string().max(3_071);

/**
 * Whom to tell and when, as it was when the incident opened. A level is told when the one before
 * it was not reached or did not answer; one with `afterMs` when nobody acknowledged for so long.
 */
export const policySnapshot = z.strictObject({
  name: word,
  resendAfterMs: count,
  receiptTimeoutMs: count,
  /** In place of `receiptTimeoutMs` for people none of whose devices is there. */
  receiptTimeoutAwayMs: count,
  ackTimeoutMs: count,
  ackExpiresMs: count,
  levels: z
    .array(
      z.strictObject({
        /** `person:NAME`, `schedule:NAME` or `group:NAME`. */
        to: z.array(word).max(TARGET_COUNT_MAX),
        room: jid.nullable(),
        afterMs: count.nullable(),
      }),
    )
    .min(1)
    .max(LEVEL_COUNT_MAX),
  /** When all levels were told; without end. */
  repeatEveryMs: z.int().min(1_000),
});
export type PolicySnapshot = z.infer<typeof policySnapshot>;

/** What became of one message at one JID; a bare JID stands for what the server chose. */
const deviceRecord = z.strictObject({
  jid,
  /** Number of the sending, as in the suffix `.rN` of the message's id; 0: only heard of. */
  sending: count,
  sentAtMs: moment,
  acceptedAtMs: moment,
  deliveredAtMs: moment,
  displayedAtMs: moment,
  bouncedAtMs: moment,
});
export type Device = z.infer<typeof deviceRecord>;

/** In this order, never back; `cancelled` and `expired` end one that nobody got or answered. */
export const NOTIFICATION_STATES = [
  "queued",
  "sent",
  "accepted",
  "delivered",
  "displayed",
  "acknowledged",
  "cancelled",
  "expired",
] as const;
export type NotificationState = (typeof NOTIFICATION_STATES)[number];

/**
 * What one person (or one room) is told once: a `page` wants an answer, an `update` says what others
 * did or that it is over. Its message's id is `<incident>.<seq>.<person>`, with `.rN` when it is
 * sent for the Nth time.
 */
const notificationRecord = z.strictObject({
  seq: count,
  purpose: z.enum(["page", "update"]),
  /** "" for a room. */
  person: word,
  room: jid.nullable(),
  /** Index of the level that it was told as. */
  level: count,
  /** The first page of a person in an incident is of round 1. */
  round: count,
  /** Why this person, now; an update's whole text. */
  text: z.string().max(1_000),
  state: z.enum(NOTIFICATION_STATES),
  queuedAtMs: atMs,
  sentAtMs: moment,
  acceptedAtMs: moment,
  deliveredAtMs: moment,
  displayedAtMs: moment,
  acknowledgedAtMs: moment,
  /** When it is to be sent, the next time; null: no more. */
  dueAtMs: moment,
  /** Where to then: the bare JID, or each device that is there. */
  dueTo: z.enum(["person", "devices"]),
  sendings: count,
  bounces: count,
  fallbackAtMs: moment,
  /** At least one of the fallback channels took it. */
  fallbackTakenAtMs: moment,
  devices: z.array(deviceRecord).max(DEVICE_COUNT_MAX),
});
export type Notification = z.infer<typeof notificationRecord>;

const logLine = z.strictObject({
  atMs,
  /** Like `opened`, `paged`, `delivered`, `escalated`. */
  event: word,
  /** "" if it concerns nobody. */
  person: word,
  text: line,
});
export type LogLine = z.infer<typeof logLine>;

/** Which stanza was obeyed, so that one that comes twice gets the same answer. */
const handledStanza = z.strictObject({
  stanza: z.string().max(200),
  person: word,
  answer: z.string().max(1_000),
});

export const INCIDENT_STATES = ["open", "acknowledged", "recovering", "resolved"] as const;
export type IncidentState = (typeof INCIDENT_STATES)[number];

/** `channel`: the link was down, and what fallback there is brought no answer. */
export const ESCALATION_REASONS = ["unreached", "unanswered", "channel", "asked", "group"] as const;
export type EscalationReason = (typeof ESCALATION_REASONS)[number];

/** Moments at which something happens by itself, null when nothing will. */
const deadlines = z.strictObject({
  /** The next level is told because of `escalateReason`. */
  escalateAtMs: moment,
  escalateReason: z.enum(ESCALATION_REASONS).nullable(),
  /** The next level that has an `afterMs` is told. */
  groupAtMs: moment,
  repeatAtMs: moment,
  ackExpiresAtMs: moment,
  /** It was resolved by somebody while it was still bad: opens again unless it is calm then. */
  reopenAtMs: moment,
});
export type Deadlines = z.infer<typeof deadlines>;

/** Something that is wrong, from its first sign until everybody was told that it is over. */
export const incidentRecord = z.strictObject({
  /** Never used again. */
  number: z.int().min(1),
  /** Monitor that opened it while the state was away; "" for all others. */
  origin: z.string().max(63).default(""),
  key,
  kind: word,
  subject: z.string().max(200),
  severity,
  summary: line,
  details: z.array(line).max(DETAIL_COUNT_MAX),
  state: z.enum(INCIDENT_STATES),
  /** When it began, as far as can be told. */
  sinceMs: atMs,
  openedAtMs: atMs,
  /** When people began to be told, the last time that this began anew. */
  pagingSinceMs: moment,
  /** Null while it is bad. */
  calmSinceMs: moment,
  recoveringAtMs: moment,
  resolvedAtMs: moment,
  relapses: count,
  ack: z.strictObject({ by: word, atMs, expiresAtMs: atMs }).nullable(),
  /** A flag, not a state: nobody is told until `untilMs`, or until it gets worse. */
  silence: z.strictObject({ by: word, untilMs: atMs, id: word }).nullable(),
  /** Id of the incident that explains this one: it is listed there, and nobody is paged. */
  explainedBy: word.nullable(),
  policy: policySnapshot,
  /** Index of the highest level that was told, -1 for none. */
  level: z.int().min(-1).max(LEVEL_COUNT_MAX),
  deadlines,
  /** Seq of the last notification. */
  seq: count,
  notifications: z.array(notificationRecord).max(NOTIFICATION_COUNT_MAX),
  /** The first ones and the newest ones; `logDropped` tells how many between them are gone. */
  log: z.array(logLine).max(LOG_COUNT_MAX),
  logDropped: count,
  handled: z.array(handledStanza).max(HANDLED_COUNT_MAX),
});
export type Incident = z.infer<typeof incidentRecord>;

const NUMBER_DIGITS = 10;

/** Id of the record: orders as the numbers do. */
export function incidentId({ number, origin }: { number: number; origin: string }): string {
  const digits = String(number).padStart(NUMBER_DIGITS, "0");
  return origin === "" ? digits : `${digits}@${origin}`;
}

/** As people see and type it: 17, or 17@m2. */
export function shownId({ number, origin }: { number: number; origin: string }): string {
  return origin === "" ? `${number}` : `${number}@${origin}`;
}

/** Incidents that nobody is told of until `untilMs`; at most SILENCE_MS_MAX long. */
export const silenceRecord = z.strictObject({
  key,
  /** What is worse than this is told all the same. */
  severity,
  by: word,
  text: line.default(""),
  createdAtMs: atMs,
  untilMs: atMs,
  /** Stanza or order that asked for it. */
  cause: z.string().max(200).default(""),
});
export type Silence = z.infer<typeof silenceRecord>;
export const SILENCE_MS_MAX = 24 * 60 * 60 * 1000;

export const DRILL_PURPOSES = ["drill", "handover"] as const;
export const DRILL_STATES = ["waiting", "passed", "unreached", "unanswered"] as const;

/**
 * A message that proves the way to a person: asked for with `drill me` or `alert test`, which want
 * an answer, or a handover, which wants a receipt only. Its id is `<person>/<createdAtMs>`.
 */
export const drillRecord = z.strictObject({
  person: word,
  purpose: z.enum(DRILL_PURPOSES),
  /** Who asked for it; "" for a handover. */
  by: z.string().max(200),
  text: z.string().max(1_000),
  state: z.enum(DRILL_STATES),
  createdAtMs: atMs,
  sentAtMs: moment,
  acceptedAtMs: moment,
  deliveredAtMs: moment,
  answeredAtMs: moment,
  dueAtMs: moment,
  sendings: count,
  endsAtMs: atMs,
  cause: z.string().max(200).default(""),
});
export type Drill = z.infer<typeof drillRecord>;

/** Moments have at least thirteen digits for centuries, so ids order as drills do. */
export function drillId({ person, createdAtMs }: { person: string; createdAtMs: number }): string {
  return `${person}/${String(createdAtMs).padStart(13, "0")}`;
}

export const REACHABILITIES = ["unknown", "reachable", "unreachable"] as const;

/** What is known of the way to a person; its id is the person's name. */
export const personRecord = z.strictObject({
  reachability: z.enum(REACHABILITIES),
  /** Since when that is so. */
  sinceMs: atMs,
  /** Names of the schedules in which this person is on call now. */
  onCall: z.array(word).max(100),
  devices: z
    .array(
      z.strictObject({
        jid,
        priority: z.int().min(-128).max(127),
        /** Round trip of the last ping, null without an answer. */
        roundTripMs: z.number().min(0).nullable(),
        /** Pings in a row that were not answered. */
        misses: count,
      }),
    )
    .max(DEVICE_COUNT_MAX),
  lastReceiptAtMs: moment,
  lastDrill: z
    .strictObject({
      atMs,
      state: z.enum(DRILL_STATES),
      receiptMs: count.nullable(),
      answerMs: count.nullable(),
    })
    .nullable()
    .default(null),
});
export type Person = z.infer<typeof personRecord>;

export const ORDER_VERBS = [
  "ack",
  "unack",
  "resolve",
  "silence",
  "unsilence",
  "escalate",
  "note",
  "drill",
] as const;
export type OrderVerb = (typeof ORDER_VERBS)[number];

/**
 * What the API or the command line wants of the speaker, who obeys and deletes it in one commit.
 * Ids grow with time.
 */
export const orderRecord = z.strictObject({
  verb: z.enum(ORDER_VERBS),
  /** Id of an incident's record, or the key of a silence; "" where a verb needs neither. */
  target: z.string().max(300).default(""),
  /** Whom to drill or to escalate to. */
  person: word.default(""),
  text: z.string().max(500).default(""),
  /** Of a silence. */
  durationMs: z.int().min(1_000).max(SILENCE_MS_MAX).nullable().default(null),
  /** Like `token:<name>`. */
  by: z.string().max(200),
  createdAtMs: atMs,
});
export type Order = z.infer<typeof orderRecord>;

/** A running monitor; its id is its name. Leased. */
export const monitorRecord = z.strictObject({
  pid: z.int(),
  startedAtMs: atMs,
  /** Null when none is configured. */
  xmppIsUp: z.boolean().nullable().default(null),
  /** Moment of the last look at the proxies. */
  seenAtMs: atMs,
});
export type Monitor = z.infer<typeof monitorRecord>;

/**
 * Who of them speaks; there is one, its id is `speaker`. Leased. Each commit of the speaker writes
 * it anew under the condition that nobody else has: that fences off one who only believes to speak.
 */
export const speakerRecord = z.strictObject({
  monitor: word,
  /** Of this time in office; used once. */
  term: z.string().max(64).default(""),
  sinceMs: atMs,
  writes: count,
});
export type Speaker = z.infer<typeof speakerRecord>;
