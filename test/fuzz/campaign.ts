/**
 * A campaign: streams made from seeds, one after another, each held against what must be true of
 * it. Every stream has a seed of its own that repeats it. What fails is made smaller before it is
 * shown, as far as it goes on failing.
 */
import { printable, saslPlain } from "../harness/wire.ts";
import { binaryPieces } from "./binary.ts";
import { Chance, seedOf } from "./chance.ts";
import { ATTEMPT_COUNT, compare, type Finding, harm, type Sending } from "./differential.ts";
import { Broken, checkReply, checkRequests, FRAMERS, type Framers } from "./framers.ts";
import { replyBytes } from "./replies.ts";
import type { Servers } from "./servers.ts";
import { joined, mutated, newTag, type Stream, type StreamDialect, TAG } from "./stream.ts";
import { textPieces } from "./text.ts";

/** What is done with a stream. */
export const CHECKS = ["requests", "replies", "compare", "harm", "strangers"] as const;
export type Check = (typeof CHECKS)[number];

export type Failure = { check: Check; seed: number; stream: Stream; finding: Finding };
export type Report = { streamCount: number; failure: Failure | null };

export type Campaign = {
  seed: number;
  /** Absent where memcached is not installed: then only the framers are fuzzed. */
  servers: Servers | undefined;
  framers?: Framers;
  /** Asked before each stream. */
  isOver(streamCount: number): boolean;
};

/** Runs until it is over, or until the first failure. */
export async function run({ seed, servers, framers, isOver }: Campaign): Promise<Report> {
  let streamCount = 0;
  for (; !isOver(streamCount); streamCount++) {
    const failure = await runOne(seedOf(seed, streamCount), servers, framers);
    if (failure !== null) return { streamCount: streamCount + 1, failure };
  }
  return { streamCount, failure: null };
}

/** One stream, made and judged by its own seed. */
export async function runOne(
  seed: number,
  servers: Servers | undefined,
  framers: Framers = FRAMERS,
): Promise<Failure | null> {
  const chance = new Chance(seed);
  const check = chance.weighted<Check>(
    servers === undefined
      ? [
          [4, "requests"],
          [1, "replies"],
        ]
      : [
          [4, "requests"],
          [2, "replies"],
          [3, "compare"],
          [3, "harm"],
          [1, "strangers"],
        ],
  );
  const stream = makeStream(check, chance);
  const judge = judgeOf(check, seed, servers, framers);
  const finding = await judge(stream, { tag: newTag(seed), attemptCount: ATTEMPT_COUNT });
  if (finding === null) return null;
  const again = (candidate: Stream): Promise<Finding | null> =>
    judge(candidate, { tag: newTag(), attemptCount: 1 });
  const small = await smaller(stream, async (candidate) => (await again(candidate)) !== null);
  return { check, seed, stream: small, finding: (await again(small)) ?? finding };
}

export type Judge = (stream: Stream, sending: Sending) => Promise<Finding | null>;

export function judgeOf(
  check: Check,
  seed: number,
  servers: Servers | undefined,
  framers: Framers = FRAMERS,
): Judge {
  return async (stream, sending) => {
    if (check === "requests" || check === "replies")
      return judgeFraming(check, stream, seed, framers);
    if (servers === undefined) throw new Error(`${check} needs servers`);
    if (check === "compare") return compare(stream, servers, sending);
    for (const proxy of servers.proxies) {
      const address = check === "harm" ? proxy.address : proxy.loginAddress;
      const finding = await harm(stream, proxy, address, sending);
      if (finding !== null) return [proxy.name, ...finding];
    }
    return null;
  };
}

/** One chunk per look is not cut further by `stream.cuts`: the checks cut for themselves. */
function judgeFraming(
  check: "requests" | "replies",
  stream: Stream,
  seed: number,
  framers: Framers,
): Finding | null {
  const judge = check === "requests" ? checkRequests : checkReply;
  try {
    judge(framers, stream.dialect, joined(stream.pieces), new Chance(seed));
    return null;
  } catch (error) {
    if (error instanceof Broken) return [error.message];
    return [`threw ${error instanceof Error ? error.stack : String(error)}`];
  }
}

function makeStream(check: Check, chance: Chance): Stream {
  const dialect = chance.pick<StreamDialect>(["text", "binary"]);
  if (check === "replies") {
    const bytes = replyBytes(dialect, chance);
    return {
      dialect,
      cuts: [],
      pieces: [{ bytes: chance.oneIn(3) ? bytes : mutated(bytes, chance) }],
    };
  }
  let pieces = dialect === "text" ? textPieces(chance) : binaryPieces(chance);
  // A damaged flush may become one with a delay, and later empty what witnesses have stored.
  if (check === "harm") pieces = pieces.filter(({ bytes }) => !bytes.includes("flush"));
  if (check === "strangers") addLogins(pieces, dialect, chance);
  const isDamaged = check !== "compare" && !(check === "requests" && chance.oneIn(4));
  if (isDamaged) damage(pieces, chance);
  const cuts = chance.cuts(joined(pieces).length, chance.pick([0, 3, 40]));
  return { dialect, pieces, cuts };
}

/** Wrong logins here and there, fewer than close the connection or more. */
function addLogins(pieces: Stream["pieces"], dialect: StreamDialect, chance: Chance): void {
  for (let count = chance.pick([1, 1, 5, 20]); count > 0; count--) {
    const login = { username: TAG, password: chance.pick(["", "wrong", "x".repeat(2_000)]) };
    const { username, password } = login;
    const line = `set ${username} 0 0 ${password.length}\r\n${password}\r\n`;
    const bytes = dialect === "text" ? Buffer.from(line) : saslPlain(login);
    pieces.splice(chance.integer(0, Math.min(pieces.length, 20)), 0, { bytes });
  }
}

/** A few of the pieces, so that good commands stand before and behind the bad ones. */
function damage(pieces: Stream["pieces"], chance: Chance): void {
  for (let count = chance.integer(1, 3); count > 0 && pieces.length > 0; count--) {
    const index = chance.integer(0, pieces.length - 1);
    const piece = pieces[index];
    if (piece !== undefined) pieces[index] = { bytes: mutated(piece.bytes, chance) };
  }
}

const TRY_COUNT_MAX = 300;

/** Leaves out pieces, large runs first, and then cuts, as long as it still fails. */
async function smaller(
  stream: Stream,
  fails: (stream: Stream) => Promise<boolean>,
): Promise<Stream> {
  let tryCount = 0;
  let best = stream;
  const wins = async (candidate: Stream): Promise<boolean> => {
    if (tryCount++ >= TRY_COUNT_MAX || !(await fails(candidate))) return false;
    best = candidate;
    return true;
  };
  if (best.cuts.length > 0) await wins({ ...best, cuts: [] });
  for (let run = best.pieces.length >> 1; run >= 1; run >>= 1) {
    for (let at = 0; at + run <= best.pieces.length && best.pieces.length > 1; ) {
      const pieces = best.pieces.toSpliced(at, run);
      if (!(await wins({ ...best, pieces }))) at += run;
    }
  }
  return best;
}

const SHOWN_SIZE_MAX = 400;
const SHOWN_COUNT_MAX = 30;

/** A failure in lines for a reader, the last of which repeats it. */
export function shown({ check, seed, stream, finding }: Failure): string {
  const pieces = stream.pieces.slice(0, SHOWN_COUNT_MAX).map(({ bytes, reference }) => {
    const instead = reference === undefined ? "" : `   (memcached: ${printable(reference)})`;
    return `  ${printable(bytes).slice(0, SHOWN_SIZE_MAX)}${instead.slice(0, SHOWN_SIZE_MAX)}`;
  });
  if (stream.pieces.length > SHOWN_COUNT_MAX) pieces.push(`  … ${stream.pieces.length} in all`);
  return [
    `FAILED: ${check}, ${stream.dialect}, cut at [${stream.cuts.join(" ")}]`,
    ...pieces,
    ...finding.map((line) => line.slice(0, SHOWN_SIZE_MAX)),
    `repeat: npm run fuzz -- --stream ${seed}`,
  ].join("\n");
}
