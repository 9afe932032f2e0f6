/** The addon is built where it can be; where it cannot, one line says why and nothing fails. */
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { find } from "../../harness/processes.ts";

const ROOT = join(import.meta.dirname, "../../..");
const NATIVE = "core/io/native";
const CACHE = "node_modules/.cache/memward-io";
let root: string;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "memward-build-"));
  cpSync(join(ROOT, NATIVE), join(root, NATIVE), { recursive: true });
  mkdirSync(join(root, "node_modules"));
  const headers = "node_modules/node-api-headers";
  symlinkSync(join(ROOT, headers), join(root, headers));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

function build(path = process.env.PATH): { status: number | null; told: string } {
  const program = join(root, NATIVE, "build.mjs");
  const env = { ...process.env, PATH: path };
  const { status, stderr } = spawnSync(process.execPath, [program], { encoding: "utf8", env });
  return { status, told: stderr };
}
const built = (): string[] => readdirSync(join(root, CACHE));

test("without a C compiler it is left out, and that is told", () => {
  const { status, told } = build("/nowhere");
  expect(status).toBe(0);
  expect(told).toMatch(/^memward: io layer net, not native: (no C compiler|it needs Linux)/);
});

describe.skipIf(process.platform !== "linux" || find("cc") === undefined)("with a compiler", () => {
  test("it is built once, and again when its sources change", () => {
    expect(build()).toEqual({ status: 0, told: "" });
    const [first] = built();
    expect(first).toMatch(/^io-[0-9a-f]{16}\.node$/);
    expect(build("/nowhere")).toEqual({ status: 0, told: "" });
    appendFileSync(join(root, NATIVE, "sockets.c"), "\n/* changed */\n");
    expect(build()).toEqual({ status: 0, told: "" });
    expect(built()).toHaveLength(2);
  });

  test("sources that do not compile are told, and leave nothing behind", () => {
    const before = built();
    appendFileSync(join(root, NATIVE, "sockets.c"), "\nnot C\n");
    const { status, told } = build();
    expect(status).toBe(0);
    expect(told).toContain("not native: cc failed");
    expect(built()).toEqual(before);
  });
});
