/** Options of the backend role: the `backend` section of a configuration file. */
import { z } from "zod";
import { NAME_PATTERN } from "../core/cluster/records.ts";
import { IO_CHOICES } from "../core/io/wire.ts";

export const ENGINES = ["embedded", "memcached"] as const;

const memcachedOptions = z.strictObject({
  path: z.string().min(1).default("memcached").describe("Program, looked for on the path"),
  threads: z.int().min(1).max(64).default(2).describe("Worker threads of each memcached (-t)"),
  connectionsMax: z
    .int()
    .min(16)
    .max(65_536)
    .default(1024)
    .describe("Connections that each memcached accepts (-c)"),
  silentMsMax: z
    .int()
    .min(2_000)
    .max(3_600_000)
    .default(30_000)
    .describe("A memcached that says nothing for so long is replaced, in milliseconds"),
});
export type MemcachedOptions = z.infer<typeof memcachedOptions>;

export const nodeOptions = z.strictObject({
  name: z
    .string()
    .regex(NAME_PATTERN, "lower-case letters, digits and dashes, at most 63")
    .default("node-1")
    .describe("Name of this node in the cluster state; its place on the continuum"),
  socketDir: z
    .string()
    .min(1)
    .default(".memward/sockets")
    .describe("Directory of the unix sockets of its shards; made if missing, mode 0700"),
  weight: z
    .int()
    .min(1)
    .max(100)
    .default(1)
    .describe("Share of each cache that this node gets, compared with other nodes"),
  zone: z
    .string()
    .max(63)
    .default("")
    .describe("Nodes of one zone fail together; caches are spread over zones first"),
  engine: z
    .enum(ENGINES)
    .default("embedded")
    .describe("What holds the values: the embedded store, or one memcached process per shard"),
  memcached: memcachedOptions.prefault({}).describe("How the engine memcached runs its processes"),
  host: z
    .string()
    .min(1)
    .optional()
    .describe(
      "Listen on free TCP ports of this address instead of unix sockets, for proxies on other " +
        "machines; shards have no login, so it must be an address of a private network",
    ),
  advertise: z
    .string()
    .min(1)
    .optional()
    .describe("Name or address by which proxies reach this node, if it is not host"),
});

export const backendOptions = z.strictObject({
  io: z
    .enum(IO_CHOICES)
    .default("auto")
    .describe(
      "Who moves the bytes: native (our addon, Linux), net (Node's sockets), or what is there",
    ),
  nodes: z
    .array(nodeOptions)
    .min(1)
    .max(64)
    .default([nodeOptions.parse({})])
    .describe("Nodes that this process runs, each with its own shards; one in a cluster"),
  abandonedDirs: z
    .array(z.string().min(1))
    .max(1024)
    .default([])
    .describe("Socket directories of nodes that are gone; memcached left there is ended"),
});

export type NodeOptions = z.infer<typeof nodeOptions>;
export type BackendOptions = z.infer<typeof backendOptions>;
