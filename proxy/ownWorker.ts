/** A worker as others ask for what it knows, in the thread in which it is; see threads.ts. */
import type { CacheSeen } from "../core/cluster/proxyView.ts";
import { clock } from "../core/runtime/clock.ts";
import { type MetricFamily, readFamilies } from "../core/runtime/metrics.ts";
import { type Figures, FiguresCollector } from "./figures.ts";
import { createWorkerRegistry } from "./metrics.ts";
import { ViewCollector } from "./view.ts";
import type { Worker } from "./worker.ts";

export class OwnWorker {
  readonly #registry: ReturnType<typeof createWorkerRegistry>;
  readonly #views: ViewCollector;
  readonly #collector: FiguresCollector;

  constructor(worker: Worker) {
    this.#registry = createWorkerRegistry(worker);
    this.#views = new ViewCollector(worker.services.directory);
    this.#collector = new FiguresCollector(worker.services);
  }

  families(): Promise<MetricFamily[]> {
    return readFamilies(this.#registry);
  }

  async figures(): Promise<Figures> {
    return this.#collector.collect(clock.unixMs());
  }

  async view({ isAnew }: { isAnew: boolean }): Promise<CacheSeen[]> {
    return this.#views.collect({ isAnew, nowMs: clock.nowMs() });
  }
}
