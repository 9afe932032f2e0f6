/**
 * What all living proxies have in force. A change of routing takes two steps: everybody leaves the
 * old way, and only when all have, anybody takes the new one. Between them lies a revision that
 * has to be applied by all; a proxy that cannot be reached counts until its lease ends.
 */
import type { RecordOf } from "./records.ts";

export class AppliedByAll {
  /** The newest revision in force, by proxy. */
  readonly #revisions = new Map<string, number>();

  get proxyCount(): number {
    return this.#revisions.size;
  }

  get names(): readonly string[] {
    return [...this.#revisions.keys()];
  }

  /** Infinity without proxies: then nobody has to be waited for. */
  get revision(): number {
    return Math.min(...this.#revisions.values());
  }

  proxySeen(name: string, proxy: Pick<RecordOf<"proxy">, "appliedRevision"> | null): void {
    if (proxy === null) this.#revisions.delete(name);
    else this.#revisions.set(name, proxy.appliedRevision);
  }

  clear(): void {
    this.#revisions.clear();
  }
}
