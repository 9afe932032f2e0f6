/** Following a part of the cluster state: all records of some kinds as they are, then what changes. */
import type { Kind } from "./records.ts";
import type { ClusterState, Entry, Seen, Watch } from "./state.ts";

export interface Follower<K extends Kind> {
  /** A record that is there. */
  listed(entry: Entry<K>): void;
  /** All that there is was listed; it is as of `revision`, or newer. */
  loaded?(revision: number): void;
  /** One revision, with records of all kinds. */
  changed(seen: Seen[], revision: number): void;
  reset(): void;
}

/**
 * Lists one kind after another and watches from the oldest of these lists on: what changed between
 * two of them is told again, which must do no harm. Rejects with StateUnavailable.
 */
export async function follow<K extends Kind>(
  state: Pick<ClusterState, "list" | "watch">,
  kinds: readonly K[],
  follower: Follower<K>,
): Promise<Watch> {
  let fromRevision = Number.POSITIVE_INFINITY;
  for (const kind of kinds) {
    const { entries, revision } = await state.list(kind);
    fromRevision = Math.min(fromRevision, revision);
    for (const entry of entries) follower.listed(entry);
  }
  follower.loaded?.(fromRevision);
  return state.watch(fromRevision, {
    changed: (seen, revision) => follower.changed(seen, revision),
    reset: () => follower.reset(),
  });
}
