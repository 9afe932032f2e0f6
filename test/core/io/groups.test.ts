/** A group of connections has few reads in a turn, so that others need not wait for all of them. */
import { describe, expect, test } from "vitest";
import { nativeProblem } from "../../../core/io/layer.ts";
import { Loop } from "../../../core/io/loop.ts";
import { Collector, openPair, type Pair, until } from "./pair.ts";

const CROWD = 20;
const LIMIT = 3;

/** Many connections of group 1 and one of group 2, all with something to read. */
async function crowd(loop: Loop): Promise<{ pairs: Pair[]; turns: number[][]; end(): void }> {
  const pairs: Pair[] = [];
  /** Who was read, by the moment of its turn. */
  const read = new Map<number, number[]>();
  for (let index = 0; index <= CROWD; index++) {
    const collector = new Collector();
    collector.take = (_bytes, _from, to) => {
      read.set(loop.nowMs, [...(read.get(loop.nowMs) ?? []), index]);
      return to;
    };
    const pair = await openPair(loop, collector, "accepted");
    pair.near.joinGroup(index === CROWD ? 2 : 1);
    pairs.push(pair);
  }
  for (const { far } of pairs) far.write("x");
  // All of it is there before the loop looks.
  const untilMs = performance.now() + 50;
  while (performance.now() < untilMs);
  await until("all are read", () => [...read.values()].flat().length === pairs.length);
  return {
    pairs,
    turns: [...read.values()],
    end: () => pairs.forEach((pair) => void pair.close()),
  };
}

describe.skipIf(nativeProblem() !== undefined)("on the native layer", () => {
  test("a limited group is read in several turns, and keeps nobody else waiting", async () => {
    const loop = new Loop({ slabCount: 64, io: "native" });
    loop.limitReads(LIMIT);
    const { turns, end } = await crowd(loop);
    for (const turn of turns) {
      expect(turn.filter((index) => index !== CROWD).length).toBeLessThanOrEqual(LIMIT);
    }
    expect(turns.length).toBeGreaterThanOrEqual(Math.ceil(CROWD / LIMIT));
    end();
  });

  test("without a limit a turn reads all there is", async () => {
    const loop = new Loop({ slabCount: 64, io: "native" });
    loop.limitReads(LIMIT);
    loop.limitReads(0);
    const { turns, end } = await crowd(loop);
    expect(Math.max(...turns.map((turn) => turn.length))).toBeGreaterThan(LIMIT);
    end();
  });
});

test("the other layer reads all connections, whatever their group", async () => {
  const loop = new Loop({ slabCount: 64, io: "net" });
  loop.limitReads(LIMIT);
  const { turns, end } = await crowd(loop);
  expect(turns.flat().length).toBe(CROWD + 1);
  end();
});
