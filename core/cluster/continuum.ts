/**
 * Which node owns a key: the ketama circle, labelled by node name and never by address, so a node
 * that moves keeps its keys. Built by `hashring` once per set of nodes; asked once per key, which
 * is why the answer comes from an index over the points and not from `hashring.get`.
 *
 * The dialect is nutcracker's `distribution: ketama` with `hash: murmur`, byte for byte; a test
 * asks a real nutcracker. MD5, the usual key hash of ketama, costs 110 ns per key in JavaScript,
 * murmur about 15. Not here: which nodes take part, what to do when the owner is ejected.
 */
import assert from "node:assert/strict";
import HashRing from "hashring";

/** "ketama" alone is no specification; changing anything behind this name moves every key. */
export const KETAMA_DIALECT = "ketama-md5-points/murmur-keys";

/** 40 digests of 4 points: the 160 of libketama and nutcracker, for each unit of weight. */
const DIGESTS_PER_WEIGHT = 40;
const POINTS_PER_DIGEST = 4;

/** Points are found through an index of hash prefixes; at this density a scan is a step or two. */
const INDEX_ENTRIES_PER_POINT = 16;
const INDEX_BITS_MAX = 16;

const HASH_BITS = 32;
const HASH_MAX = 0xffff_ffff;

export interface WeightedNode {
  readonly name: string;
  /** A whole number, 1 if absent. */
  readonly weight?: number;
  /** Nodes of one zone fail together. */
  readonly zone?: string;
}

export class Continuum {
  /** Node names as they were given; `owner` answers with an index into them. */
  readonly labels: readonly string[];
  readonly pointCount: number;

  /** Sorted, with one more at the end that closes the circle: HASH_MAX, owned by the first. */
  readonly #points: Uint32Array;
  readonly #owners: Uint16Array;
  /** For each prefix of a hash, the first point not before the smallest hash so prefixed. */
  readonly #index: Uint32Array;
  readonly #shift: number;
  readonly #zones: readonly string[];
  /** For each point who has the second copy of its keys; made when first asked for. */
  #seconds: Int32Array | null = null;

  /**
   * Weight multiplies the points of a node: 160, 320, 480. hashring and nutcracker share out
   * `floor(weight / total * 40 * nodes)` digests instead, so there a change of one weight moves
   * points of every node, and rounding can cost one digest even at equal weights (hashring:
   * 7 nodes get 156 points each; nutcracker: 25). Placements agree where all weights are 1 and
   * nutcracker does not round.
   */
  constructor(nodes: readonly WeightedNode[]) {
    this.labels = nodes.map((node) => node.name);
    this.#zones = nodes.map(({ zone = "" }) => zone);
    const indexOf = new Map(this.labels.map((label, index) => [label, index]));
    assert(indexOf.size === nodes.length, "every node of a continuum has a name of its own");

    const ring = sortedPoints(nodes);
    this.pointCount = ring.length;
    this.#points = new Uint32Array(ring.length + 1).fill(HASH_MAX);
    this.#owners = new Uint16Array(ring.length + 1);
    for (const [position, point] of ring.entries()) {
      this.#points[position] = point.value;
      this.#owners[position] = indexOf.get(point.server) as number; // One of the names above.
    }
    this.#owners[ring.length] = this.#owners[0] as number; // Both arrays hold at least one.

    const entriesWanted = Math.max(1, ring.length * INDEX_ENTRIES_PER_POINT);
    const bits = Math.min(INDEX_BITS_MAX, Math.max(1, Math.ceil(Math.log2(entriesWanted))));
    this.#shift = HASH_BITS - bits;
    this.#index = prefixIndex(this.#points, bits);
  }

  /**
   * The index of the label that owns `hash` (32 bits, signed or not), or -1 without nodes: the
   * first point at or after it, and past the last one the first, as ketama_dispatch of nutcracker.
   */
  owner(hash: number): number {
    if (this.pointCount === 0) return -1;
    const unsigned = hash >>> 0;
    const points = this.#points;
    let position = this.#index[unsigned >>> this.#shift] as number;
    while ((points[position] as number) < unsigned) position++;
    return this.#owners[position] as number;
  }

  /**
   * Who has the second copy of the keys of `hash`: the next on the circle that is not the owner and
   * stands in another zone, or in the same if there is no other. -1 if there is only one node.
   */
  secondOwner(hash: number): number {
    if (this.labels.length < 2) return -1;
    this.#seconds ??= this.#findSeconds();
    const unsigned = hash >>> 0;
    let position = this.#index[unsigned >>> this.#shift] as number;
    while ((this.#points[position] as number) < unsigned) position++;
    return this.#seconds[position] as number;
  }

  /** Whether the node at `index` has a copy of the key, of so many. */
  hasKey(index: number, copies: number, bytes: Uint8Array, from: number, to: number): boolean {
    const hash = hashKey(bytes, from, to);
    return this.owner(hash) === index || (copies > 1 && this.secondOwner(hash) === index);
  }

  #findSeconds(): Int32Array {
    const owners = this.#owners;
    const seconds = new Int32Array(owners.length).fill(-1);
    for (const [position, owner] of owners.entries()) {
      for (let step = 1; step < owners.length; step++) {
        const other = owners[(position + step) % owners.length] as number;
        if (other === owner) continue;
        const isElsewhere = this.#zones[other] !== this.#zones[owner];
        if (seconds[position] === -1 || isElsewhere) seconds[position] = other;
        if (isElsewhere || !this.#hasZones) break;
      }
    }
    return seconds;
  }

  get #hasZones(): boolean {
    return this.#zones.some((zone) => zone !== this.#zones[0]);
  }

  /** Owner of the key in `bytes[from, to)`; the hash stays in a register, whoever calls. */
  ownerOfKey(bytes: Uint8Array, from: number, to: number): number {
    return this.owner(hashKey(bytes, from, to));
  }
}

/** As many sets of nodes as are usual at a time; another one costs a millisecond. */
const KEPT_COUNT_MAX = 64;
const kept = new Map<string, Continuum>();

/**
 * The continuum of these nodes, which many caches share: a thousand of their own would not fit the
 * caches of a processor (36 KB each, for three nodes).
 */
export function continuumOf(nodes: readonly WeightedNode[]): Continuum {
  const id = nodes.map(({ name, weight = 1, zone = "" }) => `${name} ${weight} ${zone}`).join("\n");
  let continuum = kept.get(id);
  if (continuum === undefined) {
    continuum = new Continuum(nodes);
    const [first] = kept.keys();
    if (kept.size >= KEPT_COUNT_MAX && first !== undefined) kept.delete(first);
    kept.set(id, continuum);
  }
  return continuum;
}

/**
 * Explicit vnodes keep hashring from sharing out by percentage (see the constructor). Names are
 * sorted first: should two points collide, the same one wins in every process.
 */
function sortedPoints(nodes: readonly WeightedNode[]): HashRing["ring"] {
  const byName = nodes.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const servers: Record<string, { vnodes: number }> = Object.create(null);
  for (const { name, weight = 1 } of byName) {
    assert(Number.isInteger(weight) && weight >= 1, `weight of ${name}`);
    servers[name] = { vnodes: weight * DIGESTS_PER_WEIGHT };
  }
  return new HashRing(servers, "md5", { "vnode count": 0, replicas: POINTS_PER_DIGEST }).ring;
}

function prefixIndex(points: Uint32Array, bits: number): Uint32Array {
  const index = new Uint32Array(2 ** bits);
  let position = 0;
  for (let prefix = 0; prefix < index.length; prefix++) {
    const hashMin = prefix * 2 ** (HASH_BITS - bits);
    while ((points[position] as number) < hashMin) position++;
    index[prefix] = position;
  }
  return index;
}

const MURMUR_MULTIPLIER = 0x5bd1e995;
const MURMUR_SHIFT = 24;
const MURMUR_SEED = 0xdeadbeef;

/**
 * The hash of the key in `bytes[from, to)`, 0 to 2^32-1: MurmurHash2 as in nutcracker's
 * hash_murmur, whose seed is 0xdeadbeef times the length, reading words little-endian and the
 * last bytes unsigned.
 */
export function hashKey(bytes: Uint8Array, from: number, to: number): number {
  const size = to - from;
  let hash = Math.imul(MURMUR_SEED, size) ^ size;
  let at = from;
  for (; to - at >= 4; at += 4) {
    let word =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    word = Math.imul(word, MURMUR_MULTIPLIER);
    word ^= word >>> MURMUR_SHIFT;
    word = Math.imul(word, MURMUR_MULTIPLIER);
    hash = Math.imul(hash, MURMUR_MULTIPLIER) ^ word;
  }
  const left = to - at;
  if (left === 3) hash ^= (bytes[at + 2] as number) << 16;
  if (left >= 2) hash ^= (bytes[at + 1] as number) << 8;
  if (left >= 1) hash = Math.imul(hash ^ (bytes[at] as number), MURMUR_MULTIPLIER);

  hash ^= hash >>> 13;
  hash = Math.imul(hash, MURMUR_MULTIPLIER);
  return (hash ^ (hash >>> 15)) >>> 0;
}
