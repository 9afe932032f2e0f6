/**
 * The store against a model that is a Map and a list: any sequence of operations and passing time
 * gives the same answers, evicts the same keys in the same order, and never takes more memory than
 * it may.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Driver, START_S, type Stored } from "./drive.ts";

/** Room for the index and a dozen of the larger values, so that evictions are common. */
const LIMIT = 24 * 1024;
/** As documented in backend/embedded/items.ts. */
const UNIT_COST = 68;
const UNITS_MAX = Math.floor(Math.floor((LIMIT - 4096) / UNIT_COST) * (31 / 32));
const unitsOf = (key: string, value: string): number =>
  1 + Math.max(0, Math.ceil((key.length + value.length - 24) / 64));
const EXPTIME_RELATIVE_MAX = 2_592_000;
const TWO_64 = 1n << 64n;

/** What memcached would do, with the order of use as the order of a Map. */
class Model {
  nowS = START_S;
  cas = 0;
  items = new Map<string, Stored>();

  living(key: string): Stored | undefined {
    const item = this.items.get(key);
    if (item === undefined) return undefined;
    if (item.expiresAt === 0 || item.expiresAt > this.nowS) return item;
    this.items.delete(key);
    return undefined;
  }

  used(key: string): Stored | undefined {
    const item = this.living(key);
    if (item === undefined) return undefined;
    this.items.delete(key);
    this.items.set(key, item);
    return item;
  }

  expiry(exptime: number): number {
    if (exptime === 0) return 0;
    if (exptime < 0) return 1;
    return exptime > EXPTIME_RELATIVE_MAX ? exptime : this.nowS + exptime;
  }

  keep(key: string, value: string, flags: number, expiresAt: number): string {
    this.items.delete(key);
    let used = unitsOf(key, value);
    for (const [other, item] of this.items) used += unitsOf(other, item.value);
    for (const [other, item] of this.items) {
      if (used <= UNITS_MAX) break;
      used -= unitsOf(other, item.value);
      this.items.delete(other);
    }
    this.items.set(key, { value, flags, cas: ++this.cas, expiresAt });
    return "done";
  }

  put(
    mode: string,
    key: string,
    value: string,
    flags: number,
    exptime: number,
    cas: number,
  ): string {
    if (unitsOf(key, value) > UNITS_MAX) {
      if (mode === "set") this.items.delete(key);
      return "noMemory";
    }
    const old = this.living(key);
    if (mode === "set") return this.keep(key, value, flags, this.expiry(exptime));
    if (mode === "add") {
      if (old === undefined) return this.keep(key, value, flags, this.expiry(exptime));
      this.used(key);
      return "notStored";
    }
    if (mode === "cas") {
      if (old === undefined) return "notFound";
      return old.cas === cas ? this.keep(key, value, flags, this.expiry(exptime)) : "exists";
    }
    if (old === undefined) return "notStored";
    if (mode === "replace") return this.keep(key, value, flags, this.expiry(exptime));
    if (cas !== 0 && cas !== old.cas) return "exists";
    const together = mode === "append" ? old.value + value : value + old.value;
    if (unitsOf(key, together) > UNITS_MAX) return "notStored";
    return this.keep(key, together, old.flags, old.expiresAt);
  }

  count(key: string, amount: bigint, decrements: boolean): string {
    const old = this.living(key);
    if (old === undefined) return "notFound";
    const match = /^\s*\+?(\d+)(?=[\s\0]|$)/.exec(old.value);
    if (match === null || BigInt(match[1] ?? "0") >= TWO_64) return "nonNumeric";
    const before = BigInt(match[1] ?? "0");
    const after = decrements
      ? before > amount
        ? before - amount
        : 0n
      : (before + amount) % TWO_64;
    const text = after.toString();
    if (text.length > old.value.length) {
      this.keep(key, text, old.flags, old.expiresAt);
    } else {
      this.used(key);
      old.value = text.padEnd(old.value.length);
      old.cas = ++this.cas;
    }
    return text;
  }
}

const key = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 0, max: 30 }).map((n) => `key-${n}`) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 5 }).map((n) => `${n}`.padEnd(200 + n, "k")) },
);
const repeated = (sizeMin: number, sizeMax: number) =>
  fc
    .tuple(fc.integer({ min: sizeMin, max: sizeMax }), fc.nat(25))
    .map(([size, letter]) => String.fromCharCode(97 + letter).repeat(size));
const value = fc.oneof(
  { weight: 5, arbitrary: repeated(1000, 5000) },
  { weight: 2, arbitrary: repeated(0, 300) },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: TWO_64 - 1n }).map(String) },
  {
    weight: 2,
    arbitrary: fc.constantFrom("1", "9", "99", " 7", "+3", "5 apples", "x", "", "z".repeat(30_000)),
  },
);
const exptime = fc.oneof(
  { weight: 6, arbitrary: fc.constant(0) },
  { weight: 4, arbitrary: fc.integer({ min: -1, max: 5 }) },
  { weight: 1, arbitrary: fc.integer({ min: START_S - 2, max: START_S + 10 }) },
);
const mode = fc.constantFrom("set", "set", "set", "add", "replace", "append", "prepend", "cas");

type Both = { model: Model; real: Driver };
const same = (
  name: string,
  run: (subject: Both) => [unknown, unknown],
): fc.Command<object, Both> => ({
  check: () => true,
  run: (_, both) => {
    const [expected, received] = run(both);
    expect(received).toEqual(expected);
    // The same keys are there: nothing else was evicted, nothing came back.
    for (const known of both.model.items.keys()) {
      const item = both.model.living(known);
      expect(both.real.peek(known), known).toEqual(item);
    }
    expect(both.real.store.items.size).toBeLessThanOrEqual(LIMIT);
  },
  toString: () => name,
});

const commands = [
  fc
    .record({
      mode,
      key,
      value,
      flags: fc.nat(0xffff_ffff),
      exptime,
      casOff: fc.integer({ min: -1, max: 1 }),
    })
    .map((given) =>
      same(
        `${given.mode} ${given.key} (${given.value.length}) ${given.exptime}`,
        ({ model, real }) => {
          const usesCas =
            given.mode === "cas" || (given.casOff !== 0 && given.mode.endsWith("pend"));
          const cas = usesCas
            ? Math.max(0, (model.items.get(given.key)?.cas ?? 1) + given.casOff)
            : 0;
          const { flags } = given;
          return [
            model.put(given.mode, given.key, given.value, flags, given.exptime, cas),
            real.put(given.mode as "set", given.key, given.value, {
              flags,
              exptime: given.exptime,
              cas,
              dropsOld: given.mode === "set",
            }),
          ];
        },
      ),
    ),
  key.map((key) => same(`get ${key}`, ({ model, real }) => [model.used(key), real.get(key)])),
  fc.tuple(key, exptime).map(([key, exptime]) =>
    same(`touch ${key} ${exptime}`, ({ model, real }) => {
      const item = model.used(key);
      if (item !== undefined) item.expiresAt = model.expiry(exptime);
      const expected = item && { ...item };
      return [expected, real.touch(key, exptime)];
    }),
  ),
  key.map((key) =>
    same(`delete ${key}`, ({ model, real }) => {
      const was = model.living(key) !== undefined;
      model.items.delete(key);
      return [was ? "done" : "notFound", real.delete(key)];
    }),
  ),
  fc
    .record({ key, amount: fc.bigInt({ min: 0n, max: TWO_64 - 1n }), decrements: fc.boolean() })
    .map(({ key, amount, decrements }) =>
      same(`${decrements ? "decr" : "incr"} ${key} ${amount}`, ({ model, real }) => [
        model.count(key, amount, decrements),
        real.count(key, amount, decrements),
      ]),
    ),
  fc.integer({ min: 1, max: 4 }).map((seconds) =>
    same(`${seconds} s pass`, ({ model, real }) => {
      model.nowS += seconds;
      // A sweep takes 64 turns; after it nothing that expired is left on either side.
      for (let turn = 0; turn < 64; turn++) real.store.tick(model.nowS);
      for (const known of model.items.keys()) model.living(known);
      return [0, 0];
    }),
  ),
];

describe("any sequence of operations", () => {
  test("is answered as the model answers it", () => {
    fc.assert(
      fc.property(fc.commands(commands, { size: "xlarge", maxCommands: 150 }), (sequence) => {
        const both = { model: new Model(), real: new Driver({ bytes: LIMIT }) };
        fc.modelRun(() => ({ model: {}, real: both }), sequence);
      }),
      { numRuns: 200 },
    );
  });
});
