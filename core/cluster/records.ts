/**
 * The records of the cluster state: what each kind holds, as zod schemas. Types, validation and
 * documentation come from the same schema. A record never holds a password, only its digest.
 */
import { z } from "zod";

/** Rights a credential may carry; the order is the order of the bits in `rightsMask`. */
export const RIGHTS = ["read", "write", "flush", "api"] as const;
export type Right = (typeof RIGHTS)[number];

export const NAME_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const name = z.string().regex(NAME_PATTERN, "lower-case letters, digits and dashes, at most 63");

/** An isolated keyspace (the tenant). `bytes` is the plan's size over all shards together. */
export const cacheRecord = z.strictObject({
  name,
  bytes: z.int().min(1024 * 1024),
  pool: z.enum(["managed"]).default("managed"),
  enabled: z.boolean().default(true),
  createdAtMs: z.int(),
});

/** SHA-256 over salt followed by the password; fit for passwords we generate (160 random bits). */
export const digestRecord = z.strictObject({
  algorithm: z.literal("sha256"),
  salt: z.base64(),
  hash: z.base64(),
});

/** A login of one cache; its id in the state is the username. */
export const credentialRecord = z.strictObject({
  cache: z.string(),
  digest: digestRecord,
  rights: z.array(z.enum(RIGHTS)),
  primary: z.boolean().default(false),
  label: z.string().max(200).default(""),
  createdAtMs: z.int(),
});

/** A machine running the backend role. Leased: present while its agent lives. */
export const nodeRecord = z.strictObject({
  pid: z.int(),
  engine: z.enum(["embedded"]),
  weight: z.int().min(1).default(1),
  ready: z.boolean(),
  startedAtMs: z.int(),
});

/**
 * The part of one cache on one node; its id is `<cache id>/<node>`. `address` is `host:port` or
 * `unix:/path` of an endpoint that speaks memcached. Not leased: keys stay where they are while
 * an agent restarts.
 */
export const shardRecord = z.strictObject({
  cache: z.string(),
  node: z.string(),
  address: z.string(),
  bytes: z.int().min(0),
  epoch: z.int().min(0),
  state: z.enum(["starting", "ready", "fenced", "draining"]),
});

/** A running proxy. Leased; publishes the newest revision that it has applied. */
export const proxyRecord = z.strictObject({
  pid: z.int(),
  addresses: z.array(z.string()),
  ready: z.boolean(),
  appliedRevision: z.int().min(0),
  startedAtMs: z.int(),
});

export const RECORDS = {
  cache: cacheRecord,
  credential: credentialRecord,
  node: nodeRecord,
  shard: shardRecord,
  proxy: proxyRecord,
} as const;

export type Kind = keyof typeof RECORDS;
export type RecordOf<K extends Kind> = z.infer<(typeof RECORDS)[K]>;
export type Cache = RecordOf<"cache">;
export type Credential = RecordOf<"credential">;
export type Node = RecordOf<"node">;
export type Shard = RecordOf<"shard">;
export type Proxy = RecordOf<"proxy">;
