/**
 * Monitors that read the view of this proxy: while there are any, a line is made every
 * VIEW_INTERVAL_MS and written to all of them. One that does not read is sent away: a line that
 * comes late is worth nothing. Not on the way of a command.
 */
import type { Writable } from "node:stream";
import { type CacheSeen, type ProxyView, VIEW_INTERVAL_MS } from "../core/cluster/proxyView.ts";
import { clock, every, type Timer } from "../core/runtime/clock.ts";
import { joinViews } from "./view.ts";

export const VIEWER_COUNT_MAX = 8;
/** Lines that a viewer has not read. */
const UNREAD_SIZE_MAX = 4 * 1024 * 1024;

export interface ViewersParts {
  proxy: string;
  isStarved(): boolean;
  /** What each worker sees; undefined of one that is too busy to answer. */
  collect(ask: { isAnew: boolean }): Promise<(readonly CacheSeen[] | undefined)[]>;
}

export class Viewers {
  readonly #parts: ViewersParts;
  readonly #viewers = new Set<Writable>();
  #timer: Timer | null = null;
  #isCollecting = false;
  /** Somebody has come who knows nothing yet. */
  #isAnew = false;

  constructor(parts: ViewersParts) {
    this.#parts = parts;
  }

  get count(): number {
    return this.#viewers.size;
  }

  /** False when there are too many; otherwise the response is ours until its end. */
  add(response: Writable): boolean {
    if (this.#viewers.size >= VIEWER_COUNT_MAX) return false;
    this.#viewers.add(response);
    this.#isAnew = true;
    response.on("close", () => this.#remove(response));
    this.#timer ??= every(VIEW_INTERVAL_MS, () => void this.#tell());
    return true;
  }

  close(): void {
    for (const viewer of [...this.#viewers]) viewer.end();
    this.#timer?.stop();
    this.#timer = null;
  }

  async #tell(): Promise<void> {
    if (this.#isCollecting) return;
    this.#isCollecting = true;
    const isAnew = this.#isAnew;
    this.#isAnew = false;
    const answers = await this.#parts.collect({ isAnew });
    this.#isCollecting = false;
    const parts = answers.filter((part) => part !== undefined);
    const view: ProxyView = {
      proxy: this.#parts.proxy,
      atMs: clock.unixMs(),
      isStarved: this.#parts.isStarved(),
      silentWorkers: answers.length - parts.length,
      caches: joinViews(parts),
    };
    const line = `${JSON.stringify(view)}\n`;
    for (const viewer of [...this.#viewers]) {
      if (viewer.writableLength > UNREAD_SIZE_MAX) viewer.destroy();
      else viewer.write(line);
    }
  }

  #remove(viewer: Writable): void {
    this.#viewers.delete(viewer);
    if (this.#viewers.size > 0) return;
    this.#timer?.stop();
    this.#timer = null;
  }
}
