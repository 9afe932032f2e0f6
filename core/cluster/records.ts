/**
 * The records of the cluster state: what each kind holds, as zod schemas. Types, validation and
 * documentation come from the same schema. A record never holds a password, only its digest.
 */
import { z } from "zod";
import {
  drillRecord,
  incidentRecord,
  monitorRecord,
  orderRecord,
  personRecord,
  silenceRecord,
  speakerRecord,
} from "./incidents.ts";

/** Rights a credential may carry; the order is the order of the bits in `rightsMask`. */
export const RIGHTS = ["read", "write", "flush", "api"] as const;
export type Right = (typeof RIGHTS)[number];

export const NAME_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** memcached's own default for the largest item; shards take no larger value. */
const VALUE_SIZE_MAX = 1024 * 1024;
const name = z.string().regex(NAME_PATTERN, "lower-case letters, digits and dashes, at most 63");

/** The pool that needs no record: our nodes. */
export const MANAGED_POOL = "managed";

const count = z.int().min(0);

/**
 * What a cache may use, over all proxies together. `null` is no limit. Sizes are bytes; a value
 * counts without its key.
 */
export const limitsSchema = z.strictObject({
  sessionsMax: z.int().min(1).nullable().default(null),
  newSessionsPerSecondMax: z.int().min(1).nullable().default(null),
  operationsPerSecondMax: z.int().min(1).nullable().default(null),
  valueSizeMax: z.int().min(1).max(VALUE_SIZE_MAX).default(VALUE_SIZE_MAX),
});
export type Limits = z.infer<typeof limitsSchema>;

/** How a cache behaves where there is a choice. */
export const policiesSchema = z.strictObject({
  /** What a read gets that no shard answered: a miss, or an error. */
  unansweredRead: z.enum(["miss", "error"]).default("miss"),
  /** When gets of one key that come at the same time share one read of its shard. */
  singleFlight: z.enum(["failover", "always"]).default("failover"),
  /** How long a shard may take: 250 ms, or less where its siblings are much quicker. */
  deadline: z.enum(["fixed", "adaptive"]).default("fixed"),
});
export type Policies = z.infer<typeof policiesSchema>;

const share = z.number().min(0).max(1).nullable().default(null);

/**
 * What the owner of a cache wants to hear of, and where: `xmpp:JID` or the URL of a webhook. Shares
 * are of the last two minutes; a threshold that is null is none.
 */
export const alertsSchema = z.strictObject({
  target: z
    .string()
    .max(500)
    .regex(/^(xmpp:[^\s@/]+@[^\s@/]+|https?:\/\/\S+)$/, "xmpp:NAME@HOST or the URL of a webhook")
    .nullable()
    .default(null),
  hitRateMin: share,
  memoryUsedMax: share,
  /** Of operations that fail or take over 10 ms. */
  slowShareMax: share,
  errorShareMax: share,
  sessionsMax: z.int().min(1).nullable().default(null),
});
export type Alerts = z.infer<typeof alertsSchema>;

/**
 * An isolated keyspace (the tenant). `bytes` is its size over all shards together, for each copy
 * of its keys; `plan` names what size and limits came from. `epoch` grows with each wished flush:
 * a shard whose `flushedEpoch` is lower has to be emptied. `statsEpoch` does the same for its
 * counters.
 */
export const cacheRecord = z.strictObject({
  name,
  plan: z.string().max(63).default("custom"),
  bytes: z.int().min(1024 * 1024),
  limits: limitsSchema.prefault({}),
  policies: policiesSchema.prefault({}),
  alerts: alertsSchema.prefault({}),
  /** In how many shards each key is; fixed when the cache is made. */
  copies: z.union([z.literal(1), z.literal(2)]).default(1),
  /** Where its values are: on our nodes, or on the servers of a pool of that name. */
  pool: name.default(MANAGED_POOL),
  enabled: z.boolean().default(true),
  epoch: count.default(0),
  statsEpoch: count.default(0),
  createdAtMs: z.int(),
});

/** Claims a name for one cache: its id is the name, so no two caches ever get the same. */
export const cacheNameRecord = z.strictObject({ cache: z.string() });

/** SHA-256 over salt followed by the password; fit for passwords we generate (160 random bits). */
const sha256Digest = z.strictObject({
  algorithm: z.literal("sha256"),
  salt: z.base64(),
  hash: z.base64(),
});
/** For passwords that people chose: RFC 7914 with N = `cost`, r = `blockSize`, p = 1. */
const scryptDigest = z.strictObject({
  algorithm: z.literal("scrypt"),
  salt: z.base64(),
  hash: z.base64(),
  cost: z.int().min(1024).max(65_536),
  blockSize: z.int().min(1).max(32),
});
export const digestRecord = z.discriminatedUnion("algorithm", [sha256Digest, scryptDigest]);

export const KEY_PREFIX_SIZE_MAX = 200;
export const NETWORK_COUNT_MAX = 64;
/** Bytes that a text command line can carry inside a key. */
const keyPrefix = z
  .string()
  .refine((text) => !hasControlOrBlank(text), "no blanks or control characters")
  // Half of a pair has no bytes of its own: two prefixes would be one.
  .refine((text) => text.isWellFormed(), "no half surrogate pairs")
  .refine(
    (text) => Buffer.byteLength(text) <= KEY_PREFIX_SIZE_MAX,
    `at most ${KEY_PREFIX_SIZE_MAX} bytes`,
  );
const network = z.union([z.cidrv4(), z.cidrv6()], "an IPv4 or IPv6 network, like 10.0.0.0/8");

/**
 * A login of one cache; its id in the state is the username. `keyPrefix` is put before every key,
 * "" for none. Without `networks` it may be used from anywhere.
 */
export const credentialRecord = z.strictObject({
  cache: z.string(),
  digest: digestRecord,
  rights: z.array(z.enum(RIGHTS)),
  keyPrefix: keyPrefix.default(""),
  expiresAtMs: z.int().nullable().default(null),
  networks: z.array(network).max(NETWORK_COUNT_MAX).default([]),
  primary: z.boolean().default(false),
  label: z.string().max(200).default(""),
  /** Username of the credential that it was rotated to. */
  replacedBy: z.string().nullable().default(null),
  createdAtMs: z.int(),
});

export const ADDRESS_USE_COUNT_MAX = 50;
/**
 * When a credential was last used through one proxy, and who is logged in with it there. Its id
 * is `<username>/<proxy>`. Not leased: it outlives the proxy, whose sessions count only while a
 * proxy record of that name with that `startedAtMs` exists.
 */
export const lastUseRecord = z.strictObject({
  cache: z.string(),
  lastUsedAtMs: z.int(),
  startedAtMs: z.int(),
  sessions: count,
  /** Without ports; the busiest ones when there are more than fit. */
  addresses: z
    .array(z.strictObject({ address: z.string().max(64), sessions: count }))
    .max(ADDRESS_USE_COUNT_MAX),
});

/** Counters of one cache in one proxy since that proxy started; id `<cache id>/<proxy>`, leased. */
export const usageRecord = z.strictObject({
  sessions: count,
  sessionsTotal: count,
  authCommands: count,
  authErrors: count,
  bytesRead: count,
  bytesWritten: count,
});

/** Roles of operators; each may do what those before it may. */
export const OPERATOR_ROLES = ["viewer", "operator", "owner"] as const;
export type OperatorRole = (typeof OPERATOR_ROLES)[number];

/** An operator's bearer token of the admin API; its id is the public half of the token. */
export const tokenRecord = z.strictObject({
  name: z.string().min(1).max(100),
  role: z.enum(OPERATOR_ROLES),
  digest: sha256Digest,
  expiresAtMs: z.int().nullable().default(null),
  createdAtMs: z.int(),
});

/**
 * Who changed what: written in the commit of the change itself, never changed. Ids grow with time.
 * `before` and `after` are what the API would show of the subject: nothing secret.
 */
export const auditRecord = z.strictObject({
  atMs: z.int(),
  /** `token:<name>`, `credential:<username>`, `broker:<name>` or `system:<part>`. */
  actor: z.string().max(200),
  /** Address that the request came from; "" for our own doing. */
  from: z.string().max(64),
  /** Like `credential.rotate`. */
  action: z.string().max(64),
  /** Id of the cache, "" if it concerns none. */
  cache: z.string(),
  /** What was changed: a cache's name, a username, a token's name. */
  subject: z.string().max(200),
  before: z.json(),
  after: z.json(),
});

/** A cache that was ordered through the Open Service Broker API; id of the instance. */
export const serviceInstanceRecord = z.strictObject({
  cache: z.string(),
  service: z.string(),
  plan: z.string(),
  parameters: z.json(),
  context: z.json(),
  createdAtMs: z.int(),
});

/** A credential that was bound through that API; id `<instance>/<binding>`. */
export const serviceBindingRecord = z.strictObject({
  instance: z.string(),
  username: z.string(),
  service: z.string(),
  plan: z.string(),
  parameters: z.json(),
  createdAtMs: z.int(),
});

/** Share of each cache that a node gets, compared with other nodes. */
const weight = z.int().min(1).max(100).default(1);
/** Nodes of one zone fail together; "" is a zone like any other. */
const zone = z.string().max(63).default("");

/** What operators want of a node; its id is the node's name. Not leased. */
export const nodeSettingRecord = z.strictObject({
  /** Its shards go to other nodes, and it gets no new ones. */
  draining: z.boolean().default(false),
});

/**
 * A machine running the backend role. Leased: present while its agent lives. `memoryUsed` is the
 * used share of what its machine or its container has, told in steps; null if not known.
 */
export const nodeRecord = z.strictObject({
  pid: z.int(),
  engine: z.enum(["embedded", "memcached"]),
  weight,
  zone,
  ready: z.boolean(),
  memoryUsed: z.number().min(0).max(1).nullable().default(null),
  startedAtMs: z.int(),
});

/**
 * The process that serves a shard, if that is not its node's own; `pid` is null between two of
 * them. `restarts` counts how often it ended without being told to since its node started,
 * `lastExit` says how it did. `answers` is false while it lives but says nothing.
 */
const shardProcess = z.strictObject({
  pid: z.int().nullable(),
  startedAtMs: z.int(),
  restarts: count,
  lastExit: z.string().max(300),
  answers: z.boolean(),
});

/** A commit may have to replace all of them, and their ejections. */
export const POOL_SERVER_COUNT_MAX = 32;
/**
 * Memcached servers that we do not run; its id is its name. Keys are divided by the names of the
 * servers, so a server may move to another address.
 */
export const poolRecord = z.strictObject({
  servers: z
    .array(z.strictObject({ name, address: z.string().max(300), weight }))
    .min(1)
    .max(POOL_SERVER_COUNT_MAX),
  createdAtMs: z.int(),
});

/**
 * The part of one cache on one node; its id is `<cache id>/<node>`. `address` is `host:port` or
 * `unix:/path` of an endpoint that speaks memcached. Not leased: keys stay where they are while
 * an agent restarts. `epoch` grows each time it is emptied, for whatever reason; `flushedEpoch`
 * and `statsEpoch` are those of the cache that it has caught up with, as `bytes` is its size.
 */
export const shardRecord = z.strictObject({
  cache: z.string(),
  node: z.string(),
  address: z.string(),
  bytes: z.int().min(0),
  epoch: z.int().min(0),
  flushedEpoch: count.default(0),
  statsEpoch: count.default(0),
  /** Those of its node: placement and continuum have to know them while the node is away. */
  weight,
  zone,
  process: shardProcess.nullable().default(null),
  /** Serial of the ejection for which it was emptied last. */
  clearedFor: z.string().max(64).default(""),
  /** Serial of the layout since which it holds nothing that other nodes own. */
  layout: count.default(0),
  /** When it last began empty by itself, without a wished flush; 0 for never. */
  emptySinceMs: count.default(0),
  /** Stands before every key on a server that we do not run (external.ts); "" on our nodes. */
  stamp: z.string().max(12).default(""),
  state: z.enum(["starting", "ready", "fenced", "draining"]),
});

/** A node that has a part of a cache's keys, in proportion to `weight`. */
/** The zone decides which node has the second copy of a key. */
const memberSchema = z.strictObject({ node: z.string(), weight, zone });
export type Member = z.output<typeof memberSchema>;

/**
 * Which nodes own the keys of a cache: what its continuum is made of; its id is that of the cache.
 * Each change has the next `serial`. Until all proxies have applied it, keys that another node
 * owned among the members `before` are served by nobody (see core/cluster/layout.ts).
 */
export const layoutRecord = z.strictObject({
  serial: z.int().min(1),
  members: z.array(memberSchema),
  before: z.array(memberSchema).default([]),
});

/** Why a proxy would not use a shard. */
export const SUSPICIONS = [
  "refused",
  "unreachable",
  "stalled",
  "timeouts",
  "broken",
  // It may still come to apply a change that nobody was told of: one proxy is enough to say so.
  "unconfirmed",
  "unproven",
  "probe_failed",
  "slow",
] as const;
export type SuspicionReason = (typeof SUSPICIONS)[number];
const suspicionReason = z.enum(SUSPICIONS);

/** What one proxy sees of a shard that it would not use; id `<shard id>@<proxy>`, leased. */
export const suspicionRecord = z.strictObject({
  cache: z.string(),
  node: z.string(),
  proxy: z.string(),
  reason: suspicionReason,
  sinceMs: z.int(),
});

/**
 * A shard that is out of routing, because most proxies would not use it; its id is that of the
 * shard. `serial` is a name used once: stand-ins are made for it, and the shard returns only when
 * it was emptied for it.
 */
export const ejectionRecord = z.strictObject({
  cache: z.string(),
  node: z.string(),
  serial: z.string().max(64),
  /** Nodes that take its keys meanwhile. */
  standIns: z.array(z.string()),
  reason: suspicionReason,
  seenBy: z.array(z.string()),
  atMs: z.int(),
});

/** A fresh place for the keys of an ejected shard, on node `host`; id `<shard id>/<host>`. */
export const standInRecord = z.strictObject({
  cache: z.string(),
  node: z.string(),
  host: z.string(),
  serial: z.string().max(64),
  address: z.string(),
});

/**
 * A running proxy. Leased; publishes the newest revision that it has applied. `addresses` are
 * where applications log in, `host:port`. `ops` is where its view can be read (`host:port` or
 * `unix:/path`), "" if nowhere. One that is drained says that it is not ready before it goes.
 */
export const proxyRecord = z.strictObject({
  pid: z.int(),
  addresses: z.array(z.string()),
  ops: z.string().max(256).default(""),
  ready: z.boolean(),
  appliedRevision: z.int().min(0),
  startedAtMs: z.int(),
});

export const RECORDS = {
  cache: cacheRecord,
  cacheName: cacheNameRecord,
  credential: credentialRecord,
  node: nodeRecord,
  nodeSetting: nodeSettingRecord,
  layout: layoutRecord,
  pool: poolRecord,
  shard: shardRecord,
  proxy: proxyRecord,
  suspicion: suspicionRecord,
  ejection: ejectionRecord,
  standIn: standInRecord,
  lastUse: lastUseRecord,
  usage: usageRecord,
  token: tokenRecord,
  audit: auditRecord,
  serviceInstance: serviceInstanceRecord,
  serviceBinding: serviceBindingRecord,
  incident: incidentRecord,
  silence: silenceRecord,
  drill: drillRecord,
  person: personRecord,
  order: orderRecord,
  monitor: monitorRecord,
  speaker: speakerRecord,
} as const;

export type Kind = keyof typeof RECORDS;
export type RecordOf<K extends Kind> = z.output<(typeof RECORDS)[K]>;
/** As it may be written: what has a default may be left out. */
export type RecordInput<K extends Kind> = z.input<(typeof RECORDS)[K]>;
export type Cache = RecordOf<"cache">;
export type Credential = RecordOf<"credential">;
export type Node = RecordOf<"node">;
export type NodeSetting = RecordOf<"nodeSetting">;
export type Layout = RecordOf<"layout">;
export type Pool = RecordOf<"pool">;
export type Shard = RecordOf<"shard">;
export type Proxy = RecordOf<"proxy">;
export type Suspicion = RecordOf<"suspicion">;
export type Ejection = RecordOf<"ejection">;
export type StandIn = RecordOf<"standIn">;
export type LastUse = RecordOf<"lastUse">;
export type Usage = RecordOf<"usage">;
export type Token = RecordOf<"token">;
export type Audit = RecordOf<"audit">;

/**
 * A stored record with the fields that its kind did not have when it was written. New fields of a
 * record always come with a default; this is all the migration that states need.
 */
export function withDefaults<K extends Kind>(kind: K, value: RecordOf<K>): RecordOf<K> {
  return { ...DEFAULTS[kind], ...value };
}

const DEFAULTS = Object.fromEntries(
  Object.entries(RECORDS).map(([kind, { shape }]) => [kind, defaultsOf(shape)]),
) as { [K in Kind]: Partial<RecordOf<K>> };

function defaultsOf(shape: Record<string, z.ZodType>): Record<string, unknown> {
  const found = Object.entries(shape).flatMap(([field, schema]) => {
    const parsed = schema.safeParse(undefined);
    return parsed.success && parsed.data !== undefined ? [[field, parsed.data] as const] : [];
  });
  return Object.fromEntries(found);
}

function hasControlOrBlank(text: string): boolean {
  return [...text].some((letter) => letter <= " " || letter === "\u007f");
}
