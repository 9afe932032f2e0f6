/** Whom a level of a policy names right now. */
import type { Turn } from "../incident/turn.ts";
import { type Shift, shiftAt } from "./rota.ts";

/** Names of people, each once, in the order of the level; unknown names are nobody. */
export function peopleOf(turn: Turn, targets: readonly string[]): string[] {
  const { people, groups } = turn.paging;
  const named = targets.flatMap((target) => {
    const [kind, name = ""] = target.split(":");
    if (kind === "person") return [name];
    if (kind === "schedule") return [shiftOf(turn, name)?.person ?? ""];
    if (kind === "group" && name === "all") return Object.keys(people);
    return kind === "group" && Object.hasOwn(groups, name) ? (groups[name] ?? []) : [];
  });
  return [...new Set(named)].filter((name) => Object.hasOwn(people, name));
}

/** Who is on call in a schedule; undefined if there is none of that name. */
export function shiftOf(turn: Turn, name: string): Shift | undefined {
  const { schedules } = turn.paging;
  const schedule = Object.hasOwn(schedules, name) ? schedules[name] : undefined;
  if (schedule === undefined) return undefined;
  const known = turn.memory.shifts[name];
  const isFresh = known !== undefined && (known.untilMs === null || known.untilMs > turn.nowMs);
  return isFresh ? known : shiftAt(schedule, turn.nowMs);
}

/** Everybody who is on call in some schedule now, with the names of those. */
export function onCall(turn: Turn): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const name of Object.keys(turn.paging.schedules)) {
    const person = shiftOf(turn, name)?.person;
    if (person === null || person === undefined) continue;
    found.set(person, [...(found.get(person) ?? []), name]);
  }
  return found;
}

/** The person with this bare JID. */
export function personOf(turn: Turn, jid: string): string | undefined {
  const bare = bareJid(jid);
  const found = Object.entries(turn.paging.people).find(
    ([, one]) => one.jid.toLowerCase() === bare,
  );
  return found?.[0];
}

/** Of addresses the part before the slash; the case of it means nothing. */
export function bareJid(jid: string): string {
  return (jid.split("/", 1)[0] ?? "").toLowerCase();
}
