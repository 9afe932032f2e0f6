/**
 * Clients with a fixed rate: for each pair of a proxy and a shard so many operations a second, on
 * connections of their own, begun when they are due and not when there is time. So a shard that
 * makes its own clients wait makes nobody else's, and nothing is left out of a latency.
 */
import { connect, type Socket } from "node:net";
import { Continuum } from "../../core/cluster/continuum.ts";
import { clock } from "../../core/runtime/clock.ts";
import type { Random } from "../../core/runtime/random.ts";
import { endpoint } from "../harness/processes.ts";

const TICK_MS = 1;
const CONNECTIONS_PER_PAIR = 4;
const KEYS_PER_PAIR = 50;
const SET_SHARE = 0.3;
const VALUE = "v".repeat(100);
const RECONNECT_DELAY_MS = 20;

export type Operation = {
  proxy: number;
  node: number;
  kind: "get" | "set";
  /** When it was due. */
  startMs: number;
  endMs: number;
  outcome: "hit" | "miss" | "stored" | "failed";
};

export type PaceOptions = {
  /** Text listeners without login. */
  proxies: readonly string[];
  nodes: readonly string[];
  ratePerPair: number;
  random: Random;
};

export class Pace {
  /** Those that have ended, in the order of their ends. */
  operations: Operation[] = [];
  readonly #options: PaceOptions;
  readonly #pairs: Pair[];
  #timer: NodeJS.Timeout | null = null;
  #startedAtMs = 0;
  #dueCount = 0;

  constructor(options: PaceOptions) {
    this.#options = options;
    const { proxies, nodes } = options;
    const ended = (operation: Operation): void => void this.operations.push(operation);
    this.#pairs = proxies.flatMap((address, proxy) =>
      keysByNode(nodes).map((keys, node) => new Pair({ address, proxy, node, keys, ended })),
    );
  }

  start(): void {
    this.#startedAtMs = clock.nowMs();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    for (const pair of this.#pairs) pair.close();
  }

  /** Stores all keys once, so that from now on a miss is a loss. */
  fill(): void {
    const nowMs = clock.nowMs();
    for (const pair of this.#pairs) if (pair.proxy === 0) pair.fill(nowMs);
  }

  #tick(): void {
    const { ratePerPair, random } = this.#options;
    const nowMs = clock.nowMs();
    // The first is due at the start.
    const due = Math.floor(((nowMs - this.#startedAtMs) / 1000) * ratePerPair) + 1;
    for (; this.#dueCount < due; this.#dueCount++) {
      const dueMs = this.#startedAtMs + (this.#dueCount / ratePerPair) * 1000;
      for (const pair of this.#pairs) pair.ask(random, dueMs);
    }
  }
}

/** Of each node the same number of keys: which shard a key belongs to is no secret. */
function keysByNode(nodes: readonly string[]): string[][] {
  const continuum = new Continuum(nodes.map((name) => ({ name, weight: 1 })));
  const found = nodes.map((): string[] => []);
  for (let index = 0; found.some((keys) => keys.length < KEYS_PER_PAIR); index++) {
    const key = Buffer.from(`pace-${index}`);
    const keys = found[continuum.ownerOfKey(key, 0, key.length)];
    if (keys !== undefined && keys.length < KEYS_PER_PAIR) keys.push(String(key));
  }
  return found;
}

type PairOptions = {
  address: string;
  proxy: number;
  node: number;
  keys: readonly string[];
  ended(operation: Operation): void;
};

class Pair {
  readonly proxy: number;
  readonly #options: PairOptions;
  readonly #clients: Client[];
  #next = 0;

  constructor(options: PairOptions) {
    this.proxy = options.proxy;
    this.#options = options;
    this.#clients = Array.from({ length: CONNECTIONS_PER_PAIR }, () => new Client(options));
  }

  ask(random: Random, startMs: number): void {
    const { keys } = this.#options;
    const key = keys[Math.floor(random.next() * keys.length)] ?? "";
    this.#client.ask(random.next() < SET_SHARE ? "set" : "get", key, startMs);
  }

  fill(startMs: number): void {
    for (const key of this.#options.keys) this.#client.ask("set", key, startMs);
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  get #client(): Client {
    this.#next = (this.#next + 1) % this.#clients.length;
    return this.#clients[this.#next]!;
  }
}

type Asked = Pick<Operation, "kind" | "startMs">;

/** One connection, pipelined. */
class Client {
  readonly #options: PairOptions;
  #socket: Socket;
  #asked: Asked[] = [];
  #rest = "";
  #isHit = false;
  #isClosed = false;

  constructor(options: PairOptions) {
    this.#options = options;
    this.#socket = this.#connect();
  }

  ask(kind: "get" | "set", key: string, startMs: number): void {
    this.#asked.push({ kind, startMs });
    const get = `get ${key}\r\n`;
    this.#socket.write(kind === "get" ? get : `set ${key} 0 0 ${VALUE.length}\r\n${VALUE}\r\n`);
  }

  close(): void {
    this.#isClosed = true;
    this.#socket.destroy();
  }

  #connect(): Socket {
    const socket = connect(endpoint(this.#options.address));
    socket.setNoDelay(true);
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => this.#heard(text));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      const lost = this.#asked;
      this.#asked = [];
      this.#rest = "";
      for (const asked of lost) this.#ended(asked, "failed");
      if (this.#isClosed) return;
      setTimeout(() => {
        if (!this.#isClosed) this.#socket = this.#connect();
      }, RECONNECT_DELAY_MS);
    });
    return socket;
  }

  #heard(text: string): void {
    const lines = (this.#rest + text).split("\r\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line.startsWith("VALUE ")) this.#isHit = true;
      else if (line !== VALUE) this.#answered(line);
    }
  }

  #answered(line: string): void {
    const asked = this.#asked.shift();
    if (asked === undefined) throw new Error(`nobody asked for ${line}`);
    const isHit = this.#isHit;
    this.#isHit = false;
    if (asked.kind === "set") return this.#ended(asked, line === "STORED" ? "stored" : "failed");
    if (line !== "END") return this.#ended(asked, "failed");
    this.#ended(asked, isHit ? "hit" : "miss");
  }

  #ended({ kind, startMs }: Asked, outcome: Operation["outcome"]): void {
    if (this.#isClosed) return;
    const { proxy, node, ended } = this.#options;
    ended({ proxy, node, kind, startMs, endMs: clock.nowMs(), outcome });
  }
}
