import { describe, expect, test } from "vitest";
import type { Ejection, StandIn } from "../../../core/cluster/records.ts";
import { Detours } from "../../../proxy/tenant/detours.ts";

const ejection = (serial: string, standIns = ["n2", "n3"]): Ejection => {
  return { cache: "c", node: "n1", serial, standIns, reason: "refused", seenBy: [], atMs: 0 };
};
const standIn = (host: string, serial: string): StandIn => {
  return { cache: "c", node: "n1", host, serial, address: `unix:/${host}-${serial}` };
};
const plain = (detours: Detours, revision: number) =>
  Object.fromEntries(
    [...detours.inForce(revision)].map(([node, hosts]) => [node, Object.fromEntries(hosts)]),
  );

describe("a detour", () => {
  test("leads nowhere until all proxies have left the shard, then to its stand-ins", () => {
    const detours = new Detours();
    detours.ejectionSeen("n1", ejection("a"), 10);
    detours.standInSeen("n1", "n2", standIn("n2", "a"));
    detours.standInSeen("n1", "n3", standIn("n3", "a"));
    expect(plain(detours, 9)).toEqual({ n1: {} });
    expect(plain(detours, 10)).toEqual({ n1: { n2: "unix:/n2-a", n3: "unix:/n3-a" } });
  });

  test("keeps a place for stand-ins that are not open yet: keys must not move twice", () => {
    const detours = new Detours();
    detours.ejectionSeen("n1", ejection("a"), 10);
    detours.standInSeen("n1", "n3", standIn("n3", "a"));
    expect(plain(detours, 10)).toEqual({ n1: { n2: null, n3: "unix:/n3-a" } });
  });

  test("never leads to stand-ins of another ejection", () => {
    const detours = new Detours();
    detours.ejectionSeen("n1", ejection("b"), 10);
    detours.standInSeen("n1", "n2", standIn("n2", "a"));
    expect(plain(detours, 10)).toEqual({ n1: { n2: null, n3: null } });
  });

  test("is over when all proxies know that the shard is back, not before", () => {
    const detours = new Detours();
    detours.ejectionSeen("n1", ejection("a"), 10);
    detours.ejectionSeen("n1", null, 20);
    expect(plain(detours, 19)).toEqual({ n1: {} });
    expect(detours.isEmpty).toBe(false);
    expect(plain(detours, 20)).toEqual({});
    expect(detours.isEmpty).toBe(true);
  });

  test("says whether keys wait for proxies, at either end of it", () => {
    const detours = new Detours();
    expect(detours.isWaiting(0)).toBe(false);
    detours.ejectionSeen("n1", ejection("a"), 10);
    expect([9, 10].map((revision) => detours.isWaiting(revision))).toEqual([true, false]);
    detours.ejectionSeen("n1", null, 20);
    expect([19, 20].map((revision) => detours.isWaiting(revision))).toEqual([true, false]);
  });

  test("that begins again waits for all proxies again", () => {
    const detours = new Detours();
    detours.ejectionSeen("n1", ejection("a"), 10);
    detours.standInSeen("n1", "n2", standIn("n2", "b"));
    detours.ejectionSeen("n1", ejection("b", ["n2"]), 30);
    expect(plain(detours, 29)).toEqual({ n1: {} });
    expect(plain(detours, 30)).toEqual({ n1: { n2: "unix:/n2-b" } });
  });

  test("is not made by the end of an ejection that was never seen", () => {
    const detours = new Detours();
    detours.ejectionSeen("n1", null, 20);
    expect(detours.isEmpty).toBe(true);
  });
});
