/** The three forms of a login, from the bytes that clients send to a username and a password. */
import { describe, expect, test } from "vitest";
import { detectDialect } from "../../../core/protocol/detect.ts";
import { parseSaslPlain, parseTextLogin } from "../../../core/protocol/login.ts";
import { packet } from "../../harness/wire.ts";
import { bytesOf, look } from "./look.ts";

const asText = (login: { username: string; password: Uint8Array } | null): string[] | null =>
  login && [login.username, Buffer.from(login.password).toString("latin1")];

describe("SASL PLAIN (RFC 4616)", () => {
  test.each([
    ["memjs and Dalli leave the authorization identity out", "\0user\0pass", ["user", "pass"]],
    ["libmemcached repeats the user", "user\0user\0pass", ["user", "pass"]],
    ["an empty password is a password", "\0user\0", ["user", ""]],
    ["a password of any bytes", "\0user\0\xff\r\n\x01 pass", ["user", "\xff\r\n\x01 pass"]],
  ])("%s", (_, message, expected) => {
    expect(asText(parseSaslPlain(bytesOf(message)))).toEqual(expected);
  });

  test.each([
    ["nothing", ""],
    ["no NUL", "user pass"],
    ["one NUL", "user\0pass"],
    ["one NUL at the start", "\0user"],
    ["three NULs", "\0user\0pass\0"],
    ["no user", "\0\0pass"],
    ["nothing but NULs", "\0\0"],
    ["no user, but whom to act for", "user\0\0pass"],
  ])("%s is no login", (_, message) => {
    expect(parseSaslPlain(bytesOf(message))).toBeNull();
  });

  test("nobody logs in as himself to act for somebody else", () => {
    expect(parseSaslPlain(bytesOf("admin\0user\0pass"))).toBeNull();
  });

  test("a username is UTF-8", () => {
    const login = parseSaslPlain(Buffer.from("\0käse\0pass"));
    expect(login?.username).toBe("käse");
  });

  test("a password stays the bytes of the message", () => {
    const message = bytesOf("\0user\0secret");
    const password = parseSaslPlain(message)?.password;
    message.fill(0x78);
    expect(Buffer.from(password ?? "").toString()).toBe("xxxxxx");
  });
});

describe("the first set of a text connection", () => {
  test.each([
    ["key and value are username and password", "user", "pass", ["user", "pass"]],
    ["memcached's own form: the value holds both", "ignored", "user pass", ["user", "pass"]],
    ["only the first blank separates", "ignored", "user pass word", ["user", "pass word"]],
    ["an empty password", "user", "", ["user", ""]],
    ["an empty password in memcached's own form", "ignored", "user ", ["user", ""]],
    ["bytes of any kind", "us\xe9r", "\xff\0\xfe", ["us\ufffdr", "\xff\0\xfe"]],
  ])("%s", (_, key, value, expected) => {
    expect(asText(parseTextLogin(bytesOf(key), bytesOf(value)))).toEqual(expected);
  });

  test("a value that begins with a blank names nobody", () => {
    expect(parseTextLogin(bytesOf("user"), bytesOf(" pass"))).toBeNull();
  });
});

describe("a login as it comes over the wire", () => {
  const sasl = (value: Buffer): Buffer => packet({ opcode: "saslAuth", key: "PLAIN", value });

  test("SASL AUTH carries the mechanism as key and the message as value", () => {
    const seen = look("binary", sasl(Buffer.from("\0user\0pass")));
    expect(seen).toMatchObject({ command: "login", key: "PLAIN", value: "\0user\0pass" });
  });

  test("a message of 2,048 bytes is read, a longer one refused and skipped", () => {
    expect(look("binary", sasl(Buffer.alloc(2_048)))).toMatchObject({ verdict: "framed" });
    const raw = sasl(Buffer.alloc(2_049));
    const refusal = { verdict: "refused", problem: "tooLarge", size: raw.length };
    expect(look("binary", raw)).toMatchObject(refusal);
    expect(look("binary", raw, 24 + 5)).toMatchObject(refusal);
  });
});

test("the first byte tells the dialect", () => {
  for (let first = 0; first < 256; first++) {
    const expected = first === 0x80 ? "binary" : first === 0x16 ? "tls" : "text";
    expect(detectDialect(first)).toBe(expected);
  }
});
