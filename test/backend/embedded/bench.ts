/**
 * What the store costs, without sockets: `node test/backend/embedded/bench.ts`. Not part of
 * `npm test`; whoever changes the folder quotes these figures before and after.
 */
import { Store } from "../../../backend/embedded/store.ts";
import { Write } from "../../../backend/embedded/write.ts";
import { clock } from "../../../core/runtime/clock.ts";
import { type Random, seededRandom } from "../../../core/runtime/random.ts";

const KEY_SIZE = 16;
const VALUE_AT = 64;
const RUNS = 5;

type Load = { items: number; valueSize: number; memoryMb: number; operations: number };
const LOADS: readonly Load[] = [
  { items: 10_000, valueSize: 100, memoryMb: 100, operations: 500_000 },
  { items: 1_000_000, valueSize: 100, memoryMb: 300, operations: 500_000 },
  { items: 100_000, valueSize: 100, memoryMb: 10, operations: 500_000 },
  { items: 20_000, valueSize: 4096, memoryMb: 200, operations: 200_000 },
];

/** Nanoseconds per operation: the median of some runs, without the cost of making the key. */
function measure(operations: number, makeKey: () => void, operate: () => void): number {
  const runs = Array.from({ length: RUNS }, () => {
    const time = (work: () => void): number => {
      const startMs = clock.nowMs();
      for (let i = 0; i < operations; i++) work();
      return ((clock.nowMs() - startMs) * 1e6) / operations;
    };
    const both = time(() => {
      makeKey();
      operate();
    });
    return both - time(makeKey);
  });
  return Math.round(runs.sort((a, b) => a - b)[RUNS >> 1] ?? 0);
}

function run({ items, valueSize, memoryMb, operations }: Load): Record<string, number | string> {
  const store = new Store({ bytes: memoryMb * 1e6, unixS: 1_700_000_000, seed: [1, 2] });
  const bytes = Buffer.alloc(VALUE_AT + valueSize, 0x78);
  const target = Buffer.alloc(valueSize);
  const random: Random = seededRandom(1);
  const write = new Write();
  write.keyBytes = bytes;
  write.keySize = KEY_SIZE;
  write.value(bytes, VALUE_AT, valueSize);
  const putKey = (number: number): void => {
    for (let at = KEY_SIZE - 1, rest = number; at >= 4; at--, rest = Math.floor(rest / 10)) {
      bytes[at] = 48 + (rest % 10);
    }
  };
  let next = 0;
  const anyKey = (): void => putKey(Math.floor(random.next() * items));
  const absentKey = (): void => putKey(items + Math.floor(random.next() * items));
  const newKey = (): void => putKey(next++);
  const startMs = clock.nowMs();
  for (let i = 0; i < items; i++) {
    newKey();
    store.write(write);
  }
  const fillNs = ((clock.nowMs() - startMs) * 1e6) / items;
  return {
    items: store.items.count,
    valueSize,
    memoryMb,
    "bytes/item": Math.round(store.items.size / store.items.count),
    "fill ns": Math.round(fillNs),
    "get hit ns": measure(operations, anyKey, () => {
      const item = store.get(bytes, 0, KEY_SIZE);
      if (item !== 0) store.items.readValue(item, 0, target, 0, store.items.valueSize(item));
    }),
    "get miss ns": measure(operations, absentKey, () => void store.get(bytes, 0, KEY_SIZE)),
    "set again ns": measure(operations, anyKey, () => void store.write(write)),
    "delete, set ns": measure(operations, anyKey, () => {
      store.delete(bytes, 0, KEY_SIZE, 0);
      store.write(write);
    }),
  };
}

console.table(LOADS.map(run));
