/** A store driven with strings, for tests: one method per operation, plain answers. */
import { Store, type StoreOptions } from "../../../backend/embedded/store.ts";
import { Delta, Mode, Outcome, Write } from "../../../backend/embedded/write.ts";

export const START_S = 1_700_000_000;
const OUTCOME_NAMES = Object.keys(Outcome);

export type Stored = { value: string; flags: number; cas: number; expiresAt: number };

export class Driver {
  readonly store: Store;
  readonly #write = new Write();
  readonly #delta = new Delta();

  constructor(options: Partial<StoreOptions> = {}) {
    this.store = new Store({ bytes: 1 << 20, unixS: START_S, seed: [1, 2], ...options });
  }

  put(
    mode: keyof typeof Mode,
    key: string,
    value: string,
    { flags = 0, exptime = 0, cas = 0, allowStale = false, dropsOld = false } = {},
  ): string {
    // Key and value stand in the middle of other bytes, as in a read buffer.
    const bytes = Buffer.from(`<${key}|${value}>`, "latin1");
    Object.assign(this.#write, {
      mode: Mode[mode],
      keyBytes: bytes,
      keyAt: 1,
      keySize: key.length,
      valueBytes: bytes,
      valueAt: key.length + 2,
      valueSize: value.length,
      flags,
      expiresAt: this.store.expiryOf(exptime),
      cas,
      allowStale,
      dropsOld,
    });
    return OUTCOME_NAMES[this.store.write(this.#write)] ?? "?";
  }

  set(key: string, value: string, options = {}): string {
    return this.put("set", key, value, options);
  }

  get(key: string): Stored | undefined {
    return this.#show(this.store.get(Buffer.from(key, "latin1"), 0, key.length));
  }

  /** Looks without being a use. */
  peek(key: string): Stored | undefined {
    return this.#show(this.store.find(Buffer.from(key, "latin1"), 0, key.length));
  }

  touch(key: string, exptime: number): Stored | undefined {
    const expiresAt = this.store.expiryOf(exptime);
    return this.#show(this.store.touch(Buffer.from(key, "latin1"), 0, key.length, expiresAt));
  }

  delete(key: string, cas = 0): string {
    return OUTCOME_NAMES[this.store.delete(Buffer.from(key, "latin1"), 0, key.length, cas)] ?? "?";
  }

  count(key: string, amount: bigint, decrements = false, cas = 0): string {
    const delta = this.#delta;
    delta.keyBytes = Buffer.from(key, "latin1");
    delta.keyAt = 0;
    delta.keySize = key.length;
    delta.decrements = decrements;
    delta.amount.set(Number(amount >> 32n), Number(amount & 0xffff_ffffn));
    delta.cas = cas;
    const outcome = this.store.count(delta);
    if (outcome !== Outcome.done) return OUTCOME_NAMES[outcome] ?? "?";
    return ((BigInt(delta.result.high) << 32n) | BigInt(delta.result.low)).toString();
  }

  #show(item: number): Stored | undefined {
    if (item === 0) return undefined;
    const { items } = this.store;
    const size = items.valueSize(item);
    const value = Buffer.alloc(size);
    items.readValue(item, 0, value, 0, size);
    return {
      value: value.toString("latin1"),
      flags: items.flags(item),
      cas: items.cas(item),
      expiresAt: items.expiresAt(item),
    };
  }
}
