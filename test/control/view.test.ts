/** The followed state: what it finds, that it forgets what is gone, and that waiting ends. */
import { expect, test } from "vitest";
import { View } from "../../control/view.ts";
import type { RecordOf } from "../../core/cluster/records.ts";
import type { Seen } from "../../core/cluster/state.ts";

type Watcher = { changed(seen: Seen[], revision: number): void; reset?(): void };

async function follow(): Promise<{ view: View; watcher: Watcher }> {
  let watcher: Watcher | undefined;
  const view = new View();
  await view.start({
    list: async () => ({ entries: [], revision: 1 }),
    watch: (_, given) => {
      watcher = given;
      return { close: () => {} };
    },
  });
  if (watcher === undefined) throw new Error("it does not watch");
  return { view, watcher };
}

const cache = (id: string, name: string): Seen => {
  const value = { name, bytes: 1024 ** 2 } as RecordOf<"cache">;
  return { kind: "cache", id, value, revision: 2 };
};
const credential = (id: string, cacheId: string, primary = false): Seen => {
  const digest = { algorithm: "sha256", salt: "", hash: "" } as const;
  const rest = { rights: [], networks: [], expiresAtMs: 5, keyPrefix: "", label: "" };
  const value = { cache: cacheId, digest, primary, ...rest, replacedBy: null, createdAtMs: 0 };
  return { kind: "credential", id, value: value as RecordOf<"credential">, revision: 2 };
};
const gone = (kind: "cache" | "credential", id: string): Seen =>
  ({ kind, id, value: null, revision: 3 }) as Seen;

test("caches are found by id and by name, credentials by cache", async () => {
  const { view, watcher } = await follow();
  watcher.changed([cache("c1", "shop"), credential("b", "c1", true), credential("a", "c1")], 2);
  expect(view.cache("shop")?.id).toBe("c1");
  expect(view.cache("c1")?.value.name).toBe("shop");
  expect(view.credentialsOf("c1").map(({ id }) => id)).toEqual(["a", "b"]);
  expect([...view.primariesOf("c1")]).toEqual(["b"]);
  expect([...view.expiring.keys()]).toEqual(["b", "a"]);
  expect(JSON.stringify([...view.credentials.values()])).not.toContain("digest");
  watcher.changed([gone("credential", "b"), gone("cache", "c1")], 3);
  expect(view.cache("shop")).toBeUndefined();
  expect([...view.usernamesOf("c1")]).toEqual(["a"]);
  expect(view.primariesOf("c1").size).toBe(0);
});

test("what was missed is forgotten when all is told anew", async () => {
  const { view, watcher } = await follow();
  watcher.changed([cache("c1", "old"), credential("a", "c1", true)], 2);
  watcher.reset?.();
  watcher.changed([cache("c2", "new")], 9);
  expect(view.cache("old")).toBeUndefined();
  expect([view.credentials.size, view.expiring.size, view.primariesOf("c1").size]).toEqual([
    0, 0, 0,
  ]);
  expect(view.cache("new")?.id).toBe("c2");
  expect(view.revision).toBe(9);
});

test("who waits for a revision goes on when it is seen, or when it does not come", async () => {
  const { view, watcher } = await follow();
  const seen = view.reached(5);
  watcher.changed([cache("c1", "shop")], 5);
  await seen;
  expect(view.revision).toBe(5);
  expect(await view.until(() => view.revision > 99, 5)).toBe(false);
});
