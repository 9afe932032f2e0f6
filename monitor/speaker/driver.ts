/**
 * Drives the pager: takes what happens, lets the pager decide, writes down what it decided, and only
 * then lets it be done. While another monitor speaks nothing is decided here. Events that come
 * while something is written are decided together with the next ones, in the order in which they
 * came, so a slow disk makes larger steps and no queue.
 */
import { type Clock, every, sleep, type Timer } from "../../core/runtime/clock.ts";
import type { Logger } from "../../core/runtime/log.ts";
import type { Condition } from "../condition.ts";
import type { PagingConfig } from "../config/paging.ts";
import { nextDeadlineMs, pagerOf, step } from "../incident/pager.ts";
import type { Effect, PagerChange, PagerEvent, PagerState } from "../incident/types.ts";
import type { Documents } from "../ledger/documents.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { outdatedIncidents } from "../ledger/retention.ts";
import type { IncomingText } from "../xmpp/link.ts";
import type { Election, StanceName } from "./election.ts";

/** Deadlines are met within this time. */
const TICK_MS = 50;
const CONDITIONS_INTERVAL_MS = 200;
/** Beyond it the newest events are dropped and counted: something floods us. */
const WAITING_COUNT_MAX = 10_000;
/** What nobody decided on for so long, as nobody could speak, is no news any more. */
const WAITING_MS_MAX = 60_000;
/** An order that nobody obeyed for so long is not what its author wants now. */
const ORDER_MS_MAX = 5 * 60_000;
const RETRY_DELAY_MS = 1_000;

export interface DriverParts {
  readonly election: Election;
  readonly documents: Documents;
  readonly ledger: Ledger;
  readonly paging: PagingConfig;
  readonly clock: Clock;
  readonly log: Logger;
  /** Name of this monitor. */
  readonly name: string;
  conditions(unixMs: number): readonly Condition[];
  /** Facts that whoever takes over has to learn anew: the link, who is there. */
  facts(): readonly PagerEvent[];
  /** Does it; everything that it follows from is safe. `state` is as of now. */
  carryOut(effects: readonly Effect[], state: PagerState): void;
  /** Somebody wrote to this monitor while another one speaks. */
  relay(message: IncomingText): void;
}

interface Waiting {
  readonly event: PagerEvent;
  readonly atMs: number;
}

export class Driver {
  readonly #parts: DriverParts;
  readonly #timer: Timer;
  #waiting: Waiting[] = [];
  /** Undefined while another monitor speaks. */
  #state: PagerState | undefined;
  /** Grows with each change of stance: what was begun before is not ours any more. */
  #era = 0;
  #isStepping = false;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #deadlineMs: number | null = null;
  readonly #toldOrders = new Set<string>();
  droppedCount = 0;

  constructor(parts: DriverParts) {
    this.#parts = parts;
    this.#timer = every(TICK_MS, () => {
      try {
        this.#beat();
      } catch (error) {
        this.droppedCount++;
        parts.log.error({ err: error }, "what is wrong cannot be told to the pager");
      }
    });
  }

  /** What the pager knows now; undefined while another monitor speaks. */
  get state(): PagerState | undefined {
    return this.#state;
  }

  tell(event: PagerEvent): void {
    if (this.#state === undefined && !this.#isWorthKeeping(event)) return;
    if (this.#waiting.length >= WAITING_COUNT_MAX) {
      this.droppedCount++;
      return;
    }
    this.#waiting.push({ event, atMs: this.#parts.clock.nowMs() });
    void this.#stepAll();
  }

  /** While nobody speaks, what is not told again waits for whoever does. */
  #isWorthKeeping(event: PagerEvent): boolean {
    const { election, name, relay } = this.#parts;
    const isLed = election.stance === "listening" && ![name, ""].includes(election.speaker);
    if (isLed && event.kind === "text") relay(event.message);
    return !isLed && LASTING.has(event.kind);
  }

  /** The election says so; see `ElectionParts.changed`. */
  stanceChanged(to: StanceName): void {
    this.#era++;
    this.#state = undefined;
    this.#deadlineMs = null;
    this.#toldOrders.clear();
    if (to === "speaking" || to === "alone") void this.#takeOver(to, this.#era);
    else if (to === "listening") void this.#handOver(this.#era);
  }

  /** Somebody else changed documents or gave orders. */
  recordsChanged(what: "order" | "document"): void {
    if (this.#state === undefined) return;
    if (what === "order") return this.#tellOrders();
    // Another monitor brought in what it wrote alone.
    this.#parts.log.info("documents were changed by another monitor; going on from those");
    this.stanceChanged(this.#parts.election.stance);
  }

  close(): void {
    this.#timer.stop();
    this.#era++;
    this.#state = undefined;
  }

  async #takeOver(stance: "speaking" | "alone", era: number): Promise<void> {
    const { documents, ledger, log, name } = this.#parts;
    while (era === this.#era) {
      try {
        if (stance === "speaking") {
          await documents.catchUp();
          await ledger.merge();
        }
        ledger.recall();
        break;
      } catch (error) {
        log.warn({ err: error }, "incidents cannot be loaded yet; trying again");
        await sleep(RETRY_DELAY_MS);
      }
    }
    if (era !== this.#era) return;
    this.#state = pagerOf(documents.forPager(this.#parts.clock.unixMs()));
    this.#deadlineMs = 0;
    const oldestMs = this.#parts.clock.nowMs() - WAITING_MS_MAX;
    const before = this.#waiting.filter(({ atMs }) => atMs >= oldestMs);
    const isThere = stance === "speaking";
    const first: PagerEvent[] = [
      { kind: "tookOver" },
      { kind: "quorum", isThere, monitor: name },
      ...this.#parts.facts(),
    ];
    const atMs = this.#parts.clock.nowMs();
    this.#waiting = [...first.map((event) => ({ event, atMs })), ...before];
    this.#lookedAtMs = Number.NEGATIVE_INFINITY;
    if (isThere) this.#tellOrders();
    const incidents = Object.keys(this.#state.incidents).length;
    log.info({ stance, incidents }, "this monitor speaks now");
    void this.#stepAll();
  }

  /** What was written alone belongs to the one who speaks now. */
  async #handOver(era: number): Promise<void> {
    if (!this.#parts.ledger.hasJournal) return;
    try {
      await this.#parts.ledger.merge();
    } catch (error) {
      if (era === this.#era) this.#parts.log.debug({ err: error }, "the journal stays for now");
    }
  }

  #tellOrders(): void {
    const { documents, clock } = this.#parts;
    for (const [id, { value: order }] of documents.orders) {
      if (this.#toldOrders.has(id)) continue;
      this.#toldOrders.add(id);
      if (clock.unixMs() - order.createdAtMs > ORDER_MS_MAX) this.#forgetOrder(id);
      else this.tell({ kind: "order", id, order });
    }
    for (const id of this.#toldOrders) if (!documents.orders.has(id)) this.#toldOrders.delete(id);
  }

  /** Drops incidents that are long over. Called now and then. */
  async forgetOld(): Promise<void> {
    if (this.#state === undefined || this.#parts.election.stance !== "speaking") return;
    const { documents, clock, ledger, log } = this.#parts;
    const ids = outdatedIncidents(documents.incidents, clock.unixMs());
    if (ids.length === 0) return;
    await ledger.forget(ids);
    log.info({ count: ids.length }, "old incidents were dropped");
  }

  #forgetOrder(id: string): void {
    this.#parts.log.warn({ order: id }, "an order came too late; it is not obeyed");
    void this.#parts.ledger.write([{ kind: "order", id, value: null }]);
  }

  #beat(): void {
    if (this.#state === undefined) return;
    const { clock } = this.#parts;
    const unixMs = clock.unixMs();
    if (clock.nowMs() - this.#lookedAtMs >= CONDITIONS_INTERVAL_MS) {
      this.#lookedAtMs = clock.nowMs();
      // Also that all is well, again and again: silence is no calm, and nobody would recover.
      this.tell({ kind: "observed", conditions: this.#parts.conditions(unixMs) });
    }
    if (this.#deadlineMs !== null && unixMs >= this.#deadlineMs) this.tell({ kind: "tick" });
  }

  async #stepAll(): Promise<void> {
    if (this.#isStepping || this.#state === undefined) return;
    this.#isStepping = true;
    try {
      while (this.#waiting.length > 0 && this.#state !== undefined) await this.#stepOnce();
    } catch (error) {
      // A fault of ours; it must not end the process, which hosts other roles, nor the paging.
      this.droppedCount++;
      this.#parts.log.error({ err: error }, "a step of the pager failed; its events are dropped");
    } finally {
      this.#isStepping = false;
    }
  }

  async #stepOnce(): Promise<void> {
    const { paging, clock, ledger } = this.#parts;
    const era = this.#era;
    const batch = this.#waiting.splice(0);
    let state = this.#state as PagerState;
    const changes = new Map<string, PagerChange>();
    const effects: Effect[] = [];
    for (const { event } of batch) {
      const next = step(state, event, clock.unixMs(), paging);
      state = next.state;
      for (const change of next.changes) changes.set(`${change.kind} ${change.id}`, change);
      effects.push(...next.effects);
    }
    const isSafe = changes.size === 0 || (await ledger.write([...changes.values()]));
    if (!isSafe || era !== this.#era) {
      // Nothing of it was said. What people and devices told us counts for whoever speaks next.
      this.#waiting.unshift(...batch.filter(({ event }) => LASTING.has(event.kind)));
      return;
    }
    this.#state = state;
    this.#deadlineMs = nextDeadlineMs(state);
    this.#parts.carryOut(effects, state);
  }
}

/** Events that are not told again by themselves. */
const LASTING: ReadonlySet<PagerEvent["kind"]> = new Set([
  "text",
  "delivered",
  "displayed",
  "bounced",
  "fellBack",
]);
