/** At a terminal, whoever is about to lose something is asked first. */
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { has } from "../harness/processes.ts";
import { FakeApi } from "./fakeApi.ts";

const api = new FakeApi();
beforeAll(() => api.start());
afterAll(() => api.stop());
beforeEach(() => {
  api.asked.length = 0;
});

/** Runs the command on a terminal of its own and answers the question. */
async function answered(command: string, answer: string): Promise<string> {
  const program = resolve("bin/memward");
  const child = spawn("script", ["-qec", `${program} ${command}; echo code=$?`, "/dev/null"], {
    env: { ...process.env, MEMWARD_CONTROL: api.url, MEMWARD_TOKEN: "token", TERM: "dumb" },
  });
  let output = "";
  child.stdout.on("data", (chunk) => {
    if (!output.includes("[y/N]") && `${output}${chunk}`.includes("[y/N]")) {
      child.stdin.write(answer);
    }
    output += chunk;
  });
  await new Promise((done) => child.once("close", done));
  return output;
}

describe.runIf(has("script"))("asked before a cache is emptied,", () => {
  test.each(["y\n", "yes\n", "Y\n"])("%j does it", async (answer) => {
    const output = await answered("cache flush app", answer);
    expect(output).toContain("Empty the cache app? [y/N]");
    expect(output).toContain("code=0");
    expect(api.asked).toHaveLength(1);
  });

  test.each(["\n", "n\n", "yep\n", "\u0004", "\u0003"])("%j leaves it", async (answer) => {
    const output = await answered("cache flush app", answer);
    expect(output).not.toContain("code=0");
    expect(output).not.toContain("    at ");
    expect(api.asked).toEqual([]);
  });
});
