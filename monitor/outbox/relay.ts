/**
 * What people write to a monitor that does not speak: commands about an incident are passed on as an
 * order to the one that does, the rest is answered with who that is. Pure.
 */
import { incidentId, ORDER_VERBS, type OrderVerb } from "../../core/cluster/incidents.ts";
import type { RecordInput } from "../../core/cluster/records.ts";
import { type Command, firstWord, parseCommand } from "../commands/parse.ts";
import type { PagingConfig } from "../config/paging.ts";
import { bareJid } from "../xmpp/jid.ts";
import type { IncomingText } from "../xmpp/link.ts";

/** What was kept by a server for longer may not be wanted any more. */
const DELAY_MS_MAX = 60_000;
const TEXT_LENGTH_MAX = 500;

export interface Relayed {
  readonly order: RecordInput<"order"> | undefined;
  readonly answer: string;
}

/** Undefined for who is not one of the people: a monitor that does not speak ignores strangers. */
export function relayed(
  { from, body, delayedAtMs, isRoom }: IncomingText,
  { paging, speaker, nowMs }: { paging: PagingConfig; speaker: string; nowMs: number },
): Relayed | undefined {
  const person = personOf(paging, from);
  if (person === undefined || isRoom) return undefined;
  if (delayedAtMs !== null && nowMs - delayedAtMs > DELAY_MS_MAX) return undefined;
  const command = parseCommand(body);
  const order = command && orderOf(command, person, nowMs);
  if (order === undefined) {
    return { order, answer: `I only watch: monitor ${speaker} speaks now, please ask its account` };
  }
  return { order, answer: `passed on to monitor ${speaker}, which speaks now` };
}

function orderOf(
  { verb, target, rest }: Command,
  person: string,
  createdAtMs: number,
): RecordInput<"order"> | undefined {
  const isOrder = (ORDER_VERBS as readonly string[]).includes(verb);
  // Silences name lengths, which only the speaker reads.
  if (!isOrder || target === null || verb === "silence" || verb === "unsilence") return undefined;
  const isEscalation = verb === "escalate";
  return {
    verb: verb as OrderVerb,
    target: incidentId(target),
    person: isEscalation ? firstWord(rest)[0].slice(0, 100) : "",
    text: isEscalation ? "" : rest.slice(0, TEXT_LENGTH_MAX),
    by: person,
    createdAtMs,
  };
}

function personOf({ people }: PagingConfig, from: string): string | undefined {
  const jid = bareJid(from);
  return Object.keys(people).find((name) => people[name]?.jid.toLowerCase() === jid);
}
