/**
 * The process behind network.ts: carries TCP connections over links, and makes the faults of a
 * link on them. Nothing here needs to be root, and nothing outside this process changes.
 *
 * What a fault does to bytes is what a network and the kernels at its ends would do: bytes that
 * cannot pass wait and come late, in their order, as TCP sends them again; those of an end that
 * reset its connection are lost; nobody hears of an end that has gone until the link is healed.
 */
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { clock } from "../../core/runtime/clock.ts";
import { type Random, seededRandom } from "../../core/runtime/random.ts";
import type { LinkFault, RelayOrder } from "./network.ts";

/** Bytes that wait in one direction; above it the sender is not read. */
const WAITING_SIZE_MAX = 1024 * 1024;
/** How soon a door is open again after somebody listens behind it. */
const LOOK_AGAIN_MS = 20;
const TRICKLE_SIZE = 8;
const TRICKLE_INTERVAL_MS = 5;
const SLOW_SHARE = 0.12;
const SLOW_MS_MIN = 80;
const SLOW_MS_SPREAD = 60;
const JITTER_SHARE = 0.15;
const JITTER_MS_MIN = 5;
const JITTER_MS_SPREAD = 10;
/** Of the replies of a corrupting link. */
const CORRUPT_SHARE = 0.1;
const RESET_AFTER_CHUNKS_MAX = 20;
const CR = 0x0d;

type Direction = "request" | "reply";
const NEVER = Number.POSITIVE_INFINITY;

/** Which way nothing passes. */
const DEAF: Partial<Record<LinkFault, readonly Direction[]>> = {
  "black-holed": ["request", "reply"],
  "requests lost": ["request"],
  "replies lost": ["reply"],
};

/** Milliseconds that a chunk is under way; NEVER while it cannot pass. */
function delayMs(fault: LinkFault | null, direction: Direction, random: Random): number {
  if (fault !== null && DEAF[fault]?.includes(direction)) return NEVER;
  switch (fault) {
    case "+20 ms":
      return direction === "reply" ? 20 : 0;
    case "+200 ms":
      return direction === "reply" ? 200 : 0;
    case "12 % slow":
      if (direction === "request" || random.next() >= SLOW_SHARE) return 0;
      return SLOW_MS_MIN + random.next() * SLOW_MS_SPREAD;
    case "jitter":
      if (direction === "request" || random.next() >= JITTER_SHARE) return 0;
      return JITTER_MS_MIN + random.next() * JITTER_MS_SPREAD;
    default:
      return 0;
  }
}

type Piece = { bytes: Buffer; sentAtMs: number; delayMs: number } | "end";

/** One direction of a connection. */
class Lane {
  readonly #connection: Connection;
  readonly #direction: Direction;
  readonly #from: Socket;
  readonly #to: Socket;
  #waiting: Piece[] = [];
  #waitingSize = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(connection: Connection, direction: Direction, from: Socket, to: Socket) {
    this.#connection = connection;
    this.#direction = direction;
    this.#from = from;
    this.#to = to;
    from.on("data", (chunk: Buffer) => this.#take(chunk));
    from.on("end", () => this.#put("end"));
    to.on("drain", () => this.#readAgain());
  }

  /** The sender has reset the connection: what it had sent and nobody acknowledged is lost. */
  lose(): void {
    this.#waiting = [];
    this.#waitingSize = 0;
  }

  /** The link is healed: what waited for that goes on. */
  healed(): void {
    for (const piece of this.#waiting) if (piece !== "end") piece.delayMs = 0;
    this.#move();
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  #take(chunk: Buffer): void {
    const { fault, random } = this.#connection.link;
    if (fault === "reset" && this.#connection.isUsedUp()) return this.#connection.reset();
    if (this.#direction === "reply") {
      if (fault === "truncated reply") {
        this.#to.end(chunk.subarray(0, chunk.length >> 1));
        return void this.#from.destroy();
      }
      if (fault === "corrupted reply") corrupt(chunk, random);
      if (fault === "trickled") {
        for (let at = 0; at < chunk.length; at += TRICKLE_SIZE) {
          this.#put(this.#piece(chunk.subarray(at, at + TRICKLE_SIZE), TRICKLE_INTERVAL_MS));
        }
        return;
      }
    }
    this.#put(this.#piece(chunk, delayMs(fault, this.#direction, random)));
  }

  #piece(bytes: Buffer, underWayMs: number): Piece {
    return { bytes, sentAtMs: clock.nowMs(), delayMs: underWayMs };
  }

  #put(piece: Piece): void {
    this.#waiting.push(piece);
    if (piece !== "end") this.#waitingSize += piece.bytes.length;
    if (this.#waitingSize > WAITING_SIZE_MAX) this.#from.pause();
    if (this.#waiting.length === 1) this.#move();
  }

  /** Sends what has arrived; the first that has not holds up the others. */
  #move(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const { link } = this.#connection;
    let piece = this.#waiting[0];
    while (piece !== undefined) {
      if (piece === "end") {
        if (link.isDeaf(this.#direction)) return;
        this.#to.end();
      } else {
        if (piece.delayMs === NEVER) return;
        const leftMs = piece.sentAtMs + piece.delayMs - clock.nowMs();
        if (leftMs > 0) {
          this.#timer = setTimeout(() => this.#move(), leftMs);
          return;
        }
        this.#waitingSize -= piece.bytes.length;
        if (!this.#to.destroyed && !this.#to.write(piece.bytes)) this.#from.pause();
      }
      this.#waiting.shift();
      piece = this.#waiting[0];
      // A trickle is as slow for the next piece as for this one.
      if (piece !== undefined && piece !== "end") {
        if (link.fault === "trickled") piece.sentAtMs = clock.nowMs();
      }
    }
    this.#readAgain();
    if (this.#from.destroyed) this.#connection.settle();
  }

  #readAgain(): void {
    if (this.#waitingSize <= WAITING_SIZE_MAX && !this.#to.writableNeedDrain) this.#from.resume();
  }
}

/** Another byte in the first line of a reply: what says what the reply is and how long. */
function corrupt(chunk: Buffer, random: Random): void {
  if (random.next() >= CORRUPT_SHARE) return;
  const lineSize = chunk.indexOf(CR);
  const at = Math.floor(random.next() * (lineSize < 1 ? chunk.length : lineSize));
  chunk[at] = (chunk[at]! + 1 + Math.floor(random.next() * 255)) % 256;
}

class Connection {
  readonly link: Link;
  readonly #near: Socket;
  readonly #far: Socket;
  readonly #lanes: readonly [Lane, Lane];
  #chunksLeft: number;

  constructor(link: Link, near: Socket, far: Socket) {
    this.link = link;
    this.#near = near;
    this.#far = far;
    this.#chunksLeft = 1 + Math.floor(link.random.next() * RESET_AFTER_CHUNKS_MAX);
    const requests = new Lane(this, "request", near, far);
    const replies = new Lane(this, "reply", far, near);
    this.#lanes = [requests, replies];
    for (const [socket, lane] of [
      [near, requests],
      [far, replies],
    ] as const) {
      socket.setNoDelay(true);
      socket.on("error", () => lane.lose());
      socket.on("close", () => this.settle());
    }
  }

  isUsedUp(): boolean {
    return --this.#chunksLeft <= 0;
  }

  reset(): void {
    this.#near.resetAndDestroy();
    this.#far.resetAndDestroy();
    this.link.connections.delete(this);
  }

  healed(): void {
    for (const lane of this.#lanes) lane.healed();
    this.settle();
  }

  /** Where one end has gone, the other hears of it when the link lets it. */
  settle(): void {
    if (this.link.isDeaf("request") || this.link.isDeaf("reply")) return;
    const isNearGone = this.#near.destroyed;
    const [requests, replies] = this.#lanes;
    if (isNearGone && requests.isEmpty && !this.#far.destroyed) this.#far.end();
    if (this.#far.destroyed && replies.isEmpty && !isNearGone) this.#near.end();
    if (isNearGone) this.#far.resume();
    if (isNearGone && this.#far.destroyed) this.link.connections.delete(this);
  }
}

/** Everything between one proxy and one node. */
class Link {
  readonly connections = new Set<Connection>();
  readonly doors = new Map<number, Door>();
  random: Random = seededRandom(0);
  fault: LinkFault | null = null;

  /** Nothing that is said in this direction is heard. */
  isDeaf(direction: Direction): boolean {
    return this.fault !== null && (DEAF[this.fault]?.includes(direction) ?? false);
  }

  async make(fault: LinkFault, seed: number): Promise<void> {
    this.random = seededRandom(seed);
    this.fault = fault;
    if (fault !== "refused") return;
    for (const door of this.doors.values()) await door.shut();
    for (const connection of [...this.connections]) connection.reset();
  }

  async heal(): Promise<void> {
    const before = this.fault;
    this.fault = null;
    if (before === "refused") for (const door of this.doors.values()) await door.open();
    for (const connection of [...this.connections]) connection.healed();
  }
}

type Place = { host: string; port: number };

/** A listener of a link; open while somebody listens at the other end, as in a network. */
class Door {
  readonly #link: Link;
  readonly #at: Place;
  readonly #target: Place;
  #server: Server | null = null;
  #isWanted = false;

  constructor(link: Link, at: Place, target: Place) {
    this.#link = link;
    this.#at = at;
    this.#target = target;
  }

  async open(): Promise<void> {
    this.#isWanted = true;
    if (this.#server !== null) return;
    if (!(await isServed(this.#target))) return this.#openLater();
    if (!this.#isWanted || this.#server !== null) return;
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (near) =>
      this.#enter(near),
    );
    this.#server = server;
    await new Promise<void>((resolve) => {
      server.once("error", () => {
        this.#server = null;
        this.#openLater();
        resolve();
      });
      server.listen(this.#at.port, this.#at.host, () => resolve());
    });
  }

  async shut(): Promise<void> {
    this.#isWanted = false;
    this.#server?.close();
    this.#server = null;
  }

  #openLater(): void {
    setTimeout(() => {
      if (this.#isWanted) void this.open();
    }, LOOK_AGAIN_MS);
  }

  #enter(near: Socket): void {
    near.on("error", () => near.destroy());
    const far = createConnection({ ...this.#target, allowHalfOpen: true });
    far.once("error", () => {
      // Nobody is there any more: the next ones are refused.
      near.resetAndDestroy();
      void this.shut().then(() => this.open());
    });
    far.once("connect", () => {
      far.removeAllListeners("error");
      this.#link.connections.add(new Connection(this.#link, near, far));
      near.resume();
    });
  }
}

function isServed(target: Place): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(target);
    socket.once("connect", () => {
      resolve(true);
      socket.destroy();
    });
    socket.once("error", () => resolve(false));
  });
}

const links = new Map<string, Link>();

function linkOf(name: string): Link {
  const known = links.get(name);
  if (known !== undefined) return known;
  const link = new Link();
  links.set(name, link);
  return link;
}

async function obey(order: RelayOrder): Promise<void> {
  const link = linkOf(order.link);
  switch (order.do) {
    case "carry": {
      const { at, port, target } = order;
      if (link.doors.has(port)) return;
      const door = new Door(link, { host: at, port }, { host: target, port });
      link.doors.set(port, door);
      return door.open();
    }
    case "forget": {
      const door = link.doors.get(order.port);
      link.doors.delete(order.port);
      return door?.shut();
    }
    case "make":
      return link.make(order.fault, order.seed);
    case "heal":
      return link.heal();
  }
}

process.on("message", (order: RelayOrder) => {
  obey(order).then(
    () => process.send?.({ id: order.id }),
    (error: Error) => process.send?.({ id: order.id, problem: error.message }),
  );
});
process.on("disconnect", () => process.exit(0));
