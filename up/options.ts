/**
 * Options of `memward up` and `memward status`: rows from which flags, `MEMWARD_*` variables, the
 * `up` section of the configuration file and the help text are made. All are read at the start.
 */
import { z } from "zod";
import { type EtcdOptions, etcdOptions, stateOption } from "../core/cluster/open.ts";
import { IO_CHOICES } from "../core/io/wire.ts";
import { addressOption, sizeOption } from "../core/runtime/config.ts";
import { LOG_LEVELS } from "../core/runtime/log.ts";

const MB = 1024 ** 2;
const TB = 1024 ** 4;
export const LISTENER_COUNT_MAX = 64;
export const NODE_COUNT_MAX = 64;
export const WORKER_COUNT_MAX = 64;

/** Rows that several commands share. */
export const dataDir = z
  .string()
  .min(1)
  .default(".memward")
  .describe("directory of the state, made if missing")
  .meta({ word: "DIR" });
export const ops = addressOption();
export const logLevel = z
  .enum(LOG_LEVELS)
  .default("info")
  .describe("least level that is logged")
  .meta({ word: "LEVEL" });
export const configFile = z
  .string()
  .min(1)
  .describe("YAML or JSON file with options")
  .meta({ word: "FILE" });

const etcdKey = (key: string): string => `etcd${key[0]?.toUpperCase()}${key.slice(1)}`;
const ETCD_KEYS = Object.keys(etcdOptions.shape) as (keyof EtcdOptions)[];
/** Rows of a role that may run apart from the state: caFile of the file is --etcd-ca-file. */
export const stateRows = {
  state: stateOption.default("sqlite"),
  ...Object.fromEntries(ETCD_KEYS.map((key) => [etcdKey(key), etcdOptions.shape[key]])),
};

/** The section `etcd` of a file as the rows name it, and back. */
export function etcdRowsOf(section: EtcdOptions): Record<string, unknown> {
  return Object.fromEntries(ETCD_KEYS.map((key) => [etcdKey(key), section[key]]));
}
export function etcdSectionOf(rows: Record<string, unknown>): EtcdOptions {
  return Object.fromEntries(ETCD_KEYS.map((key) => [key, rows[etcdKey(key)]])) as EtcdOptions;
}

export const upOptions = z.strictObject({
  config: configFile.optional(),
  dataDir,
  listen: z
    .array(addressOption())
    .min(1)
    .max(LISTENER_COUNT_MAX)
    .default(["127.0.0.1:11211"])
    .describe("where clients connect; each address is a proxy process of its own"),
  ops: ops.default("127.0.0.1:9211").describe("health page, /metrics, /healthz and /readyz"),
  control: addressOption()
    .default("127.0.0.1:8211")
    .describe("admin API; its token is in operator.token of the directory"),
  nodes: z
    .int()
    .min(1)
    .max(NODE_COUNT_MAX)
    .default(2)
    .describe("backend nodes; keys are spread over them"),
  engine: z
    .enum(["embedded", "memcached"])
    .default("embedded")
    .describe("what holds the values: the embedded store, or a memcached for each cache and node")
    .meta({ word: "ENGINE" }),
  memcachedPath: z
    .string()
    .min(1)
    .default("memcached")
    .describe("program that the engine memcached runs, 1.6.18 or later")
    .meta({ word: "PATH" }),
  memory: sizeOption({ sizeMin: MB, sizeMax: 64 * TB })
    .prefault("100mb")
    .describe("size of the cache named default, over all nodes together"),
  workers: z
    .int()
    .min(1)
    .max(WORKER_COUNT_MAX)
    .default(1)
    .describe("event loops of each proxy, threads that share its port"),
  io: z
    .enum(IO_CHOICES)
    .default("auto")
    .describe("who moves the bytes: native (our addon), net (Node's sockets), or what is there")
    .meta({ word: "LAYER" }),
  plain: z
    .array(addressOption())
    .max(LISTENER_COUNT_MAX)
    .default([])
    .describe("text and meta listener without login, bound to the cache named default"),
  logLevel,
});
export type UpOptions = z.infer<typeof upOptions>;

export const statusOptions = z.strictObject({
  dataDir: dataDir.describe("directory of the instance"),
  json: z.boolean().default(false).describe("print JSON for programs"),
});
export type StatusOptions = z.infer<typeof statusOptions>;
