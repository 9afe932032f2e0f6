/** Chosen passwords: checked once, by few threads at a time, for everybody in turn. */
import { describe, expect, test } from "vitest";
import { digestOf, type ScryptDigest, scryptDigestOf } from "../../../core/cluster/credentials.ts";
import { type Credential, credentialRecord } from "../../../core/cluster/records.ts";
import {
  CHECKS_OF_SOURCE_MAX,
  CHECKS_RUNNING_MAX,
  CHECKS_WAITING_MAX,
  Passwords,
} from "../../../proxy/tenant/passwords.ts";
import { Login, type Tenant } from "../../../proxy/tenant/tenant.ts";
import { until } from "../../core/io/pair.ts";

const bytes = (text: string): Buffer => Buffer.from(text);
const tenant = { id: "c1" } as Tenant;
const loginWith = (digest: Credential["digest"], username = "u"): Login =>
  new Login(
    username,
    tenant,
    credentialRecord.parse({ cache: "c1", digest, rights: ["read"], createdAtMs: 1 }),
  );

/** Checks that end when the test says so. */
class HeldChecks {
  readonly started: string[] = [];
  readonly #ends: ((isRight: boolean) => void)[] = [];
  readonly verify = (_: ScryptDigest | undefined, password: Uint8Array): Promise<boolean> => {
    this.started.push(Buffer.from(password).toString());
    return new Promise((resolve) => this.#ends.push(resolve));
  };
  async end(isRight = false): Promise<void> {
    this.#ends.shift()?.(isRight);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const HELD = loginWith({
  algorithm: "scrypt",
  salt: "c2FsdA==",
  hash: "aGFzaA==",
  cost: 1024,
  blockSize: 1,
});

describe("a chosen password", () => {
  test("is right once it was checked, and wrong ones stay wrong", async () => {
    const login = loginWith(await scryptDigestOf("hunter2"));
    const passwords = new Passwords();
    expect(passwords.isRight(login, bytes("hunter2"))).toBe(false);
    for (const password of ["hunter3", "hunter2"]) {
      let isDone = false;
      passwords.check(login, bytes(password), "10.0.0.1", () => {
        isDone = true;
      });
      await until("it is checked", () => isDone);
      expect(passwords.isRight(login, bytes(password))).toBe(password === "hunter2");
    }
    expect(passwords.isRight(login, bytes("hunter3"))).toBe(false);
    login.follow(
      credentialRecord.parse({
        cache: "c1",
        digest: await scryptDigestOf("new"),
        rights: ["read"],
        createdAtMs: 1,
      }),
    );
    expect(passwords.isRight(login, bytes("hunter2"))).toBe(false);
  });

  test("is not remembered for another digest than the one that was checked", async () => {
    const held = new HeldChecks();
    const passwords = new Passwords(undefined, held.verify);
    const login = loginWith(HELD.digest);
    passwords.check(login, bytes("old"), "a", () => {});
    login.follow(
      credentialRecord.parse({
        cache: "c1",
        digest: { ...HELD.digest, hash: "b3RoZXI=" },
        rights: ["read"],
        createdAtMs: 1,
      }),
    );
    await held.end(true);
    expect(login.remembered).toBeNull();
  });

  test("that many sessions send at once is checked once", async () => {
    const held = new HeldChecks();
    const passwords = new Passwords(undefined, held.verify);
    let doneCount = 0;
    for (let count = 0; count < 500; count++) {
      passwords.check(HELD, bytes("same"), `10.0.0.${count % 200}`, () => doneCount++);
    }
    expect(held.started).toEqual(["same"]);
    await held.end(true);
    expect(doneCount).toBe(500);
    expect(passwords.isRight(HELD, bytes("same"))).toBe(true);
    expect([passwords.runningCount, passwords.waitingCount]).toEqual([0, 0]);
  });
});

test("a generated password is checked in passing", () => {
  const login = loginWith(digestOf("generated"));
  const passwords = new Passwords();
  expect(passwords.isRight(login, bytes("generated"))).toBe(true);
  expect(passwords.isRight(login, bytes("other"))).toBe(false);
  expect(passwords.isRight(undefined, bytes("generated"))).toBe(false);
});

describe("checks that strangers cause", () => {
  test("run few at a time, and few of one source wait", () => {
    const held = new HeldChecks();
    const passwords = new Passwords(undefined, held.verify);
    const answers = Array.from({ length: 100 }, (_, i) =>
      passwords.check(HELD, bytes(`guess-${i}`), "10.0.0.1", () => {}),
    );
    expect(held.started).toHaveLength(CHECKS_RUNNING_MAX);
    expect(answers.filter((answer) => answer !== null)).toHaveLength(CHECKS_OF_SOURCE_MAX);
  });

  test("of many sources are bounded all together", () => {
    const held = new HeldChecks();
    const passwords = new Passwords(undefined, held.verify);
    for (let i = 0; i < 2_000; i++) {
      passwords.check(undefined, bytes("guess"), `source-${i}`, () => {});
    }
    expect(passwords.waitingCount).toBe(CHECKS_WAITING_MAX);
    expect(passwords.runningCount).toBe(CHECKS_RUNNING_MAX);
  });

  test("do not keep another source from its turn", async () => {
    const held = new HeldChecks();
    const passwords = new Passwords(undefined, held.verify);
    for (let i = 0; i < 8; i++) passwords.check(HELD, bytes(`guess-${i}`), "stranger", () => {});
    passwords.check(HELD, bytes("right"), "owner", () => {});
    await held.end();
    await held.end();
    expect(held.started.slice(0, CHECKS_RUNNING_MAX + 2)).toContain("right");
  });

  test("are not made for sessions that have gone", async () => {
    const held = new HeldChecks();
    const passwords = new Passwords(undefined, held.verify);
    const checks = Array.from({ length: 8 }, (_, i) =>
      passwords.check(HELD, bytes(`guess-${i}`), "stranger", () => expect.unreachable()),
    );
    for (const check of checks) check?.leave();
    expect(passwords.waitingCount).toBe(0);
    for (let i = 0; i < CHECKS_RUNNING_MAX; i++) await held.end();
    expect(held.started).toHaveLength(CHECKS_RUNNING_MAX);
    expect(passwords.runningCount).toBe(0);
    expect(passwords.check(HELD, bytes("next"), "stranger", () => {})).not.toBeNull();
  });

  test("that fail for want of memory answer no", async () => {
    let isDone = false;
    const passwords = new Passwords(undefined, () => Promise.reject(new Error("memory")));
    passwords.check(HELD, bytes("any"), "a", () => {
      isDone = true;
    });
    await until("it is answered", () => isDone);
    expect(passwords.runningCount).toBe(0);
  });
});
