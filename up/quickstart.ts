/**
 * What makes the first start useful: the cache `default`, a credential with all rights, and
 * `default.env` with the three lines an application needs. The file is made once and kept. The
 * order (temporary file, commit, rename) leaves after any crash either nothing or a file beside
 * the credential it belongs to, and the next start finishes the rest.
 */
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { digestOf, newCredential, verify } from "../core/cluster/credentials.ts";
import { RIGHTS } from "../core/cluster/records.ts";
import type { Change, ClusterState, Entry } from "../core/cluster/state.ts";
import { clock } from "../core/runtime/clock.ts";
import { reachableAddress } from "../core/runtime/config.ts";
import { readSmallFile, replaceFile, writePrivateFile } from "../core/runtime/files.ts";
import { secureBytes } from "../core/runtime/random.ts";

export const DEFAULT_CACHE = "default";
/** While the cache has this plan, `--memory` decides its size; afterwards the admin API does. */
export const QUICKSTART_PLAN = "quickstart";
const LABEL = "default.env";
const ATTEMPT_COUNT_MAX = 5;
/** A password found in a file without its credential is taken only if it looks like ours. */
const ADOPTED_PASSWORD = /^[a-z2-9]{32}$/;
const ADOPTED_USERNAME = /^[a-z2-9]{12}$/;

export interface Login {
  servers: string;
  username: string;
  password: string;
}
export interface Quickstart {
  cacheId: string;
  login: Login;
  path: string;
  /** What was done, for the log: nothing secret. */
  did: "made" | "kept" | "refreshed" | "finished" | "adopted" | "replaced";
}

/** Brings state and file into agreement. Run again after a crash it ends at the same place. */
export async function prepareQuickstart(
  state: ClusterState,
  { dataDir, bytes, servers }: { dataDir: string; bytes: number; servers: string },
): Promise<Quickstart> {
  const path = join(dataDir, "default.env");
  const temporary = join(dataDir, "default.env.new");
  for (let attempt = 1; attempt <= ATTEMPT_COUNT_MAX; attempt++) {
    const found = await look(state, { path, temporary });
    const plan = decide(found);
    const { username, password } = plan.login;
    const login: Login = { servers, username, password };
    const changes = changesFor(found, { ...plan, login }, bytes);
    const moved = plan.did !== "kept" || found.kept?.servers !== servers;
    if (moved) writePrivateFile(temporary, envLines(login));
    if (changes.length > 0) {
      const commit = await state.commit(changes);
      if (!commit.ok && commit.reason === "conflict") continue; // Somebody else was faster: look again.
      if (!commit.ok) throw new Error(`cache ${DEFAULT_CACHE}: ${commit.problems.join("; ")}`);
    }
    if (moved) {
      replaceFile(temporary, path);
    } else {
      rmSync(temporary, { force: true });
      chmodSync(path, 0o600);
    }
    const did = plan.did === "kept" && moved ? "refreshed" : plan.did;
    const cacheId = found.cache?.id ?? plan.cacheId;
    return { cacheId, login, path, did };
  }
  throw new Error(`cache ${DEFAULT_CACHE}: changed by others ${ATTEMPT_COUNT_MAX} times in a row`);
}

interface Found {
  cache: Entry<"cache"> | undefined;
  /** Credentials of the cache that were made for this file, by username. */
  credentials: Map<string, Entry<"credential">>;
  kept: Login | undefined;
  begun: Login | undefined;
}
interface Plan {
  did: Quickstart["did"];
  cacheId: string;
  login: { username: string; password: string };
}

async function look(
  state: ClusterState,
  { path, temporary }: { path: string; temporary: string },
): Promise<Found> {
  const cache = (await state.list("cache")).entries.find(
    (entry) => entry.value.name === DEFAULT_CACHE,
  );
  const credentials = (await state.list("credential")).entries.filter(
    (entry) => entry.value.cache === cache?.id,
  );
  return {
    cache,
    credentials: new Map(credentials.map((entry) => [entry.id, entry])),
    kept: readLogin(path),
    begun: readLogin(temporary),
  };
}

/** Pure: from what is there to what has to be. */
function decide({ cache, credentials, kept, begun }: Found): Plan {
  const cacheId = cache?.id ?? cacheName();
  const works = ({ username, password }: Login): boolean =>
    verify(credentials.get(username)?.value.digest, Buffer.from(password));
  if (kept !== undefined && works(kept)) return { did: "kept", cacheId, login: kept };
  if (begun !== undefined && works(begun)) return { did: "finished", cacheId, login: begun };
  // The state is new (deleted by its owner) but applications still carry the old lines.
  const adoptable =
    cache === undefined &&
    kept !== undefined &&
    ADOPTED_USERNAME.test(kept.username) &&
    ADOPTED_PASSWORD.test(kept.password);
  if (adoptable) return { did: "adopted", cacheId, login: kept };
  return { did: cache === undefined ? "made" : "replaced", cacheId, login: newCredential() };
}

function changesFor(found: Found, { did, cacheId, login }: Plan, bytes: number): Change[] {
  const changes: Change[] = [];
  const { cache } = found;
  const createdAtMs = clock.unixMs();
  if (cache === undefined) {
    const value = { name: DEFAULT_CACHE, plan: QUICKSTART_PLAN, bytes, createdAtMs };
    changes.push({ kind: "cacheName", id: DEFAULT_CACHE, value: { cache: cacheId } });
    changes.push({ kind: "cache", id: cacheId, expected: 0, value });
  } else if (cache.value.bytes !== bytes && cache.value.plan === QUICKSTART_PLAN) {
    const value = { ...cache.value, bytes };
    changes.push({ kind: "cache", id: cache.id, expected: cache.revision, value });
  }
  if (did === "kept" || did === "finished") return changes;
  for (const { id, value, revision } of found.credentials.values()) {
    if (!value.primary) continue;
    const demoted = { ...value, primary: false };
    changes.push({ kind: "credential", id, expected: revision, value: demoted });
  }
  changes.push({
    kind: "credential",
    id: login.username,
    expected: 0,
    value: {
      cache: cacheId,
      digest: digestOf(login.password),
      rights: [...RIGHTS],
      primary: true,
      label: LABEL,
      createdAtMs,
    },
  });
  return changes;
}

/** The three lines, ready to paste. */
export function envLines({ servers, username, password }: Login): string {
  const rows = [
    ["MEMCACHIER_SERVERS", servers],
    ["MEMCACHIER_USERNAME", username],
    ["MEMCACHIER_PASSWORD", password],
  ];
  return rows.map(([name, value]) => `${name}=${value}\n`).join("");
}

/** Undefined when the file is missing, unreadable as ours, or incomplete. */
export function readLogin(path: string): Login | undefined {
  const text = readSmallFile(path);
  if (text === undefined) return undefined;
  const value = (name: string) =>
    new RegExp(`^\\s*(?:export\\s+)?${name}=(["']?)(.+?)\\1\\s*$`, "m").exec(text)?.[2];
  const servers = value("MEMCACHIER_SERVERS");
  const username = value("MEMCACHIER_USERNAME");
  const password = value("MEMCACHIER_PASSWORD");
  if (servers === undefined || username === undefined || password === undefined) return undefined;
  return { servers, username, password };
}

/** Addresses as an application writes them. */
export function serversText(addresses: readonly string[]): string {
  return addresses.map(reachableAddress).join(",");
}

/** Ids are random, so that a cache deleted and made again is another cache. */
function cacheName(): string {
  return `c${Buffer.from(secureBytes(6)).toString("hex")}`;
}
