/**
 * Metrics are rows of a table (name, kind, labels, help); their values are read at scrape time by
 * one reader per row, so the hot path only adds to typed arrays. A row without a reader does not
 * compile. Formatting, escaping and content type are prom-client's; its parts are loaded one by
 * one because its index also loads an HTTP client (12 MB in each process, measured).
 */
import { createRequire } from "node:module";
import type { Metric, Registry } from "prom-client";
import { clock } from "./clock.ts";

export type { Registry };

export interface MetricRow {
  readonly name: string;
  readonly kind: "counter" | "gauge" | "histogram";
  readonly labels: readonly string[];
  readonly help: string;
}
export type MetricTable = Readonly<Record<string, MetricRow>>;

/** `counts[i]` observations were at most `bounds[i]`; the last count is for those above all. */
export interface HistogramReading {
  readonly bounds: ArrayLike<number>;
  readonly counts: ArrayLike<number>;
  readonly sum: number;
}

type LabelValues<L extends readonly string[]> = { [I in keyof L]: string };
type Reading<R extends MetricRow> = R["kind"] extends "histogram" ? HistogramReading : number;

/** Called at scrape time; calls `emit` once for each combination of labels. */
export type Reader<R extends MetricRow = MetricRow> = (
  emit: (reading: Reading<R>, ...labels: LabelValues<R["labels"]>) => void,
) => void;

/** One metric as it travels between processes and into the exposition format. */
export interface MetricFamily {
  name: string;
  help: string;
  type: string;
  values: { value: number; labels: Record<string, string | number>; metricName?: string }[];
}

const require = createRequire(import.meta.url);
const RegistryClass = require("prom-client/lib/registry") as typeof Registry;

export const METRICS_CONTENT_TYPE = RegistryClass.PROMETHEUS_CONTENT_TYPE;

export function createRegistry(): Registry {
  return new RegistryClass();
}

/** Adds every row of the table to the registry, each with its reader. */
export function registerMetrics<const T extends MetricTable>(
  registry: Registry,
  table: T,
  readers: { [K in keyof T]: Reader<T[K]> },
): void {
  for (const key of Object.keys(table)) {
    const row = table[key] as T[keyof T];
    register(registry, row, () => readFamily(row, readers[key as keyof T] as Reader));
  }
}

/** The families of several processes as one text; each sample says whose it is. */
export function mergeMetrics(
  parts: readonly { process: string; families: readonly MetricFamily[] }[],
): Promise<string> {
  const merged = new Map<string, MetricFamily>();
  for (const part of parts) {
    for (const family of part.families) {
      const { name, help, type } = family;
      const into = merged.get(name) ?? { name, help, type, values: [] };
      merged.set(name, into);
      for (const value of family.values) {
        into.values.push({ ...value, labels: { ...value.labels, process: part.process } });
      }
    }
  }
  const registry = createRegistry();
  for (const family of merged.values()) register(registry, family, () => family);
  return registry.metrics();
}

export async function readFamilies(registry: Registry): Promise<MetricFamily[]> {
  return (await registry.getMetricsAsJSON()) as unknown as MetricFamily[];
}

/** The process itself; names as prom-client and other exporters have them. */
export const PROCESS_METRICS = {
  cpu: {
    name: "process_cpu_seconds_total",
    kind: "counter",
    labels: ["mode"],
    help: "CPU time of the process, user and system.",
  },
  startTime: {
    name: "process_start_time_seconds",
    kind: "gauge",
    labels: [],
    help: "When the process started, seconds since 1970.",
  },
  rss: {
    name: "process_resident_memory_bytes",
    kind: "gauge",
    labels: [],
    help: "Resident memory of the process.",
  },
  heap: {
    name: "nodejs_heap_size_used_bytes",
    kind: "gauge",
    labels: [],
    help: "Bytes of the JavaScript heap in use.",
  },
  external: {
    name: "nodejs_external_memory_bytes",
    kind: "gauge",
    labels: [],
    help: "Bytes outside of the JavaScript heap: buffers, arenas.",
  },
  loop: {
    name: "nodejs_eventloop_seconds_total",
    kind: "counter",
    labels: ["state"],
    help: "Time of the event loop, idle (waiting for work) and active (working).",
  },
} as const satisfies MetricTable;

export function registerProcessMetrics(registry: Registry): void {
  const startedAtSeconds = clock.unixMs() / 1000 - process.uptime();
  registerMetrics(registry, PROCESS_METRICS, {
    cpu: (emit) => {
      const { user, system } = process.cpuUsage();
      emit(user / 1e6, "user");
      emit(system / 1e6, "system");
    },
    startTime: (emit) => emit(startedAtSeconds),
    rss: (emit) => emit(process.memoryUsage.rss()),
    heap: (emit) => emit(process.memoryUsage().heapUsed),
    external: (emit) => emit(process.memoryUsage().external),
    loop: (emit) => {
      const { idle, active } = performance.eventLoopUtilization();
      emit(idle / 1000, "idle");
      emit(active / 1000, "active");
    },
  });
}

/** Adds one metric that is read as a whole. prom-client asks for nothing but name and `get`. */
export function register(
  registry: Registry,
  { name, help }: { name: string; help: string },
  get: () => MetricFamily | Promise<MetricFamily>,
): void {
  const metric = { name, help, get: async () => get(), reset: () => {} };
  registry.registerMetric(metric as unknown as Metric<string>);
}

function readFamily(row: MetricRow, reader: Reader): MetricFamily {
  const family: MetricFamily = { name: row.name, help: row.help, type: row.kind, values: [] };
  reader((reading, ...labelValues) => {
    const labels: Record<string, string | number> = {};
    row.labels.forEach((label, index) => {
      labels[label] = String(labelValues[index]);
    });
    if (typeof reading === "number") family.values.push({ value: reading, labels });
    else pushHistogram(family, reading as HistogramReading, labels);
  });
  return family;
}

/** Buckets are cumulative in the exposition format, single in our arrays. */
function pushHistogram(
  { name, values }: MetricFamily,
  { bounds, counts, sum }: HistogramReading,
  labels: Record<string, string | number>,
): void {
  let total = 0;
  for (let index = 0; index <= bounds.length; index++) {
    total += counts[index] ?? 0;
    const le = index < bounds.length ? (bounds[index] ?? 0) : "+Inf";
    values.push({ value: total, labels: { ...labels, le }, metricName: `${name}_bucket` });
  }
  values.push({ value: sum, labels, metricName: `${name}_sum` });
  values.push({ value: total, labels, metricName: `${name}_count` });
}
