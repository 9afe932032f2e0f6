/**
 * When the nodes that own the keys of a cache change: the pure decision. A key must never come back
 * to a shard that still holds what it was before it left, so
 *
 * - a shard that gives keys away drops them, once no proxy can store them there any more, and says
 *   so by `layout`, the serial of the layout that it is in line with;
 * - keys are given only to shards that are in line with the layout before;
 * - from one layout to the next no proxy serves the keys that move until all proxies know of it.
 *
 * Values do not move: a key that has moved is missed once. (Whoever copied them while clients change
 * them would bring back what a client has just deleted.)
 */
import { secureBytes } from "../runtime/random.ts";
import type { Ejection, Layout, Member, Shard } from "./records.ts";
import type { Change } from "./state.ts";

export interface LayoutView {
  readonly layout: Layout | undefined;
  /** All proxies that live have applied it. */
  readonly isKnownToAll: boolean;
  /** What placement wants now. */
  readonly wanted: readonly Member[];
  /** By node. */
  readonly shards: ReadonlyMap<string, Pick<Shard, "state" | "layout" | "weight" | "zone">>;
  /** Shards that are out of routing, by node: they return empty. */
  readonly ejections: ReadonlyMap<string, Ejection>;
  /** Nodes whose agent is there. */
  readonly living: ReadonlySet<string>;
}

/** The next layout; undefined while there is nothing to change, or it has to wait. */
export function decideLayout(view: LayoutView): Layout | undefined {
  const { layout, wanted, shards, living } = view;
  if (layout === undefined) {
    const members = wanted.filter(({ node }) => living.has(node) || shards.has(node));
    const before = [...shards].map(([node, { weight, zone }]) => ({ node, weight, zone }));
    return members.length === 0 ? undefined : { serial: 1, members, before };
  }
  if (!view.isKnownToAll) return undefined;
  const weights = weightsOf(layout.members);
  const comers = wanted.filter(({ node }) => !weights.has(node) && living.has(node));
  // Those that are about to open come in with the others, or keys would move twice.
  if (comers.some(({ node }) => shards.get(node)?.state !== "ready")) return undefined;
  const members = wanted.filter((member) => weights.has(member.node) || comers.includes(member));
  if (members.length === 0 || isSame(members, layout.members)) return undefined;
  const isInLine = ({ node }: Member): boolean =>
    (shards.get(node)?.layout ?? 0) >= layout.serial ||
    (weights.has(node) && view.ejections.has(node));
  if (!gainers(layout.members, members).every(isInLine)) return undefined;
  return { serial: layout.serial + 1, members, before: layout.members };
}

/**
 * Members of `after` that have keys, or copies of keys, which they did not have among those of
 * `before`.
 */
export function gainers(before: readonly Member[], after: readonly Member[]): readonly Member[] {
  const [was, is] = [weightsOf(before), weightsOf(after)];
  // On the circle only points that go give keys to the others, and zones give second copies.
  if (before.some(({ node, weight }) => (is.get(node) ?? 0) < weight)) return after;
  if (hasOtherZones(before, after)) return after;
  return after.filter(({ node, weight }) => weight > (was.get(node) ?? 0));
}

/** Whether `node` owned keys that others own now: points of its own went, or others came. */
export function losesKeys(node: string, { before, members }: Layout): boolean {
  const [was, is] = [weightsOf(before), weightsOf(members)];
  const weight = was.get(node) ?? 0;
  if (weight === 0) return false;
  if ((is.get(node) ?? 0) < weight || hasOtherZones(before, members)) return true;
  return members.some((one) => one.node !== node && one.weight > (was.get(one.node) ?? 0));
}

/**
 * With other members the keys of an ejected shard have other stand-ins, so these begin anew, and it
 * returns empty from this ejection only. One that is no member any more does not return.
 */
export function reEjected(
  { value, revision }: { value: Ejection; revision: number },
  layout: Layout,
  shards: ReadonlyMap<string, Pick<Shard, "state">>,
): Change<"ejection"> {
  const id = `${value.cache}/${value.node}`;
  const members = layout.members.map(({ node }) => node);
  if (!members.includes(value.node)) {
    return { kind: "ejection", id, value: null, expected: revision };
  }
  const usable = members.filter(
    (node) => node !== value.node && shards.get(node)?.state === "ready",
  );
  const before = usable.filter((node) => value.standIns.includes(node));
  const ejection: Ejection = {
    ...value,
    serial: newSerial(),
    standIns: before.length > 0 ? before : usable,
  };
  return { kind: "ejection", id, value: ejection, expected: revision };
}

/** A name for one ejection. */
export const newSerial = (): string => Buffer.from(secureBytes(9)).toString("base64url");

export function isSame(some: readonly Member[], others: readonly Member[]): boolean {
  const weights = weightsOf(others);
  return (
    some.length === others.length && some.every(({ node, weight }) => weights.get(node) === weight)
  );
}

/** A node is in another zone than it was. */
function hasOtherZones(before: readonly Member[], after: readonly Member[]): boolean {
  const zones = new Map(before.map(({ node, zone }) => [node, zone]));
  return after.some(({ node, zone }) => zones.has(node) && zones.get(node) !== zone);
}

const weightsOf = (members: readonly Member[]): Map<string, number> =>
  new Map(members.map(({ node, weight }) => [node, weight]));
