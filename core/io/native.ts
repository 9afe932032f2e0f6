/**
 * The layer over our own epoll (native/addon.c): one call from C for all reads of a turn, one call
 * to C for all its writes, and no object of Node's per socket. Linux only, and only where the addon
 * was built. It reads many sockets into the arena one behind the other; each read is used up before
 * the next one is told, so what a connection kept may overwrite what lies before its fresh bytes.
 *
 * Host names are left to the net layer, which looks them up and tries all their addresses.
 */
import { lookup } from "node:dns/promises";
import { existsSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { isIP } from "node:net";
import { getSystemErrorName } from "node:util";
import { READ_AT, READ_SIZE } from "./arena.ts";
import { Connection } from "./connection.ts";
import type { Loop } from "./loop.ts";
import { addonPath } from "./native/build.mjs";
import type { NetLayer } from "./net.ts";
import {
  type Acceptor,
  addressOf,
  type Connecting,
  type Endpoint,
  type Layer,
  type Listening,
  type ListenOptions,
  type Receiver,
  type Wire,
} from "./wire.ts";

type Handle = { readonly handle: unique symbol };
/** Rows of three: id, what (or place in the arena), value (or size); see native/sockets.h. */
type Table = Int32Array;
const FIELDS = 3;
const EVENT_COUNT_MAX = 1024;
const WRITE_COUNT_MAX = 1024;
const What = { opened: -1, writable: -2, accepted: -3, dropped: -4 } as const;
/** An id is the index of a slot below, and above it a generation. */
const INDEX_MASK = (1 << 20) - 1;
const NOBODY = -1;
/** A listener that can neither accept nor refuse looks again after so long. */
const ACCEPT_RETRY_MS = 100;

/** What is called `id` is a negative errno when it could not be had. */
export interface Addon {
  open(
    memory: Buffer,
    readFrom: number,
    readTo: number,
    events: Table,
    writes: Table,
    turn: (count: number, isLast: boolean) => void,
  ): Handle | number;
  listen(
    io: Handle,
    place: string,
    port: number,
    backlog: number,
    reusePort: boolean,
    keepAliveSeconds: number,
  ): number;
  connect(io: Handle, place: string, port: number): number;
  port(io: Handle, id: number): number;
  /** The numeric address of the other side, "" where it has none. */
  peer(io: Handle, id: number): string;
  /** How many bytes the kernel took; after less than all `writable` is told. */
  send(io: Handle, id: number, bytes: Buffer): number;
  /** Each row's place moves on, its size becomes what is left; how many have something left. */
  sendTable(io: Handle, count: number): number;
  read(io: Handle, id: number, isWanted: boolean): void;
  group(io: Handle, id: number, group: number): void;
  limit(io: Handle, readsMax: number): void;
  shut(io: Handle, id: number): void;
  /** `isReset`: what was sent and not delivered is taken back. */
  close(io: Handle, id: number, isReset: boolean): void;
}

/** Throws when the addon was not built, or not for this machine. */
export function loadAddon(): Addon {
  const path = addonPath();
  if (!existsSync(path))
    throw new Error("its addon was not built (npm ci does, with a C compiler)");
  return createRequire(import.meta.url)(path) as Addon;
}

export class NativeLayer implements Layer {
  readonly name = "native";
  readonly loop: Loop;
  readonly addon: Addon;
  readonly io: Handle;
  /** What each open socket is, by the index in its id. */
  readonly #sockets: (NativeWire | NativeListener | undefined)[] = [];
  readonly #events: Table = new Int32Array(EVENT_COUNT_MAX * FIELDS);
  /** Slabs that go to the kernel together at the end of the flush, and whose they are. */
  readonly #writes: Table = new Int32Array(WRITE_COUNT_MAX * FIELDS);
  #writers: (NativeWire | null)[] = new Array(WRITE_COUNT_MAX).fill(null);
  #told: (NativeWire | null)[] = new Array(WRITE_COUNT_MAX).fill(null);
  #writeCount = 0;
  readonly #net: NetLayer;
  /** Kept here too: the addon holds it only while sockets are open. */
  readonly #tell = (count: number, isLast: boolean): void => this.#turn(count, isLast);

  constructor(loop: Loop, addon: Addon, net: NetLayer) {
    this.loop = loop;
    this.addon = addon;
    this.#net = net;
    const { bytes } = loop.arena;
    const readTo = READ_AT + READ_SIZE;
    const io = addon.open(bytes, READ_AT, readTo, this.#events, this.#writes, this.#tell);
    if (typeof io === "number") throw systemError(io, "epoll_create");
    this.io = io;
  }

  async listen(endpoint: Endpoint, options: ListenOptions, acceptor: Acceptor): Promise<Listening> {
    const at = "path" in endpoint ? endpoint : await numeric(endpoint);
    const { backlog, reusePort = false, keepAliveDelayMs = 0 } = options;
    const keepAliveSeconds = Math.ceil(keepAliveDelayMs / 1000);
    const [place, port] = argumentsOf(at);
    const { addon, io } = this;
    const id = addon.listen(io, place, port, backlog, reusePort, keepAliveSeconds);
    if (id < 0) throw systemError(id, "listen", at);
    const bound = "path" in at ? at : { host: at.host, port: addon.port(io, id) };
    return this.enter(new NativeListener(this, { id, endpoint: bound, options, acceptor }));
  }

  connect(endpoint: Endpoint, receiver: Connecting): Connection {
    if ("host" in endpoint && isIP(endpoint.host) === 0) {
      return this.#net.connect(endpoint, receiver);
    }
    const id = this.addon.connect(this.io, ...argumentsOf(endpoint));
    const wire = new NativeWire(this, { id, receiver, connecting: receiver });
    if (id >= 0) this.enter(wire);
    else setImmediate(() => wire.connection.close(codeOf(id)));
    return wire.connection;
  }

  enter<Socket extends NativeWire | NativeListener>(socket: Socket): Socket {
    this.#sockets[socket.id & INDEX_MASK] = socket;
    return socket;
  }

  leave(id: number, isReset = false): void {
    if (id < 0) return;
    this.#sockets[id & INDEX_MASK] = undefined;
    this.addon.close(this.io, id, isReset);
  }

  limitReads(readsMax: number): void {
    this.addon.limit(this.io, readsMax);
  }

  /** Called by the addon: `count` events stand in the table. */
  #turn(count: number, isLast: boolean): void {
    this.loop.enter();
    const events = this.#events;
    for (let row = 0; row < count * FIELDS; row += FIELDS) {
      const id = events[row]!;
      const socket = this.#sockets[id & INDEX_MASK];
      // Closed since, by what was told before.
      if (socket === undefined || socket.id !== id) continue;
      const what = events[row + 1]!;
      const value = events[row + 2]!;
      if (what >= 0 && value > 0) (socket as NativeWire).connection.read(what, value);
      else socket.told(what, value);
    }
    if (isLast) this.loop.flush();
  }

  /** Notes a write for the end of the flush. */
  post(wire: NativeWire, at: number, size: number): void {
    if (this.#writeCount === WRITE_COUNT_MAX) this.flush();
    const row = this.#writeCount * FIELDS;
    this.#writes[row] = wire.id;
    this.#writes[row + 1] = at;
    this.#writes[row + 2] = size;
    this.#writers[this.#writeCount++] = wire;
  }

  /** Each writer may note one more while it is told: that is for the next round. */
  flush(): void {
    while (this.#writeCount > 0) {
      const count = this.#writeCount;
      const writers = this.#writers;
      this.#writers = this.#told;
      this.#told = writers;
      this.#writeCount = 0;
      const leftCount = this.addon.sendTable(this.io, count);
      const left = leftCount === 0 ? null : this.#writes.slice(0, count * FIELDS);
      for (let i = 0; i < count; i++) {
        const wire = writers[i]!;
        writers[i] = null;
        const size = left === null ? 0 : left[i * FIELDS + 2]!;
        if (size === 0) wire.sent();
        else wire.sentPartly(left![i * FIELDS + 1]!, size);
      }
    }
  }
}

class NativeWire implements Wire {
  /** NOBODY when it is closed. */
  id: number;
  readonly connection: Connection;
  readonly #layer: NativeLayer;
  /** Where it was accepted; null when we connected it. */
  readonly #listener: NativeListener | null;
  #connecting: Connecting | null;
  /** A piece was taken over and `written` not yet told. */
  #isDue = false;
  /** What the kernel has not taken of it. */
  #rest: Buffer | null = null;
  #inputEnded = false;
  #outputEnded = false;

  constructor(layer: NativeLayer, parts: WireParts) {
    this.#layer = layer;
    this.id = parts.id;
    this.#listener = parts.listener ?? null;
    this.#connecting = parts.connecting ?? null;
    this.connection = new Connection(layer.loop, this, parts.receiver);
  }

  get remoteAddress(): string {
    return this.#layer.addon.peer(this.#layer.io, this.id);
  }

  /** What the addon tells, besides bytes. */
  told(what: number, value: number): void {
    if (what >= 0) {
      if (value < 0) return this.connection.close(codeOf(value));
      this.#inputEnded = true;
      this.connection.inputEnded();
      return this.#closeIfEnded();
    }
    if (what === What.opened) {
      this.#connecting?.opened();
      this.#connecting = null;
    }
    if (this.#rest !== null) this.#sendRest(this.#rest);
  }

  write(bytes: Buffer): boolean {
    const taken = this.#layer.addon.send(this.#layer.io, this.id, bytes);
    if (taken === bytes.length) return true;
    this.#isDue = true;
    this.#took(bytes, taken);
    return false;
  }

  writeSlab(at: number, size: number): boolean {
    this.#isDue = true;
    this.#layer.post(this, at, size);
    return false;
  }

  /** The slab that was posted is with the kernel. */
  sent(): void {
    if (!this.#isDue) return; // Closed before it was its turn.
    this.#isDue = false;
    this.connection.written();
  }

  /** Of the slab that was posted `left` bytes at `at` are not; or it is an error. */
  sentPartly(at: number, left: number): void {
    if (!this.#isDue) return;
    if (left < 0) return this.connection.close(codeOf(left));
    const { bytes } = this.connection.loop.arena;
    this.#took(bytes.subarray(at, at + left), 0);
  }

  #sendRest(rest: Buffer): void {
    const taken = this.#layer.addon.send(this.#layer.io, this.id, rest);
    if (taken < rest.length) return this.#took(rest, taken);
    this.#rest = null;
    this.sent();
  }

  #took(bytes: Buffer, taken: number): void {
    if (taken < 0) return this.connection.close(codeOf(taken));
    this.#rest = bytes.subarray(taken);
    this.connection.wrote(taken);
  }

  joinGroup(group: number): void {
    this.#layer.addon.group(this.#layer.io, this.id, group);
  }

  pause(): void {
    this.#layer.addon.read(this.#layer.io, this.id, false);
  }

  resume(): void {
    if (!this.#inputEnded) this.#layer.addon.read(this.#layer.io, this.id, true);
  }

  end(): void {
    if (this.#outputEnded) return;
    this.#outputEnded = true;
    this.#layer.addon.shut(this.#layer.io, this.id);
    this.#closeIfEnded();
  }

  #closeIfEnded(): void {
    if (this.#inputEnded && this.#outputEnded) this.connection.close("closed");
  }

  close(isReset: boolean): void {
    this.#layer.leave(this.id, isReset);
    this.id = NOBODY;
    this.#rest = null;
    this.#listener?.left();
    this.sent();
  }
}

interface WireParts {
  id: number;
  receiver: Receiver;
  listener?: NativeListener;
  connecting?: Connecting;
}

class NativeListener implements Listening {
  id: number;
  readonly #layer: NativeLayer;
  readonly #parts: ListenerParts;
  #openCount = 0;

  constructor(layer: NativeLayer, parts: ListenerParts) {
    this.#layer = layer;
    this.#parts = parts;
    this.id = parts.id;
  }

  get address(): string {
    return addressOf(this.#parts.endpoint);
  }

  told(what: number, value: number): void {
    if (what === What.accepted) return this.#accept(value);
    this.#parts.acceptor.dropped?.();
    if (value < 0) this.#waitForRoom();
  }

  #accept(id: number): void {
    const { acceptor, options } = this.#parts;
    const layer = this.#layer;
    if (this.#openCount >= (options.connectionsMax ?? Number.POSITIVE_INFINITY)) {
      layer.leave(id);
      acceptor.dropped?.();
      return;
    }
    this.#openCount++;
    acceptor.accepted((receiver) => {
      const wire = new NativeWire(layer, { id, receiver, listener: this });
      return layer.enter(wire).connection;
    });
  }

  /** A connection that was accepted here is gone. */
  left(): void {
    this.#openCount--;
  }

  /** It would be told again at once that there are no descriptors, for as long as there are none. */
  #waitForRoom(): void {
    const { addon, io } = this.#layer;
    addon.read(io, this.id, false);
    setTimeout(() => addon.read(io, this.id, true), ACCEPT_RETRY_MS).unref();
  }

  close(): void {
    if (this.id === NOBODY) return;
    this.#layer.leave(this.id);
    this.id = NOBODY;
    const { endpoint } = this.#parts;
    if ("path" in endpoint) rmSync(endpoint.path, { force: true });
  }
}

interface ListenerParts {
  id: number;
  /** As bound. */
  endpoint: Endpoint;
  options: ListenOptions;
  acceptor: Acceptor;
}

/** A name as the address that it stands for; the first, as `node:net` does when it listens. */
async function numeric(endpoint: { host: string; port: number }): Promise<Endpoint> {
  if (isIP(endpoint.host) !== 0) return endpoint;
  const { address } = await lookup(endpoint.host);
  return { host: address, port: endpoint.port };
}

/** As the addon takes them: a host and its port, or a path and -1. */
function argumentsOf(endpoint: Endpoint): [place: string, port: number] {
  return "path" in endpoint ? [endpoint.path, -1] : [endpoint.host, endpoint.port];
}

const codeOf = (errno: number): string => getSystemErrorName(errno);

/** An error like Node's own. */
function systemError(errno: number, syscall: string, endpoint?: Endpoint): Error {
  const code = codeOf(errno);
  const where = endpoint === undefined ? "" : ` ${addressOf(endpoint)}`;
  const { path, host, port } = { path: undefined, host: undefined, port: -1, ...endpoint };
  const error = new Error(`${syscall} ${code}${where}`);
  return Object.assign(error, { code, errno, syscall, address: host ?? path, port });
}
