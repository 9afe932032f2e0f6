/**
 * One watch on etcd for all watchers of a process: each revision is fetched, parsed and checked once.
 * Whoever comes later is told from memory what happened since its list, and then with the others;
 * only one that begins further back than that has a watch of its own.
 *
 *     etcd ──> | recent revisions | ──> watcher, watcher, …
 */
import type { ClusterState, Seen, Watch } from "./state.ts";

/** Records of recent revisions that are remembered: lists and their watches are moments apart. */
const RECENT_COUNT_MAX = 2_000;
/** Who begins after all that was told is looked after when so much time has passed. */
const AHEAD_MS_MAX = 3_000;

type Watcher = Parameters<ClusterState["watch"]>[1];
type OpenWatch = (fromRevision: number, watcher: Watcher) => Watch;
/** Whether etcd has not come that far: its data are older than they were. */
type IsFuture = (revision: number) => Promise<boolean>;
type Revision = { revision: number; seen: Seen[] };

export class EtcdHub {
  readonly #open: OpenWatch;
  readonly #isFuture: IsFuture;
  readonly #members = new Set<Member>();
  #stream: Watch | null = null;
  /** Everything after this revision and up to the newest is in `#recent`. */
  #sinceRevision = 0;
  #revision = 0;
  #recent: Revision[] = [];
  #recentCount = 0;
  #isResetting = false;

  constructor(open: OpenWatch, isFuture: IsFuture) {
    this.#open = open;
    this.#isFuture = isFuture;
  }

  /** As `ClusterState.watch`. */
  watch(fromRevision: number, watcher: Watcher): Watch {
    if (this.#stream === null) this.#begin(fromRevision);
    const member = new Member(fromRevision, watcher);
    this.#members.add(member);
    setImmediate(() => this.#catchUp(member));
    return { close: () => this.#leave(member) };
  }

  #begin(fromRevision: number): void {
    this.#sinceRevision = fromRevision;
    this.#revision = fromRevision;
    this.#stream = this.#open(fromRevision, {
      changed: (seen, revision) => this.#heard({ seen, revision }),
      reset: () => {
        this.#isResetting = true;
      },
    });
  }

  #catchUp(member: Member): void {
    if (member.isClosed || member.isCaughtUp) return;
    if (member.revision < this.#sinceRevision) return this.#part(member);
    if (member.revision > this.#revision) this.#expect(member);
    for (const one of [...this.#recent]) member.tell(one);
    member.isCaughtUp = true;
  }

  /** Mostly somebody else's revision lies between. If not, a watch of its own is reset. */
  #expect(member: Member): void {
    const isBehind = (): boolean => !member.isClosed && this.#revision < member.revision;
    setTimeout(async () => {
      if (!isBehind()) return;
      // While etcd is away nobody knows.
      const isFuture = await this.#isFuture(member.revision).catch(() => undefined);
      if (isFuture === undefined) return this.#expect(member);
      if (isFuture && isBehind()) this.#part(member);
    }, AHEAD_MS_MAX).unref();
  }

  /** From now on it has a watch of its own. */
  #part(member: Member): void {
    this.#members.delete(member);
    member.own = this.#open(member.revision, member.watcher);
    this.#endIfAlone();
  }

  #heard(one: Revision): void {
    if (this.#isResetting) return this.#reset(one);
    this.#revision = one.revision;
    this.#recent.push(one);
    this.#recentCount += one.seen.length;
    while (this.#recentCount > RECENT_COUNT_MAX) {
      const forgotten = this.#recent.shift()!;
      this.#recentCount -= forgotten.seen.length;
      this.#sinceRevision = forgotten.revision;
    }
    for (const member of [...this.#members]) if (member.isCaughtUp) member.tell(one);
  }

  /** `one` is all that there is. */
  #reset(one: Revision): void {
    this.#isResetting = false;
    this.#sinceRevision = one.revision;
    this.#revision = one.revision;
    this.#recent = [];
    this.#recentCount = 0;
    for (const member of [...this.#members]) member.reset(one);
  }

  #leave(member: Member): void {
    member.isClosed = true;
    member.own?.close();
    this.#members.delete(member);
    this.#endIfAlone();
  }

  #endIfAlone(): void {
    if (this.#members.size > 0) return;
    this.#stream?.close();
    this.#stream = null;
    this.#recent = [];
    this.#recentCount = 0;
  }
}

class Member {
  readonly watcher: Watcher;
  /** The newest revision that it was told. */
  revision: number;
  isCaughtUp = false;
  isClosed = false;
  own: Watch | null = null;

  constructor(fromRevision: number, watcher: Watcher) {
    this.revision = fromRevision;
    this.watcher = watcher;
  }

  tell({ revision, seen }: Revision): void {
    if (this.isClosed || revision <= this.revision) return;
    this.revision = revision;
    this.watcher.changed(seen, revision);
  }

  reset({ revision, seen }: Revision): void {
    if (this.isClosed) return;
    this.isCaughtUp = true;
    this.revision = revision;
    this.watcher.reset?.();
    this.watcher.changed(seen, revision);
  }
}
