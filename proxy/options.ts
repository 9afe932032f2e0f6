/** Options of the proxy role: the `proxy` section of a configuration file. */
import { z } from "zod";
import { IO_CHOICES } from "../core/io/wire.ts";

const address = z.string().describe("host:port, an IPv6 host in brackets");

export const proxyOptions = z.strictObject({
  name: z.string().default("proxy-1").describe("Name of this proxy in the cluster state"),
  listen: z
    .array(address)
    .min(1)
    .default(["127.0.0.1:11211"])
    .describe("Addresses where clients log in; binary, text and meta on each"),
  advertise: z
    .array(address.regex(/^(\[[\da-fA-F:.]+\]|[^\s:,[\]]+):\d{1,5}$/, "host:port"))
    .default([])
    .describe("Addresses that applications should use, where they are not those of `listen`"),
  plain: z
    .array(
      z.strictObject({
        address: address.describe("Where clients without a login connect"),
        cache: z.string().describe("Name of the cache that all of them use"),
      }),
    )
    .default([])
    .describe("Listeners without login, each bound to one cache; for trusted networks only"),
  workers: z
    .int()
    .min(1)
    .max(64)
    .default(1)
    .describe("Event loops that share the listening ports; more than one when a core is full"),
  sharesMainThread: z
    .boolean()
    .default(false)
    .describe(
      "The first event loop also follows the cluster state: 30 MB less, but clients wait for that",
    ),
  io: z
    .enum(IO_CHOICES)
    .default("auto")
    .describe(
      "Who moves the bytes: native (our addon, Linux), net (Node's sockets), or what is there",
    ),
  nodeHosts: z
    .record(z.string(), z.string())
    .default({})
    .describe("Where this proxy reaches nodes, by the host they advertise (tunnels, NAT)"),
  sessionsMax: z
    .int()
    .min(1)
    .default(50_000)
    .describe("Client connections of one worker; more are refused at once"),
  loginTimeoutSeconds: z
    .int()
    .min(1)
    .default(60)
    .describe("A connection that has not logged in by then is closed"),
});

export type ProxyOptions = z.infer<typeof proxyOptions>;
