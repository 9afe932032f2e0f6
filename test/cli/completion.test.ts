/** Completion: what may stand at the cursor, and that real shells put it there. */

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { complete, completionText, shellWords } from "../../cli/completion.ts";
import { has } from "../harness/processes.ts";
import { FakeApi, TABLE } from "./fakeApi.ts";

const api = new FakeApi();
const folder = mkdtempSync(join(tmpdir(), "memward-completion-"));
beforeAll(async () => {
  await api.start();
  vi.stubEnv("MEMWARD_CONTROL", api.url);
  vi.stubEnv("MEMWARD_TOKEN", "token");
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await api.stop();
  rmSync(folder, { recursive: true });
});

async function offered(line: string): Promise<string | string[]> {
  const offers = await complete(TABLE, line);
  return typeof offers === "string" ? offers : offers.map(({ text }) => text);
}

test.each([
  ["memward cache ", ["memward", "cache", ""]],
  ['memward \'a b\' "c \\" d" e\\ f', ["memward", "a b", 'c " d', "e f"]],
  ["memward --label 'half a", ["memward", "--label", "half a"]],
  ["", [""]],
])("words of %j as a shell sees them", (line, words) => {
  expect(shellWords(line)).toEqual(words);
});

describe("offered from the table:", () => {
  test.each([
    ["memward c", ["cache", "credential"]],
    ["memward pr", ["proxies"]],
    ["memward cache re", ["resize", "reset-stats"]],
    ["memward cache resize app --s", ["--size"]],
    ["memward cache resize app --no-wait --n", []],
    ["memward credential create app --rights ", ["read", "write", "flush", "api"]],
    ["memward credential create app --rights read,w", ["read,write"]],
    [
      "memward credential create app --rights=read,",
      ["--rights=read,write", "--rights=read,flush", "--rights=read,api"],
    ],
    [
      "memward cache change app --unanswered-read=",
      ["--unanswered-read=miss", "--unanswered-read=error"],
    ],
    ["memward token create ci --role o", ["operator", "owner"]],
    ["memward cache list --token-file ", "files"],
    ["memward cache list --data-dir x", "folders"],
    ["memward cache create ", []],
    ["memward cache resize app --size 1", []],
    ["memward nonsense ", []],
  ])("%s", async (line, expected) => {
    expect(await offered(line)).toEqual(expected);
  });

  test("a flag that may be repeated is offered again, another is not", async () => {
    const flags = await offered("memward credential create app --network ::1/128 --label x --");
    expect(flags).toContain("--network");
    expect(flags).not.toContain("--label");
  });
});

describe("asked of the API:", () => {
  test("names of caches and usernames, with what people know them by", async () => {
    api.says = [{ body: { caches: [{ name: "app", plan: "25mb" }, { name: "web" }], next: null } }];
    expect(await completionText(TABLE, "memward cache show a")).toBe("words\napp\t25mb\n");
    api.says = [{ body: { credentials: [{ username: "abc", label: "worker\n" }], next: null } }];
    const line = "memward credential rotate --json app ";
    expect(await completionText(TABLE, line)).toBe("words\nabc\tworker \n");
    expect(api.asked.at(-1)?.path).toBe("/v1/caches/app/credentials");
  });

  test("nothing is offered, and nothing said, when it refuses or is away", async () => {
    api.says = [{ status: 403, body: {} }];
    expect(await completionText(TABLE, "memward cache show ")).toBe("words\n");
    const away = "memward cache show --control 127.0.0.1:1 ";
    expect(await completionText(TABLE, away)).toBe("words\n");
  });
});

/** Ctrl-A and `echo`: the shell prints the line that it has completed instead of running it. */
const ECHO = "\u0001echo do''ne \n";

/** A shell that asks the API for names may be silent for nearly as long. */
const QUIET_MS = 1_000;

/** Types into an interactive shell on a terminal of its own; resolves with what was echoed. */
async function type(shell: string, begin: string, keys: string): Promise<string> {
  const command = `stty -echo cols 200; exec ${shell}`;
  const child = spawn("script", ["-qec", command, "/dev/null"], {
    env: {
      ...process.env,
      PATH: `${resolve("bin")}:${process.env["PATH"]}`,
      HOME: folder,
      TERM: "dumb",
      // npm names vi here, and a shell that obeys takes Ctrl-A for a letter.
      EDITOR: "",
      VISUAL: "",
      PS1: "",
    },
  });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  const ended = new Promise((done) => child.once("close", done));
  child.stdin.write(`${begin}; echo read''y\n`);
  await vi.waitFor(() => expect(output).toContain("ready"), { timeout: 20_000, interval: 20 });
  output = "";
  child.stdin.write(keys);
  // What is typed while a shell completes may be taken for something else: it has to be done.
  for (let seen = -1; seen !== output.length; await sleep(QUIET_MS)) seen = output.length;
  child.stdin.write(ECHO);
  // What is typed shows the quotes; only what was echoed does not, and it comes last.
  await vi.waitFor(() => expect(output).toMatch(/done memward [^\r\n]+\r?\n/), { timeout: 20_000 });
  child.stdin.write("exit\n");
  child.stdin.end();
  await ended;
  return /done (memward [^\r\n]+)/.exec(output)?.[1]?.trim() ?? "";
}

const SHELLS = [
  ["bash", "bash --norc --noprofile -i", "source <(memward completion bash)"],
  ["zsh", "zsh -f -i", "autoload -Uz compinit; compinit -u -D; source <(memward completion zsh)"],
  ["fish", "fish --no-config -i", "memward completion fish | source"],
] as const;

describe.each(SHELLS)("%s", (name, shell, begin) => {
  const runs = test.runIf(has("script") && has(name) && existsSync("bin/memward"));

  runs("completes commands, flags, values and names", async () => {
    api.says = [{ body: { caches: [{ name: "orders", plan: "25mb" }], next: null } }];
    const keys = "memward cred\tcr\tord\t--no\t--rights=wri\t";
    const output = await type(shell, begin, keys);
    expect(output).toBe("memward credential create orders --no-wait --rights=write");
  });
});
