/** What goes into the pager and what comes out of it: events, effects, changes, and its state. */
import type {
  Drill,
  EscalationReason,
  Incident,
  Order,
  Person,
  Silence,
} from "../../core/cluster/incidents.ts";
import type { Condition } from "../condition.ts";
import type { Channel } from "../config/paging.ts";
import type { Shift } from "../escalate/rota.ts";
import type { IncomingText, OutgoingMessage } from "../xmpp/link.ts";

export type PagerEvent =
  /** All that is wrong now; what is missing is not wrong any more. */
  | { readonly kind: "observed"; readonly conditions: readonly Condition[] }
  /** Some time went by: at the latest when `nextDeadlineMs` said. */
  | { readonly kind: "tick" }
  /** The documents were loaded, from a crash or from another monitor: go on. Once, at first. */
  | { readonly kind: "tookOver" }
  /** Whether the state can be reached; while it cannot, incidents get ids like 17@m2. */
  | { readonly kind: "quorum"; readonly isThere: boolean; readonly monitor: string }
  | { readonly kind: "link"; readonly isUp: boolean }
  | {
      readonly kind: "presence";
      readonly from: string;
      readonly priority: number | null;
      readonly show: string;
    }
  /** Answer to the effect `ping`. */
  | { readonly kind: "pinged"; readonly jid: string; readonly roundTripMs: number | null }
  /** What became of a message; `from` is the full JID that said so. */
  | { readonly kind: "accepted"; readonly messageId: string }
  /** It may have been delivered or not; also when `send` rejected. */
  | { readonly kind: "unsure"; readonly messageId: string }
  | { readonly kind: "delivered"; readonly messageId: string; readonly from: string }
  | { readonly kind: "displayed"; readonly messageId: string; readonly from: string }
  | {
      readonly kind: "bounced";
      readonly messageId: string;
      readonly from: string;
      readonly condition: string;
    }
  /** Answer to the effect `fallback`. */
  | {
      readonly kind: "fellBack";
      readonly messageId: string;
      readonly isTaken: boolean;
      /** Shown in the timeline: which channel, what it answered. Nothing secret. */
      readonly detail: string;
    }
  /** Somebody wrote to us; who that is and what it means is decided here. */
  | { readonly kind: "text"; readonly message: IncomingText }
  | { readonly kind: "order"; readonly id: string; readonly order: Order };

export type Effect =
  /** Over the link; when it rejects, say `unsure`. */
  | { readonly kind: "send"; readonly message: OutgoingMessage; readonly person: string }
  /** An answer to who wrote to us: not sent again when it is lost, as they will ask again. */
  | { readonly kind: "reply"; readonly message: OutgoingMessage }
  /** By all these channels at once; then `fellBack`, once for each. */
  | {
      readonly kind: "fallback";
      readonly person: string;
      readonly channels: readonly Channel[];
      readonly messageId: string;
      readonly body: string;
      readonly payload: Readonly<Record<string, string>>;
    }
  /** End-to-end pings of these full JIDs; then `pinged`, once for each. */
  | { readonly kind: "ping"; readonly jids: readonly string[]; readonly timeoutMs: number }
  /** A line of an incident's log, for the log of the process. `incident` is as people see it. */
  | {
      readonly kind: "noted";
      readonly incident: string;
      readonly event: string;
      readonly person: string;
      readonly text: string;
    }
  | { readonly kind: "measured"; readonly measure: Measure };

/** For /metrics: each is one count, or one value of a histogram. */
export type Measure =
  | { readonly name: "opened"; readonly severity: string; readonly detectionSeconds: number }
  | { readonly name: "escalated"; readonly reason: EscalationReason }
  | {
      readonly name: "notified";
      readonly stage: "accepted" | "delivered" | "displayed" | "acknowledged";
      /** Since it was queued. */
      readonly seconds: number;
    }
  | { readonly name: "drilled"; readonly person: string; readonly receiptSeconds: number }
  | { readonly name: "unsure" }
  | { readonly name: "bounced" }
  | { readonly name: "duplicateReceipt" }
  /** Something came that nobody acts on, by its reason. */
  | { readonly name: "ignored"; readonly reason: string };

/** Records to write (null: to delete) before the effects of the same step. */
export type PagerChange =
  | { readonly kind: "incident"; readonly id: string; readonly value: Incident }
  | { readonly kind: "silence"; readonly id: string; readonly value: Silence | null }
  | { readonly kind: "drill"; readonly id: string; readonly value: Drill | null }
  | { readonly kind: "person"; readonly id: string; readonly value: Person | null }
  | { readonly kind: "order"; readonly id: string; readonly value: null };

export type Documents<T> = Readonly<Record<string, T>>;

/** What is loaded at the start, by id: enough to go on exactly where somebody stopped. */
export interface PagerDocuments {
  /** At least the unresolved ones, those of the last ten minutes, and the newest of all. */
  readonly incidents: Documents<Incident>;
  readonly silences: Documents<Silence>;
  readonly drills: Documents<Drill>;
  readonly people: Documents<Person>;
}

/** A device of a person, as presence and pings show it. */
export interface DeviceSeen {
  readonly priority: number;
  readonly show: string;
  readonly roundTripMs: number | null;
  /** Pings in a row without an answer. */
  readonly misses: number;
}

/** What only this process knows; learnt anew after a restart. Each part is replaced as a whole. */
export interface Memory {
  readonly link: {
    readonly isUp: boolean;
    readonly sinceMs: number;
    /** It was down for so long that the other channels are used at once. */
    readonly hasFallenBack: boolean;
  };
  readonly quorum: { readonly isThere: boolean; readonly monitor: string };
  readonly observedAtMs: number | null;
  /** What is wrong now, by key. */
  readonly present: Readonly<Record<string, Condition>>;
  /** Since when an unresolved incident's key is not among them; by id. */
  readonly calmSince: Readonly<Record<string, number>>;
  /** When an incident's summary was last brought up to date; by id. */
  readonly evidenceAt: Readonly<Record<string, number>>;
  /** By person and full JID. */
  readonly devices: Readonly<Record<string, Readonly<Record<string, DeviceSeen>>>>;
  /** Who is on call, by schedule. */
  readonly shifts: Readonly<Record<string, Shift>>;
  readonly pingDueMs: number | null;
  readonly peopleDueMs: number;
  /** When a stranger was last answered, by bare JID. */
  readonly strangers: Readonly<Record<string, number>>;
  /** Answers by sender and stanza, the newest last. */
  readonly answered: Readonly<Record<string, string>>;
  readonly highestNumber: number;
  readonly replyCount: number;
}

/** Plain data; only its documents are worth keeping. */
export interface PagerState extends PagerDocuments {
  readonly memory: Memory;
}
