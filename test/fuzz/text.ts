/**
 * Text and meta commands for the fuzzer, after protocol.txt: well-formed ones in all their forms,
 * and lines that memcached 1.6.18 refuses. Nothing here depends on the time of day: expiries are
 * never, at once, or far away. Uniques for cas are never those of an item.
 */
import type { Chance } from "./chance.ts";
import { BASE64_TAGS, type Piece, TAG } from "./stream.ts";

const KEYS = [
  ...["a", "b", "c", "d"].map((name) => `${TAG}${name}`),
  TAG.padEnd(250, "x"),
  `${TAG}\x01\t\x7f\xfe`,
];
/** Hold numbers and nothing else; all other values begin with a letter. */
const COUNTERS = [`${TAG}n`, `${TAG}m`];
const KEY_TOO_LONG = TAG.padEnd(251, "x");
const BASE64_KEYS = Object.keys(BASE64_TAGS);

const FLAGS = ["0", "1", "4294967295", "+5", "007"];
const EXPTIMES = ["0", "0", "0", "100000", "-1"];
const NUMBERS_REFUSED = ["abc", "1x", "1.5", "-", "99999999999999999999"];
const UNIQUES = ["18446744073709551615", "9999999999999999"];

const line = (text: string): Piece => ({ bytes: Buffer.from(text, "latin1") });

function ended(tokens: readonly string[], chance: Chance): string {
  const blank = chance.oneIn(12) ? "  " : " ";
  const end = chance.oneIn(10) ? "\n" : "\r\n";
  return `${tokens.join(blank)}${chance.oneIn(15) ? " " : ""}${end}`;
}

const key = (chance: Chance): string =>
  chance.weighted([
    [20, chance.pick(KEYS.slice(0, 4))],
    [3, chance.pick(KEYS)],
    [6, chance.pick(COUNTERS)],
  ]);

/** Bytes of any kind; now and then what looks like a reply. */
export function anyValue(chance: Chance): Buffer {
  if (chance.oneIn(10)) return Buffer.alloc(0);
  if (chance.oneIn(6)) return Buffer.from("END\r\nVALUE x 0 5\r\nSTORED\r\n\0HD\r\n");
  const size = chance.weighted([
    [30, chance.integer(0, 12)],
    [10, chance.integer(13, 2_000)],
    [2, chance.integer(2_000, 20_000)],
    [1, chance.integer(20_000, 100_000)],
  ]);
  const bytes = size < 100 ? chance.bytes(size) : Buffer.alloc(size, chance.bytes(37));
  return Buffer.concat([Buffer.from("v"), bytes]);
}

const numberOf = (chance: Chance): Buffer => Buffer.from(String(chance.integer(0, 200)));

const withBlock = (head: string, value: Buffer): Buffer =>
  Buffer.concat([Buffer.from(head, "latin1"), value, Buffer.from("\r\n")]);

// ---- commands that memcached takes ----------------------------------------------------------

type Maker = (chance: Chance) => Piece;

const storage: Maker = (chance) => {
  const verb = chance.pick(["set", "set", "set", "add", "replace", "append", "prepend", "cas"]);
  const name = /pend$/.test(verb) ? chance.pick(KEYS) : key(chance);
  const value = COUNTERS.includes(name) ? numberOf(chance) : anyValue(chance);
  const tokens = [verb, name, chance.pick(FLAGS), chance.pick(EXPTIMES), `${value.length}`];
  if (verb === "cas") tokens.push(chance.pick(UNIQUES));
  if (chance.oneIn(4)) tokens.push("noreply");
  return { bytes: withBlock(ended(tokens, chance), value) };
};

/** More bytes than announced: the surplus is the next command for everybody. */
const surplus: Maker = (chance) => {
  const tokens = ["set", chance.pick(KEYS), "0", "0", "3"];
  if (chance.oneIn(3)) tokens.push("noreply");
  return { bytes: withBlock(ended(tokens, chance), Buffer.from("abcdef")) };
};

const retrieval: Maker = (chance) => {
  const verb = chance.pick(["get", "get", "gets", "gat", "gats"]);
  const touches = verb.startsWith("gat");
  // memcached closes when it sees 2,048 bytes of a line that is not `get` or `gets`.
  const countMax = touches ? 7 : 140;
  const count = chance.weighted([
    [10, 1],
    [6, chance.integer(2, 7)],
    [2, chance.integer(2, countMax)],
  ]);
  const head = touches ? [verb, chance.pick(EXPTIMES)] : [verb];
  return line(ended([...head, ...chance.list(count, () => key(chance))], chance));
};

/**
 * Counters never become shorter: whether memcached then pads them with blanks depends on who else
 * holds the item at that moment. It also decides whether the item is a new one, never fetched.
 */
const keyLine: Maker = (chance) => {
  const tokens = chance.weighted([
    [3, ["delete", key(chance)]],
    [1, ["delete", key(chance), "0"]],
    [3, ["incr", key(chance), chance.pick(["1", "0", "7"])]],
    [1, ["decr", key(chance), "0"]],
    [2, ["touch", key(chance), chance.pick(EXPTIMES)]],
  ]);
  return line(ended(chance.oneIn(4) ? [...tokens, "noreply"] : tokens, chance));
};

/** Flags of each meta command whose answers do not depend on the moment. */
const META_FLAGS: Record<string, readonly string[]> = {
  mg: ["v", "s", "f", "c", "k", "q", "h", "l", "t", "u", "O12", "N100000", "R5", "T100000", "P1"],
  ms: [
    "c",
    "k",
    "q",
    "O12",
    "F77",
    "T100000",
    "T0",
    "I",
    "MS",
    "ME",
    "MR",
    "MA",
    "MP",
    `C${UNIQUES[1]}`,
  ],
  md: ["q", "k", "O12", "I", "T30", `C${UNIQUES[1]}`],
  ma: ["v", "t", "c", "k", "q", "O12", "D5", "MI", "M+", "N0", "J13", "T100000"],
};

function metaFlags(verb: string, chance: Chance): string[] {
  const flags = (META_FLAGS[verb] ?? []).filter(() => chance.oneIn(3));
  if (chance.oneIn(12)) flags.push(chance.pick(["!", "z", "S5", "Tabc", "v", "q"]));
  // memcached tells that a counter was created, q or not: its reply alone does not show it.
  const creates = verb === "ma" && flags.includes("N0");
  return creates ? flags.filter((flag) => flag !== "q") : flags;
}

const meta: Maker = (chance) => {
  const verb = chance.pick(["mg", "mg", "mg", "ms", "ms", "md", "ma"]);
  const isBase64 = chance.oneIn(8);
  const name = isBase64 ? chance.pick(BASE64_KEYS) : key(chance);
  const flags = [...metaFlags(verb, chance), ...(isBase64 ? ["b"] : [])];
  if (verb !== "ms") return line(ended([verb, name, ...flags], chance));
  const isCounter = COUNTERS.includes(name);
  const value = isCounter ? numberOf(chance) : anyValue(chance);
  // Neither appended to nor prepended: it would be no number, or one with zeros before.
  const kept = isCounter ? flags.filter((flag) => !/^M[AP]/.test(flag)) : flags;
  return { bytes: withBlock(ended([verb, name, `${value.length}`, ...kept], chance), value) };
};

const others: Maker = (chance) =>
  line(ended([chance.pick(["mn", "mn", `me ${key(chance)}`, "verbosity 0", "version"])], chance));

const flush: Maker = (chance) =>
  line(ended([chance.pick(["flush_all", "flush_all 0", "flush_all noreply"])], chance));

// ---- lines that memcached refuses -----------------------------------------------------------

const K = KEYS[0] ?? "";
const REFUSED_LINES = [
  ..."| |get|gets|gat|set|add|cas|append|delete|incr|decr|touch|mg|ms|md|ma|me|mx|m|GET a".split(
    "|",
  ),
  ...["unknown", "unknown a b", "getx a", "ge a", "verbosity", "flush_all abc", "flush_all 1 2 3"],
  // Not here: retrievals of keys that are too long. memcached then forgets the replies before.
  ...[`gat abc ${K}`, "gat 5"],
  ...[`set ${K}`, `set ${K} 0 0`, `set ${K} 0 0 abc`, `set ${K} 0 0 -1`, `add ${K} 0 0 1x noreply`],
  ...[`set ${K} 0 0 noreply`, `cas ${K} 0 0 abc 1`, `set ${K} 0 0 2147483648`],
  ...[`delete ${K} 1`, `delete ${K} 1 2`, `delete ${K} 1 2 3`, `delete ${K} noreply noreply`],
  ...[
    `delete ${K} 5 noreply`,
    `delete ${KEY_TOO_LONG}`,
    `delete ${KEY_TOO_LONG} noreply`,
    "delete noreply",
  ],
  ...[
    `incr ${K}`,
    `incr ${K} abc`,
    `incr ${K} -1`,
    `incr ${K} 1 2`,
    `incr ${K} 1 2 3`,
    "incr noreply",
  ],
  ...[`incr ${K} noreply`, `decr ${K} noreply`, `touch ${K} noreply`, "touch noreply noreply"],
  ...[
    `touch ${K}`,
    `touch ${K} abc`,
    `touch ${K} 0 1`,
    `incr ${KEY_TOO_LONG} 1`,
    `touch ${KEY_TOO_LONG} 0`,
  ],
  ...[
    `mg ${K} !`,
    `mg ${K} v v`,
    `mg ${K} q q`,
    `md ${K} q q`,
    `ma ${K} q q`,
    `mg ${K} O${"o".repeat(33)}`,
  ],
  ...[
    `mg ${KEY_TOO_LONG}`,
    `md ${KEY_TOO_LONG} q`,
    `ms ${K}`,
    `ms ${K} abc`,
    `ms ${K} -1`,
    `mg not*base64 b v`,
  ],
];

const refusedLine: Maker = (chance) => line(ended([chance.pick(REFUSED_LINES)], chance));

/** memcached reads the block of these as commands; we skip it, so memcached is not sent it. */
const refusedStorage: Maker = (chance) => {
  const value = anyValue(chance);
  const size = `${value.length}`;
  const bad = chance.pick(NUMBERS_REFUSED);
  const tokens = chance.pick([
    ["set", KEY_TOO_LONG, "0", "0", size],
    ["ms", KEY_TOO_LONG, size],
    ["add", K, bad, "0", size],
    ["set", K, "-1", "0", size],
    ["append", K, "0", bad, size],
    ["cas", K, "0", "0", size, bad],
    ["cas", K, "0", "0", size, "-1"],
  ]);
  if (tokens[0] !== "ms" && chance.oneIn(4)) tokens.push("noreply");
  const head = ended(tokens, chance);
  return { bytes: withBlock(head, value), reference: Buffer.from(head, "latin1") };
};

const tooLarge: Maker = (chance) => {
  const size = 1024 * 1024 + chance.integer(1, 5_000);
  const head = chance.pick([
    `set ${K} 0 0 ${size}`,
    `ms ${K} ${size} k`,
    `set ${K} 0 0 ${size} noreply`,
  ]);
  return { bytes: withBlock(ended([head], chance), Buffer.alloc(size, "x")) };
};

const MAKERS: readonly (readonly [number, Maker])[] = [
  [120, storage],
  [100, retrieval],
  [60, keyLine],
  [120, meta],
  [20, others],
  [4, flush],
  [8, surplus],
  [30, refusedLine],
  [14, refusedStorage],
  [0.2, tooLarge],
];

export function textPieces(chance: Chance): Piece[] {
  const count = chance.weighted([
    [6, chance.integer(1, 12)],
    [3, chance.integer(13, 80)],
    [1, 600],
  ]);
  return chance.list(count, () => textPiece(chance));
}

export const textPiece = (chance: Chance): Piece => chance.weighted(MAKERS)(chance);
