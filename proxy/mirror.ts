/** The part of the cluster state that a proxy follows, as told by the main thread. */
import type { Kind } from "../core/cluster/records.ts";
import type { ClusterState, Entry, Seen, Watch } from "../core/cluster/state.ts";

type Watcher = Parameters<ClusterState["watch"]>[1];

export class MirroredState implements Pick<ClusterState, "list" | "watch"> {
  #entries: readonly Entry[] = [];
  #revision = 0;
  #watcher: Watcher | null = null;
  /** Told before anybody watched. */
  readonly #early: { seen: Seen[]; revision: number }[] = [];

  load(entries: readonly Entry[], revision: number): void {
    this.#entries = entries;
    this.#revision = revision;
  }

  async list<K extends Kind>(kind: K): Promise<{ entries: Entry<K>[]; revision: number }> {
    const entries = this.#entries.filter((entry) => entry.kind === kind) as Entry<K>[];
    return { entries, revision: this.#revision };
  }

  watch(_fromRevision: number, watcher: Watcher): Watch {
    this.#watcher = watcher;
    for (const { seen, revision } of this.#early.splice(0)) watcher.changed(seen, revision);
    return {
      close: () => {
        this.#watcher = null;
      },
    };
  }

  changed(seen: Seen[], revision: number): void {
    if (this.#watcher === null) this.#early.push({ seen, revision });
    else this.#watcher.changed(seen, revision);
  }

  reset(): void {
    this.#watcher?.reset?.();
  }
}
