/** Plans: sizes and limits under a name, as the operator offers them. */
import { z } from "zod";
import { limitsSchema } from "../../core/cluster/records.ts";
import { sizeOption } from "../../core/runtime/config.ts";

const MB = 1024 ** 2;
const GB = 1024 ** 3;
/** Of one cache, over all nodes together. */
export const CACHE_SIZE_MAX = 64 * 1024 * GB;
/** Names of plans start with a digit and have a dot: 2.5gb. */
const planName = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$/, "lower-case letters, digits, dots and dashes");

export const planSchema = z.strictObject({
  name: planName.describe("Name by which caches ask for it"),
  bytes: sizeOption({ sizeMin: MB, sizeMax: CACHE_SIZE_MAX }).describe("Size, like 100mb"),
  free: z.boolean().default(false).describe("Marked as free in catalogs"),
  limits: limitsSchema.prefault({}).describe("What a cache of this plan may use"),
});
export type Plan = z.output<typeof planSchema>;

/** Plans of caches that none of the operator's plans made. */
export const CUSTOM_PLAN = "custom";

/**
 * The ladder. Limits are generous for an application of that size, and small beside what one proxy
 * can do (some 50,000 sessions and 100,000 operations a second): nobody fills it alone.
 */
export const PLANS: readonly Plan[] = (
  [
    ["25mb", 25 * MB, { sessions: 100, newSessions: 50, operations: 5_000 }],
    ["100mb", 100 * MB, { sessions: 500, newSessions: 100, operations: 10_000 }],
    ["250mb", 250 * MB, { sessions: 1_000, newSessions: 200, operations: 20_000 }],
    ["500mb", 500 * MB, { sessions: 2_000, newSessions: 300, operations: 30_000 }],
    ["1gb", GB, { sessions: 4_000, newSessions: 500, operations: 50_000 }],
    ["2.5gb", 2.5 * GB, { sessions: 6_000, newSessions: 500, operations: 75_000 }],
    ["5gb", 5 * GB, { sessions: 10_000, newSessions: 1_000, operations: 100_000 }],
    ["7.5gb", 7.5 * GB, { sessions: 15_000, newSessions: 1_000, operations: 150_000 }],
    ["10gb", 10 * GB, { sessions: 20_000, newSessions: 1_000, operations: 200_000 }],
    ["20gb", 20 * GB, { sessions: 40_000, newSessions: 2_000, operations: 400_000 }],
  ] as const
).map(([name, bytes, { sessions, newSessions, operations }], index) => ({
  name,
  bytes,
  free: index === 0,
  limits: {
    sessionsMax: sessions,
    newSessionsPerSecondMax: newSessions,
    operationsPerSecondMax: operations,
    valueSizeMax: MB,
  },
}));
