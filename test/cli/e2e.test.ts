/** Daily work with the command line, as people and scripts do it, against a running instance. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { complete } from "../../cli/completion.ts";
import { memjs } from "../e2e/programs.ts";
import { type Exit, type Memward, runMemward, startMemward } from "../harness/memward.ts";
import { temporaryFolder } from "../harness/processes.ts";
import { TABLE } from "./fakeApi.ts";

const folder = temporaryFolder("memward-cli");
let memward: Memward;
beforeAll(async () => {
  memward = await startMemward({ proxies: 2 });
}, 60_000);
afterAll(() => memward.stop());

/** With the owner's token of the instance, unless told otherwise. */
function run(line: string, env: Record<string, string> = {}): Promise<Exit> {
  const where = { MEMWARD_CONTROL: memward.control, MEMWARD_DATA_DIR: memward.dataDir };
  return runMemward(line.split(" "), { ...where, ...env });
}

async function json(line: string): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await run(`${line} --json`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as Record<string, unknown>;
}

/** What a stock client reads back, logged in with those lines of `memward env`. */
async function readBack(lines: string, key = "greeting"): Promise<string | undefined> {
  const value = (name: string) => new RegExp(`${name}=(\\S+)`).exec(lines)?.[1] ?? "";
  const login = { username: value("USERNAME"), password: value("PASSWORD") };
  const client = memjs(value("SERVERS").split(","), login);
  try {
    await client.set(key, "hello", {});
    return (await client.get(key)).value?.toString();
  } catch {
    return undefined;
  } finally {
    client.close();
  }
}

test("a day with a cache: made, used, rotated, resized, emptied, deleted", async () => {
  const made = await run("cache create app --plan 25mb");
  expect(made).toMatchObject({ code: 0, stdout: "cache app made: 25mb, plan 25mb\n" });
  expect(made.stderr).toMatch(/^in force on 2 proxies after \d+ ms\n$/);
  expect((await run("cache list")).stdout).toMatch(/^app +25mb +25mb .* enabled +/m);

  const { code, stdout: lines } = await run("env app --rights read,write,flush --label web");
  expect(code).toBe(0);
  expect(lines).toMatch(/^(export MEMCACHIER_(SERVERS|USERNAME|PASSWORD)=\S+\n){3}$/);
  expect(await readBack(lines)).toBe("hello");

  const username = /USERNAME=(\S+)/.exec(lines)?.[1] ?? "";
  const rotated = await run(`credential rotate app ${username} --overlap 10m`);
  expect(rotated.code).toBe(0);
  const successor = /^username +(\S+)$/m.exec(rotated.stdout)?.[1] ?? "";
  const password = /^password +(\S+) /m.exec(rotated.stdout)?.[1] ?? "";
  const servers = /SERVERS=(\S+)/.exec(lines)?.[1] ?? "";
  const next = `SERVERS=${servers}\nUSERNAME=${successor}\nPASSWORD=${password}\n`;
  expect(await readBack(next)).toBe("hello");
  expect(await readBack(lines), "in the overlap both work").toBe("hello");
  expect((await run("credential list app")).stdout).toMatch(
    new RegExp(`^${username} +web +read,write,flush .* in (9|10) min`, "m"),
  );
  expect((await run(`credential delete app ${username} --yes`)).code).toBe(0);
  expect(await readBack(lines)).toBeUndefined();

  const readOnly = await run(`credential change app ${successor} --rights read`);
  expect(readOnly.stdout).toMatch(/^rights +read$/m);
  expect((await run(`credential change app ${successor} --rights read,write`)).code).toBe(0);

  expect((await run("cache resize app --plan 100mb")).stdout).toContain("resized: 100mb");
  expect(await json("cache show app")).toMatchObject({ plan: "100mb", bytes: 104_857_600 });
  expect((await run("cache stats app")).stdout).toMatch(/^cmd_get +[1-9]\d*$/m);
  expect((await run("cache flush app --yes")).code).toBe(0);
  expect(await json("cache stats app")).toMatchObject({ stats: { curr_items: 0 } });
  expect((await run("cache disable app")).code).toBe(0);
  expect(await readBack(next)).toBeUndefined();
  expect((await run("cache enable app")).code).toBe(0);
  expect(await readBack(next)).toBe("hello");

  const audit = (await run("audit --cache app")).stdout;
  for (const action of ["cache.create", "credential.rotate", "cache.flush", "cache.disable"]) {
    expect(audit).toContain(action);
  }
  expect(audit).not.toContain(password);
  expect((await run("cache delete app --yes")).code).toBe(0);
  expect(await readBack(next)).toBeUndefined();
});

test("eval of env in a shell sets the variables for an application", async () => {
  const program = resolve("bin/memward");
  const script = `eval "$(${program} env default)"; echo "$MEMCACHIER_SERVERS $MEMCACHIER_USERNAME"`;
  const { stdout } = spawnSync("sh", ["-c", script], {
    encoding: "utf8",
    env: {
      ...process.env,
      MEMWARD_CONTROL: memward.control,
      MEMWARD_DATA_DIR: memward.dataDir,
    },
  });
  expect(stdout).toMatch(/^127\.0\.0\.1:\d+,127\.0\.0\.1:\d+ [a-z2-9]{12}\n$/);
});

describe("exit codes:", () => {
  test.each([
    [2, "cache create Bad_Name --plan 25mb", /^memward: CACHE: /],
    [2, "cache create x --plan huge", /^memward: --plan: /],
    [2, "credential create default --network nowhere", /^memward: --network: /],
    [2, "cache delete default", /Say --yes/],
    [4, "cache show nobody", /^memward: there is no cache/],
    [4, "credential delete default nobody --yes", /^memward: there is no credential/],
    [5, "cache create default --plan 25mb", /^memward: there is a cache named default/],
  ])("%d: memward %s", async (code, line, sentence) => {
    const ended = await run(line);
    expect(ended).toMatchObject({ code, stdout: "" });
    expect(ended.stderr).toMatch(sentence);
  });

  test("3: nobody there", async () => {
    const ended = await run("cache list", { MEMWARD_CONTROL: "127.0.0.1:1" });
    expect(ended).toMatchObject({ code: 3, stdout: "" });
    expect(ended.stderr).toMatch(/^memward: cannot reach the admin API at .+\n$/);
  });

  test("6: no token, a wrong one, one that may only look", async () => {
    const nowhere = { MEMWARD_DATA_DIR: folder };
    expect((await run("cache list", nowhere)).code).toBe(6);
    const wrong = `mwt_${"a".repeat(12)}_${"b".repeat(32)}`;
    const ended = await run("cache list", { MEMWARD_TOKEN: wrong });
    expect(ended.code).toBe(6);
    expect(ended.stderr).not.toContain(wrong);

    const { token, id } = await json("token create looker --role viewer --expires 1h");
    const file = join(folder, "looker.token");
    writeFileSync(file, `${token}\n`, { mode: 0o600 });
    expect((await run(`cache list --token-file ${file}`)).code).toBe(0);
    expect((await run(`cache create mine --plan 25mb --token-file ${file}`)).code).toBe(6);
    expect((await run("token list")).stdout).toMatch(
      new RegExp(`^${id} +looker +viewer +in `, "m"),
    );
    expect((await run(`token delete ${id} --yes`)).code).toBe(0);
    expect((await run(`cache list --token-file ${file}`)).code).toBe(6);
  });
});

test("the last credential of a cache is deleted by force alone", async () => {
  await run("cache create lonely --size 10mb --no-wait");
  const { username } = await json("credential create lonely");
  const kept = await run(`credential delete lonely ${username} --yes`);
  expect(kept).toMatchObject({ code: 5, stdout: "" });
  expect(kept.stderr).toContain("force");
  expect((await run(`credential delete lonely ${username} --yes --force`)).code).toBe(0);
});

test.each([
  "plan list",
  "node list",
  "proxies",
  "audit",
  "cache list",
  "credential list default",
])("memward %s is a table, and JSON with --json", async (line) => {
  const { code, stdout } = await run(line);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^[A-Z]+ .*\n.+/);
  expect(Object.values(await json(line)).some(Array.isArray)).toBe(true);
});

test("status of a whole cluster comes from the API", async () => {
  const { code, stdout } = await run(`status --control ${memward.control}`);
  expect(code).toBe(0);
  for (const name of ["proxy-1", "proxy-2", "node-1", "node-2"]) expect(stdout).toContain(name);
});

test("names are completed from the running instance", async () => {
  const at = `--control ${memward.control} --data-dir ${memward.dataDir}`;
  const offers = await complete(TABLE, `memward cache show ${at} def`);
  expect(offers).toEqual([{ text: "default", help: expect.any(String) }]);
});
