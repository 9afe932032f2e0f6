/** SCRAM-SHA-256 with the example of RFC 7677, section 3. */
import { describe, expect, test } from "vitest";
import { firstMessage, isProven, prove } from "../../../monitor/xmpp/scram.ts";

const login = { username: "user", password: "pencil", nonce: "rOprNGfwEbeRWgbNEkqO" };
const NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SALT = "W22ZaJ0SNY7soEsUEjb6gQ==";
const CHALLENGE = `r=${NONCE},s=${SALT},i=4096`;
const LAST = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

test("the example of the specification", async () => {
  expect(firstMessage(login)).toBe("n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
  const proof = await prove(login, CHALLENGE);
  expect(proof?.message).toBe(`c=biws,r=${NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=`);
  expect(proof && isProven(proof, LAST)).toBe(true);
});

test("a name with a comma or an equals sign is escaped", () => {
  expect(firstMessage({ ...login, username: "a=b,c" })).toContain("n=a=3Db=2Cc,");
});

test.each([
  ["a changed signature", `v=A${LAST.slice(3)}`],
  ["a short one", "v=6rri"],
  ["none", "v="],
  ["an error", "e=other-error"],
  ["nothing", ""],
])("a server with %s has not proven that it knows the password", async (_, message) => {
  const proof = await prove(login, CHALLENGE);
  expect(proof && isProven(proof, message)).toBe(false);
});

describe("challenges that are not accepted", () => {
  test.each([
    ["somebody else's nonce", `r=zzz${NONCE},s=${SALT},i=4096`],
    ["our nonce and nothing added", `r=${login.nonce},s=${SALT},i=4096`],
    ["too few iterations", `r=${NONCE},s=${SALT},i=4095`],
    ["too many", `r=${NONCE},s=${SALT},i=1000001`],
    ["a number without end", `r=${NONCE},s=${SALT},i=${"9".repeat(400)}`],
    ["no salt", `r=${NONCE},s=,i=4096`],
    ["an extension that must be understood", `m=x,r=${NONCE},s=${SALT},i=4096`],
    ["more than any server says", `r=${NONCE},s=${SALT},i=4096,x=${"y".repeat(2_000)}`],
    ["nothing", ""],
  ])("%s", async (_, challenge) => {
    expect(await prove(login, challenge)).toBeUndefined();
  });
});
