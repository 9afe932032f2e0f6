/**
 * How records lie in etcd: `<prefix><kind>/<id>`, the value as JSON. Pure. Keys under the prefix
 * that are none of ours, from a newer Memward or another program, are passed over.
 */
import { EVENT, type Event, type KeyValue } from "./etcd-messages.ts";
import { type Kind, RECORDS, withDefaults } from "./records.ts";
import type { Entry, Seen } from "./state.ts";

/** Ids are printable ASCII (changes.ts). */
const AFTER_ALL_IDS = "\u007f";

export class EtcdKeys {
  readonly #prefix: string;
  /** The range of all records that are watched; kinds between those that were asked for are in it. */
  readonly start: Buffer;
  readonly end: Buffer;

  /** `prefix` ends with a slash. Without `kinds` all are watched. */
  constructor(prefix: string, kinds: readonly Kind[] = []) {
    this.#prefix = prefix;
    const sorted = kinds.toSorted();
    const [first, last] = [sorted[0], sorted.at(-1)];
    this.start = Buffer.from(prefix + (first === undefined ? "" : `${first}/`));
    this.end = Buffer.from(prefix + (last === undefined ? "" : `${last}/`) + AFTER_ALL_IDS);
  }

  of(kind: Kind, id: string): Buffer {
    return Buffer.from(`${this.#prefix}${kind}/${id}`);
  }

  /** The range of the ids of a kind that begin with `prefix` and are below `before`. */
  range(kind: Kind, { prefix = "", before = AFTER_ALL_IDS }): { start: Buffer; end: Buffer } {
    const end = [before, prefix + AFTER_ALL_IDS].toSorted()[0] as string;
    return { start: this.of(kind, prefix), end: this.of(kind, end) };
  }

  entriesOf(pairs: readonly KeyValue[]): Entry[] {
    return pairs.map((pair) => this.#entryOf(pair)).filter((entry) => entry !== undefined);
  }

  /** In a loop of its own: every process of a cluster comes here at every change. */
  seenOf(events: readonly Event[]): Seen[] {
    const seen: Seen[] = [];
    for (const { type, kv } of events) {
      const one = kv && (type === EVENT.put ? this.#entryOf(kv) : this.#goneOf(kv));
      if (one !== undefined) seen.push(one);
    }
    return seen;
  }

  #entryOf({ key, value: bytes, modRevision: revision }: KeyValue): Entry | undefined {
    const name = this.#nameOf(key);
    const value = name && readValue(name.kind, bytes);
    if (name === undefined || value === undefined) return undefined;
    return { kind: name.kind, id: name.id, value, revision } as Entry;
  }

  #goneOf({ key, modRevision: revision }: KeyValue): Seen | undefined {
    const name = this.#nameOf(key);
    return name && ({ kind: name.kind, id: name.id, value: null, revision } as Seen);
  }

  #nameOf(key: Buffer): { kind: Kind; id: string } | undefined {
    const rest = key.toString("latin1").slice(this.#prefix.length);
    const slash = rest.indexOf("/");
    const kind = rest.slice(0, slash);
    if (!Object.hasOwn(RECORDS, kind)) return undefined;
    return { kind: kind as Kind, id: rest.slice(slash + 1) };
  }
}

/** Values were checked against their schema when they were committed; see changes.ts. */
function readValue(kind: Kind, bytes: Buffer): unknown {
  try {
    return withDefaults(kind, JSON.parse(bytes.toString()));
  } catch {
    return undefined; // Not written by us.
  }
}
