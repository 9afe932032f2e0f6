/**
 * A shard that a memcached process of its own serves: started, watched, started again when it
 * ends, ended with the shard. All that is known about it is its state here; `#transition` is the
 * only door.
 *
 *     waiting -> starting -> ready -> (ends) -> waiting      any -> closed
 *
 * What is wished of it is done at once if the process answers, and else by the process that comes
 * after it. A process that answers nothing is left alone for a while (its node only says so): it
 * may wake up with its values, and whoever cannot wait for it fences the shard.
 */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import type { Loop } from "../../core/io/loop.ts";
import { restartDelayMs } from "../../core/runtime/backoff.ts";
import { clock, sleep } from "../../core/runtime/clock.ts";
import type { Logger } from "../../core/runtime/log.ts";
import type { Random } from "../../core/runtime/random.ts";
import type { EngineShard, Figures, Keeps, OpenOptions } from "../engine.ts";
import type { MemcachedOptions } from "../options.ts";
import { privateKey, setCasApart } from "./cas.ts";
import { Control, statsOf, type Until } from "./control.ts";
import { type Mark, type Marked, residentBytesOf } from "./ours.ts";
import { argumentsOf, megabytesOf, type ShardEndpoint } from "./program.ts";
import { purge } from "./purge.ts";
import { Serving } from "./serving.ts";
import { Shrinking } from "./shrinking.ts";
import { Tally } from "./tally.ts";

const ANSWER_MS_MAX = 1_000;
/** From its start to its first answer; it takes about 10 ms. */
const START_MS_MAX = 5_000;
const START_LOOK_MS = 5;
/** A process that lived this long died of something new: its backoff starts over. */
const STEADY_MS = 10_000;
const MIB = 1 << 20;

export interface ShardParts {
  readonly program: string;
  readonly options: MemcachedOptions;
  /**
   * Where a process can listen, if possible where the one before did. Rejects when somebody else
   * serves there and no other place would do.
   */
  locate(before: string | undefined): Promise<Place>;
  readonly mark: Omit<Mark, "startedAtMs">;
  readonly loop: Loop;
  readonly log: Logger;
  readonly random: Random;
  /** Called when it is closed. */
  closed(): void;
}

export interface Place {
  readonly endpoint: ShardEndpoint;
  /** As proxies reach it. */
  readonly address: string;
}

type State =
  | { state: "waiting" }
  | { state: "starting"; serving: Serving }
  | { state: "ready"; serving: Serving }
  | { state: "closed" };

const LEGAL: Record<State["state"], readonly State["state"][]> = {
  waiting: ["starting", "ready", "closed"],
  starting: ["ready", "waiting", "closed"],
  ready: ["waiting", "closed"],
  closed: [],
};

export class MemcachedShard implements EngineShard {
  generation = 0;
  readonly #parts: ShardParts;
  readonly #changed: () => void;
  readonly #tally = new Tally();
  /** Somebody may hold cas uniques of a process that served before. */
  #hasServed: boolean;
  #state: State = { state: "waiting" };
  readonly #addressBefore: string | undefined;
  #place: Place | undefined;
  #isLocating = false;
  #control: Control | undefined;
  #bytes: number;
  #bytesWanted: number;
  #shrinking: Shrinking | undefined;
  #restarts = 0;
  #lastExit = "";
  #answers = true;
  #silentSinceMs: number | undefined;
  #isPolling = false;
  #isReplacing = false;
  #failureCount = 0;

  constructor(parts: ShardParts, { bytes, before, changed }: OpenOptions) {
    this.#parts = parts;
    this.#changed = changed;
    this.#addressBefore = before?.address;
    this.#bytes = bytes;
    this.#bytesWanted = bytes;
    this.#hasServed = before !== undefined;
  }

  get address(): string {
    return this.#place?.address ?? "";
  }

  get bytes(): number {
    return this.#bytes;
  }

  get state(): "starting" | "ready" {
    return this.#state.state === "ready" ? "ready" : "starting";
  }

  get process(): EngineShard["process"] {
    const serving = this.#serving;
    return {
      pid: serving?.pid ?? null,
      startedAtMs: serving?.mark.startedAtMs ?? 0,
      restarts: this.#restarts,
      lastExit: this.#lastExit,
      answers: this.#answers,
    };
  }

  get #isWaiting(): boolean {
    return this.#state.state === "waiting";
  }

  get #serving(): Serving | undefined {
    return "serving" in this.#state ? this.#state.serving : undefined;
  }

  figures(): Figures {
    const serving = this.#serving;
    const residentBytes = serving === undefined ? undefined : residentBytesOf(serving.pid);
    return { ...this.#tally.figures, ...(residentBytes === undefined ? {} : { residentBytes }) };
  }

  // ---- its process -------------------------------------------------------------------------------

  /** Takes over a process with what it holds. False if it does not answer. */
  async adopt(marked: Marked, place: Place): Promise<boolean> {
    this.#place = place;
    const serving = Serving.adopt(marked);
    this.#transition({ state: "ready", serving });
    try {
      const stats = await this.#readStats();
      const limit = Number(stats.get("limit_maxbytes"));
      if (!(limit > 0)) throw new Error("it does not tell its limit");
      // It had what was wished, or what was wished before that is known from the limit alone.
      if (limit !== megabytesOf(this.#bytes) * MIB) this.#bytes = limit;
      this.#follow(serving);
      this.#parts.log.info({ memcachedPid: serving.pid }, "memcached taken over with its values");
      return true;
    } catch (error) {
      this.#parts.log.warn(
        { err: error, memcachedPid: serving.pid },
        "found memcached that says nothing",
      );
      this.#dropControl();
      this.#transition({ state: "waiting" });
      return false;
    }
  }

  /**
   * Starts a process. Resolves when it serves, or has not come to that: then it is tried again.
   * Rejects when there is no place for it.
   */
  async start(): Promise<void> {
    const { program, options, locate, mark } = this.#parts;
    if (!this.#isWaiting || this.#isLocating) return;
    this.#isLocating = true;
    this.#place = await locate(this.#place?.address ?? this.#addressBefore).finally(() => {
      this.#isLocating = false;
    });
    if (!this.#isWaiting) return; // Closed meanwhile.
    const { endpoint } = this.#place;
    const megabytes = megabytesOf(this.#bytesWanted);
    const args = [...argumentsOf(options, endpoint), "-m", String(megabytes)];
    const bytes = this.#bytesWanted;
    const serving = Serving.start(program, { ...mark, startedAtMs: clock.unixMs() }, args);
    this.#transition({ state: "starting", serving });
    this.#follow(serving);
    if (!(await this.#comesUp(serving))) return void serving.kill();
    this.#bytes = bytes;
    this.#hasServed = true;
    this.generation++;
    this.#transition({ state: "ready", serving });
    await this.poll();
    this.#changed();
  }

  /** Until it answers on its socket; false when it ended or the time was over before that. */
  async #comesUp(serving: Serving): Promise<boolean> {
    const giveUpAtMs = clock.nowMs() + START_MS_MAX;
    while (this.#serving === serving && clock.nowMs() < giveUpAtMs) {
      try {
        await this.#ask("version", "line");
        if (this.#hasServed)
          await setCasApart((command) => this.#ask(command, "line"), this.#parts);
        return this.#serving === serving;
      } catch {
        this.#dropControl();
        await sleep(START_LOOK_MS); // It does not listen yet.
      }
    }
    return false;
  }

  #follow(serving: Serving): void {
    void serving.ended.then((how) => this.#ended(serving, how));
  }

  #ended(serving: Serving, how: string): void {
    if (serving !== this.#serving) return;
    this.#dropControl();
    this.#tally.restarted();
    this.#answers = true;
    const silent = this.#silentSinceMs;
    this.#silentSinceMs = undefined;
    this.#transition({ state: "waiting" });
    if (this.#isReplacing) return;
    const livedMs = clock.unixMs() - serving.mark.startedAtMs;
    this.#failureCount = livedMs >= STEADY_MS ? 1 : this.#failureCount + 1;
    const delayMs = restartDelayMs(this.#failureCount - 1, this.#parts.random);
    this.#restarts++;
    this.#lastExit = silent === undefined ? how : `${how}, after it had said nothing`;
    const facts = { memcachedPid: serving.pid, how: this.#lastExit, livedMs, delayMs };
    this.#parts.log.warn(facts, "memcached ended, starting it again");
    this.#changed();
    void this.#startLater(delayMs);
  }

  async #startLater(delayMs: number): Promise<void> {
    await sleep(delayMs);
    try {
      await this.start();
    } catch (error) {
      this.#lastExit = `not started: ${(error as Error).message}`;
      this.#parts.log.error({ err: error }, "memcached cannot be started; trying again");
      this.#changed();
      void this.#startLater(restartDelayMs(this.#failureCount++, this.#parts.random));
    }
  }

  /** A new process in place of this one, whatever this one is doing. */
  async #replace(reason: string): Promise<void> {
    const serving = this.#serving;
    this.#parts.log.info({ memcachedPid: serving?.pid, reason }, "memcached replaced");
    this.#isReplacing = true;
    await serving?.kill();
    this.#isReplacing = false;
    await this.#startLater(0);
  }

  #transition(to: State): void {
    const from = this.#state.state;
    assert(LEGAL[from].includes(to.state), `${this.#parts.mark.shard}: ${from} -> ${to.state}`);
    this.#state = to;
    this.#parts.log.debug(
      { from, to: to.state, memcachedPid: this.#serving?.pid },
      "memcached state",
    );
  }

  // ---- what is wished of it ------------------------------------------------------------------------

  async resize(bytes: number): Promise<void> {
    this.#bytesWanted = bytes;
    if (this.#state.state !== "ready") {
      this.#bytes = bytes; // Of the process that comes.
      return;
    }
    if (!this.#answers) return; // When it does, `changed` is called.
    const megabytes = megabytesOf(bytes);
    const reply = await this.#tryAsk(`cache_memlimit ${megabytes}`);
    if (reply !== "OK") {
      this.#parts.log.warn({ megabytes, reply }, "memcached not resized yet");
      return; // The next look at it tries again.
    }
    this.#bytes = bytes;
    this.#shrinking?.stop();
    this.#shrinking = new Shrinking(megabytes * MIB, (command, until) => this.#ask(command, until));
    void this.#shrinking.run().then((outcome) => {
      if (outcome.pagesMoved > 0) this.#parts.log.info(outcome, "memory given back");
    });
  }

  async empty(reason: "flushed" | "fenced"): Promise<void> {
    if (this.#state.state !== "ready") return; // The process that comes begins empty.
    if (reason === "fenced") return this.#replace("it was fenced");
    if (await this.#flush()) this.generation++;
    else await this.#replace("it could not be flushed");
  }

  /** Proves that what was stored in this very second is gone too. */
  async #flush(): Promise<boolean> {
    const key = privateKey();
    if ((await this.#tryAsk(`ms ${key} 1\r\n1`)) !== "HD") return false;
    if ((await this.#tryAsk("flush_all")) !== "OK") return false;
    if ((await this.#tryAsk(`mg ${key}`)) !== "EN") return false;
    // What was flushed keeps its memory until it is met; the crawler meets all of it now.
    await this.#tryAsk("lru_crawler crawl all");
    return true;
  }

  async purge(keeps: Keeps): Promise<number> {
    // One that is to come begins empty.
    if (this.#state.state !== "ready" || this.#place === undefined) return 0;
    const serving = this.#serving;
    const removedCount = await purge(this.#place.endpoint, keeps);
    if (serving !== this.#serving) throw new Error("it ended meanwhile");
    return removedCount;
  }

  async resetStats(): Promise<void> {
    await this.poll();
    await this.#tryAsk("stats reset");
    await this.poll();
  }

  async close(): Promise<void> {
    if (this.#state.state === "closed") return;
    const serving = this.#serving;
    this.#dropControl();
    this.#transition({ state: "closed" });
    this.#parts.closed();
    await serving?.end();
    const endpoint = this.#place?.endpoint;
    if (endpoint !== undefined && "path" in endpoint) await rm(endpoint.path, { force: true });
  }

  // ---- talking to it -------------------------------------------------------------------------------

  /** Looks after it: figures, whether it answers, whether all that was wished is done. */
  async poll(): Promise<void> {
    const { state } = this.#state;
    if (state !== "ready" || this.#isPolling) return;
    this.#isPolling = true;
    const serving = this.#serving;
    try {
      await this.#readStats();
      if (serving === this.#serving) this.#answered();
    } catch (error) {
      if (serving === this.#serving && serving !== undefined) this.#silent(serving, error);
    }
    this.#isPolling = false;
    if (this.#bytes !== this.#bytesWanted && this.#answers) this.#changed();
  }

  async #readStats(): Promise<ReadonlyMap<string, string>> {
    const stats = statsOf(await this.#ask("stats", "END"));
    // An error (too many connections) tells no figures, but it is an answer.
    if (stats.size > 0) this.#tally.read(stats);
    return stats;
  }

  #answered(): void {
    this.#silentSinceMs = undefined;
    if (this.#answers) return;
    this.#answers = true;
    this.#parts.log.info({ memcachedPid: this.#serving?.pid }, "memcached answers again");
    this.#changed();
  }

  #silent(serving: Serving, error: unknown): void {
    this.#dropControl();
    serving.look();
    if (!serving.isAlive) return; // Its end is told by itself.
    const nowMs = clock.nowMs();
    this.#silentSinceMs ??= nowMs;
    if (this.#answers) {
      this.#answers = false;
      this.#parts.log.warn({ err: error, memcachedPid: serving.pid }, "memcached says nothing");
      this.#changed();
    }
    const { silentMsMax } = this.#parts.options;
    if (nowMs - this.#silentSinceMs > silentMsMax) void serving.kill();
  }

  async #tryAsk(command: string): Promise<string> {
    try {
      return await this.#ask(command, "line");
    } catch (error) {
      return (error as Error).message; // Like a reply that nobody expects.
    }
  }

  async #ask(command: string, until: Until): Promise<string> {
    if (this.#place === undefined) throw new Error("not started yet");
    if (this.#control === undefined || this.#control.isClosed) {
      this.#control = new Control(this.#parts.loop, this.#place.endpoint);
    }
    return this.#control.ask(command, until, ANSWER_MS_MAX);
  }

  #dropControl(): void {
    this.#shrinking?.stop();
    this.#control?.close();
    this.#control = undefined;
  }
}
