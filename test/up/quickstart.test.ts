/** The first start: state and default.env agree after any order of crashes, edits and deletions. */
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { verify } from "../../core/cluster/credentials.ts";
import { openSqliteState } from "../../core/cluster/sqlite.ts";
import type { ClusterState } from "../../core/cluster/state.ts";
import { envLines, type Login, prepareQuickstart, readLogin } from "../../up/quickstart.ts";

const MB = 1024 ** 2;
const SERVERS = "127.0.0.1:11211";
let dataDir = "";
let state: ClusterState;
const env = () => join(dataDir, "default.env");

beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "memward-quickstart-"));
  state = openSqliteState({ path: join(dataDir, "state.db") });
});
afterEach(async () => {
  await state.close();
  rmSync(dataDir, { recursive: true });
});

const prepare = (options: { servers?: string; bytes?: number } = {}) =>
  prepareQuickstart(state, { dataDir, bytes: 100 * MB, servers: SERVERS, ...options });

async function worksInState({ username, password }: Login): Promise<boolean> {
  const entry = await state.get("credential", username);
  return verify(entry?.value.digest, Buffer.from(password));
}

/** What must be true after every start, whatever happened before. */
async function expectAgreement(): Promise<Login> {
  const login = readLogin(env());
  if (login === undefined) throw new Error("no default.env");
  expect(await worksInState(login)).toBe(true);
  expect(statSync(env()).mode & 0o777).toBe(0o600);
  expect(existsSync(join(dataDir, "default.env.new"))).toBe(false);
  const caches = (await state.list("cache")).entries.filter(
    ({ value }) => value.name === "default",
  );
  expect(caches).toHaveLength(1);
  const credentials = (await state.list("credential")).entries;
  expect(credentials.filter(({ value }) => value.primary)).toHaveLength(1);
  return login;
}

test("the first start makes cache and credential in one commit, and three lines", async () => {
  const { did } = await prepare();
  expect(did).toBe("made");
  const { username, password } = await expectAgreement();
  expect(readFileSync(env(), "utf8")).toBe(
    `MEMCACHIER_SERVERS=${SERVERS}\nMEMCACHIER_USERNAME=${username}\nMEMCACHIER_PASSWORD=${password}\n`,
  );
  const cache = (await state.list("cache")).entries[0];
  const credential = await state.get("credential", username);
  expect(cache?.value.bytes).toBe(100 * MB);
  expect(credential?.value.rights).toEqual(["read", "write", "flush", "api"]);
  expect(credential?.revision).toBe(cache?.revision);
});

test("the state never holds the password", async () => {
  const { login } = await prepare();
  await state.close();
  for (const file of ["state.db", "state.db-wal"]) {
    const path = join(dataDir, file);
    if (existsSync(path)) expect(readFileSync(path).includes(login.password)).toBe(false);
  }
  state = openSqliteState({ path: join(dataDir, "state.db") });
});

describe("a later start", () => {
  test("keeps the login and changes nothing", async () => {
    const { login } = await prepare();
    const { revision } = await state.list("cache");
    const again = await prepare();
    expect(again).toMatchObject({ did: "kept", login });
    expect((await state.list("cache")).revision).toBe(revision);
  });

  test("follows --listen and keeps username and password", async () => {
    const { login } = await prepare();
    const again = await prepare({ servers: "127.0.0.1:1,[::1]:2" });
    expect(again.did).toBe("refreshed");
    expect(await expectAgreement()).toEqual({ ...login, servers: "127.0.0.1:1,[::1]:2" });
  });

  test("follows --memory and keeps the cache", async () => {
    const { cacheId, login } = await prepare();
    const again = await prepare({ bytes: 200 * MB });
    expect(again).toMatchObject({ did: "kept", cacheId, login });
    expect((await state.get("cache", cacheId))?.value.bytes).toBe(200 * MB);
  });
});

describe("after a crash", () => {
  test("before the commit: the file that was begun is worthless and is made anew", async () => {
    const lost = { servers: SERVERS, username: "aaaaaaaaaaaa", password: "b".repeat(32) };
    writeFileSync(join(dataDir, "default.env.new"), envLines(lost));
    expect((await prepare()).did).toBe("made");
    expect((await expectAgreement()).username).not.toBe(lost.username);
  });

  test("between commit and rename: the same credential is finished, not another one", async () => {
    const { login } = await prepare();
    renameSync(env(), join(dataDir, "default.env.new")); // As if the rename had not happened.
    expect((await prepare()).did).toBe("finished");
    expect(await expectAgreement()).toEqual(login);
    expect((await state.list("credential")).entries).toHaveLength(1);
  });

  test("with half a file: a new credential replaces the lost one, which keeps working", async () => {
    const { login } = await prepare();
    writeFileSync(env(), readFileSync(env(), "utf8").slice(0, 60));
    expect((await prepare()).did).toBe("replaced");
    expect((await expectAgreement()).username).not.toBe(login.username);
    expect(await worksInState(login)).toBe(true);
  });
});

describe("after its owner", () => {
  test("deleted the file: a new credential, the old one still works for who has it", async () => {
    const { login } = await prepare();
    rmSync(env());
    expect((await prepare()).did).toBe("replaced");
    await expectAgreement();
    expect(await worksInState(login)).toBe(true);
  });

  test("revoked the credential: the file cannot bring it back", async () => {
    const { login } = await prepare();
    await state.commit([{ kind: "credential", id: login.username, value: null }]);
    expect((await prepare()).did).toBe("replaced");
    await expectAgreement();
    expect(await worksInState(login)).toBe(false);
  });

  test("deleted the state: the lines that applications carry work again", async () => {
    const { login } = await prepare();
    await state.close();
    for (const file of ["state.db", "state.db-wal", "state.db-shm"]) {
      rmSync(join(dataDir, file), { force: true });
    }
    state = openSqliteState({ path: join(dataDir, "state.db") });
    expect((await prepare()).did).toBe("adopted");
    expect(await expectAgreement()).toEqual(login);
  });

  test("wrote a password of his own into the file of a new state: it is not taken", async () => {
    const weak = { servers: SERVERS, username: "me", password: "secret" };
    writeFileSync(env(), envLines(weak));
    expect((await prepare()).did).toBe("made");
    expect((await expectAgreement()).username).not.toBe("me");
  });
});
