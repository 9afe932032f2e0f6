/**
 * Caches: made, changed, emptied, deleted. A cache is gone the moment its record is; credentials
 * that one commit cannot hold follow in further ones, and whoever crashes between leaves orphans
 * that upkeep removes (see `removeOrphans`).
 */
import { z } from "zod";
import { flushChanges } from "../../core/cluster/external.ts";
import { PROBE_CACHE } from "../../core/cluster/internal.ts";
import {
  alertsSchema,
  type Cache,
  cacheRecord,
  limitsSchema,
  MANAGED_POOL,
  type Policies,
  policiesSchema,
} from "../../core/cluster/records.ts";
import type { Change, Entry } from "../../core/cluster/state.ts";
import { firstOf, type Kept, type View } from "../view.ts";
import {
  type Context,
  change,
  type Decision,
  OWN_CHANGES_MAX,
  outdated,
  type Parts,
} from "./change.ts";
import { momentText, pageOf } from "./input.ts";
import { removeOrphans } from "./orphans.ts";
import {
  conflict,
  done,
  forbidden,
  type InputProblem,
  invalid,
  notFound,
  type Outcome,
  type Refused,
} from "./outcome.ts";
import { CACHE_SIZE_MAX, CUSTOM_PLAN, type Plan } from "./plans.ts";
import { bringInLine, firstShards, poolAnswer, quotaOf } from "./pools.ts";

export const CACHE_COUNT_MAX = 10_000;
/** Names are also accepted where ids are, so none may look like one. */
const ID_PATTERN = /^c[0-9a-f]{12}$/;

const name = cacheRecord.shape.name.refine(
  (text) => !ID_PATTERN.test(text) && text !== PROBE_CACHE,
  "looks like the id of a cache",
);
const bytes = z
  .int()
  .min(1024 * 1024)
  .max(CACHE_SIZE_MAX)
  .describe("Size over all nodes together");
const plan = z.string().max(63).describe("Name of a plan; its size and limits apply");
/** Given ones replace those of the plan; null lifts a limit. */
const limits = z.strictObject({
  sessionsMax: limitsSchema.shape.sessionsMax.unwrap().optional(),
  newSessionsPerSecondMax: limitsSchema.shape.newSessionsPerSecondMax.unwrap().optional(),
  operationsPerSecondMax: limitsSchema.shape.operationsPerSecondMax.unwrap().optional(),
  valueSizeMax: limitsSchema.shape.valueSizeMax.unwrap().optional(),
});
const policies = z.strictObject({
  unansweredRead: policiesSchema.shape.unansweredRead.unwrap().optional(),
  singleFlight: policiesSchema.shape.singleFlight.unwrap().optional(),
  deadline: policiesSchema.shape.deadline.unwrap().optional(),
});
const { shape: alert } = alertsSchema;
/** Given ones replace those of the cache; null takes one away. */
const alerts = z.strictObject({
  target: alert.target.unwrap().optional().describe("xmpp:NAME@HOST or the URL of a webhook"),
  hitRateMin: alert.hitRateMin.unwrap().optional().describe("Share of reads that find a value"),
  memoryUsedMax: alert.memoryUsedMax.unwrap().optional().describe("Share of its memory"),
  slowShareMax: alert.slowShareMax.unwrap().optional().describe("Share failed or over 10 ms"),
  errorShareMax: alert.errorShareMax.unwrap().optional().describe("Share of failed operations"),
  sessionsMax: alert.sessionsMax.unwrap().optional().describe("Connections of its clients"),
});
const copies = cacheRecord.shape.copies
  .unwrap()
  .describe("Shards that each key is in; two take twice the memory. Fixed from then on");

export const newCacheInput = z.strictObject({
  name,
  pool: cacheRecord.shape.pool
    .unwrap()
    .optional()
    .describe("Where its values are: our nodes (managed), or servers of others"),
  plan: plan.optional(),
  bytes: bytes.optional(),
  copies: copies.optional(),
  limits: limits.optional(),
  policies: policies.optional(),
  alerts: alerts.optional(),
});
export type NewCache = z.output<typeof newCacheInput>;

export const cacheChangeInput = z.strictObject({
  plan: plan.optional(),
  bytes: bytes.optional(),
  limits: limits.optional(),
  policies: policies.optional(),
  alerts: alerts.optional(),
  enabled: z.boolean().optional(),
});
export type CacheChange = z.output<typeof cacheChangeInput>;

/** A cache as it is shown. */
export const cacheAnswer = z.strictObject({
  id: z.string(),
  name: z.string(),
  pool: z.string(),
  plan: z.string(),
  bytes: z.int(),
  copies: z.int(),
  quota: poolAnswer.shape.quota,
  limits: z.strictObject({
    sessionsMax: z.int().nullable(),
    newSessionsPerSecondMax: z.int().nullable(),
    operationsPerSecondMax: z.int().nullable(),
    valueSizeMax: z.int(),
  }),
  policies: z.strictObject({
    unansweredRead: z.enum(["miss", "error"]),
    singleFlight: z.enum(["failover", "always"]),
    deadline: z.enum(["fixed", "adaptive"]),
  }),
  alerts: z.strictObject({
    target: z.string().nullable(),
    hitRateMin: z.number().nullable(),
    memoryUsedMax: z.number().nullable(),
    slowShareMax: z.number().nullable(),
    errorShareMax: z.number().nullable(),
    sessionsMax: z.int().nullable(),
  }),
  enabled: z.boolean(),
  createdAt: z.string(),
  revision: z.int(),
});
export type ShownCache = z.output<typeof cacheAnswer>;

export function shownCache({ id, value, revision }: Kept<Cache>): ShownCache {
  const { name, pool, plan, bytes, copies, limits, alerts, enabled, createdAtMs } = value;
  // Records that were written before a policy existed do not have it.
  const policies = policiesSchema.parse(value.policies);
  const createdAt = momentText(createdAtMs);
  const sized = { pool, plan, bytes, copies, quota: quotaOf(pool) };
  return { id, name, ...sized, limits, policies, alerts, enabled, createdAt, revision };
}

export function listCaches(
  { view }: Pick<Parts, "view">,
  page: { after?: string | undefined; limit?: number | undefined } = {},
): { caches: ShownCache[]; next: string | null } {
  const byName = [...view.caches.values()].sort((a, b) => (a.value.name < b.value.name ? -1 : 1));
  const { page: caches, next } = pageOf(byName, page, ({ value }) => value.name);
  return { caches: caches.map(shownCache), next };
}

export function showCache(view: View, nameOrId: string): Outcome<ShownCache> {
  const found = view.cache(nameOrId);
  return found === undefined ? noCache(nameOrId) : done(shownCache(found), found.revision);
}

export const noCache = (nameOrId: string): Refused =>
  notFound(`there is no cache ${JSON.stringify(nameOrId)}`);

/** The cache as the state has it now, also when the view has not heard of it. */
export async function findCache(
  { state, view }: Pick<Parts, "state" | "view">,
  nameOrId: string,
): Promise<Entry<"cache"> | undefined> {
  const known = view.cache(nameOrId)?.id;
  if (known !== undefined) return state.get("cache", known);
  if (ID_PATTERN.test(nameOrId)) return state.get("cache", nameOrId);
  if (!cacheRecord.shape.name.safeParse(nameOrId).success) return undefined;
  const claim = await state.get("cacheName", nameOrId);
  return claim === undefined ? undefined : state.get("cache", claim.value.cache);
}

export async function createCache(
  parts: Parts,
  context: Context,
  input: NewCache,
): Promise<Outcome<ShownCache>> {
  const id = `c${Buffer.from(parts.secureBytes(6)).toString("hex")}`;
  return change(parts, context, async () => {
    const sized = sizedBy(parts.plans, input, undefined);
    if (!sized.ok) return sized;
    const existing = await findCache(parts, input.name);
    if (existing !== undefined) {
      return conflict(`there is a cache named ${input.name} already`, existing.revision);
    }
    if (parts.view.caches.size >= CACHE_COUNT_MAX) {
      return forbidden(`there are ${CACHE_COUNT_MAX} caches; delete one first`);
    }
    const { name, pool = MANAGED_POOL } = input;
    const value = cacheRecord.parse({
      name,
      pool,
      ...sized.value,
      copies: input.copies ?? 1,
      policies: input.policies ?? {},
      alerts: input.alerts ?? {},
      createdAtMs: parts.clock.unixMs(),
    });
    const isExternal = pool !== MANAGED_POOL;
    if (isExternal && value.copies !== 1) {
      const message = "a cache on an external pool has one copy of each key";
      return invalid({ path: "copies", message });
    }
    const shards = isExternal ? await firstShards(parts, { cacheId: id, cache: value }) : [];
    if (!Array.isArray(shards)) return shards;
    return {
      ok: true,
      revision: 0,
      changes: [
        { kind: "cacheName", id: name, value: { cache: id }, expected: 0 },
        { kind: "cache", id, value, expected: 0 },
        ...shards,
      ],
      audit: {
        action: "cache.create",
        cache: id,
        subject: name,
        before: null,
        after: audited({ id, value, revision: 0 }),
      },
      value: (revision) => shownCache({ id, value, revision }),
    };
  });
}

/** Size, limits, policies, on and off: whatever is given. */
export async function changeCache(
  parts: Parts,
  context: Context,
  nameOrId: string,
  input: CacheChange,
): Promise<Outcome<ShownCache>> {
  const outcome = await changeRecord(parts, context, nameOrId, async ({ value }) => {
    const sized = sizedBy(parts.plans, input, value);
    if (!sized.ok) return sized;
    const given = Object.entries(input.policies ?? {}).filter(([, wish]) => wish !== undefined);
    const policies: Policies = { ...value.policies, ...Object.fromEntries(given) };
    const alerts = alertsSchema.parse({ ...value.alerts, ...input.alerts });
    const enabled = input.enabled ?? value.enabled;
    const changed = { ...sized.value, policies, alerts, enabled };
    return { ok: true, action: actionOf(input), value: changed };
  });
  if (outcome.ok && outcome.value.pool !== MANAGED_POOL) {
    await bringInLine(parts, outcome.value.id);
  }
  return outcome;
}

/** All shards of the cache are emptied: they see that its epoch has grown. */
export async function flushCache(
  parts: Parts,
  context: Context,
  nameOrId: string,
): Promise<Outcome<ShownCache>> {
  return changeRecord(parts, context, nameOrId, async (found) => {
    const { id, value } = found;
    const emptied = { ok: true, action: "cache.flush", value: { epoch: value.epoch + 1 } } as const;
    if (value.pool === MANAGED_POOL) return emptied;
    const { entries } = await parts.state.list("shard", { prefix: `${id}/` });
    return { ...emptied, more: flushChanges(found, entries).slice(1) };
  });
}

/** Counters begin anew at the shards. */
export async function resetStats(
  parts: Parts,
  context: Context,
  nameOrId: string,
): Promise<Outcome<ShownCache>> {
  return changeRecord(parts, context, nameOrId, async ({ value }) => {
    if (value.pool !== MANAGED_POOL) {
      return forbidden(`counters of a cache on the external pool ${value.pool} cannot be reset`);
    }
    return { ok: true, action: "cache.resetStats", value: { statsEpoch: value.statsEpoch + 1 } };
  });
}

/** With all its credentials: those that fit in the commit of the cache, then the others. */
export async function deleteCache(
  parts: Parts,
  context: Context,
  nameOrId: string,
): Promise<Outcome<ShownCache>> {
  const outcome = await change(
    parts,
    context,
    async (): Promise<Decision<ShownCache> | Refused> => {
      const found = await findCache(parts, nameOrId);
      if (found === undefined) return noCache(nameOrId);
      const stale = outdated(context, found);
      if (stale !== undefined) return stale;
      const { id, value, revision } = found;
      const usernames = parts.view.usernamesOf(id);
      const external = value.pool === MANAGED_POOL ? [] : await leftovers(parts, id);
      const first = firstOf(usernames, OWN_CHANGES_MAX - 3 - external.length);
      const changes: Change[] = [
        { kind: "cache", id, value: null, expected: revision },
        { kind: "cacheName", id: value.name, value: null },
        { kind: "layout", id, value: null },
        ...external,
        ...first.map((username) => ({ kind: "credential", id: username, value: null }) as const),
      ];
      const before = {
        ...audited({ id, value, revision }),
        credentials: first,
        credentialCount: usernames.size,
      };
      return {
        ok: true,
        revision,
        changes,
        audit: { action: "cache.delete", cache: id, subject: value.name, before, after: null },
        value: () => shownCache(found),
      };
    },
  );
  if (!outcome.ok) return outcome;
  const rest = await removeOrphans(parts, context, outcome.value.id);
  // The cache is gone already; what could not follow is left to upkeep.
  return rest.ok ? done(outcome.value, Math.max(outcome.revision, rest.revision)) : outcome;
}

/** What no agent removes: shards on servers of others, and their ejections. */
async function leftovers({ state }: Parts, id: string): Promise<Change[]> {
  const prefix = `${id}/`;
  const shards = (await state.list("shard", { prefix })).entries;
  const ejections = (await state.list("ejection", { prefix })).entries;
  return [...shards, ...ejections].map((entry) => ({
    kind: entry.kind,
    id: entry.id,
    value: null,
  }));
}

type Changed =
  | {
      readonly ok: true;
      readonly action: string;
      readonly value: Partial<Cache>;
      /** In the same commit. */
      readonly more?: readonly Change[];
    }
  | Refused;

/** Changes fields of one cache; nothing is written when all are as wished. */
function changeRecord(
  parts: Parts,
  context: Context,
  nameOrId: string,
  decide: (found: Entry<"cache">) => Promise<Changed>,
): Promise<Outcome<ShownCache>> {
  return change(parts, context, async () => {
    const found = await findCache(parts, nameOrId);
    if (found === undefined) return noCache(nameOrId);
    const stale = outdated(context, found);
    if (stale !== undefined) return stale;
    const decided = await decide(found);
    if (!decided.ok) return decided;
    const { id, revision } = found;
    const value: Cache = { ...found.value, ...decided.value };
    const isSame = JSON.stringify(value) === JSON.stringify(found.value);
    return {
      ok: true,
      revision,
      changes: isSame
        ? []
        : [{ kind: "cache", id, value, expected: revision }, ...(decided.more ?? [])],
      audit: {
        action: decided.action,
        cache: id,
        subject: value.name,
        before: audited(found),
        after: audited({ id, value, revision }),
      },
      value: (now) => shownCache({ id, value, revision: now }),
    };
  });
}

function actionOf(input: CacheChange): string {
  const { enabled, ...others } = input;
  const isAlone = Object.values(others).every((value) => value === undefined);
  if (enabled === undefined || !isAlone) return "cache.change";
  return enabled ? "cache.enable" : "cache.disable";
}

/** What the audit log keeps: as it is shown, with the counters that a flush or reset moves. */
function audited(kept: Kept<Cache>) {
  const { revision: _, ...shown } = shownCache(kept);
  return { ...shown, epoch: kept.value.epoch, statsEpoch: kept.value.statsEpoch };
}

type Sized =
  | { readonly ok: true; readonly value: Pick<Cache, "plan" | "bytes" | "limits"> }
  | Refused;

/** Plan, size and limits after what was given: the plan's, unless said otherwise. */
function sizedBy(
  plans: readonly Plan[],
  input: Pick<CacheChange, "plan" | "bytes" | "limits">,
  before: Cache | undefined,
): Sized {
  const chosen = plans.find((one) => one.name === input.plan);
  const problems: InputProblem[] = [];
  const isUnchanged = input.plan === before?.plan;
  if (input.plan !== undefined && chosen === undefined && !isUnchanged) {
    const names = plans.map((one) => one.name).join(", ");
    problems.push({ path: "plan", message: `there is no such plan; there are ${names}` });
  }
  const size = input.bytes ?? chosen?.bytes ?? before?.bytes;
  if (size === undefined && input.plan === undefined) {
    problems.push({ path: "plan", message: "plan or bytes is required" });
  }
  if (problems.length > 0 || size === undefined) return invalid(...problems);
  const base = chosen?.limits ?? before?.limits ?? limitsSchema.parse({});
  const given = Object.entries(input.limits ?? {}).filter(([, limit]) => limit !== undefined);
  const isOwnSize = input.bytes !== undefined && input.bytes !== (chosen ?? before)?.bytes;
  const plan = isOwnSize ? CUSTOM_PLAN : (input.plan ?? before?.plan ?? CUSTOM_PLAN);
  return {
    ok: true,
    value: { plan, bytes: size, limits: { ...base, ...Object.fromEntries(given) } },
  };
}
