/** Logins of a cache: made, imported, rotated, promoted, expired, deleted; never a secret kept. */
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createCache } from "../../../control/operations/caches.ts";
import type { NewCredentialInput } from "../../../control/operations/credential-shapes.ts";
import {
  changeCredential,
  createCredential,
  deleteCredential,
  listCredentials,
  promoteCredential,
  rotateCredential,
  showCredential,
} from "../../../control/operations/credentials.ts";
import { expireDue, tidy } from "../../../control/upkeep.ts";
import { verify, verifyScrypt } from "../../../core/cluster/credentials.ts";
import { actionsOf, type Desk, OPERATOR, openDesk, problemOf, resultOf } from "./desk.ts";

let desk: Desk;
let cacheId = "";
beforeEach(async () => {
  desk = await openDesk();
  cacheId = resultOf(await createCache(desk, OPERATOR, { name: "shop", plan: "25mb" })).id;
});
afterEach(() => desk.close());

const make = async (input: NewCredentialInput = {}) =>
  resultOf(await createCredential(desk, OPERATOR, "shop", input));
const of = (username: string) => ({ cache: "shop", username });
const shown = (username: string) => resultOf(showCredential(desk, "shop", username));
const list = () => resultOf(listCredentials(desk, "shop")).credentials;
const primaries = () => list().flatMap(({ primary, username }) => (primary ? [username] : []));
const inMs = (ms: number) => new Date(desk.clock.unixMs() + ms).toISOString();

async function worksFor(username: string, password: string): Promise<boolean> {
  return verify(
    (await desk.state.get("credential", username))?.value.digest,
    Buffer.from(password),
  );
}

test("a credential works, and only its digest is kept", async () => {
  const made = await make({ label: "web", rights: ["write", "read"], keyPrefix: "web:" });
  expect(made).toMatchObject({ label: "web", rights: ["read", "write"], keyPrefix: "web:" });
  expect(made.env).toEqual({
    MEMCACHIER_SERVERS: "cache.example:11211",
    MEMCACHIER_USERNAME: made.username,
    MEMCACHIER_PASSWORD: made.password,
  });
  expect(await worksFor(made.username, made.password)).toBe(true);
  expect(readFileSync(`${desk.path}-wal`).includes(made.password)).toBe(false);
  expect(JSON.stringify(list())).not.toContain(made.password);
});

test("the first credential is primary, the next ones are not", async () => {
  const first = await make();
  const second = await make();
  expect([first.primary, second.primary]).toEqual([true, false]);
});

test("of several first ones at the same time exactly one is primary", async () => {
  const other = await openDesk({ path: desk.path });
  const outcomes = await Promise.all(
    [desk, other, desk, other].map((one) => createCredential(one, OPERATOR, "shop", {})),
  );
  outcomes.map(resultOf);
  await desk.view.reached((await desk.state.list("cache")).revision);
  expect(list()).toHaveLength(4);
  expect(primaries()).toHaveLength(1);
  await other.close();
});

describe("an imported login", () => {
  const login = { username: "legacy.user", password: "correct-horse-battery" };

  test("works as it did", async () => {
    const made = await make(login);
    expect(made).toMatchObject(login);
    const digest = (await desk.state.get("credential", login.username))?.value.digest;
    if (digest?.algorithm !== "scrypt") throw new Error("people chose it: it has to be slow");
    expect(await verifyScrypt(digest, Buffer.from(login.password))).toBe(true);
    expect(await actionsOf(desk)).toContain("credential.import");
  });

  test("needs both halves, and a username nobody has", async () => {
    const half = await createCredential(desk, OPERATOR, "shop", { password: "long-enough" });
    expect(problemOf(half)).toMatchObject({ kind: "invalid", problems: [{ path: "username" }] });
    await make(login);
    const again = await createCredential(desk, OPERATOR, "shop", login);
    expect(problemOf(again)).toMatchObject({ kind: "conflict" });
  });
});

test("every problem is told at once", async () => {
  const input = { expiresAt: inMs(-1000), rights: ["api" as const], keyPrefix: "web:" };
  const problem = problemOf(await createCredential(desk, OPERATOR, "shop", input));
  expect(problem.kind === "invalid" && problem.problems.map(({ path }) => path)).toEqual([
    "expiresAt",
    "rights",
  ]);
});

test("rights, label, expiry and networks change; a prefix cannot get the right api", async () => {
  const { username } = await make();
  const change = { rights: ["read" as const], label: "cron", networks: ["10.0.0.0/8"] };
  const changed = resultOf(await changeCredential(desk, OPERATOR, of(username), change));
  expect(changed).toMatchObject(change);
  const prefixed = await make({ keyPrefix: "a:" });
  const wish = { rights: ["api" as const] };
  const outcome = await changeCredential(desk, OPERATOR, of(prefixed.username), wish);
  expect(problemOf(outcome)).toMatchObject({ kind: "invalid" });
});

test("a credential of another cache is not there", async () => {
  resultOf(await createCache(desk, OPERATOR, { name: "other", plan: "25mb" }));
  const { username } = await make();
  const elsewhere = { cache: "other", username };
  const outcomes = [
    await changeCredential(desk, OPERATOR, elsewhere, { label: "mine" }),
    await promoteCredential(desk, OPERATOR, elsewhere),
    await rotateCredential(desk, OPERATOR, elsewhere, { overlapSeconds: 0 }),
    await deleteCredential(desk, OPERATOR, elsewhere, { force: true }),
    showCredential(desk, "other", username),
  ];
  for (const outcome of outcomes) expect(problemOf(outcome)).toMatchObject({ kind: "notFound" });
});

test("promoting moves the primary in one commit", async () => {
  await make();
  const second = await make();
  resultOf(await promoteCredential(desk, OPERATOR, of(second.username)));
  expect(primaries()).toEqual([second.username]);
});

describe("rotation", () => {
  test("makes one like it and lets the old one live for the overlap", async () => {
    const old = await make({ rights: ["read", "flush"], networks: ["10.0.0.0/8"], label: "web" });
    const options = { overlapSeconds: 60 };
    const made = resultOf(await rotateCredential(desk, OPERATOR, of(old.username), options));
    expect(made).toMatchObject({ label: "web", rights: ["read", "flush"], expiresAt: null });
    expect(primaries()).toEqual([made.username]);
    expect(shown(old.username)).toMatchObject({ replacedBy: made.username });
    expect(await worksFor(old.username, old.password)).toBe(true);
    expect(await worksFor(made.username, made.password)).toBe(true);

    desk.pass(59_000);
    await expireDue(desk);
    expect(list()).toHaveLength(2);
    desk.pass(2_000);
    await expireDue(desk);
    expect(list().map(({ username }) => username)).toEqual([made.username]);
    expect(await actionsOf(desk)).toEqual([
      "cache.create",
      "credential.create",
      "credential.rotate",
      "credential.expire",
    ]);
  });

  test("without overlap the old one is gone at once", async () => {
    const old = await make();
    resultOf(await rotateCredential(desk, OPERATOR, of(old.username), { overlapSeconds: 0 }));
    expect(list()).toHaveLength(1);
    expect(await worksFor(old.username, old.password)).toBe(false);
  });

  test("twice of the same credential is refused and names the new one", async () => {
    const old = await make();
    const options = { overlapSeconds: 60 };
    const made = resultOf(await rotateCredential(desk, OPERATOR, of(old.username), options));
    const again = problemOf(await rotateCredential(desk, OPERATOR, of(old.username), options));
    expect(again).toMatchObject({ kind: "conflict" });
    expect(JSON.stringify(again)).toContain(made.username);
    expect(list()).toHaveLength(2);
  });

  test("keeps an expiry that it had", async () => {
    const expiresAt = inMs(3_600_000);
    const old = await make({ expiresAt });
    const options = { overlapSeconds: 7200 };
    const made = resultOf(await rotateCredential(desk, OPERATOR, of(old.username), options));
    expect(made.expiresAt).toBe(expiresAt);
    expect(shown(old.username).expiresAt).toBe(expiresAt);
  });

  test("is taken back by lifting the old one's expiry", async () => {
    const old = await make();
    const options = { overlapSeconds: 60 };
    resultOf(await rotateCredential(desk, OPERATOR, of(old.username), options));
    resultOf(await changeCredential(desk, OPERATOR, of(old.username), { expiresAt: null }));
    expect(shown(old.username)).toMatchObject({ expiresAt: null, replacedBy: null });
  });
});

describe("deleting", () => {
  test("the last one needs force", async () => {
    const { username } = await make();
    const problem = problemOf(await deleteCredential(desk, OPERATOR, of(username)));
    expect(problem).toMatchObject({ kind: "conflict" });
    resultOf(await deleteCredential(desk, OPERATOR, of(username), { force: true }));
    expect(list()).toEqual([]);
  });

  test("the primary hands it to the oldest that stays", async () => {
    const first = await make();
    await make({ expiresAt: inMs(1000) });
    const third = await make();
    desk.pass(1);
    await make();
    resultOf(await deleteCredential(desk, OPERATOR, of(first.username)));
    expect(primaries()).toEqual([third.username]);
  });

  test("two of two at the same time leave one", async () => {
    const [one, two] = [await make(), await make()];
    const other = await openDesk({ path: desk.path });
    const outcomes = await Promise.all([
      deleteCredential(desk, OPERATOR, of(one.username)),
      deleteCredential(other, OPERATOR, of(two.username)),
    ]);
    expect(outcomes.filter(({ ok }) => ok)).toHaveLength(1);
    expect((await desk.state.list("credential")).entries).toHaveLength(1);
    await other.close();
  });
});

test("who still uses a credential is known from proxies that live", async () => {
  const { username } = await make();
  const proxy = { pid: 1, addresses: [], ready: true, appliedRevision: 0, startedAtMs: 100 };
  const use = { cache: cacheId, lastUsedAtMs: 5000, sessions: 2 };
  const addresses = [{ address: "10.1.1.1", sessions: 2 }];
  const commit = await desk.state.commit([
    { kind: "proxy", id: "proxy-1", value: proxy },
    { kind: "lastUse", id: `${username}/proxy-1`, value: { ...use, startedAtMs: 100, addresses } },
    {
      kind: "lastUse",
      id: `${username}/proxy-2`,
      value: { ...use, lastUsedAtMs: 9000, startedAtMs: 50, addresses },
    },
  ]);
  await desk.view.reached(commit.ok ? commit.revision : 0);
  expect(shown(username)).toMatchObject({
    lastUsedAt: "1970-01-01T00:00:09.000Z",
    sessions: 2,
    addresses,
  });
});

test("what proxies wrote about a credential goes with it, also when they write late", async () => {
  const first = await make();
  await make();
  resultOf(await deleteCredential(desk, OPERATOR, of(first.username)));
  const value = { cache: cacheId, lastUsedAtMs: 1, startedAtMs: 1, sessions: 0, addresses: [] };
  const id = `${first.username}/proxy-1`;
  const commit = await desk.state.commit([{ kind: "lastUse", id, value }]);
  await desk.view.reached(commit.ok ? commit.revision : 0);
  await tidy(desk);
  expect((await desk.state.list("lastUse")).entries).toEqual([]);
});
