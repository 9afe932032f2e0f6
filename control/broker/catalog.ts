/**
 * What the broker offers: one service, and a plan for each of the operator's. Identifiers are UUIDs
 * made from names (RFC 9562, version 5), so that they never change and need no place to be kept.
 * A platform tells services of two brokers apart by them: whoever registers two installations with
 * the same platform gives one of them another service name.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { newCacheInput } from "../operations/caches.ts";
import { newCredentialInput } from "../operations/credential-shapes.ts";
import type { Plan } from "../operations/plans.ts";

/** Made once for this purpose. */
const NAMESPACE = "6c1f8f43-6a0e-4f5b-9a55-3b0d2f2b7c19";
const MB = 1024 ** 2;
const GB = 1024 ** 3;

export const instanceParameters = z.strictObject({
  name: newCacheInput.shape.name.optional().describe("Name of the cache; made up if missing"),
});
export type InstanceParameters = z.output<typeof instanceParameters>;

const { label, rights, keyPrefix, networks } = newCredentialInput.shape;
export const bindingParameters = z.strictObject({
  label,
  rights: rights.describe("Default: read, write and flush"),
  keyPrefix,
  networks,
});
export type BindingParameters = z.output<typeof bindingParameters>;

export interface Catalog {
  readonly serviceId: string;
  /** Body of the answer, see "Catalog Management". */
  readonly body: unknown;
  readonly planById: ReadonlyMap<string, Plan>;
}

export function catalogOf(plans: readonly Plan[], serviceName: string): Catalog {
  const serviceId = uuidOf(serviceName);
  const planById = new Map(plans.map((plan) => [uuidOf(`${serviceName}/${plan.name}`), plan]));
  const service = {
    name: serviceName,
    id: serviceId,
    description: "Memcached with logins: caches that are isolated, sharded and looked after",
    tags: ["memcached", "memcachier", "cache", "caching", "key-value"],
    bindable: true,
    plan_updateable: true,
    instances_retrievable: true,
    bindings_retrievable: true,
    allow_context_updates: true,
    metadata: { displayName: "Memward" },
    plans: [...planById].map(([id, plan]) => offered(id, plan)),
  };
  return { serviceId, planById, body: { services: [service] } };
}

function offered(id: string, { name, bytes, free, limits }: Plan) {
  const size = sizeText(bytes);
  const sessions = limits.sessionsMax === null ? "any number of" : `up to ${limits.sessionsMax}`;
  return {
    id,
    name,
    description: `A cache of ${size} with ${sessions} sessions`,
    free,
    bindable: true,
    plan_updateable: true,
    binding_rotatable: true,
    metadata: { displayName: size, bullets: [`${size} over all nodes`, `${sessions} sessions`] },
    schemas: SCHEMAS,
  };
}

const SCHEMAS = {
  service_instance: {
    create: { parameters: schemaOf(instanceParameters) },
    update: { parameters: schemaOf(instanceParameters.omit({ name: true })) },
  },
  service_binding: { create: { parameters: schemaOf(bindingParameters) } },
};

/** Platforms have to understand draft 4 only. */
function schemaOf(schema: z.ZodType): unknown {
  return z.toJSONSchema(schema, { target: "draft-4", io: "input", unrepresentable: "any" });
}

function sizeText(bytes: number): string {
  const [size, unit] = bytes < GB ? [bytes / MB, "MB"] : [bytes / GB, "GB"];
  return `${Number(size.toFixed(2))} ${unit}`;
}

/** RFC 9562, section 5.5. */
export function uuidOf(name: string): string {
  const space = Buffer.from(NAMESPACE.replaceAll("-", ""), "hex");
  const bytes = createHash("sha1").update(space).update(name).digest().subarray(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x50;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return [8, 12, 16, 20, 32].map((end, i) => hex.slice([0, 8, 12, 16, 20][i], end)).join("-");
}
