/** operator.token: made once and kept, whatever happens to file and state. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createToken, deleteToken, tokenBehind } from "../../control/operations/tokens.ts";
import { prepareOperatorToken } from "../../control/token.ts";
import { type Desk, OPERATOR, openDesk, resultOf } from "./operations/desk.ts";

let desk: Desk;
let dataDir = "";
const path = () => join(dataDir, "operator.token");
const text = () => readFileSync(path(), "utf8").trim();
const prepare = async () => (await prepareOperatorToken(desk, dataDir)).did;

beforeEach(async () => {
  desk = await openDesk();
  dataDir = mkdtempSync(join(tmpdir(), "memward-token-"));
});
afterEach(async () => {
  await desk.close();
  rmSync(dataDir, { recursive: true });
});

async function roleOf(token: string): Promise<string | undefined> {
  await desk.view.reached((await desk.state.list("token")).revision);
  return tokenBehind(desk.view, token, Date.now())?.value.role;
}

test("the first start makes an owner's token, for its owner only, and says so in the audit log", async () => {
  expect(await prepare()).toBe("made");
  expect(statSync(path()).mode & 0o777).toBe(0o600);
  expect(await roleOf(text())).toBe("owner");
  const { entries } = await desk.state.list("audit");
  expect(entries.map(({ value }) => `${value.actor} ${value.action}`)).toEqual([
    "system:control token.create",
  ]);
  expect(JSON.stringify(entries)).not.toContain(text().split("_")[2]);
});

test("later starts keep it and change nothing", async () => {
  await prepare();
  const before = text();
  const { revision } = await desk.state.list("token");
  expect(await prepare()).toBe("kept");
  expect(text()).toBe(before);
  expect((await desk.state.list("token")).revision).toBe(revision);
});

test("a new state takes the old file's token, so that scripts go on", async () => {
  await prepare();
  const before = text();
  await desk.close();
  desk = await openDesk();
  expect(await prepare()).toBe("adopted");
  expect(await roleOf(before)).toBe("owner");
});

test("a file that was deleted: another token, the old one is good no more", async () => {
  await prepare();
  const before = text();
  rmSync(path());
  expect(await prepare()).toBe("made");
  expect(await roleOf(before)).toBeUndefined();
  expect(await roleOf(text())).toBe("owner");
});

test("once there is another owner, what was deleted stays deleted", async () => {
  await prepare();
  await roleOf(text());
  resultOf(await createToken(desk, OPERATOR, { name: "ada", role: "owner" }));
  resultOf(await deleteToken(desk, OPERATOR, text().split("_")[1] ?? ""));
  expect(await prepare()).toBe("left");
  rmSync(path());
  expect(await prepare()).toBe("left");
  expect(existsSync(path())).toBe(false);
});

test("somebody's own words in the file are no token of ours", async () => {
  writeFileSync(path(), "letmein\n");
  expect(await prepare()).toBe("made");
  expect(text()).toMatch(/^mwt_/);
});
