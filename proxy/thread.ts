/**
 * A worker of a proxy in a thread of its own; where there are several, on the same ports
 * (SO_REUSEPORT). It has no cluster state; the main thread tells it what changes.
 */
import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import { MirroredState } from "./mirror.ts";
import type { ProxyOptions } from "./options.ts";
import { OwnWorker } from "./ownWorker.ts";
import type { ThreadNotice, ThreadOrder } from "./threads.ts";
import { Worker } from "./worker.ts";

assert(parentPort !== null, "started by threads.ts only");
const port = parentPort;
const tell = (notice: ThreadNotice): void => port.postMessage(notice);

/** Flushes that the main thread was asked for. */
const flushes = new Map<number, (isFlushed: boolean) => void>();
let flushCount = 0;

const state = new MirroredState();
const worker = new Worker(workerData as ProxyOptions, state, {
  linkChanged: ({ address, dialect }, from, to, reason) =>
    tell({ type: "linkChanged", link: { address, dialect }, from, to, reason }),
  applied: (revision) => tell({ type: "applied", revision }),
  suspected: (shardId, reason) => tell({ type: "suspected", shardId, reason }),
  trusted: (shardId) => tell({ type: "trusted", shardId }),
  flushWanted: (cacheId) => {
    const id = ++flushCount;
    tell({ type: "flushWanted", id, cacheId });
    return new Promise((done) => flushes.set(id, done));
  },
});
const own = new OwnWorker(worker);

port.on("message", async (order: ThreadOrder) => {
  switch (order.type) {
    case "snapshot":
      state.load(order.entries, order.revision);
      return tell({ type: "started", bound: await worker.start() });
    case "changed":
      return state.changed(order.seen, order.revision);
    case "reset":
      return state.reset();
    case "scrape":
      return tell({ type: "metrics", id: order.id, families: await own.families() });
    case "figures":
      return tell({ type: "figures", id: order.id, figures: await own.figures() });
    case "view":
      return tell({ type: "view", id: order.id, caches: await own.view(order) });
    case "flushed":
      flushes.get(order.id)?.(order.isFlushed);
      flushes.delete(order.id);
      return;
    case "drain":
      await worker.drain();
      tell({ type: "drained" });
      return port.close();
  }
});
