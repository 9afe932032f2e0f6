/** Wrong logins by address: how many, for how long, and that nobody is locked out for ever. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { Gate, WRONG_LOGINS_MAX } from "../../control/gate.ts";
import { createToken } from "../../control/operations/tokens.ts";
import { type Desk, OPERATOR, openDesk, resultOf } from "./operations/desk.ts";

const HOME = "192.0.2.1";
let desk: Desk;
let nowMs = 0;
let gate: Gate;
let token = "";

beforeEach(async () => {
  desk = await openDesk();
  nowMs = 0;
  gate = new Gate({ ...desk, clock: { nowMs: () => nowMs, unixMs: () => Date.now() } });
  token = resultOf(await createToken(desk, OPERATOR, { name: "a", role: "viewer" })).token;
});
afterEach(() => desk.close());

const wrong = (address = HOME) => gate.operatorOf(`${token.slice(0, -1)}1`, address);
const right = (address = HOME) => gate.operatorOf(token, address);
async function exhaust(address: string): Promise<void> {
  for (let n = 0; n < WRONG_LOGINS_MAX; n++) expect(await wrong(address)).toBe(401);
}

test("right logins cost nothing, however many", async () => {
  for (let n = 0; n < 50; n++) expect(await right()).toEqual({ name: "a", role: "viewer" });
});

test("after too many wrong ones an address waits, and is told how long", async () => {
  await exhaust(HOME);
  expect(await right()).toBe(429);
  const seconds = gate.retryAfterSeconds(HOME);
  nowMs += (seconds + 1) * 1000;
  expect(await right()).toMatchObject({ name: "a" });
  expect(gate.rejected.get(401)).toBe(WRONG_LOGINS_MAX);
  expect(gate.rejected.get(429)).toBe(1);
});

test("many at once are no way around", async () => {
  const statuses = await Promise.all(Array.from({ length: 30 }, () => wrong()));
  expect(statuses.filter((status) => status === 401)).toHaveLength(WRONG_LOGINS_MAX);
});

test("addresses of one IPv6 network count together, others alone", async () => {
  await exhaust("2001:db8:1:2::1");
  expect(await right("2001:db8:1:2:3:4:5:6")).toBe(429);
  expect(await right("2001:db8:1:3::1")).toMatchObject({ name: "a" });
  await exhaust("2001:db8::1");
  expect(await right("2001:db8::2:3:4:5")).toBe(429);
});
