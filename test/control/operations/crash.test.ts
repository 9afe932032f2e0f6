/**
 * Promise: a crash between any two writes of any operation leaves nothing half-made. Each operation
 * is killed before and after each of its commits; then control starts anew on the same state.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  changeCache,
  createCache,
  deleteCache,
  flushCache,
  resetStats,
} from "../../../control/operations/caches.ts";
import {
  changeCredential,
  createCredential,
  deleteCredential,
  promoteCredential,
  rotateCredential,
} from "../../../control/operations/credentials.ts";
import { createToken, deleteToken } from "../../../control/operations/tokens.ts";
import { prepareOperatorToken } from "../../../control/token.ts";
import { expireDue, tidy } from "../../../control/upkeep.ts";
import type { Change, ClusterState, Seen } from "../../../core/cluster/state.ts";
import { type Desk, OPERATOR, openDesk, resultOf } from "./desk.ts";

const CREDENTIAL_COUNT = 230;
const COMMIT_COUNT_MAX = 10;
class Crash extends Error {}

type Killer = { when: "before" | "after"; commitsLeft: number };

/** The process dies before or after its n-th commit; after that nothing is written any more. */
function killing(killer: Killer): (state: ClusterState) => ClusterState {
  return (state) => {
    const commit = async (changes: readonly Change[]) => {
      killer.commitsLeft--;
      if (killer.commitsLeft < 0) throw new Crash();
      if (killer.commitsLeft === 0 && killer.when === "before") throw new Crash();
      const result = await state.commit(changes);
      if (killer.commitsLeft === 0) throw new Crash();
      return result;
    };
    return new Proxy(state, {
      get: (target, name) => {
        if (name === "commit") return commit;
        const value = Reflect.get(target, name) as unknown;
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  };
}

/** A cache with many credentials, of which the first is primary, and one that has expired. */
async function furnish(desk: Desk): Promise<{ first: string; second: string; tokenId: string }> {
  const cache = resultOf(await createCache(desk, OPERATOR, { name: "shop", plan: "25mb" }));
  const first = resultOf(await createCredential(desk, OPERATOR, "shop", {}));
  const second = resultOf(await createCredential(desk, OPERATOR, "shop", {}));
  const entry = await desk.state.get("credential", second.username);
  if (entry === undefined) throw new Error("it was just made");
  for (let made = 0; made < CREDENTIAL_COUNT; made += 100) {
    await desk.state.commit([
      ...Array.from({ length: 100 }, (_, index) => ({
        kind: "credential" as const,
        id: `user-${made + index}`,
        value: entry.value,
      })),
      auditOf(cache.id),
    ]);
  }
  const expired = { ...entry.value, expiresAtMs: 1 };
  const commit = await desk.state.commit([
    { kind: "credential", id: "expired", value: expired },
    auditOf(cache.id),
  ]);
  await desk.view.reached(commit.ok ? commit.revision : 0);
  const owner = resultOf(await createToken(desk, OPERATOR, { name: "a", role: "owner" }));
  resultOf(await createToken(desk, OPERATOR, { name: "b", role: "owner" }));
  return { first: first.username, second: second.username, tokenId: owner.id };
}

let audits = 0;
function auditOf(cache: string) {
  const value = { atMs: 0, actor: "", from: "", action: "setup", cache, subject: "" };
  return {
    kind: "audit" as const,
    id: `0-${audits++}`,
    value: { ...value, before: null, after: null },
  };
}

type Furniture = Awaited<ReturnType<typeof furnish>>;
const OPERATIONS: Record<string, (desk: Desk, it: Furniture) => Promise<unknown>> = {
  "making a cache": (desk) => createCache(desk, OPERATOR, { name: "new", plan: "1gb" }),
  "changing a cache": (desk) => changeCache(desk, OPERATOR, "shop", { plan: "1gb" }),
  "flushing a cache": (desk) => flushCache(desk, OPERATOR, "shop"),
  "resetting statistics": (desk) => resetStats(desk, OPERATOR, "shop"),
  "deleting a cache with its credentials": (desk) => deleteCache(desk, OPERATOR, "shop"),
  "making a credential": (desk) => createCredential(desk, OPERATOR, "shop", {}),
  "changing a credential": (desk, { first }) =>
    changeCredential(desk, OPERATOR, { cache: "shop", username: first }, { label: "new" }),
  "promoting a credential": (desk, { second }) =>
    promoteCredential(desk, OPERATOR, { cache: "shop", username: second }),
  "rotating the primary credential": (desk, { first }) =>
    rotateCredential(desk, OPERATOR, { cache: "shop", username: first }, { overlapSeconds: 60 }),
  "rotating it without overlap": (desk, { first }) =>
    rotateCredential(desk, OPERATOR, { cache: "shop", username: first }, { overlapSeconds: 0 }),
  "deleting the primary credential": (desk, { first }) =>
    deleteCredential(desk, OPERATOR, { cache: "shop", username: first }),
  "the end of an expired credential": (desk) => expireDue(desk),
  "making a token": (desk) => createToken(desk, OPERATOR, { name: "c", role: "viewer" }),
  "deleting an owner's token": (desk, { tokenId }) => deleteToken(desk, OPERATOR, tokenId),
};

test.each(Object.entries(OPERATIONS))("%s, killed at each write", async (_, run) => {
  for (const when of ["before", "after"] as const) {
    let isDone = false;
    for (let count = 1; !isDone; count++) {
      expect(count).toBeLessThan(COMMIT_COUNT_MAX);
      const killer = { when, commitsLeft: Number.POSITIVE_INFINITY };
      const desk = await openDesk({ wrap: killing(killer) });
      const furniture = await furnish(desk);
      killer.commitsLeft = count;
      isDone = await run(desk, furniture).then(() => true, isCrash);
      await desk.close();
      await expectConvergence(desk.path);
    }
  }
});

test("the first owner's token, killed at each write", async () => {
  for (const when of ["before", "after"] as const) {
    const dataDir = mkdtempSync(join(tmpdir(), "memward-token-"));
    const killer = { when, commitsLeft: 1 };
    const desk = await openDesk({ wrap: killing(killer) });
    await expect(prepareOperatorToken(desk, dataDir)).rejects.toThrow(Crash);
    await desk.close();
    const again = await openDesk({ path: desk.path });
    const { did } = await prepareOperatorToken(again, dataDir);
    expect(did).toBe(when === "before" ? "made" : "finished");
    expect((await again.state.list("token")).entries).toHaveLength(1);
    await again.close();
  }
});

function isCrash(error: unknown): false {
  if (!(error instanceof Crash)) throw error;
  return false;
}

/** Control starts again, does its upkeep, and everything is as it has to be. */
async function expectConvergence(path: string): Promise<void> {
  const desk = await openDesk({ path });
  const { state } = desk;
  await tidy(desk);
  await expireDue(desk);
  const caches = (await state.list("cache")).entries;
  const credentials = (await state.list("credential")).entries;
  const names = (await state.list("cacheName")).entries;
  expect(names.map(({ id, value }) => `${id} ${value.cache}`).sort()).toEqual(
    caches.map(({ id, value }) => `${value.name} ${id}`).sort(),
  );
  const ids = new Set(caches.map(({ id }) => id));
  expect(credentials.filter(({ value }) => !ids.has(value.cache))).toEqual([]);
  for (const { id } of caches) {
    const own = credentials.filter(({ value }) => value.cache === id);
    const primaries = own.filter(({ value }) => value.primary);
    expect(primaries).toHaveLength(own.length > 0 ? 1 : 0);
  }
  expect(credentials.filter(({ id }) => id === "expired")).toEqual([]);
  const owners = (await state.list("token")).entries.filter(({ value }) => value.role === "owner");
  expect(owners.length).toBeGreaterThan(0);
  expect(await changesWithoutAudit(state)).toEqual([]);
  await desk.close();
}

/** Every revision that changed something somebody answers for has its audit record. */
async function changesWithoutAudit(state: ClusterState): Promise<string[]> {
  const newest = (await state.list("cache")).revision;
  const revisions: Seen[][] = [];
  await new Promise<void>((resolve) => {
    const watch = state.watch(0, {
      changed: (seen, revision) => {
        revisions.push(seen);
        if (revision < newest) return;
        watch.close();
        resolve();
      },
    });
  });
  const answered = ["cache", "cacheName", "credential", "token"];
  const silent = revisions.filter((seen) => !seen.some(({ kind }) => kind === "audit"));
  return silent
    .flat()
    .flatMap(({ kind, id }) => (answered.includes(kind) ? [`${kind} ${id}`] : []));
}
