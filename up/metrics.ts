/** What the supervisor counts about the processes it runs. */
import type { MetricTable } from "../core/runtime/metrics.ts";

export const UP_METRICS = {
  info: {
    name: "memward_build_info",
    kind: "gauge",
    labels: ["version", "node"],
    help: "Always 1; says which release runs on which runtime.",
  },
  ready: {
    name: "memward_role_ready",
    kind: "gauge",
    labels: ["role", "name"],
    help: "Whether the role can serve: 1 or 0.",
  },
  starts: {
    name: "memward_role_starts_total",
    kind: "counter",
    labels: ["role", "name"],
    help: "How often the process of the role was started.",
  },
  exits: {
    name: "memward_role_exits_total",
    kind: "counter",
    labels: ["role", "name", "reason"],
    help: "How often the process of the role ended without being told to, by reason.",
  },
  scrapesMissed: {
    name: "memward_role_scrapes_missed_total",
    kind: "counter",
    labels: ["role", "name"],
    help: "Scrapes that left the role out because it did not answer in time.",
  },
} as const satisfies MetricTable;
