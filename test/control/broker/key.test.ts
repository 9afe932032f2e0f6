import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { bindingPassword, openBrokerKey } from "../../../control/broker/key.ts";
import { temporaryFolder } from "../../harness/processes.ts";

const SUBJECT = { instance: "i", binding: "b", username: "u" };

test("the key is made once, for its owner only, and then read", () => {
  const folder = temporaryFolder("memward-key");
  const path = join(folder, "broker.key");
  const key = openBrokerKey(path);
  expect(key).toHaveLength(32);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(openBrokerKey(path)).toEqual(key);
  expect(readFileSync(path, "utf8")).toBe(`${key.toString("hex")}\n`);
  expect(readdirSync(folder)).toEqual(["broker.key"]);
});

test.each([
  ["", "holds 64"],
  ["abc", "holds 64"],
  [`${"zz".repeat(32)}`, "holds 64"],
])("a file with %j is no key", (text, sentence) => {
  const path = join(temporaryFolder("memward-key"), "broker.key");
  writeFileSync(path, text);
  expect(() => openBrokerKey(path)).toThrow(sentence);
  expect(readFileSync(path, "utf8")).toBe(text);
});

test("a key that cannot be had is one sentence", () => {
  const folder = temporaryFolder("memward-key");
  mkdirSync(join(folder, "broker.key"));
  expect(() => openBrokerKey(join(folder, "broker.key"))).toThrow(/broker key .* \(EISDIR\)/);
  expect(() => openBrokerKey(join(folder, "none", "broker.key"))).toThrow(/\(ENOENT\)/);
});

test("a password depends on all of it: key, instance, binding and username", () => {
  const [key, other] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
  const one = bindingPassword(key, SUBJECT);
  expect(one).toMatch(/^[a-km-z2-9]{32}$/);
  expect(bindingPassword(key, { ...SUBJECT })).toBe(one);
  const others = [
    bindingPassword(other, SUBJECT),
    bindingPassword(key, { ...SUBJECT, instance: "j" }),
    bindingPassword(key, { ...SUBJECT, binding: "c" }),
    bindingPassword(key, { ...SUBJECT, username: "v" }),
    bindingPassword(key, { instance: 'i","b', binding: "", username: "u" }),
  ];
  expect(new Set([one, ...others]).size).toBe(6);
});
