/**
 * Clients that write and read small values through several proxies as fast as they are answered,
 * and note what they saw. Each key belongs to one client; the proxy is another one every time.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { clock } from "../../core/runtime/clock.ts";
import type { Random } from "../../core/runtime/random.ts";
import { connect, type Wire } from "../harness/wire.ts";
import type { History } from "./history.ts";

const KEYS_PER_CLIENT = 20;
const RECONNECT_DELAY_MS = 20;
/**
 * Nothing here should come near it. Nobody gives up while a proxy is stopped: what a client has
 * sent and no longer waits for is applied when the proxy wakes, as a memcached would.
 */
const ANSWER_MS_MAX = 15_000;
/** Between two commands of a client: 16 of them make some thousand a second. */
const PAUSE_MS = 2;

export type WorkloadOptions = {
  /** Text listeners without login. */
  proxies: readonly string[];
  clientCount: number;
  random: Random;
  history: History;
};

export class Workload {
  readonly #options: WorkloadOptions;
  readonly #versions = new Map<string, number>();
  #isStopping = false;
  #clients: Promise<void>[] = [];

  constructor(options: WorkloadOptions) {
    this.#options = options;
  }

  start(): void {
    const { clientCount } = this.#options;
    this.#clients = Array.from({ length: clientCount }, (_, client) => this.#run(client));
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#clients);
  }

  async #run(client: number): Promise<void> {
    const { proxies, random, clientCount } = this.#options;
    const wires = new Map<number, Wire>();
    while (!this.#isStopping) {
      const proxy = Math.floor(random.next() * proxies.length);
      try {
        const wire = wires.get(proxy) ?? (await connect(proxies[proxy] ?? ""));
        wires.set(proxy, wire);
        const number = Math.floor(random.next() * KEYS_PER_CLIENT);
        if (random.next() < 0.4) await this.#mutate(wire, `k-${client}-${number}`);
        else {
          // Anybody's key, so that every value is read through every proxy.
          const owner = Math.floor(random.next() * clientCount);
          await this.#get(wire, `k-${owner}-${number}`, proxy);
        }
        await sleep(PAUSE_MS);
      } catch {
        // The connection is gone; what was under way has been noted.
        wires.get(proxy)?.close();
        wires.delete(proxy);
        await sleep(RECONNECT_DELAY_MS);
      }
    }
    for (const wire of wires.values()) wire.close();
  }

  async #mutate(wire: Wire, key: string): Promise<void> {
    const { random, history } = this.#options;
    const version = (this.#versions.get(key) ?? 0) + 1;
    this.#versions.set(key, version);
    const kind = random.next() < 0.1 ? "delete" : "set";
    const value = provenValue(key, version);
    const line =
      kind === "delete" ? `delete ${key}\r\n` : `set ${key} 0 0 ${value.length}\r\n${value}\r\n`;
    const startMs = clock.nowMs();
    let answer = "";
    try {
      answer = await ask(wire, line);
    } finally {
      const isOk = /^(STORED|DELETED|NOT_FOUND)\r\n$/.test(answer);
      const outcome = isOk ? "ok" : "failed";
      history.mutated({ key, version, kind, startMs, endMs: clock.nowMs(), outcome });
    }
  }

  async #get(wire: Wire, key: string, proxy: number): Promise<void> {
    const { history } = this.#options;
    const startMs = clock.nowMs();
    const answer = await ask(wire, `get ${key}\r\n`);
    const endMs = clock.nowMs();
    if (answer === "END\r\n") return history.got({ key, startMs, endMs, version: null, proxy });
    const found = /^VALUE (\S+) (\d+) \d+\r\n(.*)\r\nEND\r\n$/s.exec(answer);
    if (found === null) return history.getFailed();
    const [, itsKey = "", flags, value = ""] = found;
    const version = Number(value.split(" ")[1]);
    const isTrue = itsKey === key && flags === "0" && value === provenValue(key, version);
    if (isTrue) history.got({ key, startMs, endMs, version, proxy });
    else history.falsified(key, answer);
  }
}

/** Says whose it is and proves itself: bytes that were changed on their way are told from old ones. */
function provenValue(key: string, version: number): string {
  return `${key} ${version} ${crc32(`${key} ${version}`)}`;
}

/** Sends a line and reads its whole answer. */
async function ask(wire: Wire, line: string): Promise<string> {
  await wire.send(line);
  let answer = "";
  do {
    const { bytes, ended } = await wire.readUntil("\r\n", ANSWER_MS_MAX);
    answer += bytes.toString("latin1");
    if (ended !== "matched") throw new Error(`${ended} instead of an answer`);
  } while (answer.startsWith("VALUE ") && !answer.endsWith("\r\nEND\r\n"));
  return answer;
}
