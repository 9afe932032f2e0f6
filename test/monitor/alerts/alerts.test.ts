/** Alerts of a cache: thresholds, margin, silence without traffic. */
import { expect, test } from "vitest";
import { alertsSchema } from "../../../core/cluster/records.ts";
import { AlertBook, type AlertFigures, figuresOf } from "../../../monitor/alerts/alerts.ts";
import { Burn } from "../../../monitor/detect/burn.ts";

const NOTHING: AlertFigures = {
  hitRate: null,
  memoryUsed: null,
  slowShare: null,
  errorShare: null,
  sessions: 0,
};
const TARGET = "xmpp:shop@example.test";

function watch(thresholds: object) {
  const book = new AlertBook();
  const alerts = alertsSchema.parse({ target: TARGET, ...thresholds });
  return (figures: Partial<AlertFigures>) =>
    book
      .findings(new Map([["c1", { name: "shop", alerts }]]), () => ({ ...NOTHING, ...figures }))
      .map(({ subject, summary, target }) => ({ subject, summary, target }));
}

test("a hit rate below its threshold is told until it is better by a margin", () => {
  const look = watch({ hitRateMin: 0.8 });
  expect(look({ hitRate: 0.81 })).toEqual([]);
  expect(look({ hitRate: 0.5 })).toEqual([
    { subject: "c1/hitRate", summary: "shop: hit rate 50 %, below 80 %", target: TARGET },
  ]);
  expect(look({ hitRate: 0.82 })).toHaveLength(1);
  expect(look({ hitRate: null })).toHaveLength(1);
  expect(look({ hitRate: 0.89 })).toEqual([]);
  expect(look({ hitRate: null })).toEqual([]);
});

test("memory, latency, errors and connections above theirs are told", () => {
  const look = watch({
    memoryUsedMax: 0.9,
    slowShareMax: 0.01,
    errorShareMax: 0.01,
    sessionsMax: 100,
  });
  const found = look({ memoryUsed: 0.95, slowShare: 0.02, errorShare: 0.5, sessions: 101 });
  expect(found.map(({ subject }) => subject)).toEqual([
    "c1/memory",
    "c1/latency",
    "c1/errors",
    "c1/connections",
  ]);
});

test("without a target nobody is told", () => {
  expect(watch({ target: null, sessionsMax: 1 })({ sessions: 5 })).toEqual([]);
});

test("figures are of the last two minutes, and need some traffic", () => {
  const burn = new Burn();
  const others = { memoryUsed: null, sessions: 3, nowMs: 10_000 };
  burn.add({ nowMs: 10_000, total: 100, bad: 1, errors: 1, hits: 50, misses: 50 });
  expect(figuresOf(burn, others)).toEqual({ ...NOTHING, sessions: 3 });
  burn.add({ nowMs: 10_000, total: 900, bad: 9, errors: 4, hits: 700, misses: 200 });
  expect(figuresOf(burn, others)).toMatchObject({
    hitRate: 0.75,
    slowShare: 0.01,
    errorShare: 0.005,
  });
});
