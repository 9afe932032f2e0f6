/** Caches and credentials as MemCachier's API shows them, and what it takes. */
import { z } from "zod";
import type { Right } from "../../core/cluster/records.ts";
import type { ShownCache } from "../operations/caches.ts";
import type { ShownCredential } from "../operations/credential-shapes.ts";

type Capability = "write_capability" | "flush_capability" | "api_capability";
const RIGHT_OF: Readonly<Record<Capability, Right>> = {
  write_capability: "write",
  flush_capability: "flush",
  api_capability: "api",
};
const CAPABILITIES = Object.keys(RIGHT_OF) as Capability[];

/** A whole credential may be sent back; only its capabilities count. */
export const capabilitiesInput = z.strictObject({
  write_capability: z.boolean().optional(),
  flush_capability: z.boolean().optional(),
  api_capability: z.boolean().optional(),
  id: z.unknown().optional(),
  cache_id: z.unknown().optional(),
  sasl_username: z.unknown().optional(),
  sasl_password: z.unknown().optional(),
  primary: z.unknown().optional(),
});
export type Capabilities = Pick<z.output<typeof capabilitiesInput>, Capability>;

export type CredentialView = Record<Capability, boolean> & {
  id: string;
  cache_id: string;
  sasl_username: string;
  /** Only its maker gets it, once. */
  sasl_password: string | null;
  primary: boolean;
};

export function capabilitiesOf(rights: readonly Right[]): Record<Capability, boolean> {
  const entries = CAPABILITIES.map((name) => [name, rights.includes(RIGHT_OF[name])] as const);
  return Object.fromEntries(entries) as Record<Capability, boolean>;
}

/** What is left out counts as `missing`. Reading is no capability there: whoever has it keeps it. */
export function rightsOf(
  given: Capabilities,
  { missing, reads }: { missing: boolean; reads: boolean },
): Right[] {
  const chosen = CAPABILITIES.filter((name) => given[name] ?? missing);
  return [...(reads ? (["read"] as const) : []), ...chosen.map((name) => RIGHT_OF[name])];
}

export function credentialView(
  {
    id,
    username,
    rights,
    primary,
  }: Pick<ShownCredential, "username" | "rights" | "primary"> & {
    /** Of its cache. */
    id: string;
  },
  password: string | null = null,
): CredentialView {
  return {
    id: username,
    cache_id: id,
    sasl_username: username,
    sasl_password: password,
    ...capabilitiesOf(rights),
    primary,
  };
}

export function cacheView(
  { id, name, bytes, enabled }: ShownCache,
  { servers, credentials }: { servers: readonly string[]; credentials: readonly ShownCredential[] },
) {
  return {
    id,
    name,
    label: name,
    cache_type: "memcachier",
    plan: bytes,
    provider: "memward",
    enabled,
    cluster_name: "memward",
    servers,
    credentials: credentials.map((one) => credentialView({ ...one, id })),
    can_switch: false,
    can_manage_credentials: true,
    can_update_capabilities: true,
  };
}
