/**
 * Promise: a namespaced and a read-only credential cannot reach outside. Any conversation, made of
 * all commands of all dialects and of attempts to get out, is held against four things:
 *
 * - namespaced: the replies are those of a session without a prefix, alone on a cache of its own;
 * - namespaced: no item outside of the prefix has changed, appeared or gone;
 * - read-only: no item at all has changed, appeared or gone; reads are answered as for everybody;
 * - both: both.
 */
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { clock } from "../../../core/runtime/clock.ts";
import { serveShard } from "../../backend/embedded/serve.ts";
import { describeWith } from "../../e2e/suite.ts";
import { binaryPiece } from "../../fuzz/binary.ts";
import { Chance } from "../../fuzz/chance.ts";
import { mutated, newTag, type StreamDialect, TAG, withTag } from "../../fuzz/stream.ts";
import { textPiece } from "../../fuzz/text.ts";
import { binaryTranscript, textTranscript } from "../../fuzz/transcript.ts";
import { startMemcached } from "../../harness/processes.ts";
import { connect, OPCODE, packet, printable, type Wire } from "../../harness/wire.ts";
import { TestWorker } from "../worker.ts";

const SEED = Number(process.env["FUZZ_SEED"] ?? 20_261_121);
const RUN_COUNT = Number(process.env["FUZZ_RUNS"] ?? 60);
const TIME_MAX_MS = 600_000;
const PREFIX = "Vm:é";
/** Strings of these tests are bytes. */
const STORED_PREFIX = Buffer.from(PREFIX).toString("latin1");
const ALL = ["read", "write", "flush", "api"] as const;
const LOGINS = {
  observer: ALL,
  namespaced: ALL,
  reader: ["read"],
  both: ["read"],
  writer: ["read", "write"],
} as const;
const PREFIXES = { namespaced: PREFIX, both: PREFIX };
type Username = keyof typeof LOGINS;

const base64 = (text: string): string => Buffer.from(text, "latin1").toString("base64");

// ---- conversations --------------------------------------------------------------------------

/** Keys outside of the prefix, some of which a careless proxy would make of a key inside. */
const OUTSIDE = [
  ...["a", "b", "c", "d", "\x01\t\x7f\xfe", "\0 \r\n\xff"].map((name) => `${TAG}${name}`),
  `${STORED_PREFIX.slice(0, -1)}${TAG}a`,
  `${STORED_PREFIX.slice(1)}${TAG}a`,
  ` ${STORED_PREFIX}${TAG}a`,
  `\0${STORED_PREFIX}${TAG}a`,
  `${base64(STORED_PREFIX)}${TAG}a`,
];
/** Hold numbers. */
const OUTSIDE_COUNTERS = [`${TAG}n`, `${TAG}m`];
const SECRET = "secret";

const ODD_FLAGS = [
  "b",
  "bx",
  "v b",
  "b v k",
  "k bb",
  "k O1 b",
  "q b",
  "b b",
  "N30 b v k",
  "s f v k",
];

/** Attempts to get out; the tag is in them already, as base64 would hide it. */
function attempt(dialect: StreamDialect, chance: Chance, opaque: number, tag: string): Buffer {
  const names = [...OUTSIDE, ...OUTSIDE_COUNTERS, `${STORED_PREFIX}${TAG}a`];
  const name = chance.pick(names).replace(TAG, tag);
  const uint32 = (count: number): Buffer => Buffer.alloc(4 * count);
  if (dialect === "binary") {
    const key = chance.pick([name, `\n${name}`, `${name}\r\nget ${name}`, `${name}\0`]);
    return packet(
      chance.pick([
        { opcode: "getk", key, opaque } as const,
        { opcode: "gatkq", key, opaque, extras: uint32(1) } as const,
        { opcode: "setq", key, opaque, extras: uint32(2), value: "x" } as const,
        { opcode: "appendq", key, opaque, value: "x" } as const,
        { opcode: "deleteq", key, opaque } as const,
        { opcode: "increment", key, opaque, extras: uint32(5) } as const,
        { opcode: "touch", key, opaque, extras: uint32(1) } as const,
        // Lengths that lie within the packet: the key ends elsewhere.
        { opcode: "getk", key, value: name, opaque } as const,
      ]),
    );
  }
  const speakable = name.replace(/[\0 \r\n]/g, "");
  const key = chance.pick([speakable, base64(name), `=${base64(name)}`, `-${base64(name)}_`]);
  const flags = chance.pick(ODD_FLAGS);
  return Buffer.from(
    chance.pick([
      `get ${speakable} ${key}\r\n`,
      `gat 0   ${key}\t ${speakable} \r\n`,
      `touch ${key} 0\r\n`,
      `delete ${key}\r\n`,
      `mg ${key} ${flags}\r\n`,
      `md ${key} ${flags}\r\n`,
      `ma ${key} ${flags}\r\n`,
      `me ${key} ${flags}\r\n`,
      `me   ${key}\r\n`,
      `ms ${key} 2 ${flags}\r\nxy\r\n`,
      `set ${key} 0 0 2 noreply\r\nxy\r\n`,
      `append ${key} 0 0 2\r\nxy\r\n`,
      `get ${chance.list(80, (index) => `${key}${index % 3 === 0 ? "" : index}`).join(" ")}\r\n`,
    ]),
    "latin1",
  );
}

/** Keys as long as they may be would be too long with a prefix: told otherwise, tested elsewhere. */
const LONGEST_KEY_PART = "x".repeat(250 - TAG.length);

function piece(dialect: StreamDialect, seed: number, index: number, tag: string): Buffer {
  for (let again = 0; ; again++) {
    const chance = new Chance(seed + again);
    const opaque = 0x1000 + index;
    if (chance.oneIn(4)) return attempt(dialect, chance, opaque, tag);
    const made = dialect === "text" ? textPiece(chance) : binaryPiece(chance, opaque);
    // Flushes are refused: tested elsewhere, too.
    const isFlush =
      dialect === "text"
        ? made.bytes.includes("flush_all")
        : [OPCODE.flush, OPCODE.flushq].some((opcode) => opcode === made.bytes[1]);
    if (!isFlush && !made.bytes.includes(LONGEST_KEY_PART)) return withTag(made.bytes, tag);
  }
}

type Conversation = { dialect: StreamDialect; seeds: number[]; cutSeed: number };

/** A seed for each piece, so that a failure is made smaller by leaving some out. */
const conversation: fc.Arbitrary<Conversation> = fc.record({
  dialect: fc.constantFrom<StreamDialect>("text", "binary"),
  seeds: fc.array(fc.noShrink(fc.nat()), { minLength: 1, maxLength: 40 }),
  cutSeed: fc.noShrink(fc.nat()),
});

const piecesOf = ({ dialect, seeds }: Conversation, tag: string): Buffer[] =>
  seeds.map((seed, index) => piece(dialect, seed, index, tag));

const LAST_OPAQUE = 0xffff_fffe;
const LAST = {
  text: { question: "mg the-end k Othe-end\r\n", answer: "EN kthe-end Othe-end\r\n" },
  binary: {
    question: packet({ opcode: "noop", opaque: LAST_OPAQUE }),
    answer: packet({ opcode: "noop", opaque: LAST_OPAQUE, magic: 0x81 }),
  },
} as const;

/** What a session says to the pieces, line by line or packet by packet. */
async function converse(wire: Wire, said: Conversation, tag: string): Promise<string[]> {
  const { dialect, cutSeed } = said;
  const bytes = Buffer.concat(piecesOf(said, tag));
  const { question, answer } = LAST[dialect];
  const chance = new Chance(cutSeed);
  const cuts = chance.cuts(bytes.length, chance.pick([0, 3, 20]));
  await wire.send(Buffer.concat([bytes, Buffer.from(question as string)]), cuts);
  const { bytes: replies, ended } = await wire.readUntil(answer);
  wire.close();
  const lines = dialect === "text" ? textTranscript(replies) : binaryTranscript(replies);
  // The size that `me` tells is that of the item in memory, with all of its key.
  const steady = lines.map((line) => line.replace(/^(ME .* size=)\d+$/, "$1#"));
  return [...steady, ended];
}

// ---- what is outside ------------------------------------------------------------------------

type Shards = { addresses: string[]; stop(): Promise<void> };

const ENGINES: Record<string, () => Promise<Shards>> = {
  memcached: async () => {
    const shards = await Promise.all(Array.from({ length: 3 }, () => startMemcached()));
    const stop = async () => void (await Promise.all(shards.map((shard) => shard.stop())));
    return { addresses: shards.map(({ address }) => address), stop };
  },
  "the embedded store": async () => {
    const shards = await Promise.all(Array.from({ length: 3 }, () => serveShard()));
    const stop = async () => void (await Promise.all(shards.map((shard) => shard.stop())));
    return { addresses: shards.map(({ address }) => address), stop };
  },
};

/** Two caches, and somebody who sees all of the first. */
class Place {
  readonly shared: TestWorker;
  readonly twin: TestWorker;
  readonly #shards: readonly Shards[];
  readonly #dumps: boolean;
  observer!: Wire;
  twinObserver!: Wire;

  constructor(shared: Shards, twin: Shards, dumps: boolean) {
    this.#shards = [shared, twin];
    this.#dumps = dumps;
    const logins = LOGINS;
    this.shared = new TestWorker({ shards: shared.addresses, logins, prefixes: PREFIXES });
    this.twin = new TestWorker({ shards: twin.addresses, logins });
  }

  static async start(engine: string): Promise<Place> {
    const start = ENGINES[engine]!;
    const place = new Place(await start(), await start(), engine === "memcached");
    await place.shared.start();
    await place.twin.start();
    place.observer = await place.shared.openAs("observer", "text");
    place.twinObserver = await place.twin.openAs("observer", "text");
    return place;
  }

  /** Nothing may be left in the proxies of what was said. */
  async stop(): Promise<void> {
    this.observer.close();
    this.twinObserver.close();
    await this.shared.untilNothingIsHeld();
    await this.twin.untilNothingIsHeld();
    await this.shared.stop();
    await this.twin.stop();
    for (const shards of this.#shards) await shards.stop();
  }

  /** Puts the items outside there, with names of their own for this conversation. */
  async store(worker: TestWorker, tag: string): Promise<void> {
    const wire = await worker.openAs("observer", "binary");
    const items = [
      ...OUTSIDE.map((key) => ({ key, value: `${SECRET} ${key}` })),
      ...OUTSIDE_COUNTERS.map((key) => ({ key, value: "7777" })),
    ];
    const extras = Buffer.from("0000000700000000", "hex");
    const packets = items.map((item) => packet({ opcode: "setq", extras, ...item }));
    const { question, answer } = LAST.binary;
    await wire.send(Buffer.concat([withTag(Buffer.concat(packets), tag), question]));
    const { bytes } = await wire.readUntil(answer);
    expect(bytes.equals(answer)).toBe(true);
    wire.close();
  }

  /** All that an item is, but for when it was read last: by the key, outside of the prefix. */
  async outside(tag: string, isInside: (key: string) => boolean): Promise<string[]> {
    const items = new Map<string, string>();
    const keys = [...OUTSIDE, ...OUTSIDE_COUNTERS].map((key) =>
      withTag(Buffer.from(key, "latin1"), tag).toString("latin1"),
    );
    for (const key of keys) {
      const asked = `mg ${base64(key)} b v f s c t u\r\nmn\r\n`;
      items.set(`value of ${key}`, String(await this.observer.ask(asked, "MN\r\n")));
    }
    if (this.#dumps) {
      for (const address of this.#shards[0]!.addresses) {
        for (const [key, item] of await dump(address)) if (!isInside(key)) items.set(key, item);
      }
    }
    return [...items].map(([key, item]) => printable(`${key} -> ${item}`)).sort();
  }

  /** Where a dump shows every item there is no need to count them (and memcached's expire). */
  async itemCounts(): Promise<number[]> {
    if (this.#dumps) return [0, 0];
    return [await Place.itemCount(this.observer), await Place.itemCount(this.twinObserver)];
  }

  static async itemCount(observer: Wire): Promise<number> {
    const stats = String(await observer.ask("stats\r\n", "END\r\n"));
    return Number(/^STAT curr_items (\d+)/m.exec(stats)?.[1]);
  }
}

const DUMP_COUNT = 3;
/** Items with less time to live are left out: whether they are still there is a matter of chance. */
const SHORT_LIFE_S = 1_000;

/**
 * Every item of a memcached: its key, when it expires and its cas unique. Its crawler passes over
 * items that are locked at that moment, so it is sent again.
 */
async function dump(address: string): Promise<Map<string, string>> {
  const items = new Map<string, string>();
  const wire = await connect(address);
  for (let count = 0; count < DUMP_COUNT; count++) {
    const lines = String(await wire.ask("lru_crawler metadump all\r\n", "END\r\n")).split("\n");
    for (const line of lines) {
      const [, key, exp, cas] = /^key=(\S+) exp=(\S+) la=\S+ cas=(\S+)/.exec(line) ?? [];
      const isBrief = Number(exp) > 0 && Number(exp) < clock.unixMs() / 1000 + SHORT_LIFE_S;
      if (key !== undefined && !isBrief) items.set(unescaped(key), `exp=${exp} cas=${cas}`);
    }
  }
  wire.close();
  return items;
}

/** As RFC 3986 escapes bytes. */
const unescaped = (key: string): string =>
  key.replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));

// ---- what must be true ----------------------------------------------------------------------

/** What is wrong with a conversation; empty if nothing is. */
type Finding = string[];

function difference(what: string, expected: readonly string[], got: readonly string[]): Finding {
  const index = expected.findIndex((line, at) => line !== got[at]);
  if (index < 0 && expected.length === got.length) return [];
  const at = index < 0 ? expected.length : index;
  return [`${what}, ${at}:`, `  expected ${expected[at]}`, `  got      ${got[at]}`];
}

type Case = { username: Username; isNamespaced: boolean; isReader: boolean };

async function judge(place: Place, at: Case, said: Conversation): Promise<Finding> {
  const tag = newTag();
  const { shared, twin } = place;
  await place.store(shared, tag);
  // The namespaced see nothing of what is outside, so their twin has nothing of it.
  if (!at.isNamespaced) await place.store(twin, tag);
  const isInside = (key: string): boolean =>
    at.isReader ? false : at.isNamespaced && key.startsWith(STORED_PREFIX);
  const before = await place.outside(tag, isInside);
  const [count = 0, twinCount = 0] = await place.itemCounts();
  const twinName = at.isReader ? "reader" : "observer";
  const got = await converse(await shared.openAs(at.username, said.dialect), said, tag);
  const expected = await converse(await twin.openAs(twinName, said.dialect), said, tag);
  let changes = difference("outside", before, await place.outside(tag, isInside));
  // Again, for items that the crawler passed over.
  for (let again = 0; changes.length > 0 && again < 5; again++) {
    changes = difference("outside", before, await place.outside(tag, isInside));
  }
  const [countAfter = 0, twinCountAfter = 0] = await place.itemCounts();
  const added = countAfter - count;
  const addedRightly = twinCountAfter - twinCount;
  const leaks = at.isNamespaced ? got.filter((line) => line.includes(SECRET)) : [];
  return [
    ...difference("reply", expected, got),
    ...changes,
    ...(added === addedRightly ? [] : [`items: ${added} more, not ${addedRightly}`]),
    ...leaks.map((line) => `leaked: ${line}`),
  ];
}

/** Holds for any conversation? */
async function holds(place: Place, at: Case, runCount = RUN_COUNT): Promise<string | null> {
  const details = await fc.check(
    fc.asyncProperty(conversation, async (said) => {
      const finding = await judge(place, at, said);
      if (finding.length > 0) throw new Error(finding.join("\n"));
    }),
    { seed: SEED, numRuns: runCount, interruptAfterTimeLimit: TIME_MAX_MS },
  );
  if (!details.failed) return null;
  const [said] = details.counterexample ?? [];
  const pieces = said === undefined ? [] : piecesOf(said, TAG);
  const lines = pieces.map((bytes) => `  ${printable(bytes).slice(0, 300)}`);
  const error = details.errorInstance instanceof Error ? details.errorInstance.message : "";
  return [`seed ${details.seed}, ${said?.dialect}`, ...lines, error].join("\n");
}

const CASES: Record<string, Case> = {
  "a key prefix": { username: "namespaced", isNamespaced: true, isReader: false },
  "no right but to read": { username: "reader", isNamespaced: false, isReader: true },
  "a key prefix and no right but to read": { username: "both", isNamespaced: true, isReader: true },
};

describeWith(["memcached"], "a credential that cannot reach outside", () => {
  describe.each(Object.keys(ENGINES))("on %s", (engine) => {
    let place: Place;
    beforeEach(async () => {
      place = await Place.start(engine);
    });
    afterEach(() => place.stop());

    test.each(Object.keys(CASES))("has %s", async (name) => {
      const finding = await holds(place, CASES[name]!);
      expect(finding, finding ?? "").toBeNull();
    }, 120_000);

    test("has one, whatever damaged commands it sends", async () => {
      const tag = newTag();
      await place.store(place.shared, tag);
      const isInside = (key: string): boolean => key.startsWith(STORED_PREFIX);
      const before = await place.outside(tag, isInside);
      for (let seed = 1; seed <= 60; seed++) {
        const chance = new Chance(SEED + seed);
        const dialect = chance.pick<StreamDialect>(["text", "binary"]);
        const seeds = chance.list(10, (index) => SEED + seed * 100 + index);
        const pieces = piecesOf({ dialect, seeds, cutSeed: 0 }, tag);
        const wire = await place.shared.openAs("namespaced", dialect);
        await wire.send(mutated(Buffer.concat(pieces), chance));
        wire.finish();
        const { bytes, ended } = await wire.readToClose();
        expect(ended, `seed ${seed}`).not.toBe("deadline");
        expect(String(bytes), `seed ${seed}`).not.toContain(SECRET);
      }
      expect(await place.outside(tag, isInside)).toEqual(before);
    }, 60_000);

    // The proof that these tests can fail: the same with credentials that do reach outside.
    test.each<[string, Case]>([
      ["has no prefix", { username: "observer", isNamespaced: true, isReader: false }],
      ["may write", { username: "writer", isNamespaced: false, isReader: true }],
      [
        "has a prefix but may write",
        { username: "namespaced", isNamespaced: true, isReader: true },
      ],
    ])("is told from one that %s", async (_, at) => {
      expect(await holds(place, at, 20)).not.toBeNull();
    });
  });
});
