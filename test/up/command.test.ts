/** The command line as people and scripts meet it: help, refusals in one sentence, exit codes. */
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { optionRows } from "../../core/runtime/config.ts";
import { upOptions } from "../../up/options.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "memward-command-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** To root every directory is writable, so as root a test of that runs as nobody, if it can. */
const STRANGER = ((): { uid: number; gid: number } | Record<string, never> | undefined => {
  if (process.getuid?.() !== 0) return {};
  const nobody = { uid: 65_534, gid: 65_534 };
  const probe = spawnSync(join(ROOT, "bin/memward"), ["version"], { cwd: "/", ...nobody });
  return probe.status === 0 ? nobody : undefined;
})();

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

function memward(
  args: readonly string[],
  {
    env = {},
    program = join(ROOT, "bin/memward"),
    cwd = folder,
    as = {},
  }: {
    env?: Record<string, string>;
    program?: string;
    cwd?: string;
    as?: { uid?: number; gid?: number } | undefined;
  } = {},
): Promise<Ended> {
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, ...as });
  const ended: Ended = { code: null, stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => {
    ended.stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    ended.stderr += chunk;
  });
  return new Promise((done, failed) => {
    child.on("error", failed);
    child.on("close", (code) => done({ ...ended, code }));
  });
}

const URL_SENTENCE = "must be sqlite or etcd://HOST:PORT,HOST:PORT/PREFIX";

describe("help", () => {
  test("lists every command", async () => {
    const { code, stdout } = await memward(["help"]);
    expect(code).toBe(0);
    for (const name of ["up", "proxy", "backend", "status", "config check", "help", "version"]) {
      expect(stdout).toMatch(new RegExp(`^ {2}${name} {2,}\\S`, "m"));
    }
    expect(stdout).not.toContain("warm");
  });

  test("of a command lists every flag with its default, as --help does", async () => {
    const { stdout } = await memward(["help", "up"]);
    for (const row of optionRows(upOptions)) expect(stdout).toContain(`--${row.flag} `);
    expect(stdout).toContain("(default 127.0.0.1:11211)");
    expect(stdout).toContain("(default 100mb)");
    expect((await memward(["up", "--help"])).stdout).toBe(stdout);
  });

  test("works through a symbolic link and from any directory", async () => {
    const link = join(folder, "linked");
    symlinkSync(join(ROOT, "bin/memward"), link);
    const { code, stdout } = await memward(["version"], { program: link, cwd: "/" });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^memward \d+\.\d+\.\d+ \(node v\d+/);
  });
});

describe("refused with exit code 2 and one sentence:", () => {
  const sentences = (ended: Ended): string[] => {
    expect(ended.code).toBe(2);
    expect(ended.stdout).toBe("");
    return ended.stderr.trimEnd().split("\n");
  };

  test.each([
    [["up", "--lisen", "x"], "memward: unknown flag --lisen; memward help up lists the flags"],
    [["up", "--listen"], "memward: flag --listen needs a value"],
    [["up", "--listen", "--nodes", "2"], "memward: flag --listen needs a value"],
    [["up", "--nodes", "2", "--nodes=3"], "memward: flag --nodes is given twice"],
    [["up", "extra"], 'memward: unexpected "extra"; memward help up explains'],
    [["upp"], 'memward: unknown command "upp"; memward help lists the commands'],
    [["up", "--nodes", "0"], "memward: --nodes: must be at least 1"],
    [["up", "--memory", "12"], 'memward: --memory: "12" must be from 1mb to 64tb'],
    [["config", "check"], "memward: memward config check needs --config FILE"],
    [["proxy", "--state", "redis://h"], `memward: --state: ${URL_SENTENCE}`],
    [
      ["backend", "--state", "etcd://me:secret@h"],
      "memward: --state: must not hold a login; that has options of its own",
    ],
    [
      ["proxy", "--state", "etcds://10.0.0.1"],
      "memward: etcd: TLS to 10.0.0.1:2379 needs serverName, the name in its certificate",
    ],
    [
      ["proxy", "--state", "etcds://h", "--etcd-ca-file", "none.pem"],
      "memward: cannot read none.pem (ENOENT)",
    ],
    [["proxy"], "memward: memward proxy needs --config FILE with a section proxy"],
  ])("%j", async (args, sentence) => {
    expect(sentences(await memward(args))).toEqual([sentence]);
  });

  test("a variable with a bad value is named", async () => {
    const ended = await memward(["up"], { env: { MEMWARD_OPS: "nowhere" } });
    expect(sentences(ended)).toEqual([
      'memward: MEMWARD_OPS: "nowhere" is not HOST:PORT (IPv6 as [::1]:11211)',
    ]);
  });

  test.each([
    "--listen",
    "--plain",
    "--ops",
    "--control",
  ])("%s on a port that is taken", async (flag) => {
    const server = createServer();
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const bound = server.address();
    const taken = `127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`;
    const others = ["--listen", "--plain", "--ops", "--control"].filter((other) => other !== flag);
    const free = others.flatMap((other) => [other, "127.0.0.1:0"]);
    const dataDir = join(folder, `taken${flag}`);
    const ended = await memward(["up", "--data-dir", dataDir, ...free, flag, taken]);
    server.close();
    expect(sentences(ended)).toEqual([
      `memward: cannot listen on ${taken} (${flag}): the port is taken by another program`,
    ]);
  });

  test("the same port twice", async () => {
    const { port } = await freePort();
    const twice = ["--listen", `127.0.0.1:${port}`, "--ops", `127.0.0.1:${port}`];
    const ended = await memward(["up", "--data-dir", join(folder, "twice"), ...twice]);
    expect(sentences(ended)).toEqual([
      `memward: cannot listen on 127.0.0.1:${port} (--ops): the port is taken by another program`,
    ]);
  });

  test("a directory that cannot be one", async () => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    const ended = await memward(["up", "--data-dir", join(file, "inside")]);
    expect(sentences(ended)).toEqual([
      `memward: the directory ${file}/inside is not writable (ENOTDIR)`,
    ]);
    expect(sentences(await memward(["up", "--data-dir", file]))).toEqual([
      `memward: the directory ${file} is not writable (ENOTDIR)`,
    ]);
  });

  test.runIf(existsSync("/proc/self"))("a place where nothing can be made", async () => {
    const ended = await memward(["up", "--data-dir", "/proc/memward/data"]);
    expect(sentences(ended)).toEqual([
      "memward: the directory /proc/memward/data is not writable (ENOENT)",
    ]);
  });

  test.skipIf(!STRANGER)("a directory of somebody else", async () => {
    const locked = join(folder, "locked");
    mkdirSync(locked);
    chmodSync(folder, 0o755);
    chmodSync(locked, 0o555);
    const ended = await memward(["up", "--data-dir", locked], { as: STRANGER });
    expect(sentences(ended)[0]).toMatch(/is not writable \(EACCES\)$/);
  });
});

describe("status", () => {
  test("of a directory where nothing runs: exit code 3", async () => {
    const dataDir = join(folder, "nothing");
    const ended = await memward(["status", "--data-dir", dataDir]);
    expect(ended).toEqual({
      code: 3,
      stdout: "",
      stderr: `memward: no instance is running in ${dataDir} (start one with: memward up)\n`,
    });
    const json = await memward(["status", "--json", "--data-dir", dataDir]);
    expect([json.code, JSON.parse(json.stdout)]).toEqual([3, { running: false, roles: [] }]);
  });
});

async function freePort(): Promise<{ port: number }> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const bound = server.address();
  await new Promise((done) => server.close(done));
  if (typeof bound !== "object" || bound === null) throw new Error("no port");
  return { port: bound.port };
}
