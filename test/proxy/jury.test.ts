/** Juries of several proxies on one real cluster state: what they decide together. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Ejection } from "../../core/cluster/records.ts";
import { openSqliteState } from "../../core/cluster/sqlite.ts";
import type { ClusterState } from "../../core/cluster/state.ts";
import { createLog } from "../../core/runtime/log.ts";
import { Jury } from "../../proxy/jury.ts";

const WAIT = { timeout: 10_000 };
const SHARD = "c/n1";
const log = createLog({ name: "test", level: "silent" });

let folder: string;
let state: ClusterState;
let closing: (() => Promise<void>)[];
/** What canaries take, in milliseconds, by address; null when they fail, 1 if not said. */
let canaries: Map<string, number | null>;
let isStarved: boolean;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "memward-jury-"));
  state = openSqliteState({ path: join(folder, "state.db"), pollMs: 5 });
  closing = [];
  canaries = new Map();
  isStarved = false;
  for (const node of ["n1", "n2", "n3"]) {
    await writeNode(node);
    await writeShard(node);
  }
});

afterEach(async () => {
  for (const close of closing.reverse()) await close();
  await state.close();
  await rm(folder, { recursive: true, force: true });
});

async function writeShard(node: string, clearedFor = ""): Promise<void> {
  const value = { cache: "c", node, address: `h:${node}`, bytes: 1, epoch: 1, clearedFor };
  const commit = await state.commit([
    { kind: "shard", id: `c/${node}`, value: { ...value, state: "ready" } },
  ]);
  expect(commit.ok).toBe(true);
}

/** As its agent says that it lives. */
async function writeNode(node: string): Promise<void> {
  const value = { pid: 1, engine: "memcached" as const, ready: true, startedAtMs: 0 };
  expect((await state.commit([{ kind: "node", id: node, value }])).ok).toBe(true);
}

async function startJury(proxy: string): Promise<Jury> {
  const own = openSqliteState({ path: join(folder, "state.db"), pollMs: 5 });
  const lease = await own.lease({ ttlMs: 5_000 });
  const value = { pid: 1, addresses: [], ready: true, appliedRevision: 0, startedAtMs: 0 };
  await own.commit([{ kind: "proxy", id: proxy, value, lease }]);
  const jury = new Jury({
    state: own,
    log,
    proxy,
    probe: async (address) => canaries.get(address) ?? (canaries.has(address) ? null : 1),
    isStarved: () => isStarved,
  });
  jury.start();
  await settled();
  closing.push(async () => {
    await jury.close();
    await own.close();
  });
  return jury;
}

const ejection = async (): Promise<Ejection | undefined> =>
  (await state.get("ejection", SHARD))?.value;

async function ejected(): Promise<Ejection> {
  await expect.poll(ejection, WAIT).toBeDefined();
  return (await ejection()) as Ejection;
}

/** Long enough for every jury to have heard of everything. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 400));

describe("three proxies", () => {
  let juries: Jury[];
  beforeEach(async () => {
    juries = [await startJury("p1"), await startJury("p2"), await startJury("p3")];
  });

  test("eject what two of them would not use", async () => {
    canaries.set("h:n1", 20);
    juries[0]!.suspect(SHARD, "slow");
    await settled();
    expect(await ejection()).toBeUndefined();
    expect(juries[0]!.linkSuspicionCount).toBe(1);
    juries[1]!.suspect(SHARD, "slow");
    expect(await ejected()).toMatchObject({
      standIns: ["n2", "n3"],
      seenBy: ["p1", "p2"],
      reason: "slow",
    });
  });

  test("forget a suspicion that is over", async () => {
    canaries.set("h:n1", 20);
    juries[0]!.suspect(SHARD, "slow");
    await expect.poll(() => state.get("suspicion", `${SHARD}@p1`), WAIT).toBeDefined();
    juries[0]!.trust(SHARD);
    await expect.poll(() => state.get("suspicion", `${SHARD}@p1`), WAIT).toBeUndefined();
    juries[1]!.suspect(SHARD, "slow");
    await settled();
    expect(await ejection()).toBeUndefined();
  });

  test("look for themselves when another has trouble", async () => {
    canaries.set("h:n1", null);
    juries[2]!.suspect(SHARD, "stalled");
    expect((await ejected()).seenBy.length).toBeGreaterThan(1);
  });

  test("do not eject what answers canaries, nor when no shard does", async () => {
    for (const reason of ["timeouts", "slow"] as const) {
      for (const jury of juries) jury.suspect(SHARD, reason);
      await settled();
    }
    for (const node of ["n1", "n2", "n3"]) canaries.set(`h:${node}`, null);
    for (const jury of juries) jury.suspect(SHARD, "timeouts");
    await settled();
    expect((await state.list("suspicion")).entries).toEqual([]);
  });

  test("do not empty a shard twice because of one word", async () => {
    for (const node of ["n2", "n3"]) await state.commit([{ kind: "node", id: node, value: null }]);
    const serials = new Set<string>();
    const watch = state.watch((await state.list("ejection")).revision, {
      changed: (seen) => {
        for (const one of seen) {
          if (one.kind === "ejection" && one.value !== null) serials.add(one.value.serial);
        }
      },
    });
    juries[0]!.suspect(SHARD, "unconfirmed");
    const { serial } = await ejected();
    await writeShard("n1", serial);
    await expect.poll(ejection, WAIT).toBeUndefined();
    await settled();
    watch.close();
    expect([...serials]).toEqual([serial]);
  });

  test("readmit a shard that was emptied and answers canaries", async () => {
    canaries.set("h:n1", 20);
    for (const jury of juries) jury.suspect(SHARD, "slow");
    const { serial } = await ejected();
    await settled();
    expect(await ejection(), "not emptied yet").toMatchObject({ serial });
    await writeShard("n1", serial);
    await expect.poll(ejection, WAIT).toBeUndefined();
    await expect.poll(async () => (await state.list("suspicion")).entries, WAIT).toEqual([]);
    await settled();
    expect(await ejection(), "and it stays").toBeUndefined();
  });

  test.each([null, 200])("do not readmit one whose canaries take %s ms", async (ms) => {
    canaries.set("h:n1", ms);
    for (const jury of juries) jury.suspect(SHARD, ms === null ? "timeouts" : "slow");
    const { serial } = await ejected();
    await writeShard("n1", serial);
    await expect
      .poll(async () => (await state.get("suspicion", `${SHARD}@p2`))?.value.reason, WAIT)
      .toBe("probe_failed");
    expect(await ejection()).toMatchObject({ serial });
  });
});

describe("a single proxy", () => {
  test("brings a shard back that nobody stands in for, however often it came in vain", async () => {
    const jury = await startJury("p1");
    for (let round = 0; round < 4; round++) {
      jury.suspect(SHARD, "unconfirmed");
      const { serial } = await ejected();
      for (const node of ["n2", "n3"])
        await state.commit([{ kind: "node", id: node, value: null }]);
      await writeShard("n1", serial);
      // The fourth time it would be on probation for eight seconds.
      await expect.poll(ejection, { timeout: 4_000 }).toBeUndefined();
      for (const node of ["n2", "n3"]) await writeNode(node);
      await settled();
    }
  });

  test("begins no probation anew because others stand in", async () => {
    for (const node of ["n4", "n5"]) {
      await writeNode(node);
      await writeShard(node);
    }
    const jury = await startJury("p1");
    for (let round = 0; round < 2; round++) {
      jury.suspect(SHARD, "slow");
      canaries.set("h:n1", 20);
      const { serial } = await ejected();
      await writeShard("n1", serial);
      if (round > 0) break;
      await expect.poll(ejection, WAIT).toBeUndefined();
      await settled();
    }
    const { serial } = await ejected();
    await state.commit([{ kind: "node", id: "n2", value: null }]);
    await expect.poll(async () => (await ejection())?.standIns, WAIT).toEqual(["n3", "n4", "n5"]);
    await writeNode("n2");
    const again = (await ejection())?.serial ?? "";
    expect(again).not.toBe(serial);
    await writeShard("n1", again);
    // Two seconds, and not four, from its second absence on.
    await expect.poll(ejection, { timeout: 3_500 }).toBeUndefined();
  });

  test("decides alone", async () => {
    const jury = await startJury("p1");
    canaries.set("h:n1", null);
    jury.suspect(SHARD, "stalled");
    expect(await ejected()).toMatchObject({ seenBy: ["p1"], reason: "stalled" });
  });

  test("has patience on a starved machine: one canary in seconds is enough", async () => {
    const jury = await startJury("p1");
    isStarved = true;
    canaries.set("h:n1", null);
    jury.suspect(SHARD, "timeouts");
    await settled();
    canaries.delete("h:n1");
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect(await ejection()).toBeUndefined();
    canaries.set("h:n1", null);
    jury.suspect(SHARD, "timeouts");
    expect(await ejected()).toMatchObject({ reason: "timeouts" });
  });

  test("waits for nothing when replies are broken: no machine is too slow for that", async () => {
    const jury = await startJury("p1");
    isStarved = true;
    canaries.set("h:n1", null);
    jury.suspect(SHARD, "broken");
    await expect.poll(ejection, { timeout: 1_000 }).toMatchObject({ reason: "broken" });
  });

  test("does not call slow what its siblings are as well", async () => {
    const jury = await startJury("p1");
    for (const node of ["n1", "n2", "n3"]) canaries.set(`h:${node}`, 20);
    jury.suspect(SHARD, "slow");
    await settled();
    expect(await ejection()).toBeUndefined();
    canaries.set("h:n1", 100);
    jury.suspect(SHARD, "slow");
    expect(await ejected()).toMatchObject({ reason: "slow" });
  });

  test("empties a shard that does not say what became of a change, without asking further", async () => {
    const jury = await startJury("p1");
    jury.suspect(SHARD, "unconfirmed");
    expect(await ejected()).toMatchObject({ reason: "unconfirmed", standIns: ["n2", "n3"] });
  });

  test("that starts while a shard is out probes it, too", async () => {
    const value = { cache: "c", node: "n1", serial: "s", standIns: ["n2"], seenBy: ["gone"] };
    await state.commit([
      { kind: "ejection", id: SHARD, value: { ...value, reason: "refused", atMs: 0 } },
    ]);
    await writeShard("n1", "s");
    await startJury("p1");
    await expect.poll(ejection, WAIT).toBeUndefined();
  });

  test("waits longer each time a shard returns in vain", async () => {
    const jury = await startJury("p1");
    const waits: number[] = [];
    for (let round = 0; round < 2; round++) {
      canaries.set("h:n1", 20);
      jury.suspect(SHARD, "slow");
      const { serial } = await ejected();
      const fromMs = performance.now();
      await writeShard("n1", serial);
      await expect.poll(ejection, WAIT).toBeUndefined();
      waits.push(performance.now() - fromMs);
      await settled();
    }
    expect(waits[1]! - waits[0]!).toBeGreaterThan(500);
  });
});
