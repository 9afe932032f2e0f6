/** The metrics of what the monitor sees, as rows. */
export const WATCH_METRICS = {
  lines: {
    name: "memward_monitor_view_lines_total",
    kind: "counter",
    labels: [],
    help: "Lines read from the views of proxies.",
  },
  streams: {
    name: "memward_monitor_view_streams",
    kind: "gauge",
    labels: [],
    help: "Proxies whose view is followed.",
  },
  conditions: {
    name: "memward_monitor_conditions",
    kind: "gauge",
    labels: ["kind"],
    help: "What is wrong now, by kind; an incident is made of each that lasts.",
  },
  probeSeconds: {
    name: "memward_monitor_probe_seconds",
    kind: "gauge",
    labels: ["proxy", "shard"],
    help: "The slowest of set, get and delete of the last canary, by proxy and shard (node name).",
  },
  probeFailures: {
    name: "memward_monitor_probe_failures_total",
    kind: "counter",
    labels: ["proxy", "shard"],
    help: "Canaries that failed, by proxy and shard (node name).",
  },
} as const;
