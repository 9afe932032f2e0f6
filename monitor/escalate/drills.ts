/**
 * Messages that prove the way to a person: drills, which want a receipt and an answer, and
 * handovers, which tell both sides who is on call and want a receipt.
 */
import { type Drill, drillId, shownId } from "../../core/cluster/incidents.ts";
import { cut, type Turn } from "../incident/turn.ts";
import { type MessageId, messageId } from "./messageId.ts";
import { devicesOf } from "./presence.ts";
import { look } from "./reachability.ts";
import type { ReceiptEvent } from "./receipts.ts";
import { shiftAt } from "./rota.ts";
import { dateText, marked } from "./texts.ts";

const RESEND_AFTER_MS = 5_000;
/** What the link took back is not given to it again at once, or it would be a loop. */
export const UNSURE_PAUSE_MS = 1_000;
/** Who has not answered by then did not pass. */
const DRILL_MS = 600_000;
const HANDOVER_MS = 300_000;
/** Older drills of a person are deleted, but for the last that was passed. */
const DRILLS_KEPT_MAX = 30;
const OPEN_SHOWN_MAX = 5;

type Request = Pick<Drill, "person" | "purpose" | "by" | "text" | "cause">;

/** Begins one; undefined while an earlier one of that person waits, or in the same millisecond. */
export function beginDrill(turn: Turn, request: Request): Drill | undefined {
  const { person, purpose } = request;
  const id = drillId({ person, createdAtMs: turn.nowMs });
  const own = drillsOf(turn, person);
  const isWaiting = own.some((one) => one.state === "waiting" && one.purpose === purpose);
  if ((purpose === "drill" && isWaiting) || turn.drills.get(id) !== undefined) return undefined;
  // The last one that was passed says that the way is good, however many handovers came since.
  const passed = own.findLast((one) => one.purpose === "drill" && one.state === "passed");
  const older = own.slice(0, -(DRILLS_KEPT_MAX - 1)).filter((one) => one !== passed);
  for (const old of older) turn.drills.delete(drillId(old));
  return turn.drills.put(id, {
    ...request,
    state: "waiting",
    createdAtMs: turn.nowMs,
    sentAtMs: null,
    acceptedAtMs: null,
    deliveredAtMs: null,
    answeredAtMs: null,
    dueAtMs: turn.nowMs,
    sendings: 0,
    endsAtMs: turn.nowMs + (purpose === "drill" ? DRILL_MS : HANDOVER_MS),
  });
}

/** Sends what is due, ends what is over. */
export function settleDrills(turn: Turn): void {
  for (const { state, ...drill } of turn.drills.values()) {
    if (state !== "waiting") continue;
    const id = drillId(drill);
    if (drill.endsAtMs <= turn.nowMs) {
      const isReached = drill.deliveredAtMs !== null;
      finish(turn, id, isReached ? "unanswered" : "unreached");
    } else if (drill.dueAtMs !== null && drill.dueAtMs <= turn.nowMs && turn.memory.link.isUp) {
      send(turn, turn.drills.edit(id));
    }
  }
}

function send(turn: Turn, drill: Drill): void {
  const { person } = drill;
  const jid = turn.paging.people[person]?.jid;
  const isFirst = drill.sendings === 0;
  const jids = isFirst ? [jid ?? []].flat() : devicesOf(turn, person).map(([full]) => full);
  for (const to of jids) {
    drill.sendings += 1;
    const subject = `d${drill.createdAtMs}`;
    const base = { subject, seq: 1, person };
    turn.effects.push({
      kind: "send",
      person,
      message: {
        id: messageId({ ...base, sending: drill.sendings }),
        to,
        body: marked(turn, drill.text),
        wantsReceipt: true,
        isRoom: false,
        payload: { id: messageId({ ...base, sending: 1 }), purpose: drill.purpose },
      },
    });
  }
  drill.sentAtMs ??= turn.nowMs;
  drill.dueAtMs = isFirst ? turn.nowMs + RESEND_AFTER_MS : null;
}

/** A receipt, an error or a doubt about the message of a drill. */
export function drillHeard(turn: Turn, id: MessageId, event: ReceiptEvent, from?: string): void {
  const key = drillId({ person: id.person, createdAtMs: Number(id.subject.slice(1)) });
  if (turn.drills.get(key) === undefined) {
    return turn.measure({ name: "ignored", reason: "drill_unknown" });
  }
  const drill = turn.drills.edit(key);
  if (event.kind === "accepted") drill.acceptedAtMs ??= turn.nowMs;
  if (event.kind === "unsure" && drill.deliveredAtMs === null) {
    drill.dueAtMs = turn.nowMs + UNSURE_PAUSE_MS;
    drill.sendings = 0;
  }
  const isReceipt = event.kind === "delivered" || event.kind === "displayed";
  if (!isReceipt || from !== id.person || drill.deliveredAtMs !== null) return;
  drill.deliveredAtMs = turn.nowMs;
  drill.dueAtMs = null;
  const receiptSeconds = (turn.nowMs - (drill.sentAtMs ?? turn.nowMs)) / 1_000;
  turn.measure({ name: "drilled", person: drill.person, receiptSeconds });
  if (drill.purpose === "handover") finish(turn, key, "passed");
}

/** The person answered a drill; what to say, or undefined if none waits. */
export function answerDrill(turn: Turn, person: string): string | undefined {
  const drill = drillsOf(turn, person).find(
    ({ purpose, state, sentAtMs }) =>
      purpose === "drill" && state === "waiting" && sentAtMs !== null,
  );
  if (drill === undefined) return undefined;
  const id = drillId(drill);
  turn.drills.edit(id).answeredAtMs = turn.nowMs;
  // An answer without a receipt shows that incidents will escalate although the person has them.
  finish(turn, id, drill.deliveredAtMs === null ? "unreached" : "passed");
  const seconds = (ms: number | null) => `${((ms ?? 0) / 1_000).toFixed(1)} s`;
  const { sentAtMs, deliveredAtMs } = drill;
  const sent = sentAtMs ?? turn.nowMs;
  if (deliveredAtMs === null) {
    return "thank you, but your device sent no receipt: incidents would go to the next person";
  }
  const receipt = seconds(deliveredAtMs - sent);
  return `thank you: receipt after ${receipt}, answer after ${seconds(turn.nowMs - sent)}`;
}

function finish(turn: Turn, id: string, state: Drill["state"]): void {
  const drill = turn.drills.edit(id);
  drill.state = state;
  drill.dueAtMs = null;
  if (drill.purpose !== "drill" || !Object.hasOwn(turn.paging.people, drill.person)) return;
  look(turn, drill.person);
  const sent = drill.sentAtMs ?? turn.nowMs;
  turn.people.edit(drill.person).lastDrill = {
    atMs: drill.createdAtMs,
    state,
    receiptMs: drill.deliveredAtMs === null ? null : drill.deliveredAtMs - sent,
    answerMs: drill.answeredAtMs === null ? null : drill.answeredAtMs - sent,
  };
}

/** Tells both sides when who is on call has changed. */
export function settleShifts(turn: Turn): void {
  for (const [name, schedule] of Object.entries(turn.paging.schedules)) {
    const known = turn.memory.shifts[name];
    if (known !== undefined && (known.untilMs === null || known.untilMs > turn.nowMs)) continue;
    const shift = shiftAt(schedule, turn.nowMs);
    turn.memory.shifts = { ...turn.memory.shifts, [name]: shift };
    const before = known === undefined ? onCallBefore(turn, name) : known.person;
    if (before !== null && before !== shift.person) handOver(turn, name, before, shift.person);
    if (before !== shift.person) turn.memory.peopleDueMs = turn.nowMs;
  }
}

/** As it was written down before this process began. */
function onCallBefore(turn: Turn, schedule: string): string | null {
  return turn.people.ids().find((id) => turn.people.get(id)?.onCall.includes(schedule)) ?? null;
}

function handOver(turn: Turn, schedule: string, from: string, to: string | null): void {
  const until = turn.memory.shifts[schedule]?.untilMs ?? null;
  const end = until === null ? "" : ` until ${dateText(turn, until)}`;
  const state = situation(turn);
  const request = { purpose: "handover", by: "", cause: schedule } as const;
  const has = (person: string) => Object.hasOwn(turn.paging.people, person);
  if (to !== null && has(to)) {
    const text = `you are on call for ${schedule}${end}, after ${from}\n${state}`;
    beginDrill(turn, { ...request, person: to, text: cut(text, 1_000) });
  }
  if (has(from)) {
    const text = `${to ?? "nobody"} has taken over ${schedule} from you\n${state}`;
    beginDrill(turn, { ...request, person: from, text: cut(text, 1_000) });
  }
}

/** What is open and what is silenced, in a few lines. */
export function situation(turn: Turn): string {
  const open = turn.incidents.values().filter(({ state }) => state !== "resolved");
  const shown = open
    .slice(0, OPEN_SHOWN_MAX)
    .map((one) => `#${shownId(one)} ${one.severity}: ${cut(one.summary, 100)}`);
  const more = open.length - shown.length;
  const silences = turn.silences
    .values()
    .slice(0, OPEN_SHOWN_MAX)
    .map(({ key, untilMs }) => `silenced: ${cut(key, 100)} until ${dateText(turn, untilMs)}`);
  if (open.length === 0 && silences.length === 0) return "nothing is open";
  return [...shown, ...(more > 0 ? [`and ${more} more`] : []), ...silences].join("\n");
}

function drillsOf(turn: Turn, person: string): Drill[] {
  return turn.drills.values().filter((drill) => drill.person === person);
}
