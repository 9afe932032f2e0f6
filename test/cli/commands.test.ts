/** The commands of the admin API against scripted answers: what is asked, shown, and returned. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { Api, findToken } from "../../cli/api.ts";
import { RIGHT_WORDS } from "../../cli/credentials.ts";
import { ROLE_WORDS } from "../../cli/tokens.ts";
import { OPERATOR_ROLES, RIGHTS } from "../../core/cluster/records.ts";
import { FakeApi, type Ran, run } from "./fakeApi.ts";

const TOKEN = "mwt_abcdefghijkm_abcdefghijkmnpqrstuvwxyz23456789";
const folder = mkdtempSync(join(tmpdir(), "memward-cli-"));
const api = new FakeApi();
beforeAll(() => api.start());
afterAll(async () => {
  await api.stop();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  api.asked.length = 0;
  api.says = [{ body: {} }];
  vi.unstubAllEnvs();
  vi.stubEnv("MEMWARD_TOKEN", TOKEN);
  vi.stubEnv("MEMWARD_CONTROL", api.url);
});
afterAll(() => vi.unstubAllEnvs());

const memward = (line: string): Promise<Ran> => run(line.split(" "));

const CACHE = {
  id: "c0123456789ab",
  name: "app",
  plan: "100mb",
  bytes: 100 * 1024 ** 2,
  limits: {
    sessionsMax: 500,
    newSessionsPerSecondMax: 100,
    operationsPerSecondMax: null,
    valueSizeMax: 1024 ** 2,
  },
  policies: { unansweredRead: "miss" },
  enabled: true,
  createdAt: "2026-01-01T00:00:00.000Z",
  revision: 7,
};
const APPLIED = {
  revision: 7,
  ms: 12.4,
  proxies: [
    { name: "proxy-1", appliedRevision: 7, ms: 3 },
    { name: "proxy-2", appliedRevision: 7, ms: 12 },
  ],
  missing: [],
};
const MADE = {
  username: "abcdefghijkm",
  password: "secret-password",
  rights: ["read"],
  label: "",
  env: {
    MEMCACHIER_SERVERS: "127.0.0.1:11211",
    MEMCACHIER_USERNAME: "abcdefghijkm",
    MEMCACHIER_PASSWORD: "it's secret",
  },
};

test("rights and roles are those of the API", () => {
  expect(RIGHT_WORDS).toEqual(RIGHTS);
  expect(ROLE_WORDS).toEqual(OPERATOR_ROLES);
});

describe("what is asked of the API:", () => {
  test.each([
    ["cache create app --plan 25mb", "POST /v1/caches?wait=applied", { name: "app", plan: "25mb" }],
    [
      "cache create app --size 2.5gb --sessions-max none --value-size-max 1kb --no-wait",
      "POST /v1/caches",
      { name: "app", bytes: 2_684_354_560, limits: { sessionsMax: null, valueSizeMax: 1024 } },
    ],
    [
      "cache create app --plan 1gb --copies 2 --single-flight always",
      "POST /v1/caches?wait=applied",
      { name: "app", plan: "1gb", copies: 2, policies: { singleFlight: "always" } },
    ],
    ["cache resize app --size 300mb", "PATCH /v1/caches/app?wait=applied", { bytes: 314_572_800 }],
    [
      "cache change app --unanswered-read error",
      "PATCH /v1/caches/app?wait=applied",
      { policies: { unansweredRead: "error" } },
    ],
    ["cache disable app", "PATCH /v1/caches/app?wait=applied", { enabled: false }],
    ["cache flush app --yes", "POST /v1/caches/app/flush?wait=applied", undefined],
    ["cache reset-stats app", "POST /v1/caches/app/stats/reset?wait=applied", undefined],
    ["cache delete app --yes", "DELETE /v1/caches/app?wait=applied", undefined],
    ["cache show a/b", "GET /v1/caches/a%2Fb", undefined],
    ["cache stats app", "GET /v1/caches/app/stats", undefined],
    ["credential list app", "GET /v1/caches/app/credentials", undefined],
    [
      "credential create app --rights read,flush --network 10.0.0.0/8 --network ::1/128 --expires never",
      "POST /v1/caches/app/credentials?wait=applied",
      { rights: ["read", "flush"], networks: ["10.0.0.0/8", "::1/128"], expiresAt: null },
    ],
    [
      "credential change app me --expires 2030-01-01T00:00:00Z --label x",
      "PATCH /v1/caches/app/credentials/me?wait=applied",
      { expiresAt: "2030-01-01T00:00:00.000Z", label: "x" },
    ],
    [
      "credential rotate app me --overlap 24h",
      "POST /v1/caches/app/credentials/me/rotate?wait=applied",
      { overlapSeconds: 86_400 },
    ],
    ["credential rotate app me", "POST /v1/caches/app/credentials/me/rotate?wait=applied", {}],
    [
      "credential promote app me --no-wait",
      "POST /v1/caches/app/credentials/me/promote",
      undefined,
    ],
    [
      "credential delete app me --yes --force --no-wait",
      "DELETE /v1/caches/app/credentials/me?force=true",
      undefined,
    ],
    ["token create ci --role operator", "POST /v1/tokens", { name: "ci", role: "operator" }],
    ["token delete abc --yes", "DELETE /v1/tokens/abc", undefined],
    ["plan list", "GET /v1/plans", undefined],
    [
      "pool create fleet --server 10.0.0.1:11211 --server b=c.example:11211*2",
      "POST /v1/pools",
      {
        name: "fleet",
        servers: [
          { name: "server-1", address: "10.0.0.1:11211", weight: 1 },
          { name: "b", address: "c.example:11211", weight: 2 },
        ],
      },
    ],
    ["pool list", "GET /v1/pools", undefined],
    ["pool show fleet", "GET /v1/pools/fleet", undefined],
    [
      "pool change fleet --server unix:/run/m.sock",
      "PATCH /v1/pools/fleet?wait=applied",
      { servers: [{ name: "server-1", address: "unix:/run/m.sock", weight: 1 }] },
    ],
    ["pool delete fleet --yes", "DELETE /v1/pools/fleet", undefined],
    [
      "cache create app --pool fleet --plan 100mb --no-wait",
      "POST /v1/caches",
      { name: "app", pool: "fleet", plan: "100mb" },
    ],
    ["node list", "GET /v1/nodes", undefined],
    ["node drain node-1 --no-wait", "PATCH /v1/nodes/node-1", { draining: true }],
    ["node undrain node-1", "PATCH /v1/nodes/node-1", { draining: false }],
    ["proxies", "GET /v1/proxies", undefined],
    ["audit --cache app --limit 3", "GET /v1/audit?cache=app&limit=3", undefined],
  ])("%s", async (line, request, body) => {
    const { code, stderr } = await memward(line);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [asked] = api.asked;
    expect(`${asked?.method} ${asked?.path}`).toBe(request);
    expect(asked?.body).toEqual(body);
    expect(asked?.token).toBe(`Bearer ${TOKEN}`);
  });

  test("a list is asked for page by page and shown as one", async () => {
    api.says = [
      { body: { caches: [{ ...CACHE, name: "a" }], next: "a" } },
      { body: { caches: [{ ...CACHE, name: "b" }], next: null } },
    ];
    const { stdout } = await memward("cache list --json");
    expect(api.asked.map(({ path }) => path)).toEqual(["/v1/caches", "/v1/caches?after=a"]);
    const { caches } = JSON.parse(stdout);
    expect(caches.map(({ name }: { name: string }) => name)).toEqual(["a", "b"]);
  });

  test("a password comes from a file, never from the command line", async () => {
    const file = join(folder, "password");
    writeFileSync(file, "an old password\n");
    await memward(`credential create app --username old --password-file ${file}`);
    expect(api.asked[0]?.body).toEqual({ username: "old", password: "an old password" });
  });
});

describe("what is shown:", () => {
  test("a cache that was made, and when it was in force", async () => {
    api.says = [{ status: 201, body: { ...CACHE, applied: APPLIED } }];
    expect(await memward("cache create app --plan 100mb")).toEqual({
      code: 0,
      stdout: "cache app made: 100mb, plan 100mb\n",
      stderr: "in force on 2 proxies after 12 ms\n",
    });
  });

  test("a table of caches", async () => {
    api.says = [{ body: { caches: [CACHE], next: null } }];
    const { stdout } = await memward("cache list");
    expect(stdout.replace(/\S+ d ago/, "N d ago")).toBe(
      "CACHE  PLAN    SIZE  SESSIONS MAX  OPERATIONS/S MAX  STATE    MADE\n" +
        "app    100mb  100mb           500              none  enabled  N d ago\n",
    );
  });

  test("--json is the API's answer, byte for byte", async () => {
    const body = `{ "caches" : [], "next":null }`;
    api.says = [{ body }];
    expect((await memward("cache list --json")).stdout).toBe(`${body}\n`);
  });

  test("the password of a new credential", async () => {
    api.says = [{ status: 201, body: MADE }];
    const { stdout } = await memward("credential create app");
    expect(stdout).toContain("secret-password  (shown now and never again)");
  });

  test("the lines of env survive a shell, whatever is in them", async () => {
    api.says = [{ status: 201, body: { ...MADE, applied: APPLIED } }];
    const { stdout } = await memward("env app");
    expect(stdout.split("\n")).toEqual([
      "export MEMCACHIER_SERVERS=127.0.0.1:11211",
      "export MEMCACHIER_USERNAME=abcdefghijkm",
      "export MEMCACHIER_PASSWORD='it'\\''s secret'",
      "",
    ]);
    expect((api.asked[0]?.body as { label: string }).label).toMatch(/^.+@.+$/);
  });

  test("what an audit record changed", async () => {
    const record = {
      id: "1",
      at: "2026-01-01T00:00:00.000Z",
      actor: "token:owner",
      from: "127.0.0.1",
      action: "cache.change",
      subject: "app",
      before: { plan: "25mb", bytes: 1, limits: { sessionsMax: 100, a: 1 }, rights: ["read"] },
      after: { plan: "100mb", bytes: 1, limits: { sessionsMax: null, a: 1 }, rights: [] },
    };
    api.says = [{ body: { records: [record], next: null } }];
    expect((await memward("audit")).stdout).toContain(
      "plan 25mb -> 100mb; limits.sessionsMax 100 -> -; rights read -> -\n",
    );
  });
});

describe("exit codes:", () => {
  const problem = (status: number, body: object): void => {
    api.says = [{ status, type: "application/problem+json", body: { status, ...body } }];
  };

  test("2 and every problem by its flag, for bad input", async () => {
    const problems = [
      { path: "name", message: "too long" },
      { path: "limits.sessionsMax", message: "must be at least 1" },
      { path: "", message: "all of it is odd" },
    ];
    problem(400, { title: "Bad Request", problems });
    expect(await memward("cache create app --plan 25mb --sessions-max 0")).toEqual({
      code: 2,
      stdout: "",
      stderr:
        "CACHE: too long\nmemward: --sessions-max: must be at least 1\nmemward: all of it is odd\n",
    });
  });

  test.each([
    [401, 6],
    [403, 6],
    [404, 4],
    [409, 5],
    [412, 5],
    [413, 2],
    [429, 1],
    [500, 1],
    [503, 3],
  ])("status %d is %d, with the sentence of the API", async (status, code) => {
    problem(status, { title: "Title", detail: "so it is" });
    expect(await memward("cache show app")).toEqual({ code, stdout: "", stderr: "so it is\n" });
  });

  test("7 when a proxy has not applied it in time", async () => {
    api.says = [{ status: 202, body: { ...CACHE, applied: { ...APPLIED, missing: ["proxy-2"] } } }];
    const { code, stderr } = await memward("cache resize app --plan 100mb");
    expect(code).toBe(7);
    expect(stderr).toBe(
      "memward: changed, but not applied in time by proxy-2; they follow when they can\n",
    );
  });

  test("3 and one sentence when nobody answers", async () => {
    const ran = await memward("cache list --control 127.0.0.1:1");
    expect(ran).toEqual({
      code: 3,
      stdout: "",
      stderr: expect.stringMatching(
        /^cannot reach the admin API at http:\/\/127\.0\.0\.1:1: connection refused \(.+\)\n$/,
      ),
    });
  });

  test("3 when something else answers", async () => {
    api.says = [{ status: 200, type: "text/html", body: "<html>" }];
    expect(await memward("cache list")).toMatchObject({
      code: 3,
      stderr: expect.stringContaining("not as Memward's admin API does"),
    });
  });

  test("6, and where a token was looked for when there is none", async () => {
    vi.stubEnv("MEMWARD_TOKEN", "");
    problem(401, { detail: "who are you?" });
    expect(await memward(`cache list --data-dir ${folder}`)).toMatchObject({
      code: 6,
      stderr: expect.stringContaining(`no token was sent: MEMWARD_TOKEN is not set`),
    });
    expect(api.asked[0]?.token).toBeUndefined();
  });
});

describe("an answer that is not one", () => {
  test("in time is given up", async () => {
    api.says = [{ silent: true }];
    const slow = new Api({ url: api.url, token: undefined, answerMsMax: 50 });
    await expect(slow.call({ method: "GET", path: "/v1/caches" })).rejects.toMatchObject({
      exitCode: 3,
      message: expect.stringContaining("no answer in time"),
    });
  });

  test("of another place is not followed: the token stays here", async () => {
    api.says = [{ status: 307, body: {} }];
    expect((await memward("cache list")).code).toBe(1);
    expect(api.asked).toHaveLength(1);
  });

  test("is not JSON though it says so", async () => {
    api.says = [{ body: "{" }];
    expect(await memward("cache list")).toMatchObject({
      code: 3,
      stderr: expect.stringContaining("the answer is not JSON"),
    });
  });
});

describe("refused before anything is asked:", () => {
  test.each([
    ["cache flush app", "Empty the cache app? Say --yes: there is no terminal to ask at"],
    ["cache delete app", "Delete the cache app, its values and credentials? Say --yes"],
    ["credential delete app me", "Delete the credential me of the cache app? Say --yes"],
    ["cache show ..", '".." is no name'],
    ["credential delete app .. --yes", '".." is no name'],
    ["cache show", "memward cache show needs CACHE; memward help cache show explains"],
    ["credential rotate app", "memward credential rotate needs USERNAME"],
    ["cache show app b", 'unexpected "b"; memward help cache show explains'],
    ["cache resize app", "nothing to change is given; flags that do are --plan and --size"],
    ["cache create app", "which size? Say --plan PLAN (memward plan list) or --size SIZE"],
    ["cache create app --size many", '--size: "many" is not a size like 100mb or 2.5gb'],
    ["cache create app --sessions-max few", '--sessions-max: "few" is neither a whole number'],
    ["credential rotate app me --overlap 5", '--overlap: "5" is not a duration like 90s'],
    ["credential create app --expires soon", '--expires: "soon" is neither a moment like'],
    ["credential create app --rights reed", "--rights: must be one of read, write, flush, api"],
    ["cache list --control ftp://x", '--control: "ftp://x" is neither a URL like'],
    ["cache list --control http://me:secret@x", "--control:"],
    ["cache list --token mwt_x", "unknown flag --token; memward help cache list lists the flags"],
    ["cache", "memward cache needs a command; memward help cache lists them"],
    ["cache lst", 'unknown command "cache lst"; memward help cache lists its commands'],
  ])("%s", async (line, sentence) => {
    const { code, stdout, stderr } = await memward(line);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(sentence);
    expect(api.asked).toEqual([]);
  });

  test("a token file that holds none; nothing of it is shown", async () => {
    const file = join(folder, "token");
    writeFileSync(file, "a secret with blanks\n");
    const { code, stderr } = await memward(`cache list --token-file ${file}`);
    expect(code).toBe(2);
    expect(stderr).toBe(`${file} does not hold a token (one word of printable characters)\n`);
  });

  test("a variable that is not about the connection decides nothing", async () => {
    vi.stubEnv("MEMWARD_YES", "true");
    expect((await memward("cache delete app")).code).toBe(2);
  });
});

test("the owner's token of this machine is not sent to another one", () => {
  const dataDir = folder;
  writeFileSync(join(folder, "operator.token"), "owner\n");
  const found = (isHere: boolean) =>
    findToken({ tokenFile: undefined, variable: "", dataDir, isHere });
  expect(found(true).token).toBe("owner");
  expect(found(false)).toEqual({
    token: undefined,
    lookedFor: expect.stringContaining("is sent to this machine alone; --token-file can name it"),
  });
});

test("an instance of this machine is found by its directory, and its token there", async () => {
  vi.stubEnv("MEMWARD_TOKEN", "");
  vi.stubEnv("MEMWARD_CONTROL", "");
  writeFileSync(join(folder, "operator.token"), "from-the-directory\n");
  mkdirSync(join(folder, "run"));
  const addresses = [api.url.replace("http://", ""), "127.0.0.1:9211"];
  const status = { roles: [{ role: "state" }, { role: "control", addresses }] };
  writeFileSync(join(folder, "run", "status.json"), JSON.stringify(status));
  await memward(`cache list --data-dir ${folder}`);
  expect(api.asked[0]?.token).toBe("Bearer from-the-directory");
});
