/** Metrics as rows: values are read at scrape time, and processes are merged with their names. */
import { expect, test } from "vitest";
import {
  createRegistry,
  type MetricTable,
  mergeMetrics,
  PROCESS_METRICS,
  readFamilies,
  registerMetrics,
  registerProcessMetrics,
} from "../../../core/runtime/metrics.ts";

const TABLE = {
  requests: {
    name: "test_requests_total",
    kind: "counter",
    labels: ["command", "result"],
    help: "Requests.",
  },
  duration: { name: "test_seconds", kind: "histogram", labels: ["cache"], help: "Time." },
} as const satisfies MetricTable;

function registryOf(counts: Float64Array) {
  const registry = createRegistry();
  registerMetrics(registry, TABLE, {
    requests: (emit) => emit(counts[0] ?? 0, "get", 'h"it'),
    duration: (emit) => emit({ bounds: [0.1, 1], counts: [2, 0, 3], sum: 7.5 }, "default"),
  });
  return registry;
}

test("the value of the moment of the scrape is shown, with labels escaped", async () => {
  const counts = new Float64Array(1);
  const registry = registryOf(counts);
  counts[0] = 5;
  expect(await registry.metrics()).toContain(
    [
      "# HELP test_requests_total Requests.",
      "# TYPE test_requests_total counter",
      'test_requests_total{command="get",result="h\\"it"} 5',
    ].join("\n"),
  );
});

test("buckets are cumulative and end with +Inf, which equals the count", async () => {
  const text = await registryOf(new Float64Array(1)).metrics();
  expect(text.split("\n").filter((line) => line.startsWith("test_seconds"))).toEqual([
    'test_seconds_bucket{cache="default",le="0.1"} 2',
    'test_seconds_bucket{cache="default",le="1"} 2',
    'test_seconds_bucket{cache="default",le="+Inf"} 5',
    'test_seconds_sum{cache="default"} 7.5',
    'test_seconds_count{cache="default"} 5',
  ]);
});

test("families of several processes become one family with one header", async () => {
  const one = await readFamilies(registryOf(Float64Array.of(1)));
  const two = await readFamilies(registryOf(Float64Array.of(2)));
  const wire: unknown = JSON.parse(JSON.stringify(two)); // As it travels between processes.
  const text = await mergeMetrics([
    { process: "proxy-1", families: one },
    { process: "proxy-2", families: wire as typeof two },
  ]);
  expect(text.match(/# TYPE test_requests_total/g)).toHaveLength(1);
  expect(text).toContain('result="h\\"it",process="proxy-1"} 1');
  expect(text).toContain('result="h\\"it",process="proxy-2"} 2');
});

test("a process measures itself", async () => {
  const registry = createRegistry();
  registerProcessMetrics(registry);
  const families = await readFamilies(registry);
  expect(families.map(({ name }) => name)).toEqual(
    Object.values(PROCESS_METRICS).map(({ name }) => name),
  );
  const rss = families.find(({ name }) => name === PROCESS_METRICS.rss.name);
  expect(rss?.values[0]?.value).toBeGreaterThan(10 * 1024 ** 2);
});
