/**
 * Whether the section `monitor:` fits together, beyond the shape of its rows: names that nobody
 * has, schedules with a gap, incidents that no route takes. All problems at once, by their path,
 * also where other rows are broken: each entry is looked at by itself.
 */
import { z } from "zod";
import type { Drill } from "../../core/cluster/incidents.ts";
import { check, type Problem } from "../../core/runtime/config.ts";
import { gapAfter } from "../escalate/rota.ts";
import { dayText } from "./localTime.ts";
import type { PagingConfig } from "./paging.ts";
import { pagingOf, scheduleOf } from "./pagingOf.ts";
import { type MonitorSection, monitorSection } from "./schema.ts";

/** Groups and people whose name means something else already. */
const RESERVED = { people: ["room", "all"], groups: ["all"] } as const;

export type CheckedSection =
  | { readonly ok: true; readonly section: MonitorSection; readonly paging: PagingConfig }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** Paths are told with `at` before them, as in `monitor.people.alice.jid`. */
export function checkMonitorSection(raw: unknown, nowMs: number, at = "monitor"): CheckedSection {
  const place = (path: readonly PropertyKey[]) => [at, ...path.map(String)].join(".");
  const shaped = check(monitorSection, raw ?? {}, place);
  const parts = soundParts(raw ?? {});
  const problems = [
    ...(shaped.ok ? [] : shaped.problems),
    ...unknownNames(parts, raw ?? {}),
    ...reservedNames(parts),
    ...sharedJids(parts),
    ...gaps(parts, nowMs),
    ...unrouted(parts),
    ...unreachable(parts),
  ].map(({ where, message }) => ({
    where: where.startsWith(`${at}.`) || where === at ? where : `${at}.${where}`,
    message,
  }));
  if (!shaped.ok || problems.length > 0) return { ok: false, problems };
  return { ok: true, section: shaped.value, paging: pagingOf(shaped.value) };
}

/** People who never passed a drill: nobody knows yet whether their devices answer. */
export function neverDrilled(
  people: Iterable<string>,
  drills: readonly Drill[],
  at = "monitor",
): Problem[] {
  const passed = new Set(
    drills
      .filter(({ purpose, state }) => purpose === "drill" && state === "passed")
      .map((drill) => drill.person),
  );
  return [...people]
    .filter((person) => !passed.has(person))
    .map((person) => ({
      where: `${at}.people.${person}`,
      message: `never passed a drill: memward alert test ${person}`,
    }));
}

type Parts = Pick<
  MonitorSection,
  "people" | "groups" | "schedules" | "policies" | "routes" | "silences" | "webhooks" | "xmpp"
>;

/** What is well-formed by itself; entries that are not are missing. */
function soundParts(raw: unknown): Parts {
  const { shape } = monitorSection;
  const entries = Object.entries(shape).map(([key, schema]) => {
    const value = field(raw, key);
    const whole = schema.safeParse(value);
    if (whole.success) return [key, whole.data];
    const empty = schema.safeParse(undefined).data;
    if (Array.isArray(empty) || typeof value !== "object" || value === null) return [key, empty];
    const sound = Object.entries(value).flatMap(([name, entry]) => {
      const parsed = schema.safeParse({ [name]: entry });
      return parsed.success ? Object.entries(parsed.data as object) : [];
    });
    return [key, key === "xmpp" ? undefined : Object.fromEntries(sound)];
  });
  return Object.fromEntries(entries) as Parts;
}

/** Names that stand somewhere, by what they should name. */
function* references(parts: Parts): Generator<{ where: string; kind: string; name: string }> {
  for (const [person, { fallback }] of Object.entries(parts.people)) {
    for (const [index, channel] of fallback.entries()) {
      if (!("webhook" in channel)) continue;
      const where = `people.${person}.fallback.${index}.webhook`;
      yield { where, kind: "webhook", name: channel.webhook };
    }
  }
  for (const [group, people] of Object.entries(parts.groups)) {
    for (const [index, name] of people.entries()) {
      yield { where: `groups.${group}.${index}`, kind: "person", name };
    }
  }
  for (const [schedule, { rotation, overrides }] of Object.entries(parts.schedules)) {
    for (const [index, name] of (rotation?.people ?? []).entries()) {
      yield { where: `schedules.${schedule}.rotation.people.${index}`, kind: "person", name };
    }
    for (const [index, { person: name }] of overrides.entries()) {
      yield { where: `schedules.${schedule}.overrides.${index}.person`, kind: "person", name };
    }
  }
  for (const [policy, { levels }] of Object.entries(parts.policies)) {
    for (const [level, { to }] of levels.entries()) {
      for (const [index, target] of to.entries()) {
        const [kind = "", name = ""] = target.split(":");
        yield { where: `policies.${policy}.levels.${level}.to.${index}`, kind, name };
      }
    }
  }
  for (const [index, { policy: name }] of parts.routes.entries()) {
    yield { where: `routes.${index}.policy`, kind: "policy", name };
  }
}

function unknownNames(parts: Parts, raw: unknown): Problem[] {
  // Names of broken entries count: that they are broken is told already.
  const names = (key: string) => Object.keys(Object(field(raw, key)) as object);
  const known: Readonly<Record<string, readonly string[]>> = {
    person: names("people"),
    group: [...names("groups"), "all"],
    schedule: names("schedules"),
    policy: names("policies"),
    webhook: names("webhooks"),
  };
  return [...references(parts)]
    .filter(({ kind, name }) => !known[kind]?.includes(name))
    .map(({ where, kind, name }) => ({ where, message: `there is no ${kind} named ${name}` }));
}

function reservedNames(parts: Parts): Problem[] {
  return Object.entries(RESERVED).flatMap(([key, names]) =>
    names
      .filter((name) => Object.hasOwn(parts[key as keyof typeof RESERVED], name))
      .map((name) => ({ where: `${key}.${name}`, message: "has a meaning of its own" })),
  );
}

/** Whoever answers is known by the address alone. */
function sharedJids({ people }: Parts): Problem[] {
  const owners = new Map<string, string>();
  return Object.entries(people).flatMap(([person, { jid }]) => {
    const owner = owners.get(jid.toLowerCase());
    owners.set(jid.toLowerCase(), owner ?? person);
    const message = `is the address of ${owner} already`;
    return owner === undefined ? [] : [{ where: `people.${person}.jid`, message }];
  });
}

function gaps({ schedules }: Parts, nowMs: number): Problem[] {
  return Object.entries(schedules).flatMap(([name, schedule]) => {
    const gap = gapAfter(scheduleOf(schedule), nowMs);
    if (gap === undefined) return [];
    const from = dayText(gap.fromMs, schedule.timezone);
    const until = gap.toMs === null ? "" : ` until ${dayText(gap.toMs, schedule.timezone)}`;
    const where = `schedules.${name}`;
    return [{ where, message: `nobody is on call from ${from}${until} (${schedule.timezone})` }];
  });
}

/** Some route has to take whatever is critical. Without any route there is a default. */
function unrouted({ routes }: Parts): Problem[] {
  const isCatchAll = routes.some(
    ({ match }) =>
      match.kind === undefined &&
      [undefined, "*"].includes(match.subject) &&
      match.severity !== "warn",
  );
  if (routes.length === 0 || isCatchAll) return [];
  return [{ where: "routes", message: "no route takes every incident of severity crit" }];
}

function unreachable({ people, xmpp }: Parts): Problem[] {
  if (xmpp !== undefined) return [];
  return Object.entries(people)
    .filter(([, { fallback }]) => !fallback.some((channel) => "webhook" in channel))
    .map(([person]) => ({
      where: `people.${person}`,
      message: "cannot be told: neither xmpp is configured nor a webhook as fallback",
    }));
}

function field(raw: unknown, key: string): unknown {
  const fields = z.record(z.string(), z.unknown()).safeParse(raw);
  return fields.success ? fields.data[key] : undefined;
}
