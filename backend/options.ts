/** Options of the backend role: the `backend` section of a configuration file. */
import { z } from "zod";
import { NAME_PATTERN } from "../core/cluster/records.ts";

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
  nodes: z
    .array(nodeOptions)
    .min(1)
    .max(64)
    .default([nodeOptions.parse({})])
    .describe("Nodes that this process runs, each with its own shards; one in a cluster"),
});

export type NodeOptions = z.infer<typeof nodeOptions>;
export type BackendOptions = z.infer<typeof backendOptions>;
