/**
 * Promise: what cannot start says why in one clear sentence and exits with 2, and leaves what is
 * running alone.
 */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Exit, type Memward, runMemward, startMemward } from "../harness/memward.ts";
import { freePort } from "../harness/ports.ts";
import { temporaryFolder } from "../harness/processes.ts";

let memward: Memward;
let taken: { address: string; server: Server };

beforeAll(async () => {
  memward = await startMemward();
  taken = await listenSomewhere();
}, 60_000);
afterAll(async () => {
  taken.server.close();
  await memward.stop();
});

async function listenSomewhere(): Promise<{ address: string; server: Server }> {
  const port = await freePort();
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
  return { address: `127.0.0.1:${port}`, server };
}

const newFolder = (): string => join(temporaryFolder("memward-refusal"), "data");

/** `memward up` that would start if nothing were wrong with `args`. */
async function up(...args: string[]): Promise<Exit> {
  const defaults: [string, string][] = [
    ["--data-dir", newFolder()],
    ["--listen", `127.0.0.1:${await freePort()}`],
    ["--ops", `127.0.0.1:${await freePort()}`],
    ["--control", `127.0.0.1:${await freePort()}`],
  ];
  const missing = defaults.filter(([flag]) => !args.includes(flag)).flat();
  return await runMemward(["up", ...missing, ...args]);
}

/** One sentence of ours, no stack trace, exit code 2. */
function expectRefusal(exit: Exit, sentence: RegExp): void {
  expect(exit.stderr.trim()).toMatch(sentence);
  expect(exit.stderr.trim().split("\n")).toHaveLength(1);
  expect(exit.stderr).not.toMatch(/\bat .*\.ts:\d+|Error:/);
  expect(exit.code).toBe(2);
}

describe("memward up refuses", () => {
  test.each([
    "--listen",
    "--ops",
    "--plain",
    "--control",
  ])("a port of %s that is taken", async (flag) => {
    expectRefusal(await up(flag, taken.address), new RegExp(taken.address.replaceAll(".", "\\.")));
  });

  test("the same address twice", async () => {
    const address = `127.0.0.1:${await freePort()}`;
    expectRefusal(await up("--listen", address, "--plain", address), new RegExp(address));
  });

  test("a data directory that a running instance uses", async () => {
    expectRefusal(await up("--data-dir", memward.dataDir), /running|in use/i);
  });

  test.each([
    ["an unknown flag", ["--no-such-flag"], /--no-such-flag/],
    ["a misspelled flag", ["--memmory", "1gb"], /--memmory/],
    ["a flag without its value", ["--memory"], /--memory/],
    ["a word too many", ["now"], /now/],
    ["no nodes", ["--nodes", "0"], /nodes/],
    ["nodes that are no number", ["--nodes", "two"], /nodes/],
    ["a memory that is no size", ["--memory", "lots"], /memory/],
    ["too little memory", ["--memory", "1kb"], /memory/],
    ["an address without a port", ["--listen", "127.0.0.1"], /listen/],
    ["an address with a wrong port", ["--listen", "127.0.0.1:70000"], /listen/],
  ] as [string, string[], RegExp][])("%s", async (_, args, sentence) => {
    expectRefusal(await up(...args), sentence);
  });

  test("the engine memcached where there is none, once for all nodes", async () => {
    const engine = ["--engine", "memcached", "--memcached-path", "/no/such/memcached"];
    const { stderr, ...exit } = await up(...engine, "--nodes", "4", "--log-level", "silent");
    const sentence = /needs memcached 1\.6\.18 or later, and there is no program \/no\/such/;
    expectRefusal({ ...exit, stderr }, sentence);
  });

  test("a data directory below a plain file", async () => {
    const file = join(temporaryFolder("memward-refusal"), "file");
    writeFileSync(file, "");
    expectRefusal(await up("--data-dir", join(file, "data")), new RegExp(file));
  });

  test("a data directory that nobody can write, root included", async () => {
    expectRefusal(await up("--data-dir", "/proc/memward"), /\/proc\/memward/);
  });

  test.skipIf(process.getuid?.() === 0)("a data directory that we may not write", async () => {
    const folder = newFolder();
    mkdirSync(folder);
    chmodSync(folder, 0o500);
    expectRefusal(await up("--data-dir", folder), new RegExp(folder));
  });

  test("a configuration file that is not there", async () => {
    expectRefusal(await up("--config", "/no/such/file.yaml"), /\/no\/such\/file\.yaml/);
  });
});

test("an unknown command is refused with a hint", async () => {
  expectRefusal(await runMemward(["upp"]), /upp/);
});

test("config check lists every problem with its path, and exits with 2", async () => {
  const file = join(temporaryFolder("memward-refusal"), "memward.yaml");
  writeFileSync(file, "dataDir: x\nproxxy: {}\nup:\n  nodes: 0\n  memory: lots\n");
  const { code, stdout, stderr } = await runMemward(["config", "check", file]);
  expect(code).toBe(2);
  for (const path of ["proxxy", "up.nodes", "up.memory"]) expect(stdout + stderr).toContain(path);
});

test("flags can be given as variables, and are checked the same", async () => {
  const exit = await runMemward(["up", "--data-dir", newFolder()], { MEMWARD_NODES: "none" });
  expectRefusal(exit, /MEMWARD_NODES|nodes/);
});

test("what was running is not disturbed by any of it", async () => {
  const wire = await memward.open("text");
  expect(await wire.line("mg no-such-key")).toBe("EN");
  wire.close();
  expect((await memward.status()).roles.every(({ ready }) => ready)).toBe(true);
});
