/**
 * How records lie in etcd: `<prefix><kind>/<id>`, the value as JSON. Pure. Keys under the prefix
 * that are none of ours, from a newer Memward or another program, are passed over.
 */
import type { IEvent, IKeyValue } from "etcd3";
import { type Kind, RECORDS, withDefaults } from "./records.ts";
import type { Entry, Seen } from "./state.ts";

/** Ids are printable ASCII (changes.ts). */
const AFTER_ALL_IDS = "\u007f";

export class EtcdKeys {
  readonly #prefix: string;
  /** The range of all records. */
  readonly start: Buffer;
  readonly end: Buffer;

  /** `prefix` ends with a slash. */
  constructor(prefix: string) {
    this.#prefix = prefix;
    this.start = Buffer.from(prefix);
    this.end = Buffer.from(prefix + AFTER_ALL_IDS);
  }

  of(kind: Kind, id: string): Buffer {
    return Buffer.from(`${this.#prefix}${kind}/${id}`);
  }

  /** The range of the ids of a kind that begin with `prefix` and are below `before`. */
  range(kind: Kind, { prefix = "", before = AFTER_ALL_IDS }): { start: Buffer; end: Buffer } {
    const end = [before, prefix + AFTER_ALL_IDS].toSorted()[0] as string;
    return { start: this.of(kind, prefix), end: this.of(kind, end) };
  }

  entriesOf(pairs: readonly IKeyValue[]): Entry[] {
    return pairs.flatMap((pair) => {
      const name = this.#nameOf(pair.key);
      const value = name && readValue(name.kind, pair.value);
      if (name === undefined || value === undefined) return [];
      return [{ ...name, value, revision: Number(pair.mod_revision) } as Entry];
    });
  }

  seenOf(events: readonly IEvent[]): Seen[] {
    return events.flatMap(({ type, kv }): Seen[] => {
      if (type === "Put") return this.entriesOf([kv]);
      const name = this.#nameOf(kv.key);
      if (name === undefined) return [];
      return [{ ...name, value: null, revision: Number(kv.mod_revision) } as Seen];
    });
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
