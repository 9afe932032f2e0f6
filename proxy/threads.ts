/** Workers in threads of their own, seen from the main thread: started, told, scraped, drained. */
import { Worker as Thread } from "node:worker_threads";
import type { CacheSeen } from "../core/cluster/proxyView.ts";
import type { SuspicionReason } from "../core/cluster/records.ts";
import type { ClusterState, Entry, Seen, Watch } from "../core/cluster/state.ts";
import type { MetricFamily } from "../core/runtime/metrics.ts";
import type { Figures } from "./figures.ts";
import type { ProxyOptions } from "./options.ts";
import type { LinkState } from "./routing/link.ts";
import { FOLLOWED_KINDS, isFollowed } from "./tenant/directory.ts";
import type { WorkerEvents } from "./worker.ts";

export type ThreadOrder =
  | { type: "snapshot"; entries: Entry[]; revision: number }
  | { type: "changed"; seen: Seen[]; revision: number }
  | { type: "reset" }
  | { type: "scrape"; id: number }
  | { type: "figures"; id: number }
  | { type: "view"; id: number; isAnew: boolean }
  | { type: "flushed"; id: number; isFlushed: boolean }
  | { type: "drain" };

export type ThreadNotice =
  | { type: "started"; bound: Bound }
  | {
      type: "linkChanged";
      link: { address: string; dialect: "text" | "binary" };
      from: LinkState;
      to: LinkState;
      reason: string;
    }
  | { type: "applied"; revision: number }
  | { type: "suspected"; shardId: string; reason: SuspicionReason }
  | { type: "trusted"; shardId: string }
  | { type: "flushWanted"; id: number; cacheId: string }
  | { type: "metrics"; id: number; families: MetricFamily[] }
  | { type: "figures"; id: number; figures: Figures }
  | { type: "view"; id: number; caches: CacheSeen[] }
  | { type: "drained" };

/** Addresses that clients can connect to, logins first. */
export type Bound = { listen: string[]; plain: string[] };

type Answer = MetricFamily[] | Figures | CacheSeen[];

const ANSWER_MS_MAX = 500;
/** A view that comes later is that of the next line. */
const VIEW_MS_MAX = 150;

export class ThreadedWorker {
  readonly #thread: Thread;
  readonly #events: WorkerEvents;
  readonly #asked: Map<number, (answer: Answer) => void> = new Map();
  #askedCount = 0;
  #watch: Watch | null = null;
  #isResetting = false;
  #whenStarted: (bound: Bound) => void = () => {};
  #isDrained = false;
  #whenDrained: () => void = () => {};

  /** `options` name the addresses as bound: port 0 would give every worker a port of its own. */
  constructor(options: ProxyOptions, events: WorkerEvents) {
    this.#events = events;
    this.#thread = new Thread(new URL("./thread.ts", import.meta.url), { workerData: options });
    this.#thread.on("message", (notice: ThreadNotice) => this.#told(notice));
  }

  /**
   * Resolves with the addresses as bound; rejects when the thread cannot start (its ports are taken,
   * for one). Should it end later, the process does, too: without it nobody is served.
   */
  async start(state: ClusterState): Promise<Bound> {
    const lists = await Promise.all(FOLLOWED_KINDS.map((kind) => state.list(kind)));
    const revision = Math.min(...lists.map((list) => list.revision));
    const entries = lists.flatMap((list) => list.entries as Entry[]);
    const started = new Promise<Bound>((resolve, reject) => {
      this.#whenStarted = (bound) => {
        this.#thread.off("error", reject);
        resolve(bound);
      };
      this.#thread.once("error", reject);
    });
    this.#thread.on("exit", (code) => {
      if (!this.#isDrained) throw new Error(`a worker thread of the proxy ended with ${code}`);
    });
    this.#order({ type: "snapshot", entries, revision });
    this.#watch = state.watch(revision, {
      changed: (seen, seenRevision) => {
        const followed = seen.filter(isFollowed);
        // After a reset even an empty list says something.
        if (followed.length === 0 && !this.#isResetting) return;
        this.#isResetting = false;
        this.#order({ type: "changed", seen: followed, revision: seenRevision });
      },
      reset: () => {
        this.#isResetting = true;
        this.#order({ type: "reset" });
      },
    });
    return started;
  }

  /** Its metrics; none when it is too busy to answer in time. */
  async families(): Promise<MetricFamily[]> {
    return ((await this.#ask({ type: "scrape" })) as MetricFamily[] | undefined) ?? [];
  }

  /** Its figures; undefined when it is too busy to answer in time. */
  async figures(): Promise<Figures | undefined> {
    return (await this.#ask({ type: "figures" })) as Figures | undefined;
  }

  /** What it sees of its shards; undefined when it is too busy to answer in time. */
  async view({ isAnew }: { isAnew: boolean }): Promise<CacheSeen[] | undefined> {
    return (await this.#ask({ type: "view", isAnew }, VIEW_MS_MAX)) as CacheSeen[] | undefined;
  }

  async #ask(
    order: { type: "scrape" | "figures" } | { type: "view"; isAnew: boolean },
    limitMs = ANSWER_MS_MAX,
  ): Promise<Answer | undefined> {
    const id = ++this.#askedCount;
    const answer = await new Promise<Answer | undefined>((resolve) => {
      this.#asked.set(id, resolve);
      setTimeout(() => resolve(undefined), limitMs).unref();
      this.#order({ ...order, id });
    });
    this.#asked.delete(id);
    return answer;
  }

  async drain(): Promise<void> {
    this.#watch?.close();
    const drained = new Promise<void>((resolve) => {
      this.#whenDrained = resolve;
    });
    this.#order({ type: "drain" });
    await drained;
  }

  #order(order: ThreadOrder): void {
    this.#thread.postMessage(order);
  }

  #told(notice: ThreadNotice): void {
    switch (notice.type) {
      case "started":
        return this.#whenStarted(notice.bound);
      case "linkChanged":
        return this.#events.linkChanged(notice.link, notice.from, notice.to, notice.reason);
      case "applied":
        return this.#events.applied(notice.revision);
      case "suspected":
        return this.#events.suspected(notice.shardId, notice.reason);
      case "trusted":
        return this.#events.trusted(notice.shardId);
      case "flushWanted":
        void this.#events.flushWanted(notice.cacheId).then((isFlushed) => {
          this.#order({ type: "flushed", id: notice.id, isFlushed });
        });
        return;
      case "metrics":
        return this.#asked.get(notice.id)?.(notice.families);
      case "figures":
        return this.#asked.get(notice.id)?.(notice.figures);
      case "view":
        return this.#asked.get(notice.id)?.(notice.caches);
      case "drained":
        this.#isDrained = true;
        return this.#whenDrained();
    }
  }
}
