/**
 * Service instances: each is a cache, ordered by a platform. The record of the instance is written
 * in the commit that makes, changes or deletes the cache, so whoever crashes leaves both or none.
 * A cache that was deleted by an operator takes its instance along: the platform is told that it
 * is gone (410) and may order it anew.
 */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { RecordInput } from "../../core/cluster/records.ts";
import type { Change } from "../../core/cluster/state.ts";
import { whenApplied } from "../operations/applied.ts";
import { changeCache, createCache, deleteCache } from "../operations/caches.ts";
import { auditChange, change } from "../operations/change.ts";
import type { Outcome } from "../operations/outcome.ts";
import { deleteBindings } from "./bindings.ts";
import {
  type Answer,
  type Asker,
  answer,
  type Broker,
  checked,
  contextOf,
  deletionQuery,
  failure,
  findInstance,
  type Instance,
  identifier,
  malformed,
  noInstance,
  persistently,
  refused,
  unknownService,
} from "./broker.ts";
import { instanceParameters } from "./catalog.ts";

/** Context and parameters are kept; platforms send some hundred bytes. */
const KEPT_SIZE_MAX = 16 * 1024;
const kept = z
  .looseObject({})
  .refine((value) => Buffer.byteLength(JSON.stringify(value)) <= KEPT_SIZE_MAX, "is too large")
  .transform((value) => z.json().parse(value));
const maintenanceInfo = z.looseObject({ version: z.string().optional() }).optional();

/** Unknown fields are ignored, as "Vendor Extension Fields" asks; unknown parameters are not. */
const provisionBody = z.looseObject({
  service_id: identifier,
  plan_id: identifier,
  organization_guid: identifier,
  space_guid: identifier,
  context: kept.optional(),
  parameters: instanceParameters.optional(),
  maintenance_info: maintenanceInfo,
});
const updateBody = z.looseObject({
  service_id: identifier,
  plan_id: identifier.optional(),
  context: kept.optional(),
  parameters: instanceParameters.optional(),
  maintenance_info: maintenanceInfo,
});
export async function provision(
  broker: Broker,
  asker: Asker,
  id: string,
  body: unknown,
): Promise<Answer> {
  const { parts, catalog } = broker;
  const request = checked(provisionBody, body);
  if (!request.ok) return request.answer;
  const { service_id, plan_id, context = {}, parameters = {} } = request.input;
  return persistently(async () => {
    const { record, isLiving } = await findInstance(parts, id);
    if (record !== undefined && isLiving) {
      const wanted = { service: service_id, plan: plan_id, parameters };
      const { service, plan, parameters: given } = record.value;
      const isSame = isDeepStrictEqual({ service, plan, parameters: given }, wanted);
      if (isSame) return answer(200);
      return failure(409, `the service instance ${id} exists with other attributes`);
    }
    const unknown = unknownIds(broker, { service_id, plan_id });
    if (unknown !== undefined) return unknown;
    const conflict = maintenanceConflict(request.input);
    if (conflict !== undefined) return conflict;
    const name = parameters.name ?? nameFor(id);
    const made = (cache: string): RecordInput<"serviceInstance"> => ({
      cache,
      service: service_id,
      plan: plan_id,
      parameters: z.json().parse(parameters),
      context,
      createdAtMs: parts.clock.unixMs(),
    });
    const plan = catalog.planById.get(plan_id)?.name;
    const outcome = await createCache(
      parts,
      contextOf(broker, asker, {
        action: "instance.create",
        subject: id,
        records: ({ cache }) => [
          {
            kind: "serviceInstance",
            id,
            value: made(cache),
            expected: record?.revision ?? 0,
          },
        ],
      }),
      { name, plan },
    );
    if (outcome.ok) return inForce(broker, outcome, answer(201), outcome.value.id);
    if (outcome.problem.kind !== "conflict") return refused(outcome.problem);
    if ((await findInstance(parts, id)).isLiving) return undefined; // Somebody asked for the same.
    if ((await parts.state.get("cacheName", name)) === undefined) return undefined;
    return malformed([{ path: "parameters.name", message: `there is a cache named ${name}` }]);
  });
}

export async function fetchInstance({ parts }: Broker, id: string): Promise<Answer> {
  const { record, isLiving } = await findInstance(parts, id);
  if (record === undefined || !isLiving) return noInstance(id);
  const { service, plan, parameters } = record.value;
  return answer(200, { service_id: service, plan_id: plan, parameters });
}

/** A plan is changed in place: what fits into a smaller one stays. */
export async function update(
  broker: Broker,
  asker: Asker,
  id: string,
  body: unknown,
): Promise<Answer> {
  const { parts, catalog } = broker;
  const request = checked(updateBody, body);
  if (!request.ok) return request.answer;
  const { service_id, plan_id, context, parameters } = request.input;
  return persistently(async () => {
    const { record, isLiving, cache } = await findInstance(parts, id);
    if (record === undefined || !isLiving || cache === undefined) return noInstance(id);
    const { value } = record;
    const isOwnPlan = plan_id === undefined || plan_id === value.plan;
    const unknown = unknownIds(broker, { service_id, plan_id: isOwnPlan ? undefined : plan_id });
    if (unknown !== undefined) return unknown;
    const conflict = maintenanceConflict(request.input);
    if (conflict !== undefined) return conflict;
    if (parameters?.name !== undefined && parameters.name !== cache.name) {
      return failure(422, "parameters.name: the name of a cache cannot be changed");
    }
    const after: Instance["value"] = {
      ...value,
      plan: plan_id ?? value.plan,
      context: context ?? value.context,
    };
    const isSame = isDeepStrictEqual(after, value);
    const put: Change = {
      kind: "serviceInstance",
      id,
      value: after,
      expected: record.revision,
    };
    const plan = plan_id === undefined ? undefined : catalog.planById.get(plan_id)?.name;
    const outcome =
      plan === undefined || plan === cache.plan
        ? await changeRecord(broker, asker, { id, put: isSame ? undefined : put, record })
        : await changeCache(
            parts,
            contextOf(broker, asker, {
              action: "instance.update",
              subject: id,
              records: () => [put],
            }),
            value.cache,
            { plan },
          );
    if (outcome.ok) return inForce(broker, outcome, answer(200), value.cache);
    return outcome.problem.kind === "conflict" ? undefined : refused(outcome.problem);
  });
}

/** Nothing but what the platform tells about itself: no cache is touched. */
async function changeRecord(
  { parts }: Broker,
  { actor, from, identity }: Asker,
  { id, put, record }: { id: string; put: Change | undefined; record: Instance },
): Promise<Outcome<null>> {
  const audit = {
    action: "instance.update",
    cache: record.value.cache,
    subject: id,
    before: null,
    after: identity === undefined ? {} : { ...identity },
  };
  const changes = put === undefined ? [] : [put];
  const { revision } = record;
  return change(parts, { actor, from, ifRevision: revision }, async () => {
    return { ok: true, changes, audit, revision, value: () => null };
  });
}

/** Its bindings first: whoever crashes between leaves an instance with fewer of them. */
export async function deprovision(
  broker: Broker,
  asker: Asker,
  id: string,
  query: unknown,
): Promise<Answer> {
  const { parts, catalog } = broker;
  const request = checked(deletionQuery, query);
  if (!request.ok) return request.answer;
  return persistently(async () => {
    const { record, isLiving } = await findInstance(parts, id);
    if (record === undefined) return answer(410);
    if (request.input.service_id !== catalog.serviceId) return unknownService();
    const rest = await deleteBindings(broker, asker, id);
    if (rest !== undefined) return rest;
    const removal: Change = {
      kind: "serviceInstance",
      id,
      value: null,
      expected: record.revision,
    };
    if (!isLiving) return forget(broker, asker, { id, record, removal });
    const context = contextOf(broker, asker, {
      action: "instance.delete",
      subject: id,
      records: () => [removal],
    });
    const outcome = await deleteCache(parts, context, record.value.cache);
    if (outcome.ok) return inForce(broker, outcome, answer(200));
    // Outrun, or the cache has gone since: what is there now is looked at again.
    const { kind } = outcome.problem;
    return kind === "conflict" || kind === "notFound" ? undefined : refused(outcome.problem);
  });
}

/** The cache went another way; the platform is told that there is nothing. */
async function forget(
  { parts }: Broker,
  { actor, from }: Asker,
  { id, record, removal }: { id: string; record: Instance; removal: Change },
): Promise<Answer | undefined> {
  const audit = auditChange(
    parts,
    { actor, from },
    {
      action: "instance.forget",
      cache: record.value.cache,
      subject: id,
      before: null,
      after: null,
    },
  );
  const commit = await parts.state.commit([removal, audit]);
  return commit.ok ? answer(410) : undefined;
}

/** Platforms are answered when the change is in force, or some seconds later anyway. */
async function inForce(
  { parts }: Broker,
  { revision }: { revision: number },
  then: Answer,
  cacheId?: string,
): Promise<Answer> {
  await whenApplied(parts, { revision, cacheId });
  return then;
}

/** A name that is the same for every repetition of the request. */
function nameFor(instance: string): string {
  return `osb-${createHash("sha256").update(instance).digest("hex").slice(0, 20)}`;
}

function unknownIds(
  { catalog }: Broker,
  { service_id, plan_id }: { service_id: string; plan_id: string | undefined },
): Answer | undefined {
  if (service_id !== catalog.serviceId) return unknownService();
  if (plan_id === undefined || catalog.planById.has(plan_id)) return undefined;
  return malformed([{ path: "plan_id", message: "this service has no such plan" }]);
}

/** The catalog offers no maintenance, so no version of it can be the right one. */
function maintenanceConflict(input: {
  maintenance_info?: { version?: string | undefined } | undefined;
}): Answer | undefined {
  if (input.maintenance_info?.version === undefined) return undefined;
  const description = "The maintenance information for the requested plan has changed.";
  return failure(422, description, "MaintenanceInfoConflict");
}
