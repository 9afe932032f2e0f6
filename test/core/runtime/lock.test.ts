/** The claim on a directory: one holder, gone with its process however it ends. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { claim, claimSoon, isClaimed, waitForOthers } from "../../../core/runtime/lock.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "memward-lock-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Another process that holds the claim until it is killed. */
async function holder(name: string) {
  const script = `
    import { claim } from ${JSON.stringify(join(import.meta.dirname, "../../../core/runtime/lock.ts"))};
    process.stdout.write(String(claim(${JSON.stringify(folder)}, ${JSON.stringify(name)}) !== undefined));
    globalThis.gc(); globalThis.gc(); // A claim nobody refers to must still hold.
    setInterval(() => {}, 1000);
  `;
  const flags = ["--expose-gc", "--disable-warning=ExperimentalWarning"];
  const child = spawn(process.execPath, [...flags, "--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [answer] = (await once(child.stdout, "data")) as [Buffer];
  expect(answer.toString()).toBe("true");
  return {
    async kill() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

test("a directory nobody claimed is free", () => {
  expect(isClaimed(folder)).toBe(false);
  const held = claim(folder);
  expect(held).toBeDefined();
  held?.release();
  expect(isClaimed(folder)).toBe(false);
});

test("a second process is refused until the first is killed, with nothing to clean up", async () => {
  const other = await holder("instance");
  expect(isClaimed(folder)).toBe(true);
  expect(claim(folder)).toBeUndefined();
  await other.kill();
  expect(isClaimed(folder)).toBe(false);
  const held = claim(folder);
  expect(held).toBeDefined();
  held?.release();
});

test("looking at a claim does not take it", async () => {
  const held = claim(folder);
  for (let look = 0; look < 5; look++) isClaimed(folder);
  held?.release();
  expect(claim(folder)?.release()).toBeUndefined();
});

test("a start waits for the roles of a killed supervisor, and says which do not end", async () => {
  const node = await holder("node-1");
  claim(folder)?.release();
  expect(await waitForOthers(folder, 60)).toEqual(["node-1"]);
  const waiting = waitForOthers(folder, 20_000);
  await node.kill();
  expect(await waiting).toEqual([]);
});

test("a role takes over its name when the process before it is gone", async () => {
  const before = await holder("node-1");
  const soon = claimSoon(folder, { name: "node-1", limitMs: 20_000 });
  await before.kill();
  const held = await soon;
  expect(held).toBeDefined();
  held?.release();
});
