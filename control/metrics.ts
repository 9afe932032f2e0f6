/** What the control role counts. */
import type { MetricTable } from "../core/runtime/metrics.ts";

export const CONTROL_METRICS = {
  requests: {
    name: "memward_api_requests_total",
    kind: "counter",
    labels: ["method", "route", "status"],
    help: "Requests to the admin API, by route and status.",
  },
  seconds: {
    name: "memward_api_request_seconds",
    kind: "histogram",
    labels: ["route"],
    help: "How long requests to the admin API took; those that wait for proxies too.",
  },
  rejected: {
    name: "memward_api_logins_rejected_total",
    kind: "counter",
    labels: ["status"],
    help: "Logins to the admin API that were refused: 401 wrong, 403 not allowed, 429 too many.",
  },
  reachable: {
    name: "memward_control_state_reachable",
    kind: "gauge",
    labels: [],
    help: "Whether the cluster state can be reached: 1 or 0.",
  },
  revision: {
    name: "memward_control_revision",
    kind: "gauge",
    labels: [],
    help: "Newest revision of the cluster state that this process has seen.",
  },
  records: {
    name: "memward_control_records",
    kind: "gauge",
    labels: ["kind"],
    help: "Caches, credentials and tokens that there are.",
  },
} as const satisfies MetricTable;

const BOUNDS_S = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5] as const;

/** Counted by route as it is written in the table, so that labels are finite. */
export class RequestCounters {
  /** By method, route and status. */
  readonly counts: Map<string, number> = new Map();
  readonly times: Map<string, { bounds: readonly number[]; counts: number[]; sum: number }> =
    new Map();

  count({ method, route, status, ms }: Counted): void {
    const key = `${method} ${route} ${status}`;
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
    const seconds = ms / 1000;
    const time = this.times.get(route) ?? {
      bounds: BOUNDS_S,
      counts: new Array<number>(BOUNDS_S.length + 1).fill(0),
      sum: 0,
    };
    const at = BOUNDS_S.findIndex((bound) => seconds <= bound);
    const index = at < 0 ? BOUNDS_S.length : at;
    time.counts[index] = (time.counts[index] ?? 0) + 1;
    time.sum += seconds;
    this.times.set(route, time);
  }
}

interface Counted {
  readonly method: string;
  readonly route: string;
  readonly status: number;
  readonly ms: number;
}
