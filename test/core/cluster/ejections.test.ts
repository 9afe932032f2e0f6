import { describe, expect, test } from "vitest";
import { type CacheView, decideEjection } from "../../../core/cluster/ejections.ts";
import type { Ejection, Suspicion, SuspicionReason } from "../../../core/cluster/records.ts";

type Setup = {
  /** Proxies that live; three by default. */
  proxies?: string[];
  /** What each shard is suspected of, by node and proxy. */
  suspicions?: Record<string, Record<string, SuspicionReason>>;
  /** Stand-ins of the shards that are out. */
  ejected?: Record<string, { standIns: string[]; reason?: SuspicionReason }>;
  clearedFor?: Record<string, string>;
  notReady?: string[];
  nodes?: string[];
  /** Nodes whose agent has gone. */
  away?: string[];
  /** Shards on servers of others. */
  foreign?: string[];
  pids?: Record<string, number>;
};

function viewOf(setup: Setup): CacheView {
  const { proxies = ["p1", "p2", "p3"], suspicions = {}, ejected = {}, notReady = [] } = setup;
  const nodes = setup.nodes ?? ["n1", "n2", "n3", "n4"];
  const suspicionOf = (node: string, proxy: string, reason: SuspicionReason): Suspicion => {
    return { cache: "c", node, proxy, reason, sinceMs: 0 };
  };
  const ejectionOf = (node: string): Ejection => {
    const { standIns = [], reason = "refused" } = ejected[node] ?? {};
    return { cache: "c", node, serial: `s-${node}`, standIns, reason, seenBy: ["p1"], atMs: 0 };
  };
  return {
    proxies: new Set(proxies),
    pids: new Map(Object.entries(setup.pids ?? {})),
    nodes: new Set(nodes.filter((node) => !setup.away?.includes(node))),
    shards: new Map(
      nodes.map((node) => [
        node,
        {
          state: notReady.includes(node) ? "starting" : "ready",
          clearedFor: setup.clearedFor?.[node] ?? "",
          stamp: setup.foreign?.includes(node) ? "stamp" : "",
        },
      ]),
    ),
    ejections: new Map(Object.keys(ejected).map((node) => [node, ejectionOf(node)])),
    suspicions: new Map(
      Object.entries(suspicions).map(([node, by]) => [
        node,
        new Map(
          Object.entries(by).map(([proxy, reason]) => [proxy, suspicionOf(node, proxy, reason)]),
        ),
      ]),
    ),
  };
}

const decide = (setup: Setup, node = "n1") => decideEjection(viewOf(setup), node);

describe("a shard that may still apply a change nobody was told of", () => {
  const suspicions = { n1: { p2: "unconfirmed" } } as const;

  test("is emptied when one proxy says so", () => {
    expect(decide({ suspicions })).toEqual({
      do: "eject",
      reason: "unconfirmed",
      seenBy: ["p2"],
      standIns: ["n2", "n3", "n4"],
    });
  });

  test("is emptied, too, where nobody can stand in: its keys have nobody for a moment", () => {
    const alone = { do: "eject", reason: "unconfirmed", seenBy: ["p2"], standIns: [] };
    expect(decide({ suspicions, nodes: ["n1"] })).toEqual(alone);
    const pids = { n1: 7, n2: 7 };
    expect(decide({ suspicions, nodes: ["n1", "n2"], pids })).toEqual(alone);
  });

  test("returns when it was emptied", () => {
    const ejected = { n1: { standIns: [], reason: "unconfirmed" as const } };
    expect(decide({ ejected, nodes: ["n1"] })).toEqual({ do: "keep" });
    expect(decide({ ejected, nodes: ["n1"], clearedFor: { n1: "s-n1" } })).toEqual({
      do: "readmit",
    });
  });

  test("does not stand in for another", () => {
    const both = { n1: { p1: "refused", p2: "refused" }, n2: { p3: "unconfirmed" } } as const;
    expect(decide({ suspicions: both })).toMatchObject({ standIns: ["n3", "n4"] });
  });
});

describe("a slow shard stays", () => {
  const slow = { p1: "slow", p2: "slow" } as const;

  test("while half of those that would carry its keys are doubted by anybody", () => {
    const doubted = { n1: slow, n2: { p3: "slow" } } as const;
    expect(decide({ suspicions: doubted })).toMatchObject({ do: "eject" });
    const more = { ...doubted, n3: { p3: "timeouts" } } as const;
    expect(decide({ suspicions: more })).toEqual({ do: "keep" });
    expect(decide({ suspicions: { ...more, n1: { p1: "refused", p2: "slow" } } })).toMatchObject({
      do: "eject",
    });
  });

  test("while those are not there", () => {
    expect(decide({ suspicions: { n1: slow }, notReady: ["n2", "n3"] })).toEqual({ do: "keep" });
  });
});

describe("a shard leaves routing", () => {
  test("when most proxies would not use it; the others stand in", () => {
    const suspicions = { n1: { p1: "refused", p3: "slow" } } as const;
    expect(decide({ suspicions })).toEqual({
      do: "eject",
      reason: "refused",
      seenBy: ["p1", "p3"],
      standIns: ["n2", "n3", "n4"],
    });
  });

  test("not when a single one of several would not: that is its own connection", () => {
    expect(decide({ suspicions: { n1: { p1: "refused" } } })).toEqual({ do: "keep" });
    expect(decide({ proxies: ["p1", "p2"], suspicions: { n1: { p1: "refused" } } })).toEqual({
      do: "keep",
    });
  });

  test("when the only proxy would not use it", () => {
    const setup = { proxies: ["p1"], suspicions: { n1: { p1: "stalled" } } } as const;
    expect(decide({ ...setup, proxies: ["p1"] })).toMatchObject({ do: "eject" });
  });

  test("not on the word of proxies that are gone", () => {
    const suspicions = { n1: { p1: "refused", gone: "refused" } } as const;
    expect(decide({ suspicions })).toEqual({ do: "keep" });
  });

  test("not when nobody could stand in", () => {
    const suspicions = { n1: { p1: "refused", p2: "refused" } } as const;
    expect(decide({ suspicions, nodes: ["n1"] })).toEqual({ do: "keep" });
    expect(decide({ suspicions, nodes: ["n1", "n2"], notReady: ["n2"] })).toEqual({ do: "keep" });
  });

  test("not to nodes of the same process: they fail together", () => {
    const suspicions = { n1: { p1: "refused", p2: "refused" } } as const;
    const pids = { n1: 7, n2: 7, n3: 8 };
    expect(decide({ suspicions, pids })).toMatchObject({ standIns: ["n3", "n4"] });
    const all = { n1: 7, n2: 7, n3: 7, n4: 7 };
    expect(decide({ suspicions, pids: all })).toEqual({ do: "keep" });
  });

  test("with stand-ins that are in routing themselves, and not about to leave it", () => {
    const suspicions = {
      n1: { p1: "refused", p2: "refused" },
      n2: { p1: "refused", p2: "refused" },
    } as const;
    const ejected = { n3: { standIns: ["n4"] } };
    expect(decide({ suspicions, ejected })).toMatchObject({ standIns: ["n4"] });
  });
});

describe("slowness", () => {
  const slow = { p1: "slow", p2: "slow", p3: "slow" } as const;

  test("puts out a third of the shards at most, and always one", () => {
    const nodes = ["n1", "n2", "n3", "n4", "n5", "n6"];
    const one = { n2: { standIns: ["n6"], reason: "slow" as const } };
    const two = { ...one, n3: { standIns: ["n6"], reason: "slow" as const } };
    expect(decide({ nodes, suspicions: { n1: slow }, ejected: one })).toMatchObject({
      do: "eject",
    });
    expect(decide({ nodes, suspicions: { n1: slow }, ejected: two })).toEqual({ do: "keep" });
    expect(decide({ nodes: ["n1", "n2"], suspicions: { n1: slow } })).toMatchObject({
      do: "eject",
    });
    const four = { n2: { standIns: ["n3"], reason: "slow" as const } };
    expect(decide({ suspicions: { n1: slow }, ejected: four })).toEqual({ do: "keep" });
  });

  test("has no say about shards that are gone", () => {
    const ejected = { n2: { standIns: ["n3"], reason: "slow" as const } };
    const refused = { p1: "refused", p2: "slow" } as const;
    expect(decide({ suspicions: { n1: refused }, ejected })).toMatchObject({
      do: "eject",
      reason: "refused",
    });
  });
});

describe("an ejected shard", () => {
  const ejected = { n1: { standIns: ["n2", "n3"] } };

  test("returns when it was emptied for this ejection and most proxies would use it", () => {
    const cleared = { clearedFor: { n1: "s-n1" } };
    expect(decide({ ejected, ...cleared })).toEqual({ do: "readmit" });
    const one = { suspicions: { n1: { p1: "slow" as const } } };
    expect(decide({ ejected, ...cleared, ...one })).toEqual({ do: "readmit" });
  });

  test("does not return before", () => {
    expect(decide({ ejected })).toEqual({ do: "keep" });
    expect(decide({ ejected, clearedFor: { n1: "an earlier one" } })).toEqual({ do: "keep" });
    expect(decide({ ejected, clearedFor: { n1: "s-n1" }, notReady: ["n1"] })).toEqual({
      do: "keep",
    });
    const most = { n1: { p1: "refused", p2: "slow" } } as const;
    expect(decide({ ejected, clearedFor: { n1: "s-n1" }, suspicions: most })).toEqual({
      do: "keep",
    });
  });

  test("gets others when the agent of a stand-in has gone: nobody opens or serves it", () => {
    expect(decide({ ejected, away: ["n2"] })).toMatchObject({
      do: "eject",
      standIns: ["n3", "n4"],
    });
    expect(decide({ ejected, away: ["n2"], foreign: ["n2"] })).toEqual({ do: "keep" });
    // All of them seem gone while the state itself was away.
    expect(decide({ ejected, away: ["n1", "n2", "n3", "n4"] })).toEqual({ do: "keep" });
  });

  test("is forgotten when its cache has left the node", () => {
    expect(decide({ ejected, nodes: ["n2", "n3"] })).toEqual({ do: "readmit" });
  });

  test("gets new stand-ins, all of them fresh, when one of them fails", () => {
    const most = { p1: "refused", p2: "refused" } as const;
    expect(decide({ ejected, suspicions: { n1: most, n3: most } })).toMatchObject({
      do: "eject",
      standIns: ["n2", "n4"],
    });
  });

  test("keeps what is left of its stand-ins when nobody could replace them", () => {
    const nodes = ["n1", "n2"];
    const setup = { nodes, ejected: { n1: { standIns: ["n2"] } }, notReady: ["n2"] };
    expect(decide(setup)).toEqual({ do: "keep" });
  });
});

describe("a shard on probation", () => {
  const unproven = { p1: "unproven", p2: "unproven", p3: "unproven" } as const;
  const failing = { p1: "probe_failed", p2: "probe_failed", p3: "unproven" } as const;
  const nodes = ["n1", "n2", "n3"];
  const two = { n1: { standIns: ["n3"] }, n2: { standIns: ["n3"] } };
  const clearedFor = { n1: "s-n1" };

  test("waits while half of the shards or more carry its keys", () => {
    const setup = { ejected: { n1: { standIns: ["n2", "n3"] } }, clearedFor };
    expect(decide({ ...setup, nodes, suspicions: { n1: unproven } })).toEqual({ do: "keep" });
  });

  test("returns when fewer are left", () => {
    const setup = { nodes, ejected: two, suspicions: { n1: unproven } };
    expect(decide({ ...setup, clearedFor })).toEqual({ do: "readmit" });
    expect(decide(setup)).toEqual({ do: "keep" });
  });

  test("returns when nobody stands in for it, however many there are", () => {
    const suspicions = { n1: unproven };
    const alone = { ejected: { n1: { standIns: [] } }, suspicions, clearedFor };
    expect(decide(alone)).toEqual({ do: "readmit" });
    const doubted = { p1: "timeouts", p2: "timeouts" } as const;
    const failed = { ejected: { n1: { standIns: ["n2"] } }, clearedFor };
    expect(decide({ ...failed, suspicions: { ...suspicions, n2: doubted } })).toEqual({
      do: "readmit",
    });
  });

  test("is not sent back because its proof was cut short", () => {
    const carried = { ejected: { n2: { standIns: ["n3"] } }, nodes };
    for (const n1 of [unproven, failing]) {
      expect(decide({ ...carried, suspicions: { n1 } })).toEqual({ do: "keep" });
      expect(decide({ ...carried, suspicions: { n1 } }, "n2")).toEqual({ do: "keep" });
    }
  });

  test("stays out while its canaries fail in most proxies", () => {
    const setup = { nodes, ejected: two, clearedFor };
    expect(decide({ ...setup, suspicions: { n1: failing } })).toEqual({ do: "keep" });
  });
});
