/**
 * Promise: the three lines an application was given stay true. `default.env` is made once, for its
 * owner only, and the credential survives every restart, an unclean one included.
 */
import { readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";

const envOf = (memward: Memward): string => join(memward.dataDir, "default.env");

async function works(memward: Memward, login: { username: string; password: string }) {
  const wire = await memward.open("text", login);
  expect(await wire.line("mg no-such-key")).toBe("EN");
  wire.close();
}

test("default.env has three lines, for its owner only", async () => {
  const memward = await startMemward();
  const text = readFileSync(envOf(memward), "utf8");
  expect(
    text
      .trim()
      .split("\n")
      .map((line) => line.split("=")[0]),
  ).toEqual(["MEMCACHIER_SERVERS", "MEMCACHIER_USERNAME", "MEMCACHIER_PASSWORD"]);
  expect(statSync(envOf(memward)).mode & 0o777).toBe(0o600);
  expect(memward.output()).toContain(`MEMCACHIER_USERNAME=${memward.username}`);
  await memward.stop();
}, 60_000);

test("a restart keeps username, password and file, and follows a new address", async () => {
  const first = await startMemward();
  const { username, password, dataDir } = first;
  expect(await first.stop()).toBe(0);
  const second = await startMemward({ dataDir });
  expect(second).toMatchObject({ username, password });
  expect(second.servers).not.toEqual(first.servers);
  await works(second, { username, password });
  expect(await second.stop()).toBe(0);
}, 60_000);

test("so does a start after everything was killed", async () => {
  const first = await startMemward();
  const { username, password, dataDir } = first;
  await first.stop("SIGKILL");
  const second = await startMemward({ dataDir });
  expect(second).toMatchObject({ username, password });
  await works(second, { username, password });
  await second.stop();
}, 60_000);

test("a file that was deleted is made again, and works", async () => {
  const first = await startMemward();
  await first.stop();
  rmSync(envOf(first));
  const second = await startMemward({ dataDir: first.dataDir });
  await works(second, second);
  await second.stop();
}, 60_000);
