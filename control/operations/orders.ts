/**
 * What operators want done about incidents: an order in the cluster state, with its audit record in
 * the same commit. The monitor that speaks obeys and deletes it, in one commit with what came of it;
 * that is waited for a moment, and who waits in vain is told so.
 */
import { z } from "zod";
import { ORDER_VERBS, orderRecord, SILENCE_MS_MAX } from "../../core/cluster/incidents.ts";
import type { RecordInput } from "../../core/cluster/records.ts";
import { auditIdAt, type Context, change, type Parts } from "./change.ts";
import { isOpen, noIncident, noPerson, recordIdOf, speakerOf } from "./incidents.ts";
import { conflict, done, type Outcome, type Refused } from "./outcome.ts";

/** So long an answer waits for the monitor. */
const OBEYED_MS_MAX = 2_000;
/** Orders that nobody has obeyed yet. */
const ORDER_COUNT_MAX = 1_000;

export const orderAnswer = z.strictObject({
  order: z.string(),
  verb: z.enum(ORDER_VERBS),
  obeyed: z.boolean().describe("false: no monitor has done it yet; it is done when one can"),
  monitor: z.string().nullable().describe("The monitor that speaks; null: none does now"),
});
export type ShownOrder = z.output<typeof orderAnswer>;

const text = orderRecord.shape.text.unwrap();
export const noteInput = z.strictObject({ text: text.min(1) });
export const resolveInput = z.strictObject({ text: text.optional() });
export const silenceIncidentInput = z.strictObject({
  seconds: z
    .int()
    .min(1)
    .max(SILENCE_MS_MAX / 1000)
    .describe("At most a day"),
  text: text.optional(),
});
export const escalateInput = z.strictObject({
  person: z.string().max(63).optional().describe("Whom to tell; default: the next level"),
});
export const silenceInput = silenceIncidentInput.extend({
  key: z.string().min(1).max(300).describe("Like node:node-1"),
});

type Wish = Omit<RecordInput<"order">, "by" | "createdAtMs">;

/** An order about one incident, by the name that people use. */
export async function orderForIncident(
  parts: Parts,
  context: Context,
  shown: string,
  wish: Omit<Wish, "target">,
): Promise<Outcome<ShownOrder>> {
  const target = recordIdOf(shown);
  const known = target === undefined ? undefined : parts.view.incidents.get(target);
  if (target === undefined || known === undefined) return noIncident(shown);
  if (!isOpen(known.value) && wish.verb !== "note") {
    return conflict(`incident ${shown} is resolved already`, known.revision);
  }
  const { person = "" } = wish;
  if (person !== "" && !parts.view.people.has(person)) return noPerson(person);
  return order(parts, context, { ...wish, target }, shown);
}

export function orderDrill(
  parts: Parts,
  context: Context,
  person: string,
): Promise<Outcome<ShownOrder>> | Refused {
  if (!parts.view.people.has(person)) return noPerson(person);
  return order(parts, context, { verb: "drill", person }, person);
}

/** Silences and ends silences of what may or may not be wrong now. */
export function orderSilence(
  parts: Parts,
  context: Context,
  { key, seconds, text: why = "" }: z.output<typeof silenceInput>,
): Promise<Outcome<ShownOrder>> {
  const wish: Wish = { verb: "silence", target: key, durationMs: seconds * 1000, text: why };
  return order(parts, context, wish, key);
}

export function orderUnsilence(
  parts: Parts,
  context: Context,
  key: string,
): Promise<Outcome<ShownOrder>> {
  return order(parts, context, { verb: "unsilence", target: key }, key);
}

let orderCount = 0;

async function order(
  parts: Parts,
  context: Context,
  wish: Wish,
  subject: string,
): Promise<Outcome<ShownOrder>> {
  const { view, clock, secureBytes } = parts;
  if (view.orders.size >= ORDER_COUNT_MAX) {
    return conflict(`${ORDER_COUNT_MAX} orders wait for a monitor already`, 0);
  }
  const createdAtMs = clock.unixMs();
  orderCount = (orderCount + 1) % 100_000;
  const serial = String(orderCount).padStart(5, "0");
  const chance = Buffer.from(secureBytes(4)).toString("hex");
  const id = `${auditIdAt(createdAtMs)}-${serial}-${chance}`;
  const value = { ...wish, by: context.actor, createdAtMs };
  const made = await change(parts, context, async () => ({
    ok: true,
    revision: 0,
    changes: [{ kind: "order", id, value, expected: 0 }],
    audit: {
      action: `incident.${wish.verb}`,
      cache: "",
      subject: subject.slice(0, 200),
      before: null,
      after: {
        verb: wish.verb,
        target: wish.target ?? "",
        person: wish.person ?? "",
        text: wish.text ?? "",
        durationMs: wish.durationMs ?? null,
      },
    },
    value: () => id,
  }));
  if (!made.ok) return made;
  // Nobody to wait for is told at once.
  const limitMs = speakerOf(view) === undefined ? 0 : OBEYED_MS_MAX;
  const obeyed = await view.until(() => isObeyed(parts, id, made.revision), limitMs);
  const monitor = speakerOf(view) ?? null;
  return done({ order: id, verb: wish.verb, obeyed, monitor }, made.revision);
}

const isObeyed = ({ view }: Parts, id: string, revision: number): boolean =>
  view.revision >= revision && !view.orders.has(id);
