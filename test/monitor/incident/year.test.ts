/**
 * A year of a cluster and its people, from one seed: a few incidents a day, phones that are dead or
 * slow, acknowledgements that come, come late or not at all, a link that breaks, a monitor that is
 * killed and replaced. What must always hold is checked by the world now and then; here is checked
 * what a year must have brought: nobody was told late, everybody heard the end, and who was told
 * is whoever the calendar says, on both sides of both changes of the clocks.
 */
import { expect, test } from "vitest";
import type { Incident } from "../../../core/cluster/incidents.ts";
import type { Condition } from "../../../monitor/condition.ts";
import { nextDeadlineMs } from "../../../monitor/incident/pager.ts";
import { condition, manual, World } from "./world.ts";

const SEED = 20_260_101;
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const BEGIN = Date.UTC(2026, 0, 5, 8); // Monday, nine o'clock in Zurich.
const END = BEGIN + 364 * DAY;
const PEOPLE = ["alice", "bob", "carol"];
const ROTA = ["alice", "bob", "carol"];
const LOOK_MS = 10 * SECOND;
const NEVER = Number.POSITIVE_INFINITY;

/** Mulberry32: a year is one number. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Zurich by its rule, not by `Intl`: summer from the last Sunday of March to that of October. */
function isSummer(unixMs: number): boolean {
  const year = new Date(unixMs).getUTCFullYear();
  const lastSunday = (month: number) => {
    const last = Date.UTC(year, month + 1, 0, 1);
    return last - new Date(last).getUTCDay() * DAY;
  };
  return unixMs >= lastSunday(2) && unixMs < lastSunday(9);
}

/** Who is on call by the calendar: a week each, from Monday nine o'clock on the wall. */
function onCall(unixMs: number): string {
  const wallMs = unixMs + (isSummer(unixMs) ? 2 : 1) * HOUR;
  const week = Math.floor((wallMs - (BEGIN + HOUR)) / (7 * DAY));
  return ROTA[week % 3] as string;
}

const paging = manual({
  schedules: {
    primary: {
      timezone: "Europe/Zurich",
      rotation: { start: "2026-01-05T09:00", every: "P7D", people: ROTA },
    },
  },
  policies: {
    default: {
      levels: [
        { to: ["schedule:primary"] },
        { to: ["group:backup"] },
        { to: ["group:all"], room: "war@rooms.alert.test", after: "300s" },
      ],
    },
  },
  groups: { backup: PEOPLE },
});

interface Trouble {
  readonly condition: Condition;
  readonly endMs: number;
}

class Year {
  readonly world = new World(paging, BEGIN);
  readonly next = seeded(SEED);
  troubles: Trouble[] = [];
  /** What people and devices will do, by time. */
  plans: { atMs: number; run: () => void }[] = [];
  resolved = new Map<number, Incident>();
  pagedFirst: { number: number; person: string; afterMs: number; atMs: number }[] = [];
  handovers: { person: string; atMs: number }[] = [];
  restarts = 0;
  outages = 0;
  heard = 0;

  constructor() {
    this.world.checkEvery = 97;
    this.world.linkUp(...this.devices());
  }

  devices(): string[] {
    const all = PEOPLE.map((name) => `${name}@alert.test/phone`);
    const away = all.filter(() => this.chance(0.1));
    for (const from of away) {
      const event = { kind: "presence", from, priority: 0, show: "" } as const;
      this.plan(this.next() * 30 * MINUTE, () => this.world.say(event));
    }
    return all.filter((jid) => !away.includes(jid));
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  plan(afterMs: number, run: () => void): void {
    this.plans.push({ atMs: this.world.nowMs + Math.round(afterMs), run });
    this.plans.sort((a, b) => a.atMs - b.atMs);
  }

  begin(): void {
    const subject = `b${Math.floor(this.next() * 20)}`;
    if (this.troubles.some((one) => one.condition.subject === subject)) return;
    const severity = this.chance(0.7) ? "crit" : "warn";
    const lastsMs = this.chance(0.3) ? this.next() * MINUTE : this.next() * HOUR;
    const begun = condition({ subject, severity, sinceMs: this.world.nowMs });
    this.troubles.push({ condition: begun, endMs: this.world.nowMs + lastsMs });
    this.look();
  }

  look(): void {
    const { world } = this;
    this.troubles = this.troubles.filter(({ endMs }) => endMs > world.nowMs);
    world.observe(...this.troubles.map((one) => one.condition));
    this.take();
  }

  /** Devices get what was sent; people answer, sooner or later or not. */
  take(): void {
    const { world } = this;
    for (const one of world.happened) {
      if (one.kind === "ping") for (const jid of one.jids) this.answerPing(jid);
      if (one.kind !== "send" || one.message.isRoom) continue;
      const { message, person } = one;
      const purpose = message.payload?.["purpose"];
      if (purpose === "handover") this.handovers.push({ person, atMs: one.atMs });
      if (purpose === "page") this.paged(message.id, person, one.atMs);
      if (message.body.includes(" resolved ")) this.heard += 1;
      const from = `${person}@alert.test/phone`;
      if (this.chance(0.8)) {
        const delayMs = this.chance(0.9) ? this.next() * 3_000 : this.next() * 5 * MINUTE;
        this.plan(delayMs, () => world.say({ kind: "delivered", messageId: message.id, from }));
      }
      if (this.chance(0.02)) {
        const bounced = { messageId: message.id, from, condition: "recipient-unavailable" };
        this.plan(this.next() * MINUTE, () => world.say({ kind: "bounced", ...bounced }));
      }
      const id = message.payload?.["incident"];
      if (purpose === "page" && id !== undefined && this.chance(0.4)) {
        const words = ["ack", "ack", "ack", "resolve", "silence", "note", "escalate", "unack"];
        const word = words[Math.floor(this.next() * words.length)];
        this.plan(this.next() * 4 * MINUTE, () => world.says(person, `${word} ${id} 30m`));
      }
    }
    for (const incident of Object.values(world.state.incidents)) {
      if (incident.state === "resolved") this.resolved.set(incident.number, incident);
    }
    world.clear();
  }

  /** Answers change nothing until one is missing: only those are told, and the next one. */
  answerPing(jid: string): void {
    if (this.chance(0.98)) return;
    this.plan(2_000, () => this.world.say({ kind: "pinged", jid, roundTripMs: null }));
    this.plan(MINUTE + 2, () => this.world.say({ kind: "pinged", jid, roundTripMs: 2 }));
  }

  paged(id: string, person: string, atMs: number): void {
    const match = /^(\d+)\.1\.[a-z]+$/.exec(id);
    const incident =
      match === null ? undefined : this.world.state.incidents[match[1]?.padStart(10, "0") ?? ""];
    if (incident?.kind !== "node" || incident.relapses > 0) return;
    const afterMs = atMs - incident.openedAtMs;
    this.pagedFirst.push({ number: incident.number, person, afterMs, atMs });
  }

  /** A day's mishaps. */
  mishaps(): void {
    const { world } = this;
    if (this.chance(0.3)) {
      this.plan(this.next() * DAY, () => {
        this.restarts += 1;
        world.nowMs += Math.round(this.next() * 7 * SECOND);
        world.restart();
        world.linkUp(...this.devices());
      });
    }
    if (this.chance(0.3)) {
      this.plan(this.next() * DAY, () => {
        this.outages += 1;
        world.linkDown();
        const lastsMs = this.chance(0.5) ? this.next() * 9 * SECOND : this.next() * 20 * MINUTE;
        this.plan(lastsMs, () => world.linkUp(...this.devices()));
      });
    }
    const incidents = Math.floor(this.next() * 4);
    for (let count = 0; count < incidents; count += 1) {
      this.plan(this.next() * DAY, () => this.begin());
    }
  }

  run(): void {
    const { world } = this;
    let dayMs = BEGIN;
    let lookMs = BEGIN;
    let turns = 0;
    while (world.nowMs < END) {
      turns += 1;
      if (turns > 5_000_000) throw new Error(`stuck at ${new Date(world.nowMs).toISOString()}`);
      if (world.nowMs >= dayMs) {
        this.mishaps();
        dayMs += DAY;
      }
      const open = Object.values(world.state.incidents).some(({ state }) => state !== "resolved");
      const isBusy = open || this.troubles.length > 0;
      const dueMs = nextDeadlineMs(world.state) ?? END;
      const nextMs = Math.min(dueMs, this.plans[0]?.atMs ?? END, dayMs, isBusy ? lookMs : END);
      world.nowMs = Math.max(world.nowMs, nextMs);
      while ((this.plans[0]?.atMs ?? NEVER) <= world.nowMs) this.plans.shift()?.run();
      if ((nextDeadlineMs(world.state) ?? NEVER) <= world.nowMs) world.say({ kind: "tick" });
      if (world.nowMs >= lookMs) {
        this.look();
        lookMs = world.nowMs + LOOK_MS;
      } else this.take();
    }
  }
}

test("a simulated year", () => {
  const year = new Year();
  year.run();
  const { resolved, pagedFirst, handovers } = year;
  expect(resolved.size).toBeGreaterThan(400);
  expect(year.restarts).toBeGreaterThan(50);
  expect(year.outages).toBeGreaterThan(50);

  // Numbers are used once, and without a gap.
  const numbers = [...resolved.keys()].sort((a, b) => a - b);
  expect(numbers.length).toBeGreaterThan((numbers.at(-1) ?? 0) - 5);

  // The first page went to whoever the calendar says, at once unless the link was down.
  expect(pagedFirst.filter(({ person, atMs }) => person !== onCall(atMs))).toEqual([]);
  const prompt = pagedFirst.filter(({ afterMs }) => afterMs === 0).length;
  expect(prompt / pagedFirst.length).toBeGreaterThan(0.95);

  // Both sides of 52 handovers, to the second, at nine o'clock on the wall.
  const wall = new Set(
    handovers.map(({ atMs }) => ((atMs + (isSummer(atMs) ? 2 : 1) * HOUR) % DAY) / MINUTE),
  );
  const onTime = [...wall].filter((minute) => minute === 9 * 60);
  expect(onTime).toHaveLength(1);
  const weeks = new Set(handovers.map(({ atMs }) => Math.floor((atMs - BEGIN + HOUR) / (7 * DAY))));
  expect(weeks.size).toBe(52);

  // Whoever was told of an incident heard its end.
  expect(year.heard).toBeGreaterThan(500);
}, 600_000);
