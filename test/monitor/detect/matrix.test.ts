/** Verdicts from the matrix of proxies and shards. */
import { describe, expect, test } from "vitest";
import { type Cell, judgeMatrix, type Matrix } from "../../../monitor/detect/matrix.ts";

const NOW_MS = 1_800_000_000_000;

/** Rows are proxies, columns shards; a number is the ticks in which that cell was bad. */
function matrixOf(
  columns: readonly string[],
  rows: Record<string, readonly (number | null)[]>,
  more: Partial<Matrix> = {},
): Matrix {
  const cells = Object.entries(rows).flatMap(([proxy, ticks]) =>
    ticks.flatMap((badTicks, index): Cell[] => {
      const [cache = "", node = ""] = columns[index]!.split("/");
      if (badTicks === null) return [];
      return [{ proxy, cache, node, badTicks, deadTicks: 0, what: "30 % slow" }];
    }),
  );
  return {
    cells,
    commonTicks: new Map(),
    starved: new Set(),
    confirmed: new Set(),
    probedBad: new Set(),
    probeCache: "memward-monitor",
    nameOf: (cache) => `name-of-${cache}`,
    ...more,
  };
}
const keysOf = (matrix: Matrix) =>
  judgeMatrix(matrix, NOW_MS).map(({ kind, subject }) => `${kind}:${subject}`);

const SHARDS = ["c1/n1", "c1/n2", "c1/n3", "c1/n4"];

describe("a verdict", () => {
  test("needs 15 of 20 ticks", () => {
    expect(keysOf(matrixOf(SHARDS, { p1: [14, 0, 0, 0], p2: [14, 0, 0, 0] }))).toEqual([]);
    expect(keysOf(matrixOf(SHARDS, { p1: [15, 0, 0, 0], p2: [15, 0, 0, 0] }))).toEqual([
      "shard:c1/n1",
    ]);
  });

  test("of one proxy that has the traffic alone needs a second witness", () => {
    const rows = { p1: [20, 0, 0, 0] };
    expect(keysOf(matrixOf(SHARDS, rows))).toEqual([]);
    const confirmed = { confirmed: new Set(["c1/n1"]) };
    expect(keysOf(matrixOf(SHARDS, rows, confirmed))).toEqual(["shard:c1/n1"]);
    const probed = { probedBad: new Set(["p1/n1"]) };
    expect(keysOf(matrixOf(SHARDS, rows, probed))).toEqual(["shard:c1/n1"]);
  });

  test("is the link when others find the same shard well", () => {
    expect(keysOf(matrixOf(SHARDS, { p1: [0, 20, 0, 0], p2: [0, 0, 0, 0] }))).toEqual([
      "link:p1/n2",
    ]);
  });

  test("is the proxy when most of its row is bad", () => {
    const found = keysOf(matrixOf(SHARDS, { p1: [20, 20, 20, 0], p2: [0, 0, 0, 0] }));
    expect(found).toContain("proxy:p1");
    const [proxy] = judgeMatrix(
      matrixOf(SHARDS, { p1: [20, 20, 20, 0], p2: [0, 0, 0, 0] }),
      NOW_MS,
    ).filter(({ kind }) => kind === "proxy");
    expect(proxy?.explains).toEqual(["link:p1/n1", "link:p1/n2", "link:p1/n3"]);
  });

  test("is the node when its other shards show signs of it, too", () => {
    const shards = ["c1/n1", "c2/n1", "c1/n2", "c2/n2"];
    const rows = { p1: [18, 6, 0, 0], p2: [17, 4, 0, 0] };
    const found = judgeMatrix(matrixOf(shards, rows), NOW_MS);
    expect(found.map(({ kind, subject }) => `${kind}:${subject}`)).toEqual(["node:n1"]);
    expect(found[0]?.explains).toEqual(["shard:c1/n1", "shard:c2/n1"]);
    expect(found[0]?.sinceMs).toBe(NOW_MS - 1_800);
  });

  test("is the shard when the others of its node are well", () => {
    const shards = ["c1/n1", "c2/n1", "c3/n1", "c1/n2"];
    expect(keysOf(matrixOf(shards, { p1: [18, 0, 0, 0], p2: [17, 0, 0, 0] }))).toEqual([
      "shard:c1/n1",
    ]);
  });

  test("three of six nodes are three nodes, four of six are everything", () => {
    const shards = ["c/n1", "c/n2", "c/n3", "c/n4", "c/n5", "c/n6"];
    const three = [20, 20, 20, 0, 0, 0];
    expect(keysOf(matrixOf(shards, { p1: three, p2: three }))).toEqual([
      "shard:c/n1",
      "shard:c/n2",
      "shard:c/n3",
    ]);
    const four = [20, 20, 20, 20, 0, 0];
    const [network] = judgeMatrix(matrixOf(shards, { p1: four, p2: four }), NOW_MS);
    expect(network?.kind).toBe("network");
    expect(network?.explains).toHaveLength(4);
  });

  test("is the network when most proxies see most of their nodes slow, a proxy when one does", () => {
    const none = [0, 0, 0, 0];
    const rows = { p1: none, p2: none, p3: none };
    const common = (...names: string[]) => ({
      commonTicks: new Map(names.map((name) => [name, 16] as const)),
    });
    expect(keysOf(matrixOf(SHARDS, rows, common("p1", "p2")))).toEqual(["network:all"]);
    expect(keysOf(matrixOf(SHARDS, rows, common("p1")))).toEqual(["proxy:p1"]);
    expect(keysOf(matrixOf(SHARDS, { p1: none }, common("p1")))).toEqual(["network:all"]);
  });

  test("of a proxy without CPU counts when canaries confirm it, or nothing is answered", () => {
    const rows = { p1: [20, 0, 0, 0], p2: [20, 0, 0, 0] };
    const starved = new Set(["p1", "p2"]);
    expect(keysOf(matrixOf(SHARDS, rows, { starved }))).toEqual([]);
    const confirmed = new Set(["c1/n1"]);
    expect(keysOf(matrixOf(SHARDS, rows, { starved, confirmed }))).toEqual(["shard:c1/n1"]);
    const { cells } = matrixOf(SHARDS, rows);
    const dead = cells.map((cell) => ({ ...cell, deadTicks: cell.badTicks }));
    expect(keysOf(matrixOf(SHARDS, rows, { starved, cells: dead }))).toEqual(["shard:c1/n1"]);
    const commonTicks = new Map([...starved].map((proxy) => [proxy, 20] as const));
    const none = { p1: [0, 0, 0, 0], p2: [0, 0, 0, 0] };
    expect(keysOf(matrixOf(SHARDS, none, { starved, commonTicks }))).toEqual([]);
  });

  test("names a cache for people, and says who saw it", () => {
    const [found] = judgeMatrix(
      matrixOf(SHARDS, { p1: [20, 0, 0, 0], p2: [16, 0, 0, 0], p3: [0, 0, 0, 0] }),
      NOW_MS,
    );
    expect(found?.summary).toBe("shard of name-of-c1 on n1: 30 % slow");
    expect(found?.details).toEqual(["seen by 2 of 3 proxies: p1, p2"]);
  });

  test("on the shards of our own canaries is told, and pages nobody", () => {
    const shards = ["memward-monitor/n1", "c1/n1", "c2/n1", "c1/n2"];
    expect(keysOf(matrixOf(shards, { p1: [20, 0, 0, 0], p2: [20, 0, 0, 0] }))).toEqual([
      "probeShard:memward-monitor/n1",
    ]);
  });
});
