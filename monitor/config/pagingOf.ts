/**
 * Makes of the checked section what the pager reads. Where there are people but no policies or
 * routes, a policy named `default` tells all of them.
 */
import type { PolicySnapshot } from "../../core/cluster/incidents.ts";
import { momentOf } from "./localTime.ts";
import type { PagingConfig, Schedule } from "./paging.ts";
import { type MonitorSection, policySchema } from "./schema.ts";

type Section<K extends "policies" | "schedules"> = MonitorSection[K][string];

export function pagingOf(section: MonitorSection): PagingConfig {
  const { cluster, people, groups, schedules } = section;
  const own = mapped(section.policies, (policy, name) => snapshotOf(name, policy));
  const fallback = snapshotOf("default", policySchema.parse({ levels: [{ to: ["group:all"] }] }));
  const policies = { default: fallback, ...own };
  const first = Object.keys(own).includes("default") ? "default" : Object.keys(own)[0];
  const catchAll = { match: {}, policy: first ?? "default" };
  return {
    cluster,
    people,
    groups,
    schedules: mapped(schedules, scheduleOf),
    policies,
    routes: section.routes.length === 0 ? [catchAll] : section.routes,
    silences: section.silences.map(({ match, from, to, timezone, reason }) => ({
      match,
      fromMs: momentOf(from, timezone),
      toMs: momentOf(to, timezone),
      reason,
    })),
  };
}

export function scheduleOf({ timezone, rotation, overrides }: Section<"schedules">): Schedule {
  return {
    timezone,
    rotation:
      rotation === undefined
        ? null
        : { startLocalMs: rotation.start, everyMs: rotation.every, people: rotation.people },
    overrides: overrides.map(({ from, to, person }) => ({
      fromLocalMs: from,
      toLocalMs: to,
      person,
    })),
  };
}

function snapshotOf(name: string, policy: Section<"policies">): PolicySnapshot {
  return {
    name,
    resendAfterMs: policy.resend_after,
    receiptTimeoutMs: policy.receipt_timeout,
    receiptTimeoutAwayMs: Math.min(policy.receipt_timeout_away, policy.receipt_timeout),
    ackTimeoutMs: policy.ack_timeout,
    ackExpiresMs: policy.ack_expires,
    levels: policy.levels.map(({ to, room, after }) => ({
      to: [...to],
      room: room ?? null,
      afterMs: after ?? null,
    })),
    repeatEveryMs: policy.repeat.every,
  };
}

function mapped<V, R>(entries: Readonly<Record<string, V>>, map: (value: V, name: string) => R) {
  return Object.fromEntries(
    Object.entries(entries).map(([name, value]) => [name, map(value, name)]),
  );
}
