/**
 * Where words come in: who is it, may they, what do they mean, what is answered. Authority is a
 * bare JID of the configuration on a stanza that came over our own stream, where the server stamps
 * who it is from. A stanza that comes twice gets the same answer and does nothing.
 */
import {
  HANDLED_COUNT_MAX,
  type Incident,
  incidentId,
  type Order,
  shownId,
} from "../../core/cluster/incidents.ts";
import { answerDrill, beginDrill } from "../escalate/drills.ts";
import { audience } from "../escalate/notifications.ts";
import { heardFrom } from "../escalate/reachability.ts";
import { bareJid, personOf } from "../escalate/targets.ts";
import { marked } from "../escalate/texts.ts";
import { cut, type Turn } from "../incident/turn.ts";
import type { IncomingText } from "../xmpp/link.ts";
import { HELP, incidentText, statusText, whoText } from "./answers.ts";
import { type Command, firstWord, parseCommand } from "./parse.ts";
import { type Actor, INCIDENT_VERBS, renewAck, silence, unsilence } from "./verbs.ts";

const ANSWER_LENGTH_MAX = 1_000;
/** Answers that are kept to be given again. */
const ANSWERED_COUNT_MAX = 200;
const STRANGER_INTERVAL_MS = 3_600_000;
const STRANGER_COUNT_MAX = 100;
const DRILL_TEXT = "this is a drill, nothing is wrong. Reply: ok";

/** Somebody wrote. */
export function readText(turn: Turn, message: IncomingText): void {
  if (message.isRoom) return turn.measure({ name: "ignored", reason: "room" });
  const person = personOf(turn, message.from);
  if (person === undefined) return answerStranger(turn, message);
  heardFrom(turn, person);
  const cause = `${person} ${message.id.slice(0, 150)}`;
  const known = message.id === "" ? undefined : answerBefore(turn, cause);
  if (known !== undefined) {
    turn.measure({ name: "ignored", reason: "command_twice" });
    return reply(turn, message.from, known);
  }
  const answer = cut(answerTo(turn, message, { name: person, person, cause }), ANSWER_LENGTH_MAX);
  remember(turn, cause, answer);
  reply(turn, message.from, answer);
}

/** An order of the API; who gave it sees in the incident what came of it. */
export function obeyOrder(turn: Turn, id: string, order: Order): void {
  turn.done.push(id);
  const actor: Actor = { name: order.by, person: null, cause: `order ${id}` };
  if (order.verb === "drill") {
    drill(turn, order.person, actor);
    return;
  }
  const incident = turn.incidents.get(order.target);
  const duration = order.durationMs === null ? "" : `${order.durationMs}ms`;
  if (incident === undefined) {
    const wish = { key: order.target, severity: "crit", actor, word: duration } as const;
    if (order.verb === "silence") silence(turn, { ...wish, reason: order.text });
    else if (order.verb === "unsilence") unsilence(turn, order.target);
    else turn.measure({ name: "ignored", reason: "order_unknown" });
    return;
  }
  const words = { silence: `${duration} ${order.text}`, escalate: order.person };
  const rest = order.verb in words ? words[order.verb as keyof typeof words] : order.text;
  const draft = turn.incidents.edit(order.target);
  if (draft.handled.some(({ stanza }) => stanza === actor.cause)) return;
  const answer = INCIDENT_VERBS[order.verb]({ turn, incident: draft, actor, rest });
  renewAck(turn, draft);
  keepHandled(draft, actor, answer);
}

function answerTo(turn: Turn, message: IncomingText, actor: Actor): string {
  const command = parseCommand(message.body);
  if (command === undefined) return "I did not understand that: help says what I do";
  return ANSWERS[command.verb](turn, command, actor, message);
}

type Answer = (turn: Turn, command: Command, actor: Actor, message: IncomingText) => string;

const ANSWERS: { [V in Command["verb"]]: Answer } = {
  ack: (turn, command, actor, message) => {
    if (command.target !== null) return onIncident(turn, command, actor, message);
    const own = openTo(turn, actor.name, message.delayedAtMs);
    const [only] = own;
    if (own.length === 1 && only !== undefined) return apply(turn, only, command, actor);
    if (own.length > 1) {
      const list = own.map((incident) => `ack ${shownId(incident)}`).slice(0, 10);
      return `${own.length} are open to you: ${list.join(", ")}`;
    }
    return answerDrill(turn, actor.name) ?? "nothing is open to you: status shows all";
  },
  ok: (turn, _, actor) => answerDrill(turn, actor.name) ?? "no drill waits for you",
  unack: onIncident,
  resolve: onIncident,
  escalate: onIncident,
  note: onIncident,
  silence: (turn, command, actor, message) => {
    if (command.target !== null) return onIncident(turn, command, actor, message);
    const [key, rest] = firstWord(command.rest);
    if (!key.includes(":")) return "silence what? silence 17 30m, or silence KIND:SUBJECT 30m";
    const [word, reason] = firstWord(rest);
    return silence(turn, { key, severity: "crit", actor, word, reason });
  },
  unsilence: (turn, command, actor, message) => {
    if (command.target !== null) return onIncident(turn, command, actor, message);
    return unsilence(turn, firstWord(command.rest)[0]);
  },
  status: (turn, { target }) => {
    if (target === null) return statusText(turn);
    const incident = turn.incidents.get(incidentId(target));
    return incident === undefined ? unknown(target) : incidentText(turn, incident);
  },
  who: (turn) => whoText(turn),
  drill: (turn, { rest }, actor) => {
    if (rest !== "" && rest.toLowerCase() !== "me") return "drill me sends a drill to you";
    return drill(turn, actor.name, actor);
  },
  help: () => HELP,
};

function onIncident(turn: Turn, command: Command, actor: Actor, message: IncomingText): string {
  const { target, verb } = command;
  if (target === null) return `which one? ${verb} 17; status shows all`;
  const incident = turn.incidents.get(incidentId(target));
  if (incident === undefined) return unknown(target);
  const { delayedAtMs } = message;
  const sinceMs = Math.max(incident.openedAtMs, incident.pagingSinceMs ?? 0);
  if (delayedAtMs !== null && delayedAtMs < sinceMs) {
    turn.measure({ name: "ignored", reason: "delayed" });
    return `#${shownId(incident)} began after you wrote that: please say it again`;
  }
  return apply(turn, incident, command, actor);
}

function apply(turn: Turn, incident: Incident, command: Command, actor: Actor): string {
  const draft = turn.incidents.edit(incidentId(incident));
  const verb = command.verb as keyof typeof INCIDENT_VERBS;
  const answer = INCIDENT_VERBS[verb]({ turn, incident: draft, actor, rest: command.rest });
  renewAck(turn, draft);
  keepHandled(draft, actor, answer);
  return answer;
}

/** Incidents that the person was paged about and nobody has taken. */
function openTo(turn: Turn, person: string, delayedAtMs: number | null): Incident[] {
  return turn.incidents.values().filter((incident) => {
    if (incident.state !== "open" && incident.state !== "recovering") return false;
    if (incident.ack !== null || (delayedAtMs ?? turn.nowMs) < incident.openedAtMs) return false;
    return audience(incident).some((one) => "person" in one && one.person === person);
  });
}

function drill(turn: Turn, person: string, actor: Actor): string {
  if (!Object.hasOwn(turn.paging.people, person)) {
    turn.measure({ name: "ignored", reason: "order_unknown" });
    return `there is nobody named ${cut(person, 60)}`;
  }
  const by = cut(actor.name, 200);
  const cause = cut(actor.cause, 200);
  const begun = beginDrill(turn, { person, purpose: "drill", by, text: DRILL_TEXT, cause });
  return begun === undefined ? "a drill is under way already" : "a drill is on its way";
}

const unknown = ({ number, origin }: { number: number; origin: string }) =>
  `there is no incident #${shownId({ number, origin })} that is open`;

function answerBefore(turn: Turn, cause: string): string | undefined {
  const { answered } = turn.memory;
  if (Object.hasOwn(answered, cause)) return answered[cause];
  for (const { handled } of turn.incidents.values()) {
    const known = handled.find(({ stanza }) => stanza === cause);
    if (known !== undefined) return known.answer;
  }
  return undefined;
}

function remember(turn: Turn, cause: string, answer: string): void {
  const kept = Object.entries(turn.memory.answered).slice(-(ANSWERED_COUNT_MAX - 1));
  turn.memory.answered = Object.fromEntries([...kept, [cause, answer]]);
}

/** In the document, so that the answer is the same after a restart. */
function keepHandled(incident: Incident, { cause, name }: Actor, answer: string): void {
  incident.handled.push({
    stanza: cause.slice(0, 200),
    person: name.slice(0, 100),
    answer: cut(answer, ANSWER_LENGTH_MAX),
  });
  incident.handled.splice(0, incident.handled.length - HANDLED_COUNT_MAX);
}

function answerStranger(turn: Turn, { from }: IncomingText): void {
  const bare = bareJid(from).slice(0, 1_000);
  const { strangers } = turn.memory;
  turn.measure({ name: "ignored", reason: "stranger" });
  const lastMs = Object.hasOwn(strangers, bare) ? strangers[bare] : undefined;
  if (lastMs !== undefined && turn.nowMs - lastMs < STRANGER_INTERVAL_MS) return;
  const recent = Object.entries(strangers)
    .filter(([jid, atMs]) => jid !== bare && turn.nowMs - atMs < STRANGER_INTERVAL_MS)
    .slice(-(STRANGER_COUNT_MAX - 1));
  turn.memory.strangers = Object.fromEntries([...recent, [bare, turn.nowMs]]);
  reply(turn, from, "sorry, I talk to people on call only; whoever runs this can add you");
}

function reply(turn: Turn, to: string, body: string): void {
  turn.memory.replyCount += 1;
  const id = `reply.${turn.nowMs}.${turn.memory.replyCount}`;
  const message = { id, to, body: marked(turn, body), wantsReceipt: false, isRoom: false };
  turn.effects.push({ kind: "reply", message });
}
