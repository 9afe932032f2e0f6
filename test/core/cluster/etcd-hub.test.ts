/** One stream for all watchers: what each of them is told, whenever it comes. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { EtcdHub } from "../../../core/cluster/etcd-hub.ts";
import type { ClusterState, Seen } from "../../../core/cluster/state.ts";

type Watcher = Parameters<ClusterState["watch"]>[1];
type Stream = { fromRevision: number; watcher: Watcher; isClosed: boolean };

let streams: Stream[];
let hub: EtcdHub;
/** What etcd says is its newest revision; undefined while it is away. */
let newest: number | undefined;

beforeEach(() => {
  vi.useFakeTimers();
  streams = [];
  newest = 10;
  const open = (fromRevision: number, watcher: Watcher) => {
    const stream = { fromRevision, watcher, isClosed: false };
    streams.push(stream);
    return {
      close: () => {
        stream.isClosed = true;
      },
    };
  };
  hub = new EtcdHub(open, async (revision) => {
    if (newest === undefined) throw new Error("away");
    return newest < revision;
  });
});
afterEach(() => vi.useRealTimers());

const records = (revision: number, count = 1): Seen[] =>
  Array.from({ length: count }, (_, at) => ({
    kind: "node",
    id: `${revision}-${at}`,
    value: null,
    revision,
  }));
const happens = (revision: number, count = 1): void =>
  streams[0]!.watcher.changed(records(revision, count), revision);

/** A watcher that begins after `fromRevision`, and the revisions that it was told. */
function watching(fromRevision: number): { told: (number | "reset")[]; close(): void } {
  const told: (number | "reset")[] = [];
  const watch = hub.watch(fromRevision, {
    changed: (_seen, revision) => told.push(revision),
    reset: () => told.push("reset"),
  });
  return { told, close: () => watch.close() };
}
const aTurn = (): void => void vi.advanceTimersByTime(1);

describe("watchers of one process", () => {
  test("share a stream, and are each told what came after their own list", () => {
    const early = watching(10);
    aTurn();
    happens(11);
    happens(12);
    const late = watching(11);
    const newest = watching(12);
    expect(late.told).toEqual([]);
    aTurn();
    happens(13);
    expect(early.told).toEqual([11, 12, 13]);
    expect(late.told).toEqual([12, 13]);
    expect(newest.told).toEqual([13]);
    expect(streams).toHaveLength(1);
  });

  test("hear what happens before they had their turn once, and in order", () => {
    watching(10);
    aTurn();
    const second = watching(10);
    happens(11);
    aTurn();
    happens(12);
    expect(second.told).toEqual([11, 12]);
  });

  test("have a stream of their own when they begin further back than is remembered", () => {
    watching(10);
    aTurn();
    for (let revision = 11; revision <= 40; revision++) happens(revision, 100);
    watching(12);
    aTurn();
    expect(streams.map(({ fromRevision }) => fromRevision)).toEqual([10, 12]);
    const stillKnown = watching(35);
    aTurn();
    expect(stillKnown.told).toEqual([36, 37, 38, 39, 40]);
    expect(streams).toHaveLength(2);
  });

  test("have one, too, when etcd is not where it was when they listed", async () => {
    watching(10);
    const ahead = watching(20);
    aTurn();
    happens(11);
    expect(ahead.told).toEqual([]);
    newest = undefined;
    await vi.advanceTimersByTimeAsync(3_000);
    expect(streams).toHaveLength(1);
    newest = 11;
    await vi.advanceTimersByTimeAsync(3_000);
    expect(streams.map(({ fromRevision }) => fromRevision)).toEqual([10, 20]);
    ahead.close();
    expect(streams[1]!.isClosed).toBe(true);
  });

  test("go on with the others when nothing that is watched happened in between", async () => {
    watching(10);
    newest = 20;
    const ahead = watching(20);
    aTurn();
    await vi.advanceTimersByTimeAsync(10_000);
    happens(21);
    expect(ahead.told).toEqual([21]);
    expect(streams).toHaveLength(1);
  });

  test("are not parted when it comes a little later", () => {
    watching(10);
    const ahead = watching(12);
    aTurn();
    happens(11);
    happens(12);
    happens(13);
    vi.advanceTimersByTime(5_000);
    expect(ahead.told).toEqual([13]);
    expect(streams).toHaveLength(1);
  });

  test("are all reset, and told everything once", () => {
    const [one, other] = [watching(10), watching(10)];
    aTurn();
    streams[0]!.watcher.reset?.();
    happens(5, 3);
    happens(6);
    expect(one.told).toEqual(["reset", 5, 6]);
    expect(other.told).toEqual(["reset", 5, 6]);
  });

  test("leave nothing behind when the last of them has gone", () => {
    const [one, other] = [watching(10), watching(10)];
    aTurn();
    one.close();
    happens(11);
    expect(one.told).toEqual([]);
    expect(streams[0]!.isClosed).toBe(false);
    other.close();
    expect(streams[0]!.isClosed).toBe(true);
    watching(30);
    expect(streams.map(({ fromRevision }) => fromRevision)).toEqual([10, 30]);
  });
});
