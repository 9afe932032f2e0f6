/**
 * `npm run bench -- --only view`: what one line of a proxy's view costs, with 1,000 caches of four
 * shards each in one worker, idle or all of them with traffic; microseconds of CPU in this process.
 */

import { CacheCounters, Histogram } from "../../proxy/routing/counters.ts";
import { LINK_FAILURES } from "../../proxy/routing/link.ts";
import type { Tenant } from "../../proxy/tenant/tenant.ts";
import { ViewCollector } from "../../proxy/view.ts";

const CACHE_COUNT = 1_000;
const SHARD_COUNT = 4;
const LINES = 200;
const INTERVAL_MS = 200;

export interface ViewFigures {
  caches: string;
  usPerLine: number;
  lineSize: number;
  /** Of one core, at a line every 200 ms. */
  share: number;
}

/** As much of a cache as its view looks at, so that nothing has to be started. */
function tenantOf(id: number): { tenant: Tenant; latencies: Histogram[] } {
  const latencies = Array.from({ length: SHARD_COUNT }, () => new Histogram());
  const link = {
    depth: 0,
    oldestMs: 0,
    timedOutCount: 0,
    failureCounts: new Float64Array(LINK_FAILURES.length),
  };
  const shards = latencies.map((latency, index) => ({
    node: `node-${index}`,
    standsInFor: null,
    latency,
    text: link,
    binary: link,
    isOut: false,
    isAway: false,
    isThere: true,
    waitingCount: () => 0,
  }));
  const counts = { count: 100, slow: 1 };
  const health = {
    isCommonMode: false,
    slowMs: 5,
    outlierTicksOf: () => 0,
    seenOf: () => ({ fast: counts, slow: counts, rule: undefined }),
  };
  const tenant = {
    id: `c${id.toString(16).padStart(12, "0")}`,
    counters: new CacheCounters(),
    route: { shards, health },
  } as unknown as Tenant;
  return { tenant, latencies };
}

export function benchView(): ViewFigures[] {
  const made = Array.from({ length: CACHE_COUNT }, (_, id) => tenantOf(id));
  const tenants = new Map(made.map(({ tenant }) => [tenant.id, tenant]));
  return [0, 10, CACHE_COUNT].map((busyCount) => {
    const views = new ViewCollector({ tenants });
    let lineSize = 0;
    let usedUs = 0;
    for (let line = 0; line < LINES; line++) {
      for (const { latencies } of made.slice(0, busyCount)) {
        for (const latency of latencies) latency.observe(0.3);
      }
      const before = process.cpuUsage();
      lineSize = JSON.stringify(views.collect({ isAnew: false, nowMs: line * INTERVAL_MS })).length;
      const { user, system } = process.cpuUsage(before);
      if (line >= LINES / 2) usedUs += user + system;
    }
    const usPerLine = usedUs / (LINES / 2);
    const share = usPerLine / (INTERVAL_MS * 1000);
    return { caches: `${busyCount} of ${CACHE_COUNT} busy`, usPerLine, lineSize, share };
  });
}

export function viewText(figures: readonly ViewFigures[]): string {
  const lines = figures.map(({ caches, usPerLine, lineSize, share }) => {
    const values = [usPerLine.toFixed(0), lineSize, `${(share * 100).toFixed(2)} %`];
    return `${caches.padEnd(24)} ${values.map((value) => String(value).padStart(10)).join(" ")}`;
  });
  return [`${"view of a proxy".padEnd(24)}    us/line      bytes       core`, ...lines].join("\n");
}
