/**
 * Credentials: made, shown, changed, promoted, rotated, deleted. A cache that has credentials has
 * exactly one primary; whoever takes it away puts another in its place in the same commit. A
 * password is in the answer to the one who made it and nowhere else.
 */
import { type Digest, newCredential, scryptDigestOf } from "../../core/cluster/credentials.ts";
import {
  type Credential,
  credentialRecord,
  RIGHTS,
  type Right,
} from "../../core/cluster/records.ts";
import type { Change, Entry } from "../../core/cluster/state.ts";
import type { Kept, KnownCredential } from "../view.ts";
import { findCache, noCache } from "./caches.ts";
import { type Context, change, type Decision, outdated, type Parts } from "./change.ts";
import {
  audited,
  type CredentialChange,
  type MadeCredential,
  type NewCredentialInput,
  type Rotation,
  type ShownCredential,
  serversOf,
  shownCredential,
  shownPart,
  usernameInput,
} from "./credential-shapes.ts";
import { pageOf } from "./input.ts";
import { usesOf } from "./orphans.ts";
import {
  conflict,
  done,
  forbidden,
  type InputProblem,
  invalid,
  notFound,
  type Outcome,
  type Refused,
} from "./outcome.ts";

export const CREDENTIALS_PER_CACHE_MAX = 100_000;
export function listCredentials(
  { view }: Pick<Parts, "view">,
  nameOrId: string,
  page: { after?: string | undefined; limit?: number | undefined } = {},
): Outcome<{ credentials: ShownCredential[]; next: string | null }> {
  const cache = view.cache(nameOrId);
  if (cache === undefined) return noCache(nameOrId);
  const { page: found, next } = pageOf(view.credentialsOf(cache.id), page, ({ id }) => id);
  const credentials = found.map((kept) => shownCredential(view, kept));
  return done({ credentials, next }, view.revision);
}

export function showCredential(
  { view }: Pick<Parts, "view">,
  nameOrId: string,
  username: string,
): Outcome<ShownCredential> {
  const cache = view.cache(nameOrId);
  if (cache === undefined) return noCache(nameOrId);
  const kept = view.credentials.get(username);
  if (kept?.value.cache !== cache.id) return noCredential(username);
  return done(shownCredential(view, kept), kept.revision);
}

/**
 * The first one becomes the primary. Give username and password to import a login; `made` is one
 * whose password is as good as ours, so that it is kept as ours are.
 */
export async function createCredential(
  parts: Parts,
  context: Context,
  nameOrId: string,
  input: NewCredentialInput,
  made?: NewLogin,
): Promise<Outcome<MadeCredential>> {
  const problems = problemsOf(parts, { rights: ["read", "write"], ...defined(input) });
  if ((input.username === undefined) !== (input.password === undefined)) {
    const path = input.username === undefined ? "username" : "password";
    problems.push({ path, message: "username and password are imported together" });
  }
  if (problems.length > 0) return invalid(...problems);
  const login = made ?? (await loginFor(parts, input));
  return change(parts, context, async () => {
    const cache = await findCache(parts, nameOrId);
    if (cache === undefined) return noCache(nameOrId);
    const taken = await parts.state.get("credential", login.username);
    if (taken !== undefined) return conflict("that username is taken", taken.revision);
    const first = await touchWhenFirst(parts, cache);
    if (parts.view.credentialCount(cache.id) >= CREDENTIALS_PER_CACHE_MAX) {
      return forbidden(`the cache has ${CREDENTIALS_PER_CACHE_MAX} credentials; delete one first`);
    }
    const value = credentialRecord.parse({
      cache: cache.id,
      digest: login.digest,
      rights: inOrder(input.rights ?? ["read", "write"]),
      keyPrefix: input.keyPrefix ?? "",
      expiresAtMs: momentMs(input.expiresAt ?? null),
      networks: input.networks ?? [],
      primary: first !== undefined,
      label: input.label ?? "",
      createdAtMs: parts.clock.unixMs(),
    });
    const action = input.password === undefined ? "credential.create" : "credential.import";
    return decisionToMake(parts, { action, cache, login, value, changes: first ?? [] });
  });
}

export async function changeCredential(
  parts: Parts,
  context: Context,
  { cache, username }: Subject,
  input: CredentialChange,
): Promise<Outcome<ShownCredential>> {
  return changeOne(parts, context, { cache, username }, async (found) => {
    const merged = { keyPrefix: found.value.keyPrefix, rights: found.value.rights };
    const problems = problemsOf(parts, { ...merged, ...defined(input) });
    if (problems.length > 0) return invalid(...problems);
    const { value } = found;
    const expiresAtMs =
      input.expiresAt === undefined ? value.expiresAtMs : momentMs(input.expiresAt);
    const after: Credential = {
      ...value,
      rights: input.rights === undefined ? value.rights : inOrder(input.rights),
      label: input.label ?? value.label,
      networks: input.networks ?? value.networks,
      expiresAtMs,
      // Who keeps the old one after all takes the rotation back.
      replacedBy: expiresAtMs === null ? null : value.replacedBy,
    };
    return { ok: true, action: "credential.change", after, changes: [] };
  });
}

export async function promoteCredential(
  parts: Parts,
  context: Context,
  { cache, username }: Subject,
): Promise<Outcome<ShownCredential>> {
  return changeOne(parts, context, { cache, username }, async (found) => {
    if (found.value.primary) {
      return { ok: true, action: "credential.promote", after: found.value, changes: [] };
    }
    const changes: Change[] = [];
    for (const id of parts.view.primariesOf(found.value.cache)) {
      const other = await parts.state.get("credential", id);
      if (other?.value.primary !== true) continue;
      const demoted = { ...other.value, primary: false };
      changes.push({ kind: "credential", id, value: demoted, expected: other.revision });
    }
    const after = { ...found.value, primary: true };
    return { ok: true, action: "credential.promote", after, changes };
  });
}

/**
 * Makes a credential like it; the old one works until the overlap is over and then dies by itself
 * (see upkeep). A rotated primary hands that on, too. What has been rotated already is not rotated
 * again, so that repeating a request whose answer got lost makes no third one.
 */
export async function rotateCredential(
  parts: Parts,
  context: Context,
  { cache: nameOrId, username }: Subject,
  { overlapSeconds }: Rotation,
): Promise<Outcome<MadeCredential>> {
  const login = await loginFor(parts, {});
  return change(parts, context, async () => {
    const located = await locate(parts, context, { cache: nameOrId, username });
    if (!located.ok) return located;
    const { cache, found } = located;
    const { replacedBy } = found.value;
    if (replacedBy !== null) {
      const message = `${username} was rotated to ${replacedBy} already; rotate that, or delete it`;
      return conflict(message, found.revision);
    }
    const nowMs = parts.clock.unixMs();
    const endMs = nowMs + overlapSeconds * 1000;
    const expiresAtMs = Math.min(endMs, found.value.expiresAtMs ?? endMs);
    const old: Credential = {
      ...found.value,
      primary: false,
      expiresAtMs,
      replacedBy: login.username,
    };
    const expected = found.revision;
    const changes: Change[] =
      overlapSeconds > 0
        ? [{ kind: "credential", id: username, value: old, expected }]
        : [
            { kind: "credential", id: username, value: null, expected },
            ...usesOf(parts.view, username),
          ];
    const value: Credential = { ...found.value, digest: login.digest, createdAtMs: nowMs };
    const before = audited(username, found.value);
    const action = "credential.rotate";
    return decisionToMake(parts, { action, cache, login, value, changes, before });
  });
}

/** The last one only with force: after that nobody can use the cache until one is made. */
export async function deleteCredential(
  parts: Parts,
  context: Context,
  { cache: nameOrId, username }: Subject,
  { force = false }: { force?: boolean | undefined } = {},
): Promise<Outcome<ShownCredential>> {
  return change(parts, context, async () => {
    const located = await locate(parts, context, { cache: nameOrId, username });
    if (!located.ok) return located;
    return decisionToDelete(parts, located.found, { force, action: "credential.delete" });
  });
}

/** Deletes the credential if its time has come; otherwise nothing happens. */
export async function expireCredential(
  parts: Parts,
  context: Context,
  username: string,
): Promise<Outcome<ShownCredential>> {
  return change(parts, context, async () => {
    const found = await parts.state.get("credential", username);
    const endMs = found?.value.expiresAtMs ?? Number.POSITIVE_INFINITY;
    if (found === undefined || endMs > parts.clock.unixMs()) return noCredential(username);
    return decisionToDelete(parts, found, { force: true, action: "credential.expire" });
  });
}

/** Names the credential and the cache that it must belong to. */
export interface Subject {
  /** Name or id. */
  readonly cache: string;
  readonly username: string;
}

const noCredential = (username: string): Refused =>
  notFound(`there is no credential ${JSON.stringify(username)} in this cache`);

type Located =
  | { readonly ok: true; readonly cache: Entry<"cache">; readonly found: Entry<"credential"> }
  | Refused;

async function locate(parts: Parts, context: Context, subject: Subject): Promise<Located> {
  const cache = await findCache(parts, subject.cache);
  if (cache === undefined) return noCache(subject.cache);
  if (!usernameInput.safeParse(subject.username).success) return noCredential(subject.username);
  const found = await parts.state.get("credential", subject.username);
  if (found?.value.cache !== cache.id) return noCredential(subject.username);
  return outdated(context, found) ?? { ok: true, cache, found };
}

type Changed =
  | {
      readonly ok: true;
      readonly action: string;
      readonly after: Credential;
      readonly changes: Change[];
    }
  | Refused;

function changeOne(
  parts: Parts,
  context: Context,
  subject: Subject,
  decide: (found: Entry<"credential">) => Promise<Changed>,
): Promise<Outcome<ShownCredential>> {
  return change(parts, context, async () => {
    const located = await locate(parts, context, subject);
    if (!located.ok) return located;
    const { found } = located;
    const decided = await decide(found);
    if (!decided.ok) return decided;
    const { id, revision } = found;
    const value = decided.after;
    const isSame = JSON.stringify(value) === JSON.stringify(found.value);
    const changes: Change[] = isSame
      ? []
      : [...decided.changes, { kind: "credential", id, value, expected: revision }];
    return {
      ok: true,
      revision,
      changes,
      username: id,
      audit: {
        action: decided.action,
        cache: value.cache,
        subject: id,
        before: audited(id, found.value),
        after: audited(id, value),
      },
      value: (now) => shownCredential(parts.view, { id, value, revision: now }),
    };
  });
}

interface Making {
  readonly action: string;
  readonly cache: Entry<"cache">;
  readonly login: NewLogin;
  readonly value: Credential;
  readonly changes: readonly Change[];
  readonly before?: ReturnType<typeof audited>;
}

function decisionToMake(parts: Parts, making: Making): Decision<MadeCredential> {
  const { action, cache, login, value, changes, before } = making;
  const { username, password } = login;
  return {
    ok: true,
    revision: 0,
    username,
    changes: [...changes, { kind: "credential", id: username, value, expected: 0 }],
    audit: {
      action,
      cache: cache.id,
      subject: before?.username ?? username,
      before: before ?? null,
      after: audited(username, value),
    },
    value: (revision) => ({
      ...shownPart(parts.view, { id: username, value, revision }),
      cache: cache.value.name,
      password,
      env: {
        MEMCACHIER_SERVERS: serversOf(parts).join(","),
        MEMCACHIER_USERNAME: username,
        MEMCACHIER_PASSWORD: password,
      },
    }),
  };
}

/** Deleting the primary makes the oldest of the others primary, one that stays if there is one. */
async function decisionToDelete(
  parts: Parts,
  found: Entry<"credential">,
  { force, action }: { force: boolean; action: string },
): Promise<Decision<ShownCredential> | Refused> {
  const { id, value, revision } = found;
  const isAlone = parts.view.credentialCount(value.cache) <= 1;
  const heirEntry = value.primary ? await heirOf(parts, found) : undefined;
  const isLast = value.primary ? heirEntry === undefined : isAlone;
  if (isLast && !force) {
    return conflict(`${id} is the last credential of the cache; say force to delete it`, revision);
  }
  const changes: Change[] = [
    { kind: "credential", id, value: null, expected: revision },
    ...usesOf(parts.view, id),
  ];
  if (heirEntry !== undefined) {
    const promoted = { ...heirEntry.value, primary: true };
    const expected = heirEntry.revision;
    changes.push({ kind: "credential", id: heirEntry.id, value: promoted, expected });
  }
  const after = heirEntry === undefined ? null : { primary: heirEntry.id };
  return {
    ok: true,
    revision,
    changes,
    username: id,
    audit: { action, cache: value.cache, subject: id, before: audited(id, value), after },
    value: (now) => shownCredential(parts.view, { id, value, revision: now }),
  };
}

/** Asks the state: the view may show others that are gone. */
async function heirOf({ state, view }: Parts, primary: Entry<"credential">) {
  const others = view.credentialsOf(primary.value.cache).filter(({ id }) => id !== primary.id);
  for (const { id } of others.sort(byFitness)) {
    const entry = await state.get("credential", id);
    if (entry !== undefined) return entry;
  }
  return undefined;
}

function byFitness(a: Kept<KnownCredential>, b: Kept<KnownCredential>): number {
  const endOf = ({ value }: Kept<KnownCredential>) => value.expiresAtMs ?? Number.MAX_SAFE_INTEGER;
  return endOf(b) - endOf(a) || a.value.createdAtMs - b.value.createdAtMs;
}

/**
 * The first credential of a cache becomes primary. Two may be made at the same time: whoever makes
 * the first also writes the cache anew, so that the second sees a conflict and then the first.
 */
async function touchWhenFirst(
  { view }: Parts,
  { id, value, revision }: Entry<"cache">,
): Promise<Change[] | undefined> {
  await view.reached(revision);
  if (view.primariesOf(id).size > 0) return undefined;
  return [{ kind: "cache", id, value, expected: revision }];
}

export interface NewLogin {
  readonly username: string;
  readonly password: string;
  readonly digest: Digest;
}

async function loginFor(
  { secureBytes }: Parts,
  { username, password }: Pick<NewCredentialInput, "username" | "password">,
): Promise<NewLogin> {
  if (username === undefined || password === undefined) return newCredential(secureBytes);
  return { username, password, digest: await scryptDigestOf(password) };
}

/** What no single field's schema can tell. */
function problemsOf(
  { clock }: Pick<Parts, "clock">,
  input: { rights: readonly Right[]; keyPrefix?: string; expiresAt?: string | null },
): InputProblem[] {
  const problems: InputProblem[] = [];
  const endMs = momentMs(input.expiresAt ?? null);
  if (endMs !== null && endMs <= clock.unixMs()) {
    problems.push({ path: "expiresAt", message: "is in the past" });
  }
  if (input.rights.includes("api") && (input.keyPrefix ?? "") !== "") {
    const message = "not with a key prefix: it could make itself a credential without one";
    problems.push({ path: "rights", message });
  }
  return problems;
}

const momentMs = (text: string | null): number | null => (text === null ? null : Date.parse(text));

function inOrder(rights: readonly Right[]): Right[] {
  return RIGHTS.filter((right) => rights.includes(right));
}

function defined<T extends object>(input: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(input).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}
