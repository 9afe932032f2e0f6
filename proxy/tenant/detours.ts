/**
 * Which shards of a cache are out of routing in this worker, and where their keys go meanwhile.
 * Nobody may use the new way while somebody still uses the old one: two proxies would write the
 * same key in two places. So every change has a barrier, the revision that all living proxies must
 * have applied; until then the keys concerned are served by nobody:
 *
 *     in ── ejected at R ──> closed ── all have applied R ──> stand-ins
 *     in <── all have applied S ── closed <── readmitted at S ──┘
 */
import type { Ejection, StandIn } from "../../core/cluster/records.ts";
import type { Detour } from "../routing/route.ts";

type Out = {
  /** The ejection; null once it is over and only the barrier is left. */
  ejection: Ejection | null;
  /** The change that all proxies have to know. */
  revision: number;
};

/** Keys that nobody serves. */
export const CLOSED: Detour = new Map();

export class Detours {
  readonly #outs = new Map<string, Out>();
  /** By `<ejected node>/<host>`. */
  readonly #standIns = new Map<string, StandIn>();

  get isEmpty(): boolean {
    return this.#outs.size === 0;
  }

  /** Keys are closed, as of what all living proxies have applied. */
  isWaiting(revision: number): boolean {
    for (const out of this.#outs.values()) if (out.revision > revision) return true;
    return false;
  }

  /** Nodes of the shards that are ejected, and by which serial. */
  get ejected(): ReadonlyMap<string, string> {
    const found = [...this.#outs].flatMap(([node, { ejection }]) =>
      ejection === null ? [] : [[node, ejection.serial] as const],
    );
    return new Map(found);
  }

  ejectionSeen(node: string, ejection: Ejection | null, revision: number): void {
    if (ejection === null && this.#outs.get(node)?.ejection == null) return;
    this.#outs.set(node, { ejection, revision });
  }

  standInSeen(node: string, host: string, standIn: StandIn | null): void {
    const key = `${node}/${host}`;
    if (standIn === null) this.#standIns.delete(key);
    else this.#standIns.set(key, standIn);
  }

  /**
   * The detours in force when all living proxies have applied `revision`, those first that were
   * ejected first; forgets what is over. Servers of others stand in for each other themselves,
   * where `addressOf` says.
   */
  inForce(
    revision: number,
    addressOf: ((host: string) => string | null) | null = null,
  ): Map<string, Detour> {
    const detours = new Map<string, Detour>();
    const outs = [...this.#outs].sort(([, a], [, b]) => a.revision - b.revision);
    for (const [node, out] of outs) {
      const isKnownToAll = revision >= out.revision;
      if (out.ejection !== null) {
        detours.set(node, isKnownToAll ? this.#detour(node, out.ejection, addressOf) : CLOSED);
      } else if (isKnownToAll) this.#outs.delete(node);
      else detours.set(node, CLOSED);
    }
    return detours;
  }

  /** All stand-ins keep their part of the keys, whether they are open yet or not. */
  #detour(
    node: string,
    { serial, standIns }: Ejection,
    addressOf: ((host: string) => string | null) | null,
  ): Detour {
    return new Map(
      standIns.map((host) => {
        if (addressOf !== null) return [host, addressOf(host)];
        const standIn = this.#standIns.get(`${node}/${host}`);
        return [host, standIn?.serial === serial ? standIn.address : null];
      }),
    );
  }
}
