/** Operators' tokens and the audit log: somebody can always make another, old records go. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { listAudit } from "../../../control/operations/audit.ts";
import { createCache } from "../../../control/operations/caches.ts";
import { createToken, deleteToken, listTokens } from "../../../control/operations/tokens.ts";
import { expireDue, tidy } from "../../../control/upkeep.ts";
import { actionsOf, type Desk, OPERATOR, openDesk, problemOf, resultOf } from "./desk.ts";

let desk: Desk;
beforeEach(async () => {
  desk = await openDesk();
});
afterEach(() => desk.close());

const make = async (name: string, role: "viewer" | "owner", expiresAt?: string) =>
  resultOf(await createToken(desk, OPERATOR, { name, role, expiresAt }));
const soon = () => new Date(desk.clock.unixMs() + 1000).toISOString();

test("of two owners that are deleted at the same time one stays", async () => {
  const [one, two] = [await make("one", "owner"), await make("two", "owner")];
  const other = await openDesk({ path: desk.path });
  const outcomes = await Promise.all([
    deleteToken(desk, OPERATOR, one.id),
    deleteToken(other, OPERATOR, two.id),
  ]);
  expect(outcomes.filter(({ ok }) => ok)).toHaveLength(1);
  expect((await desk.state.list("token")).entries).toHaveLength(1);
  await other.close();
});

test("an owner that expires is none that could remain", async () => {
  const { id } = await make("forever", "owner");
  await make("soon", "owner", soon());
  expect(problemOf(await deleteToken(desk, OPERATOR, id))).toMatchObject({ kind: "forbidden" });
});

test("a token whose time has come is deleted, and the audit log says by whom", async () => {
  await make("forever", "owner");
  await make("guest", "viewer", soon());
  desk.pass(2_000);
  await expireDue(desk);
  expect(listTokens(desk).map(({ name }) => name)).toEqual(["forever"]);
  const { records } = resultOf(await listAudit(desk, { limit: 1 }));
  expect(records).toMatchObject([
    { actor: "system:expiry", action: "token.expire", subject: "guest" },
  ]);
});

test("audit records are kept for so many days", async () => {
  await make("old", "viewer");
  desk.pass(401 * 24 * 3600 * 1000);
  await make("new", "viewer");
  await tidy(desk);
  const { entries } = await desk.state.list("audit");
  expect(entries.map(({ value }) => value.subject)).toEqual(["new"]);
});

test("the audit log of one cache is found among many others, also when the cache is gone", async () => {
  const { id } = resultOf(await createCache(desk, OPERATOR, { name: "shop", plan: "25mb" }));
  for (let n = 0; n < 20; n++) await make(`token ${n}`, "viewer");
  const { records, next } = resultOf(await listAudit(desk, { cache: id, limit: 1 }));
  expect(records).toMatchObject([{ action: "cache.create", subject: "shop" }]);
  const rest = resultOf(await listAudit(desk, { cache: id, limit: 1, before: next ?? "" }));
  expect(rest).toEqual({ records: [], next: null });
  expect(await actionsOf(desk)).toHaveLength(21);
});
