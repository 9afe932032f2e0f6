/**
 * Promises about false incidents and about real ones, on simulated traffic: ten minutes here, a
 * day and many seeds by `npm run bench -- --only incidents`.
 */
import { describe, expect, test } from "vitest";
import {
  incidentsOf,
  jitter2016,
  type Setting,
  Simulation,
  sickNodes,
  type Trouble,
} from "./simulation.ts";

const SEED = Number(process.env["SIMULATION_SEED"] ?? 20_261_121);
const CLUSTER = { proxies: 3, nodes: 6, seed: SEED };
const MINUTE_MS = 60_000;
const ONSET_MS = 20_000;

describe("ten minutes", () => {
  test.each([200, 30, 10])("of healthy traffic at %d/s opens no incident", (rate) => {
    expect(incidentsOf({ ...CLUSTER, rate }, 10 * MINUTE_MS)).toEqual([]);
  });

  test.each([
    200, 30, 10,
  ])("of the jitter of 2016 at %d/s is one incident of the network", (rate) => {
    const found = incidentsOf({ ...CLUSTER, rate, fault: jitter2016 }, 10 * MINUTE_MS);
    expect(found.map(({ key }) => key)).toEqual(["network:all"]);
  });
});

/** Milliseconds from the onset to the first condition that pages, and its key. */
function firstPage(
  setting: Setting,
  limitMs = 60_000,
): { key: string; tookMs: number } | undefined {
  const simulation = new Simulation(setting);
  while (simulation.nowMs < ONSET_MS + limitMs) {
    simulation.step();
    const told = simulation.told;
    const [page] = simulation.conditions.filter(
      ({ severity, kind, subject }) => severity === "crit" && told.includes(`${kind}:${subject}`),
    );
    if (page === undefined) continue;
    return { key: `${page.kind}:${page.subject}`, tookMs: simulation.nowMs - ONSET_MS };
  }
  return undefined;
}

const FAULTS: [name: string, trouble: Trouble, limitMs: number][] = [
  ["everything takes 20 ms longer", { share: 1, fromMs: 20, toMs: 21 }, 2_500],
  ["nothing is answered", { share: 1, fromMs: 250, toMs: 250 }, 2_500],
  ["30 % take 80 to 140 ms longer", { share: 0.3, fromMs: 80, toMs: 140 }, 3_000],
  ["15 % take 200 ms longer", { share: 0.15, fromMs: 200, toMs: 201 }, 3_500],
  ["12 % take 80 to 140 ms longer", { share: 0.12, fromMs: 80, toMs: 140 }, 5_000],
];

describe("one node of six is sick", () => {
  test.each(FAULTS)("%s: it is named in time", (_, trouble, limitMs) => {
    const fault = sickNodes(1, ONSET_MS, trouble);
    const page = firstPage({ ...CLUSTER, rate: 200, fault });
    expect(page?.key).toBe("shard:c1/node-1");
    expect(page?.tookMs).toBeLessThanOrEqual(limitMs);
  });

  test.each(FAULTS.slice(0, 2))("%s: in time at 30/s, too", (_, trouble, limitMs) => {
    const page = firstPage({ ...CLUSTER, rate: 30, fault: sickNodes(1, ONSET_MS, trouble) });
    expect(page?.key).toBe("shard:c1/node-1");
    expect(page?.tookMs).toBeLessThanOrEqual(limitMs);
  });

  test("5 % take 80 to 140 ms longer: it is named within half a minute", () => {
    const fault = sickNodes(1, ONSET_MS, { share: 0.05, fromMs: 80, toMs: 140 });
    expect(firstPage({ ...CLUSTER, rate: 200, fault })?.key).toBe("shard:c1/node-1");
  });

  test("within the jitter of 2016: it is listed under the network", () => {
    const all = { share: 0.15, fromMs: 5.3, toMs: 15.3 };
    const sick = { share: 1, fromMs: 20, toMs: 21 };
    const simulation = new Simulation({
      ...CLUSTER,
      rate: 200,
      fault: (node, atMs) => (node === 0 && atMs > ONSET_MS ? sick : all),
    });
    while (simulation.nowMs < ONSET_MS + 3_000) simulation.step();
    expect(simulation.told).toEqual(["network:all"]);
    expect(simulation.conditions.flatMap(({ explains }) => explains)).toContain("shard:c1/node-1");
  });
});

test("three of six sick nodes are all named, four of six are the network", () => {
  const trouble = { share: 1, fromMs: 20, toMs: 21 };
  const told = (count: number): string[] => {
    const simulation = new Simulation({
      ...CLUSTER,
      rate: 200,
      fault: sickNodes(count, ONSET_MS, trouble),
    });
    while (simulation.nowMs < ONSET_MS + 3_000) simulation.step();
    return simulation.told.filter((key) => !key.startsWith("sloBurn"));
  };
  expect(told(3)).toEqual(["shard:c1/node-1", "shard:c1/node-2", "shard:c1/node-3"]);
  expect(told(4)).toEqual(["network:all"]);
});

test("one proxy that is slow towards all nodes is that proxy", () => {
  const simulation = new Simulation({
    ...CLUSTER,
    rate: 200,
    fault: (_, atMs) => (atMs > ONSET_MS ? { share: 1, fromMs: 20, toMs: 21 } : undefined),
    concerns: (proxy) => proxy === 0,
  });
  while (simulation.nowMs < ONSET_MS + 4_000) simulation.step();
  expect(simulation.told).toContain("proxy:proxy-1");
});

test.each([
  [100, 0],
  [200, 6],
])("pauses of %d ms of each node every 30 s page at most %d times in ten minutes", (ms, most) => {
  const fault = (node: number, atMs: number) => {
    const since = (atMs + node * 5_000) % 30_000;
    // Who comes during the pause waits for its end.
    return since < ms ? { share: 1, fromMs: ms - since + 1, toMs: ms - since + 100 } : undefined;
  };
  const found = incidentsOf({ ...CLUSTER, rate: 200, fault }, 10 * MINUTE_MS);
  expect(found.filter(({ severity }) => severity === "crit").length).toBeLessThanOrEqual(most);
});
