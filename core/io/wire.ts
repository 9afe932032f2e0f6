/**
 * What lies below a connection: the seam between what is the same for all bytes (connection.ts)
 * and who moves them (`net.ts`, `native.ts`). A layer opens wires; a wire reads into the arena, writes from
 * where it is told to, and says when that was taken. It keeps nothing and decides nothing.
 */
import { isIP } from "node:net";
import type { Connection } from "./connection.ts";

export type Endpoint = { path: string } | { host: string; port: number };

export interface Receiver {
  /**
   * Looks at `bytes[from..to)` and returns how far it got. The rest is offered again, with more
   * behind it, once `connection.sizeNeeded` bytes are there. `bytes` is valid during the call,
   * unless it is not the arena and the whole of it was consumed: then the receiver may keep it.
   */
  received(bytes: Buffer, from: number, to: number): number;
  /** Output fell below the low-water mark after `isFull` was true. */
  drained(): void;
  /** The other side will send no more (it may still read). */
  ended(): void;
  /** The connection is gone; called exactly once. `reason` is "closed" or a system error code. */
  closed(reason: string): void;
}

/** Who wants a connection hears when it is there; until then `closed` says why it is not. */
export interface Connecting extends Receiver {
  opened(): void;
}

export interface ListenOptions {
  /** Connections that wait to be accepted, at most. */
  backlog: number;
  /** Share the port with other threads. */
  reusePort?: boolean;
  /** Connections open at once; more are closed as they come. Without it there is no limit. */
  connectionsMax?: number;
  /** Idle time after which the kernel asks whether the other side is still there. */
  keepAliveDelayMs?: number;
}

export interface Acceptor {
  /** A connection came: `attach` makes it the receiver's, and has to be called at once. */
  accepted(attach: (receiver: Receiver) => Connection): void;
  /** A connection was closed as it came: there were too many, or no descriptor was left. */
  dropped?(): void;
}

export interface Listening {
  /** As bound: `host:port`, an IPv6 host in brackets, or `unix:/path`. */
  readonly address: string;
  /** Accepts no more; connections live on. */
  close(): void;
}

export interface Wire {
  /** Where the other side is, without port; "" for a unix socket, or when it is gone. */
  readonly remoteAddress: string;
  /** True when the kernel took all of it; else `connection.written()` follows, exactly once. */
  write(bytes: Buffer): boolean;
  /** The same for a part of the arena. */
  writeSlab(at: number, size: number): boolean;
  /** See `Layer.limitReads`. */
  joinGroup(group: number): void;
  pause(): void;
  resume(): void;
  /** Nothing more will be written; reading goes on. May be called again. */
  end(): void;
  /**
   * Gives all up, what the kernel has not taken too. A `written()` that is due still comes. With
   * `isReset` what the kernel has taken and not delivered goes, too: nothing of it comes late.
   */
  close(isReset: boolean): void;
}

export type LayerName = "net" | "native";
/** `auto` is the native layer where its addon was built, else the other. */
export const IO_CHOICES = ["auto", "net", "native"] as const;
export type IoChoice = (typeof IO_CHOICES)[number];

export interface Layer {
  readonly name: LayerName;
  /** Rejects with the system's error when the endpoint cannot be had. */
  listen(endpoint: Endpoint, options: ListenOptions, acceptor: Acceptor): Promise<Listening>;
  connect(endpoint: Endpoint, receiver: Connecting): Connection;
  /**
   * So many connections of a group are read in a turn, 0 for all; the rest have their turn later. A
   * layer that cannot do that reads all of them. Accepted connections begin in group 0.
   */
  limitReads(readsMax: number): void;
  /** The end of a flush: what was kept until now to go out together goes out. */
  flush(): void;
}

/** The endpoint that is written `unix:/path` or `host:port` (IPv6 in brackets). */
export function endpointOf(address: string): Endpoint {
  if (address.startsWith("unix:")) return { path: address.slice("unix:".length) };
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
  return { host, port: Number(address.slice(colon + 1)) };
}

export function addressOf(endpoint: Endpoint): string {
  if ("path" in endpoint) return `unix:${endpoint.path}`;
  const { host, port } = endpoint;
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}
