/**
 * A pager with a clock that is moved by hand. It is called at each of its deadlines, to the
 * millisecond; what it sends lies in `sent` with its time. After each step the promises that hold
 * always are checked: nothing was mutated, what is persisted fits its schema, deadlines are ahead.
 */
import assert from "node:assert/strict";
import {
  type Drill,
  type Incident,
  incidentId,
  NOTIFICATION_STATES,
  type Person,
  type Silence,
  shownId,
} from "../../../core/cluster/incidents.ts";
import { RECORDS } from "../../../core/cluster/records.ts";
import type { Condition } from "../../../monitor/condition.ts";
import { checkMonitorSection } from "../../../monitor/config/check.ts";
import type { PagingConfig } from "../../../monitor/config/paging.ts";
import { parseMessageId } from "../../../monitor/escalate/messageId.ts";
import { nextDeadlineMs, pagerOf, step } from "../../../monitor/incident/pager.ts";
import type {
  Effect,
  PagerDocuments,
  PagerEvent,
  PagerState,
} from "../../../monitor/incident/types.ts";

export const START = Date.UTC(2026, 5, 1, 12);
const NOTHING: PagerDocuments = { incidents: {}, silences: {}, drills: {}, people: {} };

type Of<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;
export type Happened = { [K in Effect["kind"]]: Of<K> & { atMs: number } }[Effect["kind"]];

/** The configuration of the manual: alice, then bob, then all and the room after 300 s. */
export function manual(over: Record<string, unknown> = {}): PagingConfig {
  const jid = (name: string) => ({ jid: `${name}@alert.test` });
  const checked = checkMonitorSection(
    {
      cluster: "eu1",
      people: {
        alice: { ...jid("alice"), fallback: [{ webhook: "hook" }] },
        bob: jid("bob"),
        carol: jid("carol"),
      },
      policies: {
        default: {
          levels: [
            { to: ["person:alice"] },
            { to: ["person:bob"] },
            { to: ["group:all"], room: "war@rooms.alert.test", after: "300s" },
          ],
        },
      },
      webhooks: { hook: { url: "http://127.0.0.1:1/" } },
      xmpp: { jid: "monitor@alert.test", passwordFile: "password" },
      ...over,
    },
    START,
  );
  assert(checked.ok, JSON.stringify(checked));
  return checked.paging;
}

export function condition(over: Partial<Condition> = {}): Condition {
  return {
    kind: "node",
    subject: "b3",
    severity: "crit",
    summary: "backend b3 slow (30% of ops > 5 ms, was 0.2%) for 2 s",
    details: ["seen by 3/3 proxies"],
    sinceMs: START - 2_000,
    explains: [],
    ...over,
  };
}

export class World {
  state: PagerState;
  paging: PagingConfig;
  nowMs: number;
  /** All effects in order, without the log lines. */
  happened: Happened[] = [];
  /** Told again with each `observe` and while time goes by. */
  conditions: readonly Condition[] = [];
  isObserving = true;
  /** Checks cost more than steps; long simulations do them now and then. */
  checkEvery = 1;
  steps = 0;
  /** What was written, as the cluster state would hold it. */
  readonly records = {
    incident: new Map<string, Incident>(),
    silence: new Map<string, Silence>(),
    drill: new Map<string, Drill>(),
    person: new Map<string, Person>(),
    order: new Map<string, never>(),
  };

  constructor(paging: PagingConfig = manual(), nowMs = START) {
    this.paging = paging;
    this.nowMs = nowMs;
    this.state = pagerOf(NOTHING);
    this.say({ kind: "tookOver" });
  }

  say(event: PagerEvent): Happened[] {
    const before = this.state;
    this.steps += 1;
    const isChecked = this.steps % this.checkEvery === 0;
    if (isChecked) deepFreeze(before);
    const { state, changes, effects } = step(before, event, this.nowMs, this.paging);
    this.state = state;
    for (const { kind, id, value } of changes) {
      if (value === null) this.records[kind].delete(id);
      else (this.records[kind] as Map<string, typeof value>).set(id, value);
    }
    if (isChecked) {
      checkChanges(before, state, changes);
      checkEffects(before, state, effects);
      checkDeadlines(state, this.nowMs, this.paging);
    }
    const told = effects.map((effect) => ({ ...effect, atMs: this.nowMs }));
    const shown = told.filter(({ kind }) => kind !== "noted") as Happened[];
    this.happened.push(...shown);
    return shown;
  }

  /** All conditions are there from now on. */
  observe(...conditions: Condition[]): Happened[] {
    this.conditions = conditions;
    return this.say({ kind: "observed", conditions });
  }

  /** Time goes by: each deadline is kept, and each second somebody looks. */
  pass(seconds: number, lookEveryMs = 1_000): void {
    const endMs = this.nowMs + Math.round(seconds * 1_000);
    let lookMs = this.nowMs + lookEveryMs;
    for (;;) {
      const dueMs = nextDeadlineMs(this.state) ?? endMs;
      assert(dueMs >= this.nowMs, "a deadline was left behind");
      const nextMs = Math.min(dueMs, this.isObserving ? lookMs : endMs, endMs);
      this.nowMs = nextMs;
      if (nextMs === dueMs) this.say({ kind: "tick" });
      if (nextMs === lookMs && this.isObserving) {
        this.say({ kind: "observed", conditions: this.conditions });
        lookMs += lookEveryMs;
      }
      if (nextMs === endMs) return;
    }
  }

  linkUp(...devices: string[]): void {
    this.say({ kind: "link", isUp: true });
    for (const from of devices) this.say({ kind: "presence", from, priority: 0, show: "" });
  }

  linkDown(): void {
    this.say({ kind: "link", isUp: false });
  }

  /** The process is killed and another one loads what was written. */
  restart(): void {
    const { incident, silence, drill, person } = this.records;
    const newest = [...incident.keys()].sort().at(-1);
    const isNeeded = ([id, { resolvedAtMs }]: [string, Incident]) =>
      id === newest || resolvedAtMs === null || resolvedAtMs > this.nowMs - 600_000;
    const written = {
      incidents: Object.fromEntries([...incident].filter(isNeeded)),
      silences: Object.fromEntries(silence),
      drills: Object.fromEntries(drill),
      people: Object.fromEntries(person),
    };
    this.state = pagerOf(JSON.parse(JSON.stringify(written)));
    this.say({ kind: "tookOver" });
  }

  says(person: string, body: string, over: { id?: string; delayedAtMs?: number } = {}): string {
    const message = {
      id: over.id ?? `stanza-${this.happened.length}`,
      from: `${person}@alert.test/phone`,
      body,
      delayedAtMs: over.delayedAtMs ?? null,
      isRoom: false,
    };
    const [answer] = this.say({ kind: "text", message }).filter(({ kind }) => kind === "reply");
    return answer?.kind === "reply" ? answer.message.body : "";
  }

  /** A device of the person has what was sent last to them. */
  receives(person: string, resource = "phone"): void {
    const last = this.sends(person).at(-1);
    assert(last !== undefined, `${person} was sent nothing`);
    const from = `${person}@alert.test/${resource}`;
    this.say({ kind: "delivered", messageId: last.message.id, from });
  }

  sends(person?: string): (Of<"send"> & { atMs: number })[] {
    return this.happened
      .filter((one) => one.kind === "send")
      .filter((one) => person === undefined || one.person === person);
  }

  /** `alice@30`: who was sent a page, and how many seconds after `sinceMs`. Rooms are `room`. */
  pages(sinceMs = START): string[] {
    return this.sends()
      .filter(({ message }) => message.payload?.["purpose"] === "page")
      .map(({ person, atMs }) => `${person || "room"}@${(atMs - sinceMs) / 1_000}`);
  }

  clear(): void {
    this.happened = [];
  }

  incident(number = 1): Incident {
    const found = Object.values(this.state.incidents).find((one) => one.number === number);
    assert(found !== undefined, `there is no incident ${number}`);
    return found;
  }
}

/** What is written fits its schema, is what the state holds, and only moves forward. */
function checkChanges(
  before: PagerState,
  after: PagerState,
  changes: ReturnType<typeof step>["changes"],
): void {
  const written = new Set(changes.map(({ kind, id }) => `${kind} ${id}`));
  assert.equal(written.size, changes.length, "changed twice in one step");
  for (const { kind, id, value } of changes) {
    if (value === null) continue;
    const parsed = RECORDS[kind].safeParse(value);
    assert(parsed.success, `${kind} ${id}: ${parsed.error?.message}`);
    assert(JSON.stringify(value).length < 150_000, `${kind} ${id} is too large`);
    if (kind === "incident") checkForward(before.incidents[id], value);
  }
  for (const [id, incident] of Object.entries(after.incidents)) {
    assert.equal(id, incidentId(incident));
    const isWritten = written.has(`incident ${id}`);
    assert(isWritten || incident === before.incidents[id], `incident ${id} changed unwritten`);
  }
}

const RANK = (state: string) => (NOTIFICATION_STATES as readonly string[]).indexOf(state);

function checkForward(before: Incident | undefined, after: Incident): void {
  for (const one of after.notifications) {
    const known = before?.notifications.find(({ seq }) => seq === one.seq);
    if (known === undefined) continue;
    assert(RANK(one.state) >= RANK(known.state), `${known.state} became ${one.state}`);
    for (const at of ["sentAtMs", "acceptedAtMs", "deliveredAtMs", "acknowledgedAtMs"] as const) {
      if (known[at] !== null) assert.equal(one[at], known[at], `${at} changed`);
    }
  }
  assert(after.seq >= (before?.seq ?? 0));
}

/** Whatever is sent about an incident is in its document already; nobody is paged after an ack. */
function checkEffects(before: PagerState, state: PagerState, effects: readonly Effect[]): void {
  const ids = new Set<string>();
  for (const effect of effects) {
    if (effect.kind !== "send" && effect.kind !== "fallback") continue;
    const message = effect.kind === "send" ? effect.message.id : effect.messageId;
    if (effect.kind === "send") assert(!ids.has(message), `${message} is sent twice in one step`);
    ids.add(message);
    const id = parseMessageId(message);
    assert(id !== undefined, message);
    if (id.subject.startsWith("d")) continue;
    const incident = Object.values(state.incidents).find((one) => shownId(one) === id.subject);
    assert(incident !== undefined, `${message} belongs to no incident`);
    assert(incident !== before.incidents[incidentId(incident)], `${message} is not written down`);
    const found = incident.notifications.find(({ seq }) => seq === id.seq);
    assert(found !== undefined, `${message} is not in its incident`);
    if (found.purpose !== "page") continue;
    assert.equal(incident.state, "open", `${message} is sent though it is ${incident.state}`);
    assert.equal(incident.silence, null, `${message} is sent though it is silenced`);
  }
}

/** Nothing that is open and critical waits for nothing. */
function checkDeadlines(state: PagerState, nowMs: number, paging: PagingConfig): void {
  const next = nextDeadlineMs(state);
  assert(next === null || next > nowMs, `the next deadline is not ahead: ${next} <= ${nowMs}`);
  if (Object.keys(paging.people).length === 0) return;
  const { isUp, sinceMs, hasFallenBack } = state.memory.link;
  for (const incident of Object.values(state.incidents)) {
    if (incident.state !== "open" || incident.severity !== "crit") continue;
    const { escalateAtMs, groupAtMs, repeatAtMs } = incident.deadlines;
    const isPaused = !isUp && !hasFallenBack;
    const escalate = isPaused && escalateAtMs !== null ? sinceMs + 10_000 : escalateAtMs;
    const root = state.incidents[incident.explainedBy ?? ""];
    const own = [escalate, groupAtMs, repeatAtMs, incident.silence?.untilMs ?? null];
    const isAhead = own.some((moment) => moment !== null && moment > nowMs);
    const isExplained =
      root !== undefined && root.explainedBy === null && root.state !== "resolved";
    assert(isAhead || isExplained, `nothing will happen about ${incident.number}`);
  }
}

export function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
