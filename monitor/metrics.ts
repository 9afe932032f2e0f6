/** What the monitor counts. Labels are people, stages and reasons: all of them few. */
import { type MetricTable, type Registry, registerMetrics } from "../core/runtime/metrics.ts";
import type { Measure, PagerState } from "./incident/types.ts";

export const MONITOR_METRICS = {
  incidents: {
    name: "memward_monitor_incidents_open",
    kind: "gauge",
    labels: ["severity", "state"],
    help: "Incidents that are not over, as far as this monitor knows, by severity and state.",
  },
  detection: {
    name: "memward_monitor_detection_seconds",
    kind: "histogram",
    labels: [],
    help: "From when something began, as far as can be told, until its incident was opened.",
  },
  notify: {
    name: "memward_monitor_notify_seconds",
    kind: "histogram",
    labels: ["stage"],
    help: "From when a message was queued until the server had it, a device, a person's answer.",
  },
  escalations: {
    name: "memward_monitor_escalations_total",
    kind: "counter",
    labels: ["reason"],
    help: "How often the next level was told, by reason; channel: a fallback was used.",
  },
  outboxDepth: {
    name: "memward_monitor_outbox_depth",
    kind: "gauge",
    labels: [],
    help: "Messages to people that the server has not accepted yet.",
  },
  outboxOldest: {
    name: "memward_monitor_outbox_oldest_seconds",
    kind: "gauge",
    labels: [],
    help: "Age of the oldest of them; 0 when there is none.",
  },
  sent: {
    name: "memward_monitor_messages_sent_total",
    kind: "counter",
    labels: [],
    help: "Messages given to the link, those sent again too.",
  },
  cancelled: {
    name: "memward_monitor_messages_cancelled_total",
    kind: "counter",
    labels: [],
    help: "Pages that were not wanted any more when they were to be sent.",
  },
  xmppUp: {
    name: "memward_monitor_xmpp_up",
    kind: "gauge",
    labels: [],
    help: "Whether the link to the XMPP server is up: 1 or 0; 0 where none is configured.",
  },
  reconnects: {
    name: "memward_monitor_xmpp_reconnects_total",
    kind: "counter",
    labels: [],
    help: "How often the link came up, but for the first time.",
  },
  unsure: {
    name: "memward_monitor_sm_unsure_total",
    kind: "counter",
    labels: [],
    help: "Messages of which nobody knows whether they arrived; they are sent again.",
  },
  bounces: {
    name: "memward_monitor_bounces_total",
    kind: "counter",
    labels: [],
    help: "Messages that came back as errors.",
  },
  duplicates: {
    name: "memward_monitor_duplicate_receipts_total",
    kind: "counter",
    labels: [],
    help: "Receipts for what was delivered already: several devices, or sent again.",
  },
  ignored: {
    name: "memward_monitor_ignored_total",
    kind: "counter",
    labels: ["reason"],
    help: "What came over the link and nobody acts on, by reason.",
  },
  reachable: {
    name: "memward_monitor_person_reachable",
    kind: "gauge",
    labels: ["person"],
    help: "Whether a person can be reached: 1 or 0; those of whom nothing is known are left out.",
  },
  receipt: {
    name: "memward_monitor_person_receipt_seconds",
    kind: "gauge",
    labels: ["person"],
    help: "From the last drill of a person until a device had it.",
  },
  speaking: {
    name: "memward_monitor_speaking",
    kind: "gauge",
    labels: ["stance"],
    help: "1 for what this monitor does: speaking, alone (no quorum), campaigning, listening.",
  },
  fenced: {
    name: "memward_monitor_fenced_writes_total",
    kind: "counter",
    labels: [],
    help: "Writes that were refused because another monitor speaks.",
  },
  writes: {
    name: "memward_monitor_write_seconds",
    kind: "histogram",
    labels: [],
    help: "Until what was decided was safe in the cluster state, or in the journal.",
  },
  dropped: {
    name: "memward_monitor_events_dropped_total",
    kind: "counter",
    labels: [],
    help: "Events that were dropped because too many waited.",
  },
} as const satisfies MetricTable;

const BOUNDS_S = [
  0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300,
] as const;
const REASON_COUNT_MAX = 50;

class Histogram {
  readonly bounds = BOUNDS_S;
  readonly counts: number[] = new Array(BOUNDS_S.length + 1).fill(0);
  sum = 0;

  observe(seconds: number): void {
    const at = BOUNDS_S.findIndex((bound) => seconds <= bound);
    const index = at < 0 ? BOUNDS_S.length : at;
    this.counts[index] = (this.counts[index] ?? 0) + 1;
    this.sum += seconds;
  }
}

/** What the pager measured and the link counted. */
export class MonitorCounters {
  readonly detection = new Histogram();
  readonly writes = new Histogram();
  readonly notify = new Map<string, Histogram>();
  readonly escalations = new Map<string, number>();
  readonly ignored = new Map<string, number>();
  readonly receipts = new Map<string, number>();
  unsure = 0;
  bounces = 0;
  duplicates = 0;
  linkUps = 0;

  measured(measure: Measure): void {
    switch (measure.name) {
      case "opened":
        return this.detection.observe(measure.detectionSeconds);
      case "escalated":
        return add(this.escalations, measure.reason);
      case "notified": {
        const histogram = this.notify.get(measure.stage) ?? new Histogram();
        this.notify.set(measure.stage, histogram);
        return histogram.observe(measure.seconds);
      }
      case "drilled":
        this.receipts.set(measure.person, measure.receiptSeconds);
        return;
      case "unsure":
        this.unsure++;
        return;
      case "bounced":
        this.bounces++;
        return;
      case "duplicateReceipt":
        this.duplicates++;
        return;
      case "ignored":
        return add(this.ignored, measure.reason);
    }
  }
}

function add(counts: Map<string, number>, reason: string): void {
  const label = counts.has(reason) || counts.size < REASON_COUNT_MAX ? reason : "other";
  counts.set(label, (counts.get(label) ?? 0) + 1);
}

/** Where the numbers are read when somebody asks. */
export interface MonitorReadings {
  readonly counters: MonitorCounters;
  documents(): Pick<PagerState, "incidents" | "people">;
  unixMs(): number;
  isLinkUp(): boolean;
  stance(): string;
  fencedCount(): number;
  droppedCount(): number;
  sentCount(): number;
  cancelledCount(): number;
}

const STANCES = ["listening", "campaigning", "speaking", "alone"] as const;

export function registerMonitorMetrics(registry: Registry, from: MonitorReadings): void {
  const { counters } = from;
  registerMetrics(registry, MONITOR_METRICS, {
    incidents: (emit) => {
      for (const [key, count] of openCounts(from)) {
        const [severity = "", state = ""] = key.split(" ");
        emit(count, severity, state);
      }
    },
    detection: (emit) => emit(counters.detection),
    notify: (emit) => {
      for (const [stage, histogram] of counters.notify) emit(histogram, stage);
    },
    escalations: (emit) => {
      for (const [reason, count] of counters.escalations) emit(count, reason);
    },
    outboxDepth: (emit) => emit(waitingSince(from).length),
    outboxOldest: (emit) => {
      const since = waitingSince(from);
      emit(since.length === 0 ? 0 : Math.max(0, from.unixMs() - Math.min(...since)) / 1000);
    },
    sent: (emit) => emit(from.sentCount()),
    cancelled: (emit) => emit(from.cancelledCount()),
    xmppUp: (emit) => emit(from.isLinkUp() ? 1 : 0),
    reconnects: (emit) => emit(Math.max(0, counters.linkUps - 1)),
    unsure: (emit) => emit(counters.unsure),
    bounces: (emit) => emit(counters.bounces),
    duplicates: (emit) => emit(counters.duplicates),
    ignored: (emit) => {
      for (const [reason, count] of counters.ignored) emit(count, reason);
    },
    reachable: (emit) => {
      for (const [name, { reachability }] of Object.entries(from.documents().people)) {
        if (reachability !== "unknown") emit(reachability === "reachable" ? 1 : 0, name);
      }
    },
    receipt: (emit) => {
      for (const [person, seconds] of counters.receipts) emit(seconds, person);
    },
    speaking: (emit) => {
      for (const stance of STANCES) emit(from.stance() === stance ? 1 : 0, stance);
    },
    fenced: (emit) => emit(from.fencedCount()),
    writes: (emit) => emit(counters.writes),
    dropped: (emit) => emit(from.droppedCount()),
  });
}

function openCounts({ documents }: MonitorReadings): Map<string, number> {
  const counts = new Map(["crit open", "warn open"].map((key) => [key, 0]));
  for (const { severity, state } of Object.values(documents().incidents)) {
    if (state === "resolved") continue;
    const key = `${severity} ${state}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

/** When each message was queued that is on its way to the server. */
function waitingSince({ documents }: MonitorReadings): number[] {
  return Object.values(documents().incidents).flatMap(({ notifications }) =>
    notifications
      .filter(({ state }) => state === "queued" || state === "sent")
      .map(({ queuedAtMs }) => queuedAtMs),
  );
}
