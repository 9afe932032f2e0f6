/**
 * What owners of caches want to hear of: thresholds on the record of the cache, judged over some
 * minutes. An alert that is raised stays until it is better by a margin, so that a value on the
 * threshold is told once. Nobody is paged: it goes where the record says.
 */
import type { Cache } from "../../core/cluster/records.ts";
import type { Burn } from "../detect/burn.ts";
import type { Finding } from "../detect/kinds.ts";

const WINDOW_MS = 120_000;
const READS_MIN = 500;
const OPERATIONS_MIN = 500;
/** So much of the threshold it has to be better to be over. */
const MARGIN = 0.1;

/** What is known of a cache now; null where nothing can be said. */
export interface AlertFigures {
  readonly hitRate: number | null;
  readonly memoryUsed: number | null;
  readonly slowShare: number | null;
  readonly errorShare: number | null;
  readonly sessions: number;
}

type Alerts = Cache["alerts"];
type Rule = {
  readonly name: string;
  readonly limit: Exclude<keyof Alerts, "target">;
  readonly figure: keyof AlertFigures;
  /** Whether too little is wrong, or too much. */
  readonly wrong: "below" | "above";
  text(value: number, limit: number): string;
};

const percent = (share: number): string => `${Math.round(share * 1000) / 10} %`;
const RULES: readonly Rule[] = [
  {
    name: "hitRate",
    limit: "hitRateMin",
    figure: "hitRate",
    wrong: "below",
    text: (value, limit) => `hit rate ${percent(value)}, below ${percent(limit)}`,
  },
  {
    name: "memory",
    limit: "memoryUsedMax",
    figure: "memoryUsed",
    wrong: "above",
    text: (value, limit) => `memory ${percent(value)} used, above ${percent(limit)}`,
  },
  {
    name: "latency",
    limit: "slowShareMax",
    figure: "slowShare",
    wrong: "above",
    text: (value, limit) =>
      `${percent(value)} of operations failed or took over 10 ms, above ${percent(limit)}`,
  },
  {
    name: "errors",
    limit: "errorShareMax",
    figure: "errorShare",
    wrong: "above",
    text: (value, limit) => `${percent(value)} of operations failed, above ${percent(limit)}`,
  },
  {
    name: "connections",
    limit: "sessionsMax",
    figure: "sessions",
    wrong: "above",
    text: (value, limit) => `${value} connections, above ${limit}`,
  },
];

/** The sums of the last minutes as figures; few operations say nothing. */
export function figuresOf(
  burn: Burn | undefined,
  { memoryUsed, sessions, nowMs }: { memoryUsed: number | null; sessions: number; nowMs: number },
): AlertFigures {
  const { total, bad, errors, hits, misses } = burn?.sum(nowMs, WINDOW_MS) ?? NOTHING;
  const reads = hits + misses;
  const isKnown = total >= OPERATIONS_MIN;
  return {
    hitRate: reads >= READS_MIN ? hits / reads : null,
    memoryUsed,
    slowShare: isKnown ? bad / total : null,
    errorShare: isKnown ? errors / total : null,
    sessions,
  };
}
const NOTHING = { total: 0, bad: 0, errors: 0, hits: 0, misses: 0 };

export class AlertBook {
  /** `<cache>/<rule>` of alerts that are raised. */
  #raised: ReadonlySet<string> = new Set();

  /** `figuresOfCache` is asked only for caches that have alerts. */
  findings(
    caches: ReadonlyMap<string, Pick<Cache, "name" | "alerts">>,
    figuresOfCache: (cache: string) => AlertFigures,
  ): Finding[] {
    const findings: Finding[] = [];
    for (const [id, { name, alerts }] of caches) {
      const { target } = alerts;
      const rules = RULES.filter(({ limit }) => alerts[limit] !== null);
      if (target === null || rules.length === 0) continue;
      const figures = figuresOfCache(id);
      for (const rule of rules) {
        const limit = alerts[rule.limit]!;
        const value = figures[rule.figure];
        const subject = `${id}/${rule.name}`;
        const wasRaised = this.#raised.has(subject);
        // Without traffic nothing is known; what was raised stays until it is known to be over.
        const isRaised = value === null ? wasRaised : isWrong(rule, value, limit, wasRaised);
        if (!isRaised) continue;
        const what = value === null ? "no traffic to judge by" : rule.text(value, limit);
        findings.push({ kind: "alert", subject, summary: `${name}: ${what}`, target });
      }
    }
    this.#raised = new Set(findings.map(({ subject }) => subject));
    return findings;
  }
}

function isWrong({ wrong }: Rule, value: number, limit: number, wasRaised: boolean): boolean {
  const margin = wasRaised ? limit * MARGIN : 0;
  return wrong === "below" ? value < Math.min(1, limit + margin) : value > limit - margin;
}
