/**
 * Removes what outlived its owner: credentials of a cache that is gone, records about the use of a
 * credential that is gone. In commits of bounded size, each complete in itself: a crash between
 * two of them leaves orphans that the next run of any control process removes.
 */
import type { Change } from "../../core/cluster/state.ts";
import { firstOf } from "../view.ts";
import { auditChange, type Context, OWN_CHANGES_MAX, type Parts } from "./change.ts";
import { conflict, done, type Outcome, whenReachable } from "./outcome.ts";

const ATTEMPT_COUNT_MAX = 5;

/** Deletes all credentials of a cache that is gone, with an audit record for each commit. */
export async function removeOrphans(
  parts: Parts,
  context: Pick<Context, "actor" | "from">,
  cacheId: string,
): Promise<Outcome<number>> {
  return whenReachable(async () => {
    const { state, view } = parts;
    let count = 0;
    let revision = 0;
    let failures = 0;
    for (;;) {
      const usernames = firstOf(view.usernamesOf(cacheId), OWN_CHANGES_MAX);
      if (usernames.length === 0) return done(count, revision);
      // The view may be behind: nothing is deleted that has an owner.
      const owner = await state.get("cache", cacheId);
      if (owner !== undefined) return conflict(`${cacheId} is not gone`, owner.revision);
      const commit = await state.commit([
        ...usernames.map((id) => ({ kind: "credential", id, value: null }) as const),
        auditChange(parts, context, {
          action: "credential.deleteWithCache",
          cache: cacheId,
          subject: cacheId,
          before: { credentials: usernames },
          after: null,
        }),
      ]);
      if (!commit.ok && ++failures >= ATTEMPT_COUNT_MAX) {
        return conflict(`${cacheId} is being changed`, 0);
      }
      if (!commit.ok) continue;
      count += usernames.length;
      revision = commit.revision;
      await view.reached(revision);
    }
  });
}

/** Caches that are gone and have credentials left. */
export function orphanedCaches({ view }: Pick<Parts, "view">): string[] {
  return [...view.cachesWithCredentials()].filter((cacheId) => !view.caches.has(cacheId));
}

/**
 * Proxies may write a last use after its credential is gone. Nobody reads it, so nobody is told:
 * no audit record. Resolves with how many were removed.
 */
export async function removeStaleUses({ state, view }: Pick<Parts, "state" | "view">) {
  const stale: Change[] = [];
  for (const username of view.usedUsernames()) {
    if (view.credentials.has(username)) continue;
    if ((await state.get("credential", username)) !== undefined) continue;
    stale.push(...usesOf(view, username));
    if (stale.length >= OWN_CHANGES_MAX) break;
  }
  const changes = stale.slice(0, OWN_CHANGES_MAX);
  if (changes.length === 0) return 0;
  const commit = await state.commit(changes);
  if (!commit.ok) return 0;
  await view.reached(commit.revision);
  return changes.length;
}

/** Deletes what is known about the use of a credential. */
export function usesOf(view: Parts["view"], username: string): Change[] {
  return [...view.lastUseOf(username).keys()].map((proxy) => ({
    kind: "lastUse",
    id: `${username}/${proxy}`,
    value: null,
  }));
}
