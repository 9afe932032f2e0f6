/** What credentials look like: as they are asked for, as they are shown, and in the audit log. */
import { z } from "zod";
import { PASSWORD_SIZE_MAX } from "../../core/cluster/credentials.ts";
import { credentialRecord, NETWORK_COUNT_MAX, RIGHTS } from "../../core/cluster/records.ts";
import type { Kept, KnownCredential, View } from "../view.ts";
import type { Parts } from "./change.ts";
import { momentInput, momentOrNull, momentText } from "./input.ts";

export const OVERLAP_SECONDS_MAX = 30 * 24 * 3600;
const OVERLAP_SECONDS_DEFAULT = 3600;
const ADDRESS_COUNT_MAX = 100;

/** A username is an id in the state, a key on the wire and a word in a URL. */
export const usernameInput = z
  .string()
  .regex(/^[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?$/, "letters, digits, . _ @ -");
const password = z
  .string()
  .min(8, "at least 8 characters")
  .refine(
    (text) => Buffer.byteLength(text) <= PASSWORD_SIZE_MAX,
    `at most ${PASSWORD_SIZE_MAX} bytes`,
  )
  // Blanks separate username and password in one of the two logins of the text dialect.
  .refine((text) => !/[\p{Cc}\s]/u.test(text), "no blanks or control characters");
const rights = z.array(z.enum(RIGHTS)).min(1, "at least one right").max(RIGHTS.length);
const networks = z.array(credentialRecord.shape.networks.unwrap().element).max(NETWORK_COUNT_MAX);
const label = z
  .string()
  .max(200)
  .refine((text) => !/\p{Cc}/u.test(text), "no control characters");
const expiresAt = momentInput.nullable();

export const newCredentialInput = z.strictObject({
  label: label.optional().describe("For people: who uses it"),
  rights: rights.optional().describe("Default: read and write"),
  keyPrefix: credentialRecord.shape.keyPrefix
    .unwrap()
    .optional()
    .describe("Put before every key; it reaches nothing else"),
  expiresAt: expiresAt.optional().describe("When it stops working; null for never"),
  networks: networks.optional().describe("Source networks it may be used from; none: everywhere"),
  username: usernameInput
    .optional()
    .describe("Together with password: a login that exists elsewhere"),
  password: password.optional().describe("Kept as a slow digest; never shown"),
});
export type NewCredentialInput = z.output<typeof newCredentialInput>;

export const credentialChangeInput = z.strictObject({
  label: label.optional(),
  rights: rights.optional(),
  expiresAt: expiresAt.optional(),
  networks: networks.optional(),
});
export type CredentialChange = z.output<typeof credentialChangeInput>;

export const rotationInput = z.strictObject({
  overlapSeconds: z
    .int()
    .min(0)
    .max(OVERLAP_SECONDS_MAX)
    .default(OVERLAP_SECONDS_DEFAULT)
    .describe("How long the old credential goes on working"),
});
export type Rotation = z.output<typeof rotationInput>;

const shown = {
  username: z.string(),
  cache: z.string().describe("Name of its cache"),
  label: z.string(),
  rights: z.array(z.enum(RIGHTS)),
  keyPrefix: z.string(),
  expiresAt: z.string().nullable(),
  networks: z.array(z.string()),
  primary: z.boolean(),
  replacedBy: z.string().nullable().describe("What it was rotated to"),
  createdAt: z.string(),
  revision: z.int(),
};
/** A credential as it is shown, with who still uses it. */
export const credentialAnswer = z.strictObject({
  ...shown,
  lastUsedAt: z.string().nullable(),
  sessions: z.int().describe("Logged in with it now, over all proxies"),
  addresses: z.array(z.strictObject({ address: z.string(), sessions: z.int() })),
});
export type ShownCredential = z.output<typeof credentialAnswer>;

/** What its maker gets, once. */
export const madeCredentialAnswer = z.strictObject({
  ...shown,
  password: z.string().describe("Shown now and never again"),
  env: z.strictObject({
    MEMCACHIER_SERVERS: z.string(),
    MEMCACHIER_USERNAME: z.string(),
    MEMCACHIER_PASSWORD: z.string(),
  }),
});
export type MadeCredential = z.output<typeof madeCredentialAnswer>;

/** Where applications connect, one after the other. */
export function serversOf({ servers, view }: Pick<Parts, "servers" | "view">): string[] {
  if (servers.length > 0) return [...servers];
  const byName = [...view.proxies.values()].sort((a, b) =>
    a.id.localeCompare(b.id, "en", { numeric: true }),
  );
  return [...new Set(byName.flatMap(({ value }) => value.addresses))];
}

/** Without revision, password or digest: what the audit log keeps. */
export function audited(username: string, value: KnownCredential) {
  const { label, rights, keyPrefix, expiresAtMs, networks, primary, replacedBy } = value;
  const expiresAt = momentOrNull(expiresAtMs);
  return { username, label, rights, keyPrefix, expiresAt, networks, primary, replacedBy };
}

export function shownPart(view: View, { id, value, revision }: Kept<KnownCredential>) {
  const cache = view.caches.get(value.cache)?.value.name ?? value.cache;
  const createdAt = momentText(value.createdAtMs);
  return { ...audited(id, value), cache, createdAt, revision };
}

/** Sessions count only while the proxy that told of them is still the same process. */
export function shownCredential(view: View, kept: Kept<KnownCredential>): ShownCredential {
  const byAddress = new Map<string, number>();
  let lastUsedAtMs: number | null = null;
  let sessions = 0;
  for (const [proxy, use] of view.lastUseOf(kept.id)) {
    lastUsedAtMs = Math.max(lastUsedAtMs ?? 0, use.lastUsedAtMs);
    if (view.proxies.get(proxy)?.value.startedAtMs !== use.startedAtMs) continue;
    sessions += use.sessions;
    for (const { address, sessions } of use.addresses) {
      byAddress.set(address, (byAddress.get(address) ?? 0) + sessions);
    }
  }
  const addresses = [...byAddress]
    .map(([address, sessions]) => ({ address, sessions }))
    .sort((a, b) => b.sessions - a.sessions)
    .slice(0, ADDRESS_COUNT_MAX);
  return { ...shownPart(view, kept), lastUsedAt: momentOrNull(lastUsedAtMs), sessions, addresses };
}
